//! What a question is about: its terms, and how much each of them tells.

use std::collections::HashSet;

use millhand_common::model::{Passage, Span};
use millhand_common::text::analyze::{Language, QueryTerm, query_terms, terms};
use serde::{Deserialize, Serialize};

/// Words that questions are made of and that say little about what is asked.
const FILLERS_EN: &str = "use get make want need way know find tell explain show happen mean work thing \
    people someone possible able best good really exactly please help let give put take go come try start \
    different call look see say think keep set run do have like much many lot kind sort type reason describe \
    example question answer anything something everything anyone currently actually";
const FILLERS_ZH: &str = "使用 用 需要 可以 能够 能 想 想要 知道 告诉 请问 办法 方法 方式 进行 做 应该 会 没有 东西 意思 \
    时候 情况 问题 一些 有关 关于 如何 怎么 怎样 怎么样 怎么办 什么 哪里 哪些 哪个 为什么 为何 多少 几 是否 能否 请 介绍 说明 解释 \
    要 时 里 中 上 下 来 去 从 被 由 于 向 对 为 以 使 便 就 才 再 还 都 也 又 很 最 更 某 某个 某些 各 每 哪种 哪一种 哪一个 哪部 哪家 哪位 \
    写 装 放 叫 说 讲 算 弄 干 写在 放在 存放 位于 属于 表示 之间 其中 里面 上面 下面 以后 之后 以前 之前 的话 自己 别的 其他 \
    不到 种 类 哪一年 哪年 哪天 何时 几点 几个 时候 \
    让 把 给 得到 看 看到 找 找到 方面 具体 到底 究竟 目前 现在 一个 这个 那个 我 你 我们 他们 吗 呢";
/// What a filler weighs beside a word of substance.
const FILLER_WEIGHT: f32 = 0.25;

/// A term of the question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AskedTerm {
    /// All it may be in a document.
    pub(crate) forms: Vec<String>,
    /// How much finding it tells: rarity among what was found, less for fillers and parts of words.
    pub(crate) weight: f32,
    /// A name, a number or an identifier: nothing else can stand for it.
    pub(crate) name: bool,
    /// Some passage that was found has it.
    pub(crate) known: bool,
    /// A part of a word, or a pair of letters.
    pub(crate) part: bool,
    pub(crate) position: u32,
    pub(crate) span: Span,
}

impl AskedTerm {
    pub(crate) fn is_in(&self, bag: &Bag) -> bool {
        self.forms.iter().any(|form| bag.0.contains(form))
    }
}

/// The terms of a text, without order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Bag(pub(crate) HashSet<String>);

impl Bag {
    pub(crate) fn of(text: &str, lang: Language) -> Self {
        Self(terms(text, lang).into_iter().map(|term| term.text).collect())
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        Self(self.0.union(&other.0).cloned().collect())
    }
}

/// Weighted share of the asked terms that `bag` has, 0 to 1.
pub(crate) fn coverage(asked: &[AskedTerm], bag: &Bag) -> f32 {
    let all: f32 = asked.iter().map(|term| term.weight).sum();
    let had: f32 = asked.iter().filter(|term| term.is_in(bag)).map(|term| term.weight).sum();
    if all > 0.0 { had / all } else { 0.0 }
}

/// Whole words of `text` that carry meaning, as asked.
pub(crate) fn content_terms(text: &str) -> Vec<QueryTerm> {
    query_terms(text, &[]).into_iter().filter(|term| term.weight >= 1.0 && !is_filler(&term.text)).collect()
}

/// Whether the folded word carries little of what a question asks.
pub(crate) fn is_filler(folded: &str) -> bool {
    let listed = |word: &str| FILLERS_EN.split_whitespace().any(|filler| filler == word);
    let endings = ["", "s", "es", "d", "ed", "ing"];
    FILLERS_ZH.split_whitespace().any(|filler| filler == folded)
        || endings.iter().any(|ending| folded.strip_suffix(ending).is_some_and(listed))
}

