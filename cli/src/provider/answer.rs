//! What is answered: by the passages in the prompt when there are some, else an echo.
//!
//! A question may say how: `tokens=200` (its length), `gap=5` (milliseconds between tokens), `stall=3`
//! (after so many tokens nothing more comes).

mod grounded;

use std::time::Duration;

use super::tokens;

/// How true an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Honest,
    /// Its marks stand for no passage.
    WrongMarks,
    /// It ends with a sentence that is made up, and with words for it that its passage does not have.
    InventedQuotes,
    /// It has no text.
    Silent,
}

/// An answer before it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) tokens: Vec<String>,
    /// Between tokens, when the question asks for it.
    pub(crate) gap: Option<Duration>,
    /// Tokens after which it stalls, when the question asks for it.
    pub(crate) stall: Option<u64>,
}

/// The answer to a conversation of roles and texts, `length` tokens long unless the question says or
/// the passages have their own length.
pub(crate) fn to(messages: &[(String, String)], length: u64, manner: Manner) -> Answer {
    let mut asked = messages.iter().rev().filter(|(role, _)| role == "user").map(|(_, text)| text.as_str());
    let (last, earlier) = (asked.next().unwrap_or_default(), asked.next());
    let (question, passages) = grounded::read(last);
    let tokens = match manner {
        Manner::Silent => Vec::new(),
        _ if passages.is_empty() => echo(question, number(question, "tokens").unwrap_or(length)),
        _ => tokens::cut(&grounded::answer(question, earlier, &passages, manner)),
    };
    let gap = number(question, "gap").map(Duration::from_millis);
    Answer { tokens, gap, stall: number(question, "stall") }
}

/// The first token tells whose answer it is; then Chinese and English take turns.
fn echo(question: &str, length: u64) -> Vec<String> {
    let token = |at| match at {
        0 => format!("[{}]", question.split_whitespace().next().unwrap_or_default()),
        at if at % 2 == 0 => format!("字{at}"),
        at => format!(" w{at} "),
    };
    (0..length).map(token).collect()
}

fn number(text: &str, name: &str) -> Option<u64> {
    text.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_says_how_it_wants_to_be_answered() {
        let messages = [
            ("user", "before tokens=9"),
            ("assistant", "x"),
            ("user", "半 tokens=3 gap=20 stall=2"),
            ("tool", "y"),
        ];
        let messages = messages.map(|(role, text)| (role.to_owned(), text.to_owned()));
        let answer = to(&messages, 20, Manner::Honest);
        assert_eq!(answer.tokens.concat(), "[半] w1 字2");
        assert_eq!((answer.gap, answer.stall), (Some(Duration::from_millis(20)), Some(2)));
        assert_eq!(to(&messages[..1], 20, Manner::Honest).tokens.len(), 9);
        assert_eq!(to(&[], 20, Manner::Honest).tokens.len(), 20);
        assert_eq!(to(&messages, 20, Manner::Silent).tokens.len(), 0);
    }
}
