//! What to search for: the question, and for a follow-up the question with what it leaves out.
//!
//! By rule, with and without a model: a call only for this would be paid on every turn.

use millhand_common::model::Role;

use super::recall::History;
use super::terms::{content_terms, is_name};

/// Words taken from earlier turns.
const MAX_CONTEXT_TERMS: usize = 8;
/// A question with fewer words of substance may leave something out.
const FEW_TERMS: usize = 3;
/// A pronoun after this many words of substance refers to one of them.
const OWN_ANTECEDENT: usize = 3;

/// The wordings to search with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wordings {
    /// As asked.
    pub(crate) question: String,
    /// With the words it leaves out; absent when it stands by itself.
    pub(crate) condensed: Option<String>,
    /// It refers to an earlier turn for certain: alone it asks for nothing.
    pub(crate) refers_back: bool,
}

impl Wordings {
    /// Most trusted first.
    pub(crate) fn texts(&self) -> Vec<String> {
        match &self.condensed {
            Some(condensed) if self.refers_back => vec![condensed.clone(), self.question.clone()],
            Some(condensed) => vec![self.question.clone(), condensed.clone()],
            None => vec![self.question.clone()],
        }
    }
}

/// The wordings of `question` after `history`.
pub(crate) fn wordings(question: &str, history: &History) -> Wordings {
    let alone = |refers_back| Wordings { question: question.to_owned(), condensed: None, refers_back };
    let refers_back = has_cue(question);
    let short = content_terms(question).len() < FEW_TERMS && !defines(question);
    if history.messages.is_empty() || !(refers_back || short) {
        return alone(false);
    }
    let context = context(question, history);
    if context.is_empty() {
        return alone(refers_back);
    }
    let condensed = format!("{} {}", question.trim_end(), context.join(" "));
    Wordings { question: question.to_owned(), condensed: Some(condensed), refers_back }
}

/// Words of substance of the turn that the question follows, names first: of the last question that
/// stood by itself, then of the titles that the previous answer cited.
fn context(question: &str, history: &History) -> Vec<String> {
    let asked = history.messages.iter().rev().filter(|message| message.role == Role::User).take(4);
    let mut sources = Vec::new();
    for message in asked {
        sources.push(message.content.as_str());
        if !has_cue(&message.content) {
            break;
        }
    }
    sources.reverse();
    let titles = history.cited.iter().take(2).filter_map(|title| title.rsplit('›').next());
    let own: Vec<String> = phrases(question).into_iter().map(|(word, _)| word).collect();
    let mut context: Vec<String> = Vec::new();
    for source in sources.into_iter().chain(titles) {
        let mut phrases = phrases(source);
        phrases.sort_by_key(|(_, name)| !name);
        for (phrase, _) in phrases {
            if !own.contains(&phrase) && !context.contains(&phrase) {
                context.push(phrase);
            }
        }
    }
    context.truncate(MAX_CONTEXT_TERMS);
    context
}

/// Words of substance, and whether each is a name. Words with nothing between them, as in Chinese, stay
/// together: cut apart they would be searched for as letters.
fn phrases(source: &str) -> Vec<(String, bool)> {
    let mut phrases: Vec<(String, bool, usize)> = Vec::new();
    for term in content_terms(source) {
        let name = is_name(source, term.span);
        match phrases.last_mut() {
            Some((phrase, named, end)) if *end == term.span.from => {
                phrase.push_str(&term.text);
                *named |= name;
                *end = term.span.to;
            }
            _ => phrases.push((term.text, name, term.span.to)),
        }
    }
    phrases.into_iter().map(|(phrase, name, _)| (phrase, name)).collect()
}

/// Questions of this form name their subject, however short they are.
fn defines(question: &str) -> bool {
    let folded = question.trim().to_lowercase();
    let begins =
        ["what is ", "what are ", "what's ", "who is ", "who are ", "define ", "什么是", "何谓", "谁是"];
    let ends = ["是什么", "是什么意思", "是谁", "指什么"];
    let folded_end = folded.trim_end_matches(['?', '？', '。', '.', '呢', '啊', ' ']);
    begins.iter().any(|begin| folded.starts_with(begin)) || ends.iter().any(|end| folded_end.ends_with(end))
}

/// Whether the question has a pronoun or an ellipsis that points out of it.
pub(crate) fn has_cue(question: &str) -> bool {
    let cue = english_cue(question).into_iter().chain(chinese_cue(question)).min();
    cue.is_some_and(|at| content_terms(&question[..at]).len() < OWN_ANTECEDENT)
}

