//! [`ApiError`]: what went wrong with a request, and how it is said (RFC 9457).

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use millhand_common::ports::{DocumentsError, IndexError, StoreError};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A refused or failed request.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    /// One word for programs.
    pub(crate) code: &'static str,
    /// A sentence for people; never holds input.
    pub(crate) detail: String,
    /// Seconds after which the same request may succeed.
    pub(crate) retry_after: Option<u32>,
    /// For the log only: it may name what lies inside.
    pub(crate) cause: Option<String>,
}

/// The body of every error.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Problem {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) title: String,
    pub(crate) status: u16,
    pub(crate) detail: String,
    /// One word for programs.
    pub(crate) code: String,
    /// Whether the same request may succeed later.
    pub(crate) retryable: bool,
    pub(crate) request_id: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), retry_after: None, cause: None }
    }

    /// 422: the request is well-formed and asks for something that is not offered.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", detail)
    }

    /// 400: the request itself cannot be read.
    pub(crate) fn malformed(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    pub(crate) fn not_found(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    pub(crate) fn job_not_found() -> Self {
        Self::not_found("job_not_found", "There is no such job.")
    }

    pub(crate) fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    pub(crate) fn gone(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "gone", detail)
    }

    pub(crate) fn too_large(limit_bytes: usize) -> Self {
        let detail = format!("The body is larger than {limit_bytes} bytes.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }

    pub(crate) fn body_timeout() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "The body did not arrive in time.")
    }

    pub(crate) fn index_not_configured() -> Self {
        let detail = "This server has no index: set [index] kind to use documents and search.";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "index_not_configured", detail)
    }

    /// 503: our own trouble, worth another try.
    pub(crate) fn unavailable(code: &'static str, detail: impl Into<String>, retry_after: u32) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
        Self { retry_after: Some(retry_after), ..error }
    }

    pub(crate) fn internal(cause: impl Into<String>) -> Self {
        let error = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something broke on our side.");
        error.caused_by(cause)
    }

    pub(crate) fn caused_by(self, cause: impl Into<String>) -> Self {
        Self { cause: Some(cause.into()), ..self }
    }

    fn retryable(&self) -> bool {
        self.retry_after.is_some() || matches!(self.status.as_u16(), 408 | 429 | 500 | 503)
    }

    pub(crate) fn problem(&self, request_id: &str) -> Problem {
        Problem {
            kind: format!("urn:millhand:problem:{}", self.code),
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            code: self.code.to_owned(),
            retryable: self.retryable(),
            request_id: request_id.to_owned(),
        }
    }
}

impl IntoResponse for ApiError {
    /// Status and headers; the body is written by [`crate::envelope`], which knows the request.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => Self::storage_full(),
            StoreError::Unreachable(cause) => {
                Self::unavailable("store_unavailable", "The store does not answer.", 1).caused_by(cause)
            }
            StoreError::Open => Self::conflict("job_open", "The job is not at its end yet: cancel it first."),
            StoreError::Damaged(cause) => Self::internal(cause),
        }
    }
}

impl ApiError {
    fn storage_full() -> Self {
        Self::unavailable("storage_full", "Storage is full: nothing new is accepted for now.", 30)
    }
}

impl From<DocumentsError> for ApiError {
    fn from(error: DocumentsError) -> Self {
        match error {
            DocumentsError::Full => Self::storage_full(),
            DocumentsError::Unreachable(cause) => {
                Self::unavailable("documents_unavailable", "The document store does not answer.", 1)
                    .caused_by(cause)
            }
            DocumentsError::Damaged(cause) => Self::internal(cause),
        }
    }
}

impl From<IndexError> for ApiError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Full => Self::storage_full(),
            IndexError::Unreachable(cause) => {
                Self::unavailable("index_unavailable", "The index does not answer.", 1).caused_by(cause)
            }
            IndexError::Damaged(cause) => Self::internal(cause),
            IndexError::Dimensions { .. } => Self::internal(error.to_string()),
        }
    }
}
