//! What goes wrong on demand.

use std::str::FromStr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// 429, although there is room
    RateLimited,
    /// The account is out of money
    InsufficientQuota,
    /// 500, or another status
    Error,
    /// 200 with an error body
    ErrorBody,
    /// Nothing more comes, and the connection stays open
    Stall,
    /// From then on one byte at a time comes, of an event that never ends
    Drip,
    /// The connection breaks in the middle
    Cut,
    /// What comes is not what the protocol says
    Garbage,
    /// One line that is longer than any answer
    LongLine,
    /// The stream ends without a reason and without [DONE]
    NoEnd,
    /// No word about the tokens that were used
    NoUsage,
    /// An answer without any text
    Empty,
    /// Sources are given by marks that stand for no passage
    WrongMarks,
    /// A sentence is made up, and words that its source does not have are quoted for it
    InventedQuotes,
}

/// Which path a call takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Endpoint {
    Chat,
    Embeddings,
    Rerank,
}

/// One fault, and which calls it hits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// Share of calls that it hits.
    #[serde(default = "always")]
    pub(crate) p: f64,
    /// Calls that it still hits; none is all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) times: Option<u64>,
    /// Only calls whose last message has this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) when: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) on: Option<Endpoint>,
    /// Tokens before a stall, a drip, a cut, garbage or a long line; half of the answer when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) after: Option<u64>,
    /// Of an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    /// Seconds that a refusal asks to wait; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after: Option<f64>,
    /// Seconds from one byte of a drip to the next; one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) every: Option<f64>,
    /// Of a long line; ten million when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<usize>,
}

/// A longer line would cost this process more than the one that reads it.
const MOST_BYTES: usize = 100_000_000;

fn always() -> f64 {
    1.0
}

impl Fault {
    /// The first of `faults` that hits this call; it has been hit once less afterwards. `dice` gives
    /// numbers in 0..1.
    pub(crate) fn hit(
        faults: &mut [Self],
        on: Endpoint,
        text: &str,
        mut dice: impl FnMut() -> f64,
    ) -> Option<Self> {
        let fault = faults.iter_mut().find(|fault| {
            fault.times != Some(0)
                && fault.on.is_none_or(|endpoint| endpoint == on)
                && fault.when.as_ref().is_none_or(|when| text.contains(when.as_str()))
                && (fault.p >= 1.0 || dice() < fault.p)
        })?;
        if let Some(times) = &mut fault.times {
            *times -= 1;
        }
        Some(fault.clone())
    }

    fn check(self) -> Result<Self, String> {
        if !(0.0..=1.0).contains(&self.p) {
            return Err("p is between 0 and 1".to_owned());
        }
        if self.status.is_some_and(|status| !(400..600).contains(&status)) {
            return Err("status is between 400 and 599".to_owned());
        }
        if self.retry_after.is_some_and(|seconds| !(0.0..=86_400.0).contains(&seconds)) {
            return Err("retry_after is between 0 and 86400 seconds".to_owned());
        }
        if self.every.is_some_and(|seconds| !(0.001..=3600.0).contains(&seconds)) {
            return Err("every is between 0.001 and 3600 seconds".to_owned());
        }
        if self.bytes.is_some_and(|bytes| !(1..=MOST_BYTES).contains(&bytes)) {
            return Err(format!("bytes is between 1 and {MOST_BYTES}"));
        }
        Ok(self)
    }

    /// Refuses numbers that make no sense, whichever way they came.
    pub(crate) fn check_all(faults: &[Self]) -> Result<(), String> {
        faults.iter().try_for_each(|fault| fault.clone().check().map(|_| ()))
    }
}

/// `rate_limited,p=0.1,times=3,retry_after=2`
impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(',');
        let kind = parts.next().unwrap_or_default().trim();
        let mut fault = serde_json::Map::from_iter([("kind".to_owned(), kind.replace('-', "_").into())]);
        for part in parts {
            let (key, value) = part.split_once('=').ok_or_else(|| format!("`{part}` is not key=value"))?;
            let text = || serde_json::Value::from(value.trim());
            let value = if matches!(key.trim(), "when" | "on") {
                text()
            } else {
                serde_json::from_str(value).unwrap_or_else(|_| text())
            };
            fault.insert(key.trim().replace('-', "_"), value);
        }
        serde_json::from_value::<Self>(fault.into()).map_err(|err| err.to_string())?.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_json_say_the_same() {
        let flag: Fault = "rate-limited,p=0.1,times=3,retry_after=2.5,on=chat,when=42".parse().unwrap();
        let json = r#"{"kind":"rate_limited","p":0.1,"times":3,"retry_after":2.5,"on":"chat","when":"42"}"#;
        assert_eq!(flag, serde_json::from_str(json).unwrap());
        for wrong in [
            "",
            "nothing",
            "cut,p",
            "cut,p=2",
            "cut,pp=1",
            "error,status=200",
            "error,retry_after=-1",
            "drip,every=0",
            "long_line,bytes=0",
        ] {
            assert!(wrong.parse::<Fault>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_fault_hits_the_calls_it_names_as_often_as_it_says() {
        let mut faults: Vec<Fault> =
            ["cut,times=1,when=x", "stall,p=0.5,on=chat"].iter().map(|text| text.parse().unwrap()).collect();
        let mut hit = |on, text, dice| Fault::hit(&mut faults, on, text, || dice).map(|fault| fault.kind);
        assert_eq!(hit(Endpoint::Chat, "x", 0.9), Some(Kind::Cut));
        assert_eq!(hit(Endpoint::Chat, "x", 0.9), None);
        assert_eq!(hit(Endpoint::Chat, "y", 0.1), Some(Kind::Stall));
        assert_eq!(hit(Endpoint::Embeddings, "y", 0.1), None);
    }
}