/// Where an English cue begins.
fn english_cue(question: &str) -> Option<usize> {
    let words = latin_words(question);
    let word = |n: usize| words.get(n).map_or("", |(_, word)| word.as_str());
    if matches!((word(0), word(1)), ("and" | "but", _) | ("what" | "how", "about") | ("why", "" | "not")) {
        return Some(0);
    }
    let is_cue = |n: usize| match word(n) {
        "they" | "them" | "he" | "him" | "she" | "this" | "these" | "those" => true,
        // "Is it possible to …": nothing is meant by it.
        "it" => {
            const EMPTY: &[&str] = &[
                "possible",
                "safe",
                "necessary",
                "true",
                "ok",
                "okay",
                "better",
                "worth",
                "legal",
                "required",
                "recommended",
                "hard",
                "easy",
                "take",
                "takes",
                "allowed",
            ];
            let next = if matches!(word(n + 1), "is" | "s" | "be") { word(n + 2) } else { word(n + 1) };
            !EMPTY.contains(&next)
        }
        "its" | "their" | "his" | "her" => true,
        "that" => {
            const BEFORE: &[&str] = &[
                "does", "is", "do", "can", "about", "of", "with", "for", "to", "like", "after", "before",
                "would", "will", "was", "did", "should", "if", "on", "in", "from",
            ];
            n + 1 == words.len() || (n > 0 && BEFORE.contains(&word(n - 1)))
        }
        "former" | "latter" => n > 0 && word(n - 1) == "the",
        _ => false,
    };
    (0..words.len()).find(|n| is_cue(*n)).map(|n| words[n].0)
}

fn latin_words(text: &str) -> Vec<(usize, String)> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        match (start, c.is_ascii_alphabetic()) {
            (None, true) => start = Some(at),
            (Some(from), false) => {
                words.push((from, text[from..at].to_lowercase()));
                start = None;
            }
            _ => {}
        }
    }
    words
}

/// Where a Chinese cue begins.
fn chinese_cue(question: &str) -> Option<usize> {
    const CUES: &[&str] = &[
        "它", "他们", "她们", "他", "她", "这个", "那个", "这些", "那些", "这种", "那种", "这样", "那样",
        "这里", "那里", "其", "此", "该", "上述", "前者", "后者", "刚才", "上面", "这",
    ];
    /// Words that have a cue's letter and are none.
    const NOT: &[&str] = &[
        "其他",
        "其它",
        "其中",
        "其实",
        "其余",
        "尤其",
        "极其",
        "及其",
        "此外",
        "因此",
        "如此",
        "从此",
        "彼此",
        "应该",
        "本该",
        "吉他",
        "他人",
        "在这之前",
    ];
    const BEGINS: &[&str] = &["那么", "那", "还有", "另外", "然后", "接下来", "再"];
    let trimmed = question.trim();
    if BEGINS.iter().any(|begin| trimmed.starts_with(begin)) {
        return Some(0);
    }
    let is_word = |at: usize| {
        NOT.iter()
            .any(|word| question.match_indices(word).any(|(from, _)| (from..from + word.len()).contains(&at)))
    };
    let found = CUES.iter().flat_map(|cue| question.match_indices(cue)).map(|(at, _)| at);
    let cue = found.filter(|at| !is_word(*at)).min();
    // "价格呢？" asks the earlier question about something else.
    let ends = trimmed.trim_end_matches(['?', '？', '。', ' ']).ends_with('呢');
    cue.or_else(|| (ends && content_terms(question).len() < FEW_TERMS).then_some(0))
}

#[cfg(test)]
mod tests {
    use millhand_common::model::Message;

    use super::*;

    fn after(earlier: &[&str], cited: &[&str]) -> History {
        let messages = earlier.iter().map(|text| Message { role: Role::User, content: (*text).to_owned() });
        History {
            messages: messages.collect(),
            cited: cited.iter().map(|title| (*title).to_owned()).collect(),
        }
    }

    #[test]
    fn a_pronoun_brings_the_earlier_subject() {
        let history = after(&["What does the popularity-contest package do?"], &["FAQ › Survey"]);
        let wordings = wordings("How do I remove it?", &history);
        let condensed = wordings.condensed.clone().unwrap();
        assert!(wordings.refers_back);
        assert!(condensed.starts_with("How do I remove it? popularity-contest"), "{condensed}");
        assert!(condensed.contains("survey"), "{condensed}");
        assert_eq!(wordings.texts()[1], "How do I remove it?");
    }

    #[test]
    fn a_chinese_pronoun_brings_the_earlier_subject() {
        let history = after(&["水车博物馆在哪里？"], &[]);
        let wordings = wordings("它几点开门？", &history);
        assert!(wordings.refers_back);
        let condensed = wordings.condensed.unwrap();
        assert!(condensed.contains("博物馆"), "{condensed}");
    }

    #[test]
    fn a_chain_of_follow_ups_reaches_its_first_subject() {
        let history = after(&["Who built the Bremen windmill?", "When was it restored?"], &[]);
        let condensed = wordings("And what did that cost?", &history).condensed.unwrap();
        assert!(condensed.contains("windmill") && condensed.contains("restored"), "{condensed}");
    }

    #[test]
    fn a_question_that_stands_by_itself_stays_as_it_is() {
        let history = after(&["Where is the museum?"], &[]);
        for question in [
            "What is APT?",
            "Is it possible to install Debian from a USB stick?",
            "How do I make sure that old library packages get purged?",
            "什么是自由软件？",
            "其他发行版的软件包应该如何安装到系统？",
            "Does Debian support printing documents and how do I configure it?",
        ] {
            assert_eq!(wordings(question, &history).condensed, None, "{question}");
        }
    }

    #[test]
    fn without_history_nothing_is_added() {
        assert_eq!(wordings("How do I remove it?", &History::default()).condensed, None);
    }
}
