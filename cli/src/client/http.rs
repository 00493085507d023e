//! Requests to a server, and errors that say what to do next.

use std::time::Duration;

use anyhow::Context;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url, header};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::args::ClientArgs;

/// A server on this machine answers at once; one far away has this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence of the server. Event streams have a heartbeat every 15 s.
const READ_TIMEOUT: Duration = Duration::from_secs(75);

/// One server, with what every request to it carries.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    key: Option<String>,
}

impl Client {
    pub(crate) fn new(args: &ClientArgs) -> anyhow::Result<Self> {
        Self::build(args, reqwest::Client::builder().read_timeout(READ_TIMEOUT))
    }

    /// A client for requests that take the server as long as they take.
    pub(crate) fn patient(args: &ClientArgs) -> anyhow::Result<Self> {
        Self::build(args, reqwest::Client::builder())
    }

    fn build(args: &ClientArgs, builder: reqwest::ClientBuilder) -> anyhow::Result<Self> {
        let base = Url::parse(&args.url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some())
            .with_context(|| format!("{} is not an address like http://127.0.0.1:8080", args.url))?;
        let http = builder
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("millhand/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("cannot make HTTP requests")?;
        Ok(Self { http, base, key: args.key.clone() })
    }

    /// The address of a path of the contract; segments are escaped.
    pub(crate) fn url<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("an http address has a path").pop_if_empty().extend(segments);
        url
    }

    pub(crate) fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.http.request(method, url);
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    pub(crate) async fn get(&self, url: Url) -> Result<Value, RequestError> {
        self.json(self.request(Method::GET, url)).await
    }

    pub(crate) async fn post(&self, url: Url, body: &Value) -> Result<Value, RequestError> {
        self.json(self.request(Method::POST, url).json(body)).await
    }

    /// Sends, and reads an answer of JSON.
    pub(crate) async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, RequestError> {
        let bytes = self.send(request).await?.bytes().await.map_err(|err| self.failed(err))?;
        serde_json::from_slice(&bytes).map_err(RequestError::NotOurs)
    }

    /// Sends; an answer that is an error becomes one.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, RequestError> {
        let response = request.send().await.map_err(|err| self.failed(err))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let bytes = response.bytes().await.unwrap_or_default();
        let problem = serde_json::from_slice(&bytes).unwrap_or_default();
        Err(RequestError::Refused { status, problem, retry_after })
    }

    pub(crate) fn failed(&self, source: reqwest::Error) -> RequestError {
        let mut url = self.base.clone();
        url.set_path("");
        RequestError::Unreachable { url: url.as_str().trim_end_matches('/').to_owned(), source }
    }
}

/// What a server says about a request that it does not serve (RFC 9457).
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    title: String,
    detail: String,
    code: String,
    request_id: String,
}

/// Why a request has no answer of use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("cannot reach {url}: is `millhand up` running? (another address: --url)")]
    Unreachable { url: String, source: reqwest::Error },
    #[error("{}", describe(.status, .problem))]
    Refused { status: StatusCode, problem: Problem, retry_after: Option<Duration> },
    #[error("the answer does not come from a Millhand server: check --url")]
    NotOurs(#[source] serde_json::Error),
}

impl RequestError {
    /// How long to wait before the same request is worth another try; `None` when it never is.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unreachable { .. } => Some(Duration::from_secs(1)),
            Self::Refused { status, retry_after, .. } => match status.as_u16() {
                429 | 502 | 503 | 504 => Some(retry_after.unwrap_or(Duration::from_secs(1))),
                _ => None,
            },
            Self::NotOurs(_) => None,
        }
    }
}

fn describe(status: &StatusCode, problem: &Problem) -> String {
    let text = [&problem.detail, &problem.title].into_iter().find(|text| !text.is_empty());
    let mut message = match text {
        Some(text) => text.trim_end_matches('.').to_owned(),
        None => format!("the server answered {status}"),
    };
    let code = if problem.code.is_empty() { "no code" } else { &problem.code };
    message.push_str(&format!(" ({code}, HTTP {}", status.as_u16()));
    if status.is_server_error() && !problem.request_id.is_empty() {
        message.push_str(&format!(", request {}", problem.request_id));
    }
    message.push(')');
    if let Some(hint) = hint(&problem.code) {
        message.push_str(": ");
        message.push_str(hint);
    }
    message
}

/// What to do about a refusal, where that is more than to correct the request.
fn hint(code: &str) -> Option<&'static str> {
    match code {
        "model_not_configured" => Some("start the server with OPENAI_BASE_URL and MILLHAND_MODEL__NAME"),
        "index_not_configured" => Some("start the server with an index, e.g. `millhand up`"),
        "collection_not_found" => Some("`millhand ingest PATH --collection NAME` makes one"),
        "unauthorized" => Some("give a key with --key or MILLHAND_KEY; `millhand keys create` makes one"),
        "storage_full" => Some("free disk space below the server's data folder"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(url: &str) -> Client {
        crate::install_crypto();
        Client::new(&ClientArgs { url: url.to_owned(), key: None, json: false }).unwrap()
    }

    #[test]
    fn paths_are_joined_and_names_are_escaped() {
        let url = client("http://localhost:1/").url(["v1", "collections", "手册 a/b", "search"]);
        insta::assert_snapshot!(url, @"http://localhost:1/v1/collections/%E6%89%8B%E5%86%8C%20a%2Fb/search");
        let url = client("https://host/behind/proxy").url(["v1", "jobs"]);
        insta::assert_snapshot!(url, @"https://host/behind/proxy/v1/jobs");
    }

    #[test]
    fn a_problem_is_told_with_its_code_and_what_to_do() {
        let problem = Problem {
            detail: "No model is configured.".to_owned(),
            code: "model_not_configured".to_owned(),
            ..Problem::default()
        };
        insta::assert_snapshot!(describe(&StatusCode::UNPROCESSABLE_ENTITY, &problem), @"No model is configured (model_not_configured, HTTP 422): start the server with OPENAI_BASE_URL and MILLHAND_MODEL__NAME");
        insta::assert_snapshot!(describe(&StatusCode::BAD_GATEWAY, &Problem::default()), @"the server answered 502 Bad Gateway (no code, HTTP 502)");
    }

    #[tokio::test]
    async fn an_address_where_nobody_listens_says_what_to_start() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let client = client(&format!("http://{free}"));
        let err = client.get(client.url(["v1", "jobs"])).await.unwrap_err();
        assert!(err.to_string().contains("is `millhand up` running?"), "{err}");
    }
}
