//! What a request says outside its body: query, path, headers. Parsed once, at the edge.

use std::str::FromStr;
use std::time::Duration;

use axum::extract::{FromRequestParts, Query};
use http::request::Parts;
use http::{HeaderMap, Uri};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// The query, every field known; anything else is 422. A credential in it is 400: it would land in
/// the logs of every proxy.
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        refuse_credentials(&parts.uri)?;
        Query::<T>::try_from_uri(&parts.uri)
            .map(|Query(params)| Self(params))
            .map_err(|error| ApiError::invalid(format!("{}.", error.body_text())))
    }
}

fn refuse_credentials(uri: &Uri) -> Result<(), ApiError> {
    let names = ["token", "access_token", "key", "api_key", "authorization"];
    let mut keys = uri.query().unwrap_or("").split('&').map(|pair| pair.split('=').next().unwrap_or(""));
    if keys.any(|key| names.contains(&key.to_ascii_lowercase().as_str())) {
        let detail = "A credential must not be part of the address: send it as a header.";
        return Err(ApiError::malformed("credential_in_url", detail));
    }
    Ok(())
}

/// A query that must be empty.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoParams {}

/// A place in a list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListParams {
    /// 1-100, default 20.
    pub(crate) limit: Option<u64>,
    /// `next_cursor` of the page before.
    pub(crate) cursor: Option<String>,
}

/// Most entries of a page.
const MAX_LIMIT: u64 = 100;
const DEFAULT_LIMIT: u64 = 20;

pub(crate) fn page_limit(limit: Option<u64>) -> Result<usize, ApiError> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::invalid(format!("`limit` is 1-{MAX_LIMIT}.")));
    }
    Ok(usize::try_from(limit).expect("at most 100"))
}

/// Seconds to wait for an end: 0-60.
pub(crate) fn wait_seconds(wait: Option<u64>) -> Result<Duration, ApiError> {
    match wait.unwrap_or(0) {
        seconds @ 0..=60 => Ok(Duration::from_secs(seconds)),
        _ => Err(ApiError::invalid("`wait` is 0-60 seconds.")),
    }
}

/// `Prefer: wait=N`; other preferences are not ours to judge.
pub(crate) fn prefer_wait(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
    for value in headers.get_all("prefer") {
        for preference in value.to_str().unwrap_or("").split([',', ';']) {
            if let Some((name, seconds)) = preference.split_once('=')
                && name.trim().eq_ignore_ascii_case("wait")
            {
                let seconds = seconds.trim().trim_matches('"').parse();
                let seconds = seconds.map_err(|_| ApiError::invalid("`Prefer: wait` is 0-60 seconds."))?;
                return wait_seconds(Some(seconds)).map(Some);
            }
        }
    }
    Ok(None)
}

/// `Idempotency-Key`: 1-255 visible ASCII characters.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    match value.to_str() {
        Ok(key) if values.next().is_none() => checked_key(key).map(Some),
        _ => Err(bad_key()),
    }
}

