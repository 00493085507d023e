//! What a model server's refusal means.

use std::time::Duration;

use millhand_common::model::Timestamp;
use millhand_common::ports::ModelError;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde::Deserialize;

use super::limits::{go_duration, limits};

/// Longest `Retry-After` that is believed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(15 * 60);
/// Of a server's own words, this much goes into an error.
const MAX_MESSAGE_CHARS: usize = 300;

/// The error object of OpenAI's protocol, as loosely as servers write it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ErrorObject {
    message: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    code: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: serde_json::Value,
}

impl ErrorObject {
    /// The error inside a body or an event; `None` when there is none.
    pub(super) fn find(body: &[u8]) -> Option<Self> {
        let body: ErrorBody = serde_json::from_slice(body).ok()?;
        Self::of(&body.error)
    }

    /// The error that stands where errors stand; `None` for null.
    pub(super) fn of(error: &serde_json::Value) -> Option<Self> {
        match error {
            serde_json::Value::Null => None,
            serde_json::Value::String(message) => {
                Some(Self { message: Some(message.clone()), ..Self::default() })
            }
            object => Some(Self::deserialize(object).unwrap_or_default()),
        }
    }

    fn says(&self, word: &str) -> bool {
        let code = self.code.as_ref().and_then(serde_json::Value::as_str);
        [self.kind.as_deref(), code].into_iter().flatten().any(|text| text.contains(word))
    }

    fn message(&self) -> &str {
        self.message.as_deref().unwrap_or_default()
    }
}

/// The error that an answer with this status, these headers and this body is.
pub(super) fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ModelError {
    let error = ErrorObject::find(body).unwrap_or_default();
    let said = describe(&format!("HTTP {}", status.as_u16()), error.message());
    let retry_after = retry_after(headers).or_else(|| wait_in_words(error.message()));
    let should_retry = headers.get("x-should-retry").and_then(|value| value.to_str().ok());
    match status.as_u16() {
        402 => ModelError::NoCredit(said),
        _ if no_credit(&error) => ModelError::NoCredit(said),
        _ if never_fits(&error) => ModelError::TooLarge(said),
        _ if filtered(&error) => ModelError::Filtered(said),
        // What the provider says of its own answer goes before what the status usually means.
        _ if should_retry == Some("false") => ModelError::Rejected(said),
        429 => ModelError::RateLimited { retry_after, limits: Box::new(limits(headers, Timestamp::now())) },
        503 | 529 => ModelError::Overloaded { retry_after },
        408 | 409 | 500.. => ModelError::Unavailable(said),
        _ if should_retry == Some("true") => ModelError::Unavailable(said),
        401 | 403 => ModelError::Unauthorized,
        300..=399 => ModelError::Rejected(format!("{said}: it redirects; set base_url to where it leads")),
        _ => ModelError::Rejected(said),
    }
}

/// The error that an error object inside a 200 is.
pub(super) fn error_in_answer(error: &ErrorObject) -> ModelError {
    let said = describe("error in the answer", error.message());
    if no_credit(error) {
        ModelError::NoCredit(said)
    } else if never_fits(error) {
        ModelError::TooLarge(said)
    } else if filtered(error) {
        ModelError::Filtered(said)
    } else if error.says("invalid_request") {
        ModelError::Rejected(said)
    } else if error.says("overloaded") {
        ModelError::Overloaded { retry_after: wait_in_words(error.message()) }
    } else if error.says("rate_limit") {
        ModelError::RateLimited { retry_after: wait_in_words(error.message()), limits: Box::default() }
    } else if error.says("invalid_api_key") || error.says("authentication") {
        ModelError::Unauthorized
    } else {
        ModelError::Unavailable(said)
    }
}

fn describe(what: &str, message: &str) -> String {
    let message: String = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let message: String = message.chars().take(MAX_MESSAGE_CHARS).collect();
    if message.is_empty() { what.to_owned() } else { format!("{what}: {message}") }
}

/// A refusal that looks like a rate limit and that no waiting lifts: money is out.
fn no_credit(error: &ErrorObject) -> bool {
    ["insufficient_quota", "insufficient_balance", "billing"].iter().any(|word| error.says(word))
        || error.message().contains("credit balance is too low")
}

/// Azure's and its likes' name of it.
fn filtered(error: &ErrorObject) -> bool {
    error.says("content_filter") || error.says("content_policy_violation")
}

/// One request asks for more than the model reads, or than the whole limit.
fn never_fits(error: &ErrorObject) -> bool {
    error.says("context_length") || {
        let message = error.message();
        let limit = number_after(message, "Limit ");
        let requested = number_after(message, "Requested ");
        matches!((limit, requested), (Some(limit), Some(requested)) if requested > limit)
    }
}

fn number_after(text: &str, word: &str) -> Option<u64> {
    let rest = &text[text.find(word)? + word.len()..];
    let digits: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == ',').collect();
    digits.replace(',', "").parse().ok()
}

/// How long the headers ask to wait: milliseconds, seconds or a date.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let millis = text("retry-after-ms").or_else(|| text("x-ms-retry-after-ms"));
    let from_millis = millis
        .and_then(|ms| ms.parse::<f64>().ok())
        .and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok());
    from_millis
        .or_else(|| {
            let text = text("retry-after")?;
            match text.parse::<f64>() {
                Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
                Err(_) => http_date(text).map(|at| at.since(Timestamp::now())),
            }
        })
        .map(|wait| wait.min(MAX_RETRY_AFTER))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<Timestamp> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut parts = text.split_once(", ")?.1.split(' ');
    let (day, month, year, time) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let month = MONTHS.find(month).filter(|_| month.len() == 3)? / 3 + 1;
    Timestamp::try_from(format!("{year}-{month:02}-{day}T{time}Z")).ok()
}

