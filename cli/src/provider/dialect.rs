//! How each provider words its limits and its errors.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use millhand_common::model::Timestamp;
use serde_json::{Value, json};

use super::quota::{Dimension, Refusal, Shown};
use super::settings::Dialect;

const NO_CREDIT: &str = "You exceeded your current quota, please check your plan and billing details.";

/// What a caller is refused with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Problem {
    /// The limits say no.
    Limited(Refusal),
    /// A rate limit on demand.
    Storm { retry_after: Option<Duration> },
    /// The account is out of money, on demand.
    NoCredit,
    /// An error on demand.
    Failed { status: u16, retry_after: Option<Duration> },
    /// The request itself is wrong.
    Invalid(String),
}

impl Problem {
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Limited(_) | Self::Storm { .. } | Self::NoCredit => 429,
            Self::Failed { status, .. } => *status,
            Self::Invalid(_) => 400,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Limited(Refusal::Later { wait, .. }) => Some(*wait),
            // When a call will end is not known.
            Self::Limited(Refusal::Busy { .. }) => Some(Duration::from_secs(1)),
            Self::Limited(Refusal::Never { .. }) | Self::NoCredit | Self::Invalid(_) => None,
            Self::Storm { retry_after } | Self::Failed { retry_after, .. } => *retry_after,
        }
    }

    /// As `dialect` words it to a caller of `model`, with the limits as they stand.
    pub(crate) fn response(&self, dialect: Dialect, model: &str, limits: &[Shown]) -> Response {
        let mut headers = limit_headers(dialect, limits, Timestamp::now());
        if let Some(wait) = self.retry_after().filter(|_| dialect != Dialect::Plain) {
            let wait_ms = wait.as_micros().div_ceil(1000);
            put(&mut headers, "retry-after", wait_ms.div_ceil(1000).to_string());
            match dialect {
                Dialect::Openai => put(&mut headers, "retry-after-ms", wait_ms.to_string()),
                Dialect::Azure => {
                    put(&mut headers, "retry-after-ms", wait_ms.to_string());
                    put(&mut headers, "x-ms-retry-after-ms", wait_ms.to_string());
                }
                Dialect::Anthropic | Dialect::Plain => {}
            }
        }
        let status = match (dialect, self.status()) {
            // Anthropic's own overload has a status of its own.
            (Dialect::Anthropic, 503) => 529,
            (Dialect::Anthropic, _) if *self == Self::NoCredit => 400,
            (_, status) => status,
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, headers, Json(self.body(dialect, model))).into_response()
    }

    /// The error object.
    pub(crate) fn body(&self, dialect: Dialect, model: &str) -> Value {
        match dialect {
            Dialect::Openai | Dialect::Plain => self.openai(dialect, model),
            Dialect::Azure => self.azure(),
            Dialect::Anthropic => self.anthropic(),
        }
    }

    fn openai(&self, dialect: Dialect, model: &str) -> Value {
        let (message, kind, code) = match self {
            Self::Limited(Refusal::Later { dimension, limit, left, asked, wait }) => {
                let used = i64::try_from(*limit).unwrap_or(i64::MAX).saturating_sub(*left);
                let mut message = format!(
                    "Rate limit reached for {model} on {}: Limit {limit}, Used {used}, Requested {asked}.",
                    per_minute(*dimension)
                );
                if dialect != Dialect::Plain {
                    message.push_str(&format!(" Please try again in {}.", go_duration(*wait)));
                }
                (message, kind(*dimension), "rate_limit_exceeded")
            }
            Self::Limited(Refusal::Never { dimension, limit, asked }) => (
                format!(
                    "Request too large for {model} on {}: Limit {limit}, Requested {asked}. The input or output \
                     tokens must be reduced in order to run successfully.",
                    per_minute(*dimension)
                ),
                kind(*dimension),
                "rate_limit_exceeded",
            ),
            Self::Limited(Refusal::Busy { limit }) => (
                format!("Too many concurrent requests for {model}: Limit {limit}."),
                "requests",
                "rate_limit_exceeded",
            ),
            Self::Storm { .. } => {
                (format!("Rate limit reached for {model}."), "requests", "rate_limit_exceeded")
            }
            Self::NoCredit => (NO_CREDIT.to_owned(), "insufficient_quota", "insufficient_quota"),
            Self::Failed { status, .. } => (
                format!("The server had an error ({status}) while processing your request."),
                "server_error",
                "",
            ),
            Self::Invalid(message) => (message.clone(), "invalid_request_error", ""),
        };
        let code = Some(code).filter(|code| !code.is_empty());
        json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
    }

    fn azure(&self) -> Value {
        let seconds = self.retry_after().map_or(0, |wait| wait.as_millis().div_ceil(1000));
        let message = match self {
            Self::Limited(Refusal::Never { limit, asked, .. }) => {
                format!(
                    "The request is larger than the token rate limit of your current tier. Limit {limit}, Requested {asked}."
                )
            }
            Self::Limited(_) | Self::Storm { .. } => format!(
                "Requests to the ChatCompletions_Create Operation have exceeded the rate limit of your current \
                 pricing tier. Please retry after {seconds} seconds."
            ),
            Self::NoCredit => NO_CREDIT.to_owned(),
            Self::Failed { .. } => {
                "The server had an error while processing your request. Sorry about that!".to_owned()
            }
            Self::Invalid(message) => message.clone(),
        };
        let code = match self {
            Self::NoCredit => "insufficient_quota".to_owned(),
            problem => problem.status().to_string(),
        };
        json!({"error": {"code": code, "message": message}})
    }

    fn anthropic(&self) -> Value {
        let (kind, message) = match self {
            Self::Limited(Refusal::Never { limit, asked, .. }) => {
                ("invalid_request_error", format!("request too large: Limit {limit}, Requested {asked}"))
            }
            Self::Limited(_) | Self::Storm { .. } => {
                ("rate_limit_error", "This request would exceed your organization's rate limit.".to_owned())
            }
            Self::NoCredit => {
                ("invalid_request_error", "Your credit balance is too low to access the API.".to_owned())
            }
            Self::Failed { status: 503 | 529, .. } => ("overloaded_error", "Overloaded".to_owned()),
            Self::Failed { .. } => ("api_error", "Internal server error".to_owned()),
            Self::Invalid(message) => ("invalid_request_error", message.clone()),
        };
        json!({"type": "error", "error": {"type": kind, "message": message}})
    }
}

