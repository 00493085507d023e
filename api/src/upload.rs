//! Takes documents in: streams them into bounded memory and checks what they claim to be.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Request};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use millhand_common::model::Scalar;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::config::ApiLimits;
use crate::error::ApiError;
use crate::json;
use crate::submit::is_blank;

/// Files of one upload.
const MAX_FILES: usize = 256;
/// Longest name and source, in bytes.
const MAX_NAME_BYTES: usize = 512;
const MAX_METADATA: usize = 64;

/// One document as the caller sent it.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) name: String,
    pub(crate) content_type: Option<String>,
    pub(crate) source: Option<String>,
    pub(crate) metadata: BTreeMap<String, Scalar>,
    pub(crate) bytes: Bytes,
}

/// A document as JSON.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewDocument)]
pub(crate) struct NewDocument {
    name: String,
    text: String,
    content_type: Option<String>,
    source: Option<String>,
    /// Flat: texts, numbers and truth values.
    #[schema(value_type = Option<Object>)]
    metadata: Option<BTreeMap<String, Value>>,
}

/// Reads all documents of a request, in at most `upload_timeout`.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    limits: &ApiLimits,
) -> Result<Vec<Incoming>, ApiError> {
    json::check_headers(headers, limits.upload_bytes)?;
    let documents = async {
        match json::media_type(headers).as_str() {
            "application/json" => {
                let body = json::read_body(body, limits.upload_bytes, limits.upload_timeout).await?;
                Ok(vec![from_json(&body)?])
            }
            "multipart/form-data" => from_multipart(headers, body, limits).await,
            _ => Err(ApiError::new(
                http::StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "Documents are sent as multipart/form-data with `file` parts, or as application/json.",
            )),
        }
    };
    tokio::time::timeout(limits.upload_timeout, documents).await.map_err(|_| ApiError::body_timeout())?
}

fn from_json(body: &[u8]) -> Result<Incoming, ApiError> {
    let new: NewDocument = json::typed(json::parse(body)?)?;
    if is_blank(&new.text) {
        return Err(ApiError::invalid("`text` is blank."));
    }
    if new.source.as_deref().is_some_and(|source| is_blank(source) || MAX_NAME_BYTES < source.len()) {
        return Err(ApiError::invalid(format!("`source` is 1-{MAX_NAME_BYTES} bytes.")));
    }
    let metadata = new.metadata.unwrap_or_default();
    if MAX_METADATA < metadata.len() {
        return Err(ApiError::invalid(format!("`metadata` has at most {MAX_METADATA} fields.")));
    }
    Ok(Incoming {
        name: document_name(&new.name)?,
        content_type: new.content_type.map(content_type).transpose()?,
        source: new.source,
        metadata: metadata.into_iter().map(flat).collect::<Result<_, _>>()?,
        bytes: Bytes::from(new.text),
    })
}

fn flat((key, value): (String, Value)) -> Result<(String, Scalar), ApiError> {
    let scalar = match value {
        _ if is_blank(&key) => None,
        Value::Bool(flag) => Some(Scalar::Bool(flag)),
        Value::Number(number) => Some(Scalar::Number(number)),
        Value::String(text) => Some(Scalar::Text(text)),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    let rule = "`metadata` is flat: a text, a number or a truth value for each key.";
    scalar.map(|scalar| (key, scalar)).ok_or_else(|| ApiError::invalid(rule))
}

fn document_name(name: &str) -> Result<String, ApiError> {
    if is_blank(name) || MAX_NAME_BYTES < name.len() || name.chars().any(char::is_control) {
        let detail = format!("A document's name is 1-{MAX_NAME_BYTES} bytes without control characters.");
        return Err(ApiError::invalid(detail));
    }
    Ok(name.to_owned())
}

fn content_type(text: String) -> Result<String, ApiError> {
    let essence = text.split(';').next().unwrap_or("").trim();
    let token = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    match essence.split_once('/') {
        Some((kind, subtype)) if token(kind) && token(subtype) && text.len() <= 255 => Ok(text),
        _ => Err(ApiError::invalid("`content_type` is a media type like `text/markdown`.")),
    }
}

async fn from_multipart(
    headers: &HeaderMap,
    body: Body,
    limits: &ApiLimits,
) -> Result<Vec<Incoming>, ApiError> {
    let mut request = Request::new(body);
    *request.headers_mut() = headers.clone();
    // The extractor's own limit is replaced by the count below, which says 413 in our words.
    DefaultBodyLimit::disable().apply(&mut request);
    let unreadable = || ApiError::malformed("malformed_multipart", "The multipart body cannot be read.");
    let mut form = Multipart::from_request(request, &()).await.map_err(|_| unreadable())?;
    let mut documents = Vec::new();
    let mut names = HashSet::new();
    let mut total = 0;
    while let Some(mut field) =
        within(limits.body_timeout, form.next_field()).await?.map_err(|_| unreadable())?
    {
        if field.name() != Some("file") {
            return Err(ApiError::invalid("Every part of the form is named `file`."));
        }
        let Some(name) = field.file_name() else {
            return Err(ApiError::invalid("Every `file` part has a file name."));
        };
        let name = document_name(name)?;
        if !names.insert(name.clone()) {
            return Err(ApiError::invalid("Two files have the same name."));
        }
        if documents.len() == MAX_FILES {
            return Err(ApiError::invalid(format!("An upload has at most {MAX_FILES} files.")));
        }
        // What clients send when they do not know.
        let declared = field.content_type().filter(|kind| *kind != "application/octet-stream");
        let content_type = declared.map(|kind| content_type(kind.to_owned())).transpose()?;
        let mut bytes = BytesMut::new();
        while let Some(chunk) = within(limits.body_timeout, field.chunk()).await?.map_err(|_| unreadable())? {
            total += chunk.len();
            if limits.upload_bytes < total {
                return Err(ApiError::too_large(limits.upload_bytes));
            }
            bytes.extend_from_slice(&chunk);
        }
        let (source, metadata) = (None, BTreeMap::new());
        documents.push(Incoming { name, content_type, source, metadata, bytes: bytes.freeze() });
    }
    if documents.is_empty() { Err(ApiError::invalid("The form has no `file` part.")) } else { Ok(documents) }
}

async fn within<T>(timeout: Duration, wait: impl Future<Output = T>) -> Result<T, ApiError> {
    tokio::time::timeout(timeout, wait).await.map_err(|_| ApiError::body_timeout())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_document_is_checked() {
        let taken = from_json(
            r#"{"name":"手册/一.md","text":"内容","content_type":"text/markdown; charset=utf-8","metadata":{"年":2024,"ok":true}}"#
                .as_bytes(),
        )
        .unwrap();
        assert_eq!((taken.name.as_str(), taken.bytes.len(), taken.metadata.len()), ("手册/一.md", 6, 2));
        for bad in [
            r#"{"name":"a","text":" "}"#,
            r#"{"name":"","text":"x"}"#,
            r#"{"name":"a\nb","text":"x"}"#,
            r#"{"name":"a","text":"x","content_type":"markdown"}"#,
            r#"{"name":"a","text":"x","metadata":{"k":{"deep":1}}}"#,
            r#"{"name":"a","text":"x","metadata":{"k":null}}"#,
            r#"{"name":"a","text":"x","source":""}"#,
            r#"{"name":"a","text":"x","title":"?"}"#,
        ] {
            assert_eq!(from_json(bad.as_bytes()).unwrap_err().status, 422, "{bad}");
        }
    }
}