pub(crate) fn checked_key(key: &str) -> Result<String, ApiError> {
    let valid = (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    if valid { Ok(key.to_owned()) } else { Err(bad_key()) }
}

fn bad_key() -> ApiError {
    let detail = "Idempotency-Key is one header of 1-255 visible ASCII characters.";
    ApiError::malformed("bad_idempotency_key", detail)
}

/// Where a reader of a log stands; `Last-Event-ID` wins over `?after=`.
pub(crate) fn log_cursor(headers: &HeaderMap, after: Option<&str>) -> Result<u64, ApiError> {
    match headers.get("last-event-id") {
        Some(value) => parse_seq(value.to_str().unwrap_or("?")),
        None => after.map_or(Ok(0), parse_seq),
    }
}

fn parse_seq(text: &str) -> Result<u64, ApiError> {
    // `u64::from_str` takes a plus sign too.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let seq = if digits { text.parse().ok() } else { None };
    seq.ok_or_else(|| ApiError::malformed("bad_cursor", "The cursor is the `seq` of an event: digits only."))
}

/// An id or name of a path; what cannot be one names nothing, so it is 404.
pub(crate) fn path_id<T: FromStr>(text: &str, error: impl FnOnce() -> ApiError) -> Result<T, ApiError> {
    text.parse().map_err(|_| error())
}

/// A cursor of a list as clients see it: opaque, and recognised when it comes back.
pub(crate) mod cursor {
    use std::fmt::Write as _;
    use std::str::FromStr;

    use super::ApiError;

    /// Marks our cursors, so that other text is told from them.
    const MARK: &str = "c1-";

    pub(crate) fn encode(place: &str) -> String {
        place.bytes().fold(MARK.to_owned(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a String cannot fail");
            text
        })
    }

    pub(crate) fn decode<T: FromStr>(text: Option<&str>) -> Result<Option<T>, ApiError> {
        let Some(text) = text else { return Ok(None) };
        place(text)
            .and_then(|place| place.parse().ok())
            .map(Some)
            .ok_or_else(|| ApiError::malformed("bad_cursor", "The cursor is not one of this list."))
    }

    fn place(text: &str) -> Option<String> {
        let digits = text.strip_prefix(MARK)?.as_bytes();
        if digits.is_empty() || digits.len() % 2 != 0 {
            return None;
        }
        let nibble = |digit: u8| char::from(digit).to_digit(16);
        let bytes = digits.chunks_exact(2).map(|pair| {
            let byte = nibble(pair[0])? * 16 + nibble(pair[1])?;
            u8::try_from(byte).ok()
        });
        String::from_utf8(bytes.collect::<Option<Vec<u8>>>()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(name: &'static str, value: &[u8]) -> HeaderMap {
        HeaderMap::from_iter([(
            http::HeaderName::from_static(name),
            HeaderValue::from_bytes(value).expect("a header value"),
        )])
    }

    #[test]
    fn a_cursor_survives_and_junk_is_400() {
        let text = cursor::encode("手册/第一章.md");
        assert_eq!(cursor::decode::<String>(Some(&text)).unwrap().as_deref(), Some("手册/第一章.md"));
        assert!(cursor::decode::<String>(None).unwrap().is_none());
        for bad in ["", "abc", "c1-", "c1-f", "c1-zz", "c1-ff", "c1-+1"] {
            assert_eq!(cursor::decode::<String>(Some(bad)).unwrap_err().status, 400, "{bad}");
        }
    }

    #[test]
    fn log_cursors_are_digits_only() {
        for bad in ["abc", "-1", "99999999999999999999-0", "", "+1", " 1", &"9".repeat(10_000)] {
            assert_eq!(log_cursor(&HeaderMap::new(), Some(bad)).unwrap_err().status, 400, "{bad}");
        }
        assert_eq!(log_cursor(&headers("last-event-id", b"7"), Some("abc")).unwrap(), 7);
        assert_eq!(log_cursor(&headers("last-event-id", b"\xff"), None).unwrap_err().status, 400);
    }

    #[test]
    fn keys_and_waits_outside_their_range_are_refused() {
        for bad in [&b""[..], b"a b", b"a\tb", "键".as_bytes(), &[b'k'; 256]] {
            assert_eq!(idempotency_key(&headers("idempotency-key", bad)).unwrap_err().status, 400);
        }
        assert!(idempotency_key(&headers("idempotency-key", &[b'k'; 255])).unwrap().is_some());
        assert_eq!(
            prefer_wait(&headers("prefer", b"respond-async, wait=7")).unwrap(),
            Some(Duration::from_secs(7))
        );
        assert_eq!(prefer_wait(&headers("prefer", b"wait=61")).unwrap_err().status, 422);
        assert_eq!(prefer_wait(&headers("prefer", b"return=minimal")).unwrap(), None);
        assert!(page_limit(Some(0)).is_err() && page_limit(Some(101)).is_err());
    }
}