fn per_minute(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Requests => "requests per min (RPM)",
        Dimension::Tokens => "tokens per min (TPM)",
        Dimension::InputTokens => "input tokens per min (ITPM)",
        Dimension::OutputTokens => "output tokens per min (OTPM)",
    }
}

fn kind(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Requests => "requests",
        Dimension::Tokens | Dimension::InputTokens | Dimension::OutputTokens => "tokens",
    }
}

/// What every answer says of the limits, good or bad.
pub(crate) fn limit_headers(dialect: Dialect, limits: &[Shown], now: Timestamp) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for shown in limits {
        let left = shown.left.max(0).to_string();
        match dialect {
            Dialect::Openai | Dialect::Azure => {
                let name = match shown.dimension {
                    Dimension::Requests => "requests",
                    Dimension::Tokens => "tokens",
                    Dimension::InputTokens => "input-tokens",
                    Dimension::OutputTokens => "output-tokens",
                };
                put(&mut headers, &format!("x-ratelimit-limit-{name}"), shown.limit.to_string());
                put(&mut headers, &format!("x-ratelimit-remaining-{name}"), left);
                if dialect == Dialect::Openai {
                    put(&mut headers, &format!("x-ratelimit-reset-{name}"), go_duration(shown.reset));
                }
            }
            Dialect::Anthropic => {
                let name = match shown.dimension {
                    Dimension::Requests => "requests",
                    Dimension::Tokens => "tokens",
                    Dimension::InputTokens => "input-tokens",
                    Dimension::OutputTokens => "output-tokens",
                };
                put(&mut headers, &format!("anthropic-ratelimit-{name}-limit"), shown.limit.to_string());
                put(&mut headers, &format!("anthropic-ratelimit-{name}-remaining"), left);
                let reset = (now + shown.reset).to_string();
                put(&mut headers, &format!("anthropic-ratelimit-{name}-reset"), reset);
            }
            Dialect::Plain => {}
        }
    }
    headers
}

