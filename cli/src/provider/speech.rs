//! One answer as it is written: token by token, in real time, with what goes wrong on the way.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::answer::Answer;
use super::desk::Call;
use super::faults::{Fault, Kind};
use super::ledger::Ended;

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Token(String),
    /// The end: `stop`, `tool_calls`, or `length` when it was cut to its longest.
    End {
        finish: &'static str,
    },
    /// The end without a word that it is.
    NoEnd,
    Garbage,
    /// This many bytes without an end.
    LongLine(usize),
    /// The next byte of what never ends.
    Drip,
    Cut,
}

pub(super) struct Speech {
    call: Call,
    left: VecDeque<String>,
    finish: &'static str,
    /// The tool that it asks for; its tokens are the arguments.
    tool: Option<String>,
    /// As the question asks; otherwise as the settings say.
    gap: Option<Duration>,
    input: u64,
    written: u64,
    begun: bool,
    /// When the last token was due: gaps are counted from there, so that late timers do not add up.
    due: Instant,
    breaks: Option<(u64, Break)>,
}

/// How it goes on where it breaks.
#[derive(Clone, Copy)]
enum Break {
    Stall,
    Drip { every: Duration },
    Cut,
    Garbage,
    LongLine { bytes: usize },
}

impl Break {
    fn of(fault: &Fault) -> Option<Self> {
        Some(match fault.kind {
            Kind::Stall => Self::Stall,
            Kind::Drip => Self::Drip { every: Duration::from_secs_f64(fault.every.unwrap_or(1.0)) },
            Kind::Cut => Self::Cut,
            Kind::Garbage => Self::Garbage,
            Kind::LongLine => Self::LongLine { bytes: fault.bytes.unwrap_or(10_000_000) },
            _ => return None,
        })
    }
}

impl Speech {
    pub(super) fn new(call: Call, answer: Answer, input: u64, max_output: u64) -> Self {
        let mut left: VecDeque<String> = answer.tokens.into();
        let most = usize::try_from(max_output).unwrap_or(usize::MAX);
        let finish = match answer.tool {
            _ if left.len() > most => "length",
            Some(_) => "tool_calls",
            None => "stop",
        };
        left.truncate(most);
        let fault = call.fault().and_then(|fault| Some((fault.after, Break::of(fault)?)));
        let half = left.len() as u64 / 2;
        let by_fault = fault.map(|(after, breaks)| (after.unwrap_or(half).min(left.len() as u64), breaks));
        let breaks = answer.stall.map(|after| (after, Break::Stall)).or(by_fault);
        Self {
            call,
            left,
            finish,
            tool: answer.tool,
            gap: answer.gap,
            input,
            written: 0,
            begun: false,
            due: Instant::now(),
            breaks,
        }
    }

    pub(super) fn tool(&self) -> Option<&str> {
        self.tool.as_deref()
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// The next token when its time has come. Dropped, it has used up the time and not the token.
    pub(super) async fn next(&mut self) -> Said {
        match self.breaks.filter(|(after, _)| *after == self.written) {
            Some((_, Break::Stall)) => std::future::pending().await,
            Some((_, Break::Drip { every })) => {
                tokio::time::sleep(every).await;
                return Said::Drip;
            }
            Some((_, Break::Cut)) => return Said::Cut,
            Some((_, Break::Garbage)) => return Said::Garbage,
            Some((_, Break::LongLine { bytes })) => return Said::LongLine(bytes),
            None => {}
        }
        if self.left.is_empty() && self.begun {
            return self.end_of_text();
        }
        let wait =
            if self.begun { self.call.until_next(self.gap) } else { self.call.until_first(self.input) };
        self.due += wait;
        if self.due > Instant::now() {
            tokio::time::sleep_until(self.due).await;
        }
        self.begun = true;
        let Some(token) = self.left.pop_front() else { return self.end_of_text() };
        self.written += 1;
        self.call.wrote(1);
        Said::Token(token)
    }

    fn end_of_text(&self) -> Said {
        if self.call.is_hit_by(Kind::NoEnd) { Said::NoEnd } else { Said::End { finish: self.finish } }
    }

    pub(super) fn hides_usage(&self) -> bool {
        self.call.is_hit_by(Kind::NoUsage)
    }

    pub(super) fn usage(&self) -> Value {
        json!({"prompt_tokens": self.input, "completion_tokens": self.written,
            "total_tokens": self.input + self.written})
    }

    pub(super) fn end(self, ended: Ended) {
        self.call.end(ended);
    }
}
