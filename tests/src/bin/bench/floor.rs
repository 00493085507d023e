//! The floor of answering: a server that asks the model and streams its tokens to the client, with no
//! queue and no store. A crash loses every answer under way, and nobody can read one twice.

use std::convert::Infallible;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::ListenerExt;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::peer;

#[derive(Clone)]
struct Model {
    http: reqwest::Client,
    url: String,
}

pub(crate) async fn serve(model: &str) -> anyhow::Result<()> {
    // An error means a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let model = Model {
        http: reqwest::Client::builder().no_proxy().build()?,
        url: format!("http://{model}/v1/chat/completions"),
    };
    let app = Router::new().route("/v1/jobs", post(answer)).with_state(model);
    let listener = peer::bind().await?.tap_io(|stream| {
        // An error means the stream is gone, which reading it will say.
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, app).await?)
}

async fn answer(State(model): State<Model>, body: Bytes) -> Response {
    let question: Value = serde_json::from_slice(&body).expect("the benchmark sends JSON");
    let message = json!({"role": "user", "content": question["input"]});
    let request = json!({"model": "fake-1", "stream": true, "messages": [message]});
    let reply = model.http.post(&model.url).json(&request).send().await.expect("the model is there");
    let mut unread = Vec::new();
    let events = reply.bytes_stream().map(move |bytes| {
        unread.extend_from_slice(&bytes.expect("the model does not break off"));
        let mut out = String::new();
        while let Some(end) = unread.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = unread.drain(..end + 2).collect();
            push_event(&mut out, event.strip_prefix(b"data: ").unwrap_or_default());
        }
        Ok::<_, Infallible>(out)
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response()
}

#[derive(Deserialize)]
struct Chunk {
    choices: [Choice; 1],
}
#[derive(Deserialize)]
struct Choice {
    delta: Delta,
}
#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
}

fn push_event(out: &mut String, data: &[u8]) {
    let event = match serde_json::from_slice::<Chunk>(data) {
        Ok(Chunk { choices: [Choice { delta: Delta { content: Some(text) } }] }) => {
            json!({"type": "output_text.delta", "data": {"text": text}})
        }
        Ok(_) => return,
        // `[DONE]`
        Err(_) => json!({"type": "job.completed"}),
    };
    out.push_str(&format!("data: {event}\n\n"));
}