fn put(headers: &mut HeaderMap, name: &str, value: String) {
    let name = HeaderName::try_from(name).expect("names are written above");
    let value = HeaderValue::try_from(value).expect("numbers and times are plain text");
    headers.insert(name, value);
}

/// As Go writes durations: `20ms`, `1.5s`, `6m0s`. Rounded up to milliseconds.
fn go_duration(duration: Duration) -> String {
    let ms = duration.as_micros().div_ceil(1000);
    let seconds = |ms: u128| {
        let text = format!("{}.{:03}", ms / 1000, ms % 1000);
        format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
    };
    match ms {
        0 => "0s".to_owned(),
        1..1000 => format!("{ms}ms"),
        1000..60_000 => seconds(ms),
        60_000..3_600_000 => format!("{}m{}", ms / 60_000, seconds(ms % 60_000)),
        _ => format!("{}h{}m{}", ms / 3_600_000, ms / 60_000 % 60, seconds(ms % 60_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(wait_ms: u64) -> Problem {
        let wait = Duration::from_millis(wait_ms);
        Problem::Limited(Refusal::Later {
            dimension: Dimension::Tokens,
            limit: 7000,
            left: 100,
            asked: 200,
            wait,
        })
    }

    const SHOWN: Shown =
        Shown { dimension: Dimension::InputTokens, limit: 60, left: -3, reset: Duration::from_secs(90) };

    #[test]
    fn durations_are_written_as_go_does() {
        let written =
            [0, 20, 1000, 7670, 60_000, 361_500, 3_600_000].map(|ms| go_duration(Duration::from_millis(ms)));
        assert_eq!(written, ["0s", "20ms", "1s", "7.67s", "1m0s", "6m1.5s", "1h0m0s"]);
    }

    #[test]
    fn each_dialect_says_when_to_come_back_in_its_own_words() {
        let refused = |dialect| limited(7670).response(dialect, "m", &[SHOWN]);
        let header = |response: &Response, name: &str| {
            response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
        };
        let openai = refused(Dialect::Openai);
        assert_eq!(openai.status(), 429);
        assert_eq!(header(&openai, "retry-after").unwrap(), "8");
        assert_eq!(header(&openai, "retry-after-ms").unwrap(), "7670");
        assert_eq!(header(&openai, "x-ratelimit-remaining-input-tokens").unwrap(), "0");
        assert_eq!(header(&openai, "x-ratelimit-reset-input-tokens").unwrap(), "1m30s");
        let azure = refused(Dialect::Azure);
        assert_eq!(header(&azure, "x-ms-retry-after-ms").unwrap(), "7670");
        assert_eq!(header(&azure, "x-ratelimit-reset-input-tokens"), None);
        let anthropic = refused(Dialect::Anthropic);
        assert_eq!(header(&anthropic, "anthropic-ratelimit-input-tokens-limit").unwrap(), "60");
        assert_eq!(header(&anthropic, "retry-after").unwrap(), "8");
        let plain = refused(Dialect::Plain);
        let names: Vec<_> = plain.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-type"]);
        let overloaded = Problem::Failed { status: 503, retry_after: None };
        assert_eq!(overloaded.response(Dialect::Anthropic, "m", &[]).status(), 529);
    }

    #[test]
    fn error_bodies_are_the_providers_own() {
        let message = |problem: &Problem, dialect| problem.body(dialect, "m")["error"]["message"].clone();
        assert_eq!(
            message(&limited(7670), Dialect::Openai),
            "Rate limit reached for m on tokens per min (TPM): Limit 7000, Used 6900, Requested 200. Please try again in 7.67s."
        );
        let never =
            Problem::Limited(Refusal::Never { dimension: Dimension::Tokens, limit: 7000, asked: 7895 });
        assert!(message(&never, Dialect::Openai).as_str().unwrap().contains("Limit 7000, Requested 7895."));
        assert_eq!(limited(1).body(Dialect::Azure, "m")["error"]["code"], "429");
        assert_eq!(limited(1).body(Dialect::Anthropic, "m")["error"]["type"], "rate_limit_error");
    }
}
