//! One HTTP client per model server.

use std::time::Duration;

use futures::StreamExt;
use millhand_common::ports::ModelError;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Response, Url};
use serde::Serialize;

use super::refusal::refusal;
use super::{Endpoint, SetupError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A refusal is explained in fewer bytes than this.
const MAX_ERROR_BYTES: usize = 64 * 1024;

pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    authorization: Option<HeaderValue>,
}

impl Client {
    pub(super) fn new(endpoint: &Endpoint) -> Result<Self, SetupError> {
        // An error says that a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let authorization = match &endpoint.api_key {
            Some(key) => {
                let mut value =
                    HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| SetupError::Key)?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        let base = base(&endpoint.base_url)?;
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            // A redirect would carry prompts to a place nobody configured.
            .redirect(Policy::none())
            .user_agent(concat!("millhand/", env!("CARGO_PKG_VERSION")));
        if !needs_certificates(&base) {
            http = http.tls_certs_only([]);
        }
        Ok(Self { http: http.build().map_err(SetupError::Client)?, base, authorization })
    }

    /// The address that paths are joined to.
    pub(super) fn base(&self) -> &str {
        self.base.as_str()
    }

    /// Whether this is OpenAI itself, which is stricter than the servers that copy its protocol.
    pub(super) fn is_openai(&self) -> bool {
        self.base.host_str().is_some_and(|host| host == "openai.com" || host.ends_with(".openai.com"))
    }

    /// Sends `body` to `path` below the base; an answer other than 2xx is an error. Dropping it closes
    /// the call; it has no time-out of its own.
    pub(super) async fn post(
        &self,
        path: &str,
        body: &impl Serialize,
        traceparent: Option<&str>,
    ) -> Result<Response, ModelError> {
        let url =
            self.base.join(path).map_err(|_| ModelError::Rejected("base_url takes no path".to_owned()))?;
        let mut request =
            self.http.post(url).header(ACCEPT, "text/event-stream, application/json").json(body);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        if let Some(traceparent) = traceparent {
            request = request.header("traceparent", traceparent);
        }
        let response = request.send().await.map_err(unanswered)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let (status, headers) = (response.status(), response.headers().clone());
        let body = read(response, MAX_ERROR_BYTES).await.unwrap_or_default();
        Err(refusal(status, &headers, &body))
    }
}

/// Whether any server on the way shows a certificate. Those of the system are some hundred files, and a plain
/// image has none.
fn needs_certificates(base: &Url) -> bool {
    let is_tls = |name: &str| std::env::var(name).is_ok_and(|proxy| proxy.starts_with("https:"));
    base.scheme() == "https" || ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"].into_iter().any(is_tls)
}

/// `base` with a final slash, so that `join` goes below it.
fn base(text: &str) -> Result<Url, SetupError> {
    let bad = || SetupError::Url(text.to_owned());
    let mut url = Url::parse(text.trim()).map_err(|_| bad())?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(bad());
    }
    let path = match url.path().trim_end_matches('/') {
        "" => "/v1/".to_owned(),
        path => format!("{path}/"),
    };
    url.set_path(&path);
    Ok(url)
}

/// The first `limit` bytes of a body.
pub(super) async fn read(response: Response, limit: usize) -> Result<Vec<u8>, ModelError> {
    let mut stream = response.bytes_stream();
    let mut body = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(unreachable)?;
        body.extend_from_slice(&chunk[..chunk.len().min(limit - body.len())]);
        if body.len() == limit {
            break;
        }
    }
    Ok(body)
}

/// The error of a request that got no answer. Once it is sent nobody knows whether it is being worked on.
fn unanswered(err: reqwest::Error) -> ModelError {
    let was_sent = !(err.is_connect() || err.is_builder());
    match unreachable(err) {
        ModelError::Unavailable(said) if was_sent => ModelError::Malformed(format!("no answer came: {said}")),
        err => err,
    }
}

/// The error without its URL, which may hold a key; with its causes, which say what went wrong.
pub(super) fn unreachable(err: reqwest::Error) -> ModelError {
    let err = err.without_url();
    let mut said = err.to_string();
    let mut source = std::error::Error::source(&err);
    while let Some(cause) = source {
        said = format!("{said}: {cause}");
        source = cause.source();
    }
    ModelError::Unavailable(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_taken_with_and_without_its_version() {
        let joined = |text: &str| base(text).unwrap().join("chat/completions").unwrap().to_string();
        assert_eq!(joined("https://api.openai.com/v1"), "https://api.openai.com/v1/chat/completions");
        assert_eq!(joined("http://localhost:11434"), "http://localhost:11434/v1/chat/completions");
        assert_eq!(joined("http://host/openai/v3/"), "http://host/openai/v3/chat/completions");
        for bad in ["", "host:80", "ftp://host/v1", "file:///etc/passwd"] {
            assert!(matches!(base(bad), Err(SetupError::Url(_))), "{bad}");
        }
    }

    #[test]
    fn a_key_is_never_shown() {
        let endpoint = Endpoint {
            base_url: "http://h/v1".to_owned(),
            name: "m".to_owned(),
            api_key: Some("canary".to_owned()),
        };
        assert!(!format!("{endpoint:?}").contains("canary"));
    }
}
