//! Strict JSON bodies: what cannot be read is 400, what is not offered is 422, and nothing is guessed.

use std::fmt;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::{Map, Number, Value};

use crate::error::ApiError;

/// Reads the whole body within `timeout`, at most `limit` bytes.
pub(crate) async fn read_body(body: Body, limit: usize, timeout: Duration) -> Result<Bytes, ApiError> {
    let read = async {
        let mut chunks = body.into_data_stream();
        let mut bytes = BytesMut::new();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| ApiError::malformed("body_incomplete", "The body ended early."))?;
            if limit < bytes.len() + chunk.len() {
                return Err(ApiError::too_large(limit));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    };
    tokio::time::timeout(timeout, read).await.map_err(|_| ApiError::body_timeout())?
}

/// Refuses what a declared length already says is too large, and any encoding.
pub(crate) fn check_headers(headers: &HeaderMap, limit: usize) -> Result<(), ApiError> {
    let unsupported = |detail: &str| {
        Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail))
    };
    if headers.get(header::CONTENT_ENCODING).is_some_and(|value| value != "identity") {
        return unsupported("Content-Encoding is not supported: send the body as it is.");
    }
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length: usize| limit < length) {
        return Err(ApiError::too_large(limit));
    }
    Ok(())
}

/// The media type of a body, without its parameters, in lower case.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    text.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

pub(crate) fn check_json(headers: &HeaderMap) -> Result<(), ApiError> {
    if media_type(headers) == "application/json" {
        return Ok(());
    }
    let detail = "The body must be sent with Content-Type: application/json.";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail))
}

/// The value in `bytes`, with no duplicate keys and no NUL characters anywhere.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice::<Strict>(bytes).map(|strict| strict.0).map_err(|error| match error.classify() {
        Category::Data => ApiError::invalid(sentence(&error)),
        Category::Io | Category::Syntax | Category::Eof => {
            ApiError::malformed("malformed_json", format!("The body is not JSON: {error}."))
        }
    })
}

/// The typed form of a value.
pub(crate) fn typed<T: DeserializeOwned>(value: Value) -> Result<T, ApiError> {
    serde_json::from_value(value).map_err(|error| ApiError::invalid(sentence(&error)))
}

fn sentence(error: &serde_json::Error) -> String {
    format!("The body is not what is asked for: {error}.")
}

/// A digest of the value that does not depend on the order of keys or on white space.
pub(crate) fn digest(kind: &str, value: &Value) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(kind.as_bytes()).update(&[0]);
    feed(&mut hasher, value);
    *hasher.finalize().as_bytes()
}

fn feed(hasher: &mut blake3::Hasher, value: &Value) {
    // A tag and a length before each part: no two values feed the same bytes.
    let mut part = |tag: u8, bytes: &[u8]| {
        hasher.update(&[tag]).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    };
    match value {
        Value::Null => part(b'0', b""),
        Value::Bool(flag) => part(b'b', &[u8::from(*flag)]),
        Value::Number(number) => part(b'n', number.to_string().as_bytes()),
        Value::String(text) => part(b's', text.as_bytes()),
        Value::Array(items) => {
            part(b'a', &(items.len() as u64).to_le_bytes());
            items.iter().for_each(|item| feed(hasher, item));
        }
        Value::Object(fields) => {
            part(b'o', &(fields.len() as u64).to_le_bytes());
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            for (key, value) in fields {
                feed(hasher, &Value::String(key.clone()));
                feed(hasher, value);
            }
        }
    }
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

fn checked<E: serde::de::Error>(text: String) -> Result<String, E> {
    // PostgreSQL cannot keep NUL, and no text of people holds it.
    if text.contains('\0') { Err(E::custom("text holds a NUL character")) } else { Ok(text) }
}

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number is not finite"))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        checked(value.to_owned()).map(Value::String)
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        checked(value).map(Value::String)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = fields.next_key::<String>()? {
            let key = checked(key)?;
            if object.contains_key(&key) {
                return Err(A::Error::custom("a field occurs twice"));
            }
            let Strict(value) = fields.next_value()?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(bytes: &[u8]) -> u16 {
        parse(bytes).map_or_else(|error| error.status.as_u16(), |_| 200)
    }

    #[test]
    fn what_is_not_json_is_400_and_what_is_ambiguous_is_422() {
        let deep = [b"[".repeat(10_000), b"]".repeat(10_000)].concat();
        for bad in
            [&b"{\"a\":"[..], b"{\"a\":NaN}", b"1e999", b"\"\\ud800\"", b"\"\xff\"", b"", b"{} x", &deep]
        {
            assert_eq!(status(bad), 400, "{:?}", String::from_utf8_lossy(&bad[..bad.len().min(20)]));
        }
        for bad in
            [&br#"{"a":1,"a":2}"#[..], br#"{"m":{"k":1,"k":1}}"#, br#"["a\u0000b"]"#, br#"{"\u0000":1}"#]
        {
            assert_eq!(status(bad), 422, "{:?}", String::from_utf8_lossy(bad));
        }
        assert_eq!(status("{\"问\":[1,-2,0.5,null,true,\"答\\t\"]}".as_bytes()), 200);
    }

    #[test]
    fn a_digest_ignores_order_and_space_only() {
        let digest_of = |text: &str| digest("chat", &parse(text.as_bytes()).unwrap());
        assert_eq!(digest_of(r#"{"a":1,"b":[2]}"#), digest_of(r#"{ "b": [2], "a": 1 }"#));
        assert_ne!(digest_of(r#"{"a":1,"b":[2]}"#), digest_of(r#"{"a":1,"b":[2,2]}"#));
        assert_ne!(digest_of(r#"["ab",""]"#), digest_of(r#"["a","b"]"#));
        assert_ne!(digest("chat", &Value::Null), digest("ingest", &Value::Null));
    }
}
