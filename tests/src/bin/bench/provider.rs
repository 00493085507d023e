//! An OpenAI-compatible model that takes no time to think. The last message may hold `tokens=N` (20) and
//! `gap=MS` between them (0); `stall=1` never answers. Each token is the moment it was written.

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::ListenerExt;
use serde_json::Value;

use crate::peer;

pub(crate) async fn serve() -> anyhow::Result<()> {
    let app = Router::new().route("/v1/chat/completions", post(complete));
    let listener = peer::bind().await?.tap_io(|stream| {
        // An error means the stream is gone, which reading it will say.
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, app).await?)
}

/// Nanoseconds since 1970: the one clock that all processes share.
pub(crate) fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

async fn complete(body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let last = request["messages"].as_array().and_then(|all| all.last());
    let question = last.and_then(|message| message["content"].as_str()).unwrap_or_default();
    let number = |name: &str| {
        question.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    };
    if number("stall") == Some(1_u64) {
        std::future::pending::<()>().await;
    }
    let (tokens, gap) = (number("tokens").unwrap_or(20), Duration::from_millis(number("gap").unwrap_or(0)));
    let chunks = futures::stream::unfold(0, move |at| async move {
        if at > 0 && !gap.is_zero() {
            tokio::time::sleep(gap).await;
        }
        let head =
            r#"data: {"id":"c","object":"chat.completion.chunk","model":"fake-1","choices":[{"index":0,"#;
        let data = if at < tokens {
            format!("{head}\"delta\":{{\"content\":\"{} \"}},\"finish_reason\":null}}]}}\n\n", now_ns())
        } else if at == tokens {
            format!(
                "{head}\"delta\":{{}},\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":10,\
                 \"completion_tokens\":{tokens},\"total_tokens\":{}}}}}\n\ndata: [DONE]\n\n",
                10 + tokens
            )
        } else {
            return None;
        };
        Some((Ok::<_, Infallible>(data), at + 1))
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(chunks)).into_response()
}
