//! What is answered: by the passages in the prompt when there are some, else an echo. With tools, the first one
//! is asked for before that.
//!
//! A question may say how: `tokens=200` (its length), `gap=5` (milliseconds between tokens), `stall=3`
//! (after so many tokens nothing more comes), `calls=2` (tool calls before the answer; 1).

mod grounded;

use std::time::Duration;

use serde_json::{Value, json};

use super::tokens;

const WISHES: [&str; 4] = ["tokens", "gap", "stall", "calls"];

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
    /// The tool that is asked for instead: its arguments are the tokens.
    pub(crate) tool: Option<String>,
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
    let returned = since_asked(messages).filter(|(role, _)| role == "tool");
    let returned: String = returned.map(|(_, text)| format!("\n{text}")).collect();
    let with_passages = format!("{returned}\nQuestion: {last}");
    let (question, passages) = match grounded::read(&with_passages) {
        (_, none) if none.is_empty() => grounded::read(last),
        found => found,
    };
    let tokens = match manner {
        Manner::Silent => Vec::new(),
        _ if passages.is_empty() => echo(question, number(question, "tokens").unwrap_or(length)),
        _ => tokens::cut(&grounded::answer(&without_wishes(question), earlier, &passages, manner)),
    };
    let gap = number(question, "gap").map(Duration::from_millis);
    Answer { tool: None, tokens, gap, stall: number(question, "stall") }
}

/// The call of a tool that comes before the answer: the question is what each argument is that it needs.
pub(crate) fn call(messages: &[(String, String)], tool: &Value) -> Option<Answer> {
    let question = messages.iter().rfind(|(role, _)| role == "user").map_or("", |(_, text)| text.as_str());
    let made = since_asked(messages).filter(|(role, _)| role == "tool").count() as u64;
    if made >= number(question, "calls").unwrap_or(1) {
        return None;
    }
    let needed = tool["parameters"]["required"].as_array().map(Vec::as_slice).unwrap_or_default();
    let arguments = needed.iter().filter_map(Value::as_str).map(|name| (name.to_owned(), json!(question)));
    let arguments = Value::Object(arguments.collect()).to_string();
    let name = tool["name"].as_str().unwrap_or_default().to_owned();
    let gap = number(question, "gap").map(Duration::from_millis);
    Some(Answer { tool: Some(name), tokens: tokens::cut(&arguments), gap, stall: number(question, "stall") })
}

/// The messages after the last question.
fn since_asked(messages: &[(String, String)]) -> impl Iterator<Item = &(String, String)> {
    let asked = messages.iter().rposition(|(role, _)| role == "user").map_or(0, |at| at + 1);
    messages[asked..].iter()
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

/// The question alone: how it wants to be answered is no part of what it asks.
fn without_wishes(question: &str) -> String {
    let is_wish = |word: &&str| WISHES.iter().any(|name| number(word, name).is_some());
    question.split_whitespace().filter(|word| !is_wish(word)).collect::<Vec<_>>().join(" ")
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
        let tool = json!({"name": "find", "parameters": {"required": ["q"]}});
        let call = |messages: &[(String, String)]| super::call(messages, &tool);
        assert_eq!(call(&messages), None, "a tool has returned");
        let asked = call(&messages[..3]).unwrap();
        assert_eq!(asked.tool.as_deref(), Some("find"));
        assert_eq!(asked.tokens.concat(), r#"{"q":"半 tokens=3 gap=20 stall=2"}"#);
        assert_eq!(to(&[], 20, Manner::Honest).tokens.len(), 20);
        assert_eq!(to(&messages, 20, Manner::Silent).tokens.len(), 0);
    }
}
