//! All that a provider can be told: by flags at the start, by `POST /control` while it runs.

use std::time::Duration;

use clap::{Args, ValueEnum};
use millhand_common::model::Usd;
use millhand_common::prices::Price;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::faults::Fault;
use super::quota::Rules;

/// As it stands; `GET /control` shows it.
#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    #[command(flatten)]
    pub(crate) quota: Rules,
    #[command(flatten)]
    pub(crate) physics: Physics,
    #[command(flatten)]
    pub(crate) answers: Answers,
    #[command(flatten)]
    pub(crate) prices: Prices,
    /// Whose headers and error bodies to send
    #[arg(long, value_name = "NAME", default_value = "openai")]
    pub(crate) dialect: Dialect,
    /// What goes wrong, may be repeated: the first that hits a call wins; see below
    #[arg(long = "fault", value_name = "FAULT")]
    pub(crate) faults: Vec<Fault>,
    /// Keep the messages of every call in the ledger
    #[arg(long)]
    pub(crate) keep_bodies: bool,
}

/// How long things take, in real time.
#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Physics {
    /// From the request to the first token
    #[arg(long, value_name = "TIME", default_value = "300ms", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub(crate) first_token: Duration,
    /// Added to it for each token of the prompt
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub(crate) per_input_token: Duration,
    /// From one token to the next
    #[arg(long, value_name = "TIME", default_value = "15ms", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub(crate) per_token: Duration,
    /// Calls that run at full speed together; more of them share it [default: any number]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) parallel: Option<u32>,
    /// By how much each of these times may be off, as a share of it
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    pub(crate) jitter: f64,
}

impl Physics {
    /// Until the first token; `dice` is in 0..1.
    pub(crate) fn until_first(&self, input_tokens: u64, running: u32, dice: f64) -> Duration {
        let prompt = self.per_input_token.as_secs_f64() * input_tokens as f64;
        self.stretched(self.first_token.as_secs_f64() + prompt, running, dice)
    }

    /// Until the next token, when they come `gap` apart on a free machine.
    pub(crate) fn until_next(&self, gap: Duration, running: u32, dice: f64) -> Duration {
        self.stretched(gap.as_secs_f64(), running, dice)
    }

    fn stretched(&self, seconds: f64, running: u32, dice: f64) -> Duration {
        let load = self.parallel.map_or(1.0, |most| (f64::from(running) / f64::from(most)).max(1.0));
        let off = 1.0 + self.jitter * (2.0 * dice - 1.0);
        Duration::try_from_secs_f64(seconds * load * off).unwrap_or(Duration::MAX)
    }
}

/// Numbers that an embedding has at most.
pub(crate) const MAX_DIMENSIONS: u64 = 4096;

/// What is answered.
#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Answers {
    /// Tokens of an answer to a question that asks for no other number
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) answer_tokens: u64,
    /// Longest answer; what a request without max_tokens is charged for in mode arrival
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_output: u64,
    /// Numbers of an embedding
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=MAX_DIMENSIONS))]
    pub(crate) dimensions: u64,
    /// Words that mean the same to embeddings, as `bike=bicycle=自行车`; may be repeated
    #[arg(long = "synonyms", value_name = "WORDS", value_parser = synonyms)]
    pub(crate) synonyms: Vec<Synonyms>,
}

/// Words of one meaning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Synonyms(pub(crate) Vec<String>);

/// What the ledger bills, in dollars for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Prices {
    /// Dollars for a million input tokens
    #[arg(long, value_name = "USD", default_value_t = 0.15)]
    pub(crate) input_price: f64,
    /// Dollars for a million output tokens
    #[arg(long, value_name = "USD", default_value_t = 0.60)]
    pub(crate) output_price: f64,
}

impl Prices {
    /// In billionths of a dollar, whole ones.
    pub(crate) fn nano_usd(&self, input: u64, output: u64) -> u64 {
        Price::per_million(Usd::nearest(self.input_price), Usd::nearest(self.output_price))
            .cost(input, output)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Dialect {
    Openai,
    Azure,
    Anthropic,
    /// No word about limits, not even when to come back
    Plain,
}

impl Settings {
    /// Refuses numbers that make no sense, whichever way they came.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (physics, answers) = (&self.physics, &self.answers);
        if !(1..=3600).contains(&self.quota.burst_seconds) {
            return Err("burst_seconds is between 1 and 3600".to_owned());
        }
        if !(0.0..=1.0).contains(&physics.jitter) || physics.parallel == Some(0) {
            return Err("jitter is between 0 and 1, parallel at least 1".to_owned());
        }
        if answers.max_output == 0 || !(1..=MAX_DIMENSIONS).contains(&answers.dimensions) {
            return Err(format!("max_output is at least 1, dimensions between 1 and {MAX_DIMENSIONS}"));
        }
        Fault::check_all(&self.faults)
    }

    /// These settings with `patch` over them, as RFC 7396 merges: `null` takes a value away, a list
    /// replaces a list.
    pub(crate) fn patched(&self, patch: &Value) -> Result<Self, serde_json::Error> {
        let mut value = serde_json::to_value(self)?;
        merge(&mut value, patch);
        serde_json::from_value(value)
    }
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("not between 0 and 1".to_owned()) }
}

fn synonyms(text: &str) -> Result<Synonyms, String> {
    let words: Vec<String> = text.split('=').map(|word| word.trim().to_owned()).collect();
    if words.len() < 2 || words.iter().any(String::is_empty) {
        return Err("two words or more with = between them".to_owned());
    }
    Ok(Synonyms(words))
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        settings: Settings,
    }

    /// What these flags mean.
    pub(crate) fn settings(flags: &[&str]) -> Settings {
        Alone::parse_from(["provider"].iter().chain(flags)).settings
    }

    #[test]
    fn a_patch_changes_what_it_names_and_nothing_else() {
        let before = settings(&["--requests-per-minute", "10", "--fault", "cut,p=0.5"]);
        let patch = json!({"quota": {"requests_per_minute": null, "tokens_per_minute": 500}, "faults": []});
        let after = before.patched(&patch).unwrap();
        assert_eq!((after.quota.requests_per_minute, after.quota.tokens_per_minute), (None, Some(500)));
        assert_eq!((after.faults.len(), &after.physics), (0, &before.physics));
        assert_eq!(before.patched(&json!({})).unwrap(), before);
        for wrong in [json!({"nonsense": 1}), json!({"physics": {"first_token": null}}), json!([1])] {
            assert!(before.patched(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn more_calls_than_run_in_parallel_slow_each_other() {
        let physics =
            settings(&["--parallel", "4", "--first-token", "100ms", "--per-input-token", "1ms"]).physics;
        let gap = Duration::from_millis(10);
        assert_eq!(physics.until_next(gap, 4, 0.5), gap);
        assert_eq!(physics.until_next(gap, 12, 0.5), gap * 3);
        assert_eq!(physics.until_first(50, 1, 0.5), Duration::from_millis(150));
    }

    #[test]
    fn bills_are_whole_billionths() {
        assert_eq!(settings(&[]).prices.nano_usd(1000, 100), 150 * 1000 + 600 * 100);
    }
}
