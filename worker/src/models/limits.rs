//! What providers say of their limits in headers, in every spelling in use.

use std::time::Duration;

use millhand_common::model::Timestamp;
use millhand_common::ports::{LimitFact, LimitFacts};
use reqwest::header::HeaderMap;

/// The limits in the headers of an answer or a refusal; what is not said, or makes no sense, is absent.
pub(super) fn limits(headers: &HeaderMap, now: Timestamp) -> LimitFacts {
    let fact = |name: &str| {
        let text = |part: &str| {
            // OpenAI and those who copy it, then Anthropic.
            let spellings =
                [format!("x-ratelimit-{part}-{name}"), format!("anthropic-ratelimit-{name}-{part}")];
            spellings.iter().find_map(|name| headers.get(name)?.to_str().ok().map(str::trim))
        };
        let number = |part: &str| text(part).and_then(|text| text.parse().ok());
        LimitFact {
            limit: number("limit"),
            remaining: number("remaining"),
            resets_in: text("reset").and_then(|text| moment(text, now)),
        }
    };
    LimitFacts {
        requests: fact("requests"),
        tokens: fact("tokens"),
        input_tokens: fact("input-tokens"),
        output_tokens: fact("output-tokens"),
    }
}

/// How far away a reset is: `6m0s`, seconds, or a moment in RFC 3339.
fn moment(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    go_duration(text).or_else(|| Timestamp::try_from(text.to_owned()).ok().map(|at| at.since(now)))
}

/// As Go writes durations: `20ms`, `7.67s`, `6m0s`, `1h0m0s`.
pub(super) fn go_duration(text: &str) -> Option<Duration> {
    let mut total = 0.0;
    let mut number = String::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c.is_ascii_digit() || c == '.' {
            number.push(c);
            continue;
        }
        let value: f64 = std::mem::take(&mut number).parse().ok()?;
        total += match (c, rest.peek()) {
            ('m', Some('s')) => {
                rest.next();
                value / 1000.0
            }
            ('h', _) => value * 3600.0,
            ('m', _) => value * 60.0,
            ('s', _) => value,
            _ => return None,
        };
    }
    // A number without its unit is none; nothing at all is none.
    (number.is_empty() && !text.is_empty()).then(|| Duration::try_from_secs_f64(total).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&'static str, &str)]) -> LimitFacts {
        let headers =
            pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        limits(&headers, Timestamp::try_from("2026-01-01T00:00:00Z".to_owned()).unwrap())
    }

    fn fact(limit: u64, remaining: u64, resets_in_ms: u64) -> LimitFact {
        LimitFact {
            limit: Some(limit),
            remaining: Some(remaining),
            resets_in: Some(Duration::from_millis(resets_in_ms)),
        }
    }

    #[test]
    fn every_provider_is_understood() {
        let openai = read(&[
            ("x-ratelimit-limit-requests", "60"),
            ("x-ratelimit-remaining-requests", "59"),
            ("x-ratelimit-reset-requests", "1s"),
            ("x-ratelimit-limit-tokens", "150000"),
            ("x-ratelimit-remaining-tokens", "149984"),
            ("x-ratelimit-reset-tokens", "6m0s"),
        ]);
        assert_eq!((openai.requests, openai.tokens), (fact(60, 59, 1000), fact(150_000, 149_984, 360_000)));
        assert_eq!(openai.input_tokens, LimitFact::default());
        let anthropic = read(&[
            ("anthropic-ratelimit-input-tokens-limit", "50000"),
            ("anthropic-ratelimit-input-tokens-remaining", "49000"),
            ("anthropic-ratelimit-input-tokens-reset", "2026-01-01T00:00:30Z"),
        ]);
        assert_eq!(anthropic.input_tokens, fact(50_000, 49_000, 30_000));
        let azure = read(&[("x-ratelimit-remaining-tokens", "7"), ("x-ratelimit-reset-tokens", "12")]);
        assert_eq!((azure.tokens.limit, azure.tokens.remaining), (None, Some(7)));
        assert_eq!(azure.tokens.resets_in, Some(Duration::from_secs(12)));
    }

    #[test]
    fn what_makes_no_sense_is_absent() {
        let wrong = read(&[("x-ratelimit-limit-tokens", "-1"), ("x-ratelimit-reset-tokens", "soon")]);
        assert_eq!(wrong, LimitFacts::default());
        for text in ["", "s", "1", "1x", "1.2.3s", "m5s", "-1s"] {
            assert_eq!(go_duration(text), None, "{text}");
        }
        assert_eq!(go_duration("1h2m3.5s"), Some(Duration::from_millis(3_723_500)));
        assert_eq!(go_duration("20ms"), Some(Duration::from_millis(20)));
    }
}