/// `Please try again in 7.67s`, `… in 20ms`, `… in 6m0s`.
fn wait_in_words(message: &str) -> Option<Duration> {
    let rest = &message[message.find("try again in ")? + "try again in ".len()..];
    let text: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '.').collect();
    go_duration(text.trim_end_matches('.')).map(|wait| wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn every_spelling_of_retry_after_is_understood() {
        let wait = |pairs: &[(&'static str, &str)]| retry_after(&headers(pairs));
        assert_eq!(wait(&[("retry-after", "2")]), Some(Duration::from_secs(2)));
        assert_eq!(wait(&[("retry-after", "0.25")]), Some(Duration::from_millis(250)));
        assert_eq!(wait(&[("retry-after-ms", "40"), ("retry-after", "2")]), Some(Duration::from_millis(40)));
        assert_eq!(wait(&[("x-ms-retry-after-ms", "70")]), Some(Duration::from_millis(70)));
        assert_eq!(wait(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")]), Some(Duration::ZERO));
        assert_eq!(wait(&[("retry-after", "Fri, 01 Jan 2100 00:00:00 GMT")]), Some(MAX_RETRY_AFTER));
        for nonsense in ["soon", "-1", "NaN", "Sun, 32 Foo 1994"] {
            assert_eq!(wait(&[("retry-after", nonsense)]), None, "{nonsense}");
        }
        assert_eq!(wait_in_words("Please try again in 7.67s."), Some(Duration::from_millis(7670)));
        assert_eq!(wait_in_words("try again in 20ms"), Some(Duration::from_millis(20)));
        assert_eq!(wait_in_words("try again in 6m0s"), Some(Duration::from_secs(360)));
        assert_eq!(wait_in_words("try again in a while"), None);
    }

    #[test]
    fn refusals_are_sorted_by_what_helps() {
        let refused = |status: u16, pairs: &[(&'static str, &str)], body: &str| {
            refusal(StatusCode::from_u16(status).unwrap(), &headers(pairs), body.as_bytes())
        };
        let quota = r#"{"error":{"message":"You exceeded your quota","code":"insufficient_quota"}}"#;
        assert!(matches!(refused(429, &[], quota), ModelError::NoCredit(_)));
        let unpaid = r#"{"error":{"message":"Pay first","type":"billing_hard_limit_reached"}}"#;
        assert!(matches!(refused(400, &[], unpaid), ModelError::NoCredit(_)));
        assert!(matches!(refused(402, &[], ""), ModelError::NoCredit(_)));
        let broke =
            r#"{"error":{"message":"Your credit balance is too low","type":"invalid_request_error"}}"#;
        assert!(matches!(refused(400, &[], broke), ModelError::NoCredit(_)));
        let too_big =
            r#"{"error":{"message":"Limit 7000, Used 0, Requested 7895. Please try again in 7.67s"}}"#;
        assert!(matches!(refused(429, &[], too_big), ModelError::TooLarge(_)));
        let too_long = r#"{"error":{"message":"reads 8192 tokens","code":"context_length_exceeded"}}"#;
        assert!(matches!(refused(400, &[], too_long), ModelError::TooLarge(_)));
        let busy = r#"{"error":{"message":"Limit 7000, Used 6900, Requested 200. Please try again in 2s"}}"#;
        assert!(matches!(
            refused(429, &[], busy),
            ModelError::RateLimited { retry_after: Some(wait), .. } if wait == Duration::from_secs(2)
        ));
        assert!(matches!(refused(401, &[], "no"), ModelError::Unauthorized));
        assert!(matches!(refused(502, &[], "<html>"), ModelError::Unavailable(_)));
        assert!(matches!(
            refused(503, &[("retry-after", "1")], ""),
            ModelError::Overloaded { retry_after: Some(wait) } if wait == Duration::from_secs(1)
        ));
        assert!(matches!(refused(529, &[], ""), ModelError::Overloaded { retry_after: None }));
        for permanent in [400, 404, 413, 422] {
            assert!(matches!(refused(permanent, &[], ""), ModelError::Rejected(_)), "{permanent}");
        }
        for passing in [408, 409, 500, 504] {
            assert!(matches!(refused(passing, &[], ""), ModelError::Unavailable(_)), "{passing}");
        }
        assert!(
            matches!(refused(404, &[], r#"{"error":"no such model"}"#), ModelError::Rejected(said) if said.contains("no such model"))
        );
        assert!(matches!(refused(500, &[("x-should-retry", "false")], ""), ModelError::Rejected(_)));
        assert!(matches!(refused(429, &[("x-should-retry", "false")], busy), ModelError::Rejected(_)));
        assert!(matches!(refused(403, &[("x-should-retry", "true")], ""), ModelError::Unavailable(_)));
        assert!(matches!(refused(429, &[("x-should-retry", "true")], too_big), ModelError::TooLarge(_)));
        assert!(matches!(refused(307, &[], ""), ModelError::Rejected(_)));
        let filter = r#"{"error":{"code":"content_filter","message":"The prompt triggered a filter"}}"#;
        assert!(
            matches!(refused(400, &[], filter), ModelError::Filtered(said) if said.contains("triggered"))
        );
    }
}