/// Languages of these passages, each once.
pub(crate) fn languages(passages: &[Passage]) -> Vec<Language> {
    let mut langs = Vec::new();
    for passage in passages {
        let lang = Language::detect(&passage.text);
        if !langs.contains(&lang) {
            langs.push(lang);
        }
    }
    langs
}

/// The terms of `wording`, weighed by how few of the passages found have them.
pub(crate) fn weigh(wording: &str, langs: &[Language], found: &[Bag]) -> Vec<AskedTerm> {
    let rarity = |with: usize| {
        // A word found nowhere may be rare or only said otherwise: it counts as a rare one, no more.
        let (all, with) = (found.len() as f32, with.max(2) as f32);
        (1.0 + (all - with + 0.5) / (with + 0.5)).ln().max(0.2)
    };
    let asked = |term: QueryTerm| {
        let mut asked = AskedTerm {
            name: is_name(wording, term.span),
            part: term.weight < 1.0,
            forms: term.forms,
            weight: 0.0,
            known: false,
            position: term.position,
            span: term.span,
        };
        let with = found.iter().filter(|bag| asked.is_in(bag)).count();
        let filler = if is_filler(&term.text) { FILLER_WEIGHT } else { 1.0 };
        asked.weight = term.weight * rarity(with) * filler;
        asked.known = with > 0;
        asked
    };
    let terms = query_terms(wording, langs);
    // A pair of letters across two words helps to find a text that is cut otherwise, but that a
    // document lacks it tells nothing.
    let words: Vec<Span> = terms.iter().filter(|term| term.weight >= 1.0).map(|term| term.span).collect();
    let inside = |part: Span| words.iter().any(|word| word.from <= part.from && part.to <= word.to);
    terms.into_iter().filter(|term| term.weight >= 1.0 || inside(term.span)).map(asked).collect()
}

/// Whether the word at `span` names something: it has a digit, a capital inside a sentence, or is a
/// Latin word in a text of another script.
pub(crate) fn is_name(text: &str, span: Span) -> bool {
    let Some(word) = span.of(text) else { return false };
    if word.chars().any(|c| c.is_ascii_digit()) {
        return true;
    }
    let Some(first) = word.chars().next() else { return false };
    if first.is_ascii_alphabetic() && text.chars().any(is_han) {
        return true;
    }
    let capitals = word.chars().filter(|c| c.is_uppercase()).count();
    if capitals == 0 {
        return false;
    }
    let before = text[..span.from].trim_end();
    let starts = before.is_empty() || before.ends_with(['.', '?', '!', ':', '\n', '"', '“', '‘', '(']);
    capitals > 1 || !first.is_uppercase() || !starts
}

pub(crate) fn is_han(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_words_that_begin_a_sentence() {
        let name = |text: &str, word: &str| {
            let from = text.find(word).unwrap();
            is_name(text, Span::new(from, from + word.len()))
        };
        assert!(name("Does it run on Amiga?", "Amiga"));
        assert!(name("APT or what?", "APT"));
        assert!(name("is libc6 needed", "libc6"));
        assert!(name("如何使用 popcon 软件", "popcon"));
        assert!(!name("Which mill is old?", "Which"));
        assert!(!name("Which mill is old?", "mill"));
        assert!(!name("如何使用软件", "软件"));
    }

    #[test]
    fn rare_terms_weigh_more_than_common_ones_and_fillers_least() {
        let english = Language::ENGLISH;
        let found: Vec<Bag> = ["the old mill wheel", "the old mill", "an old house", "old"]
            .iter()
            .map(|text| Bag::of(text, english))
            .collect();
        let asked = weigh("How do I use the old wheel?", &[english], &found);
        let weight = |word: &str| {
            let term = asked.iter().find(|term| term.forms.iter().any(|form| form == word));
            term.map_or(0.0, |term| term.weight)
        };
        assert!(weight("wheel") > weight("old"), "{asked:?}");
        assert!(weight("old") > 0.0);
        assert!(coverage(&asked, &found[0]) > coverage(&asked, &found[1]));
        assert_eq!(coverage(&asked, &Bag::default()), 0.0);
    }
}
