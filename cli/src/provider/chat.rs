//! `POST /v1/chat/completions`, streamed and whole.

use std::io;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use millhand_common::model::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{self, Manner};
use super::desk::{Desk, Request};
use super::dialect::Problem;
use super::faults::{Endpoint, Kind};
use super::ledger::Ended;
use super::quota::Ask;
use super::speech::{Said, Speech};
use super::tokens;

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    model: String,
    messages: Vec<Message>,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    max_tokens: Option<u64>,
    #[serde(default)]
    max_completion_tokens: Option<u64>,
    #[serde(default)]
    tools: Vec<Tool>,
    #[serde(default)]
    tool_choice: Value,
}

#[derive(Deserialize)]
struct Tool {
    function: Value,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    #[serde(default)]
    content: Value,
    #[serde(default)]
    tool_calls: Option<Vec<Tool>>,
}

impl Message {
    /// Its text; of a list of parts, the text of all.
    fn text(&self) -> String {
        match &self.content {
            Value::String(text) => text.clone(),
            Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
            _ => String::new(),
        }
    }
}

/// What every part of an answer says.
#[derive(Clone)]
pub(super) struct Head {
    id: String,
    created: u64,
    model: String,
}

pub(super) async fn complete(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> Response {
    let settings = desk.settings();
    let asked = match parse(&body) {
        Ok(asked) => asked,
        Err(message) => return Problem::Invalid(message).response(settings.dialect, "", &[]),
    };
    let texts: Vec<(String, String)> =
        asked.messages.iter().map(|message| (message.role.clone(), message.text())).collect();
    let last = texts.iter().rev().find(|(role, _)| role == "user").map_or("", |(_, text)| text.as_str());
    let calls = asked.messages.iter().filter_map(|message| message.tool_calls.as_ref()).flatten();
    let told: u64 = calls.chain(&asked.tools).map(|tool| tokens::count(&tool.function.to_string())).sum();
    let input = told + tokens::count_messages(texts.iter().map(|(_, text)| text.as_str()));
    let named = asked.max_completion_tokens.or(asked.max_tokens);
    let max_output = named.unwrap_or(settings.answers.max_output);
    let messages: Vec<Value> =
        texts.iter().map(|(role, text)| json!({"role": role, "content": text})).collect();
    let request = Request {
        endpoint: Endpoint::Chat,
        model: asked.model.clone(),
        stream: asked.stream,
        headers: &headers,
        body: &body,
        text: last,
        ask: Ask { input, max_output },
        messages: &Value::Array(messages),
    };
    let call = match desk.admit(&request) {
        Ok(call) => call,
        Err(refused) => return *refused,
    };
    if call.is_hit_by(Kind::ErrorBody) {
        let mut response =
            Json(Problem::Failed { status: 500, retry_after: None }.body(settings.dialect, &asked.model))
                .into_response();
        response.headers_mut().extend(call.headers());
        call.end(Ended::Failed);
        return response;
    }
    let manner = match call.fault().map(|fault| fault.kind) {
        Some(Kind::WrongMarks) => Manner::WrongMarks,
        Some(Kind::InventedQuotes) => Manner::InventedQuotes,
        Some(Kind::Empty) => Manner::Silent,
        _ => Manner::Honest,
    };
    let may_call = asked.tool_choice != "none";
    let tool = asked.tools.first().filter(|_| may_call).map(|tool| &tool.function);
    let answer = match tool.and_then(|tool| answer::call(&texts, tool)) {
        Some(call) => call,
        None => answer::to(&texts, settings.answers.answer_tokens, manner),
    };
    let head = Head {
        id: format!("chatcmpl-{}", call.id()),
        created: Timestamp::now().as_millis() / 1000,
        model: asked.model,
    };
    let headers = call.headers();
    let speech = Speech::new(call, answer, input, max_output);
    let mut response = if asked.stream {
        let usage = asked.stream_options.is_some_and(|options| options.include_usage);
        stream(speech, head, usage)
    } else {
        whole(speech, head).await
    };
    response.headers_mut().extend(headers);
    response
}

fn parse(body: &[u8]) -> Result<Asked, String> {
    let asked: Asked =
        serde_json::from_slice(body).map_err(|err| format!("We could not parse the request: {err}"))?;
    if asked.messages.is_empty() {
        return Err("[] is too short - 'messages'".to_owned());
    }
    if asked.max_tokens == Some(0) || asked.max_completion_tokens == Some(0) {
        return Err("0 is less than the minimum of 1 - 'max_tokens'".to_owned());
    }
    Ok(asked)
}

/// Server-sent events.
fn stream(speech: Speech, head: Head, usage: bool) -> Response {
    let events = futures::stream::unfold(Some(speech), move |speech| {
        let head = head.clone();
        async move {
            let mut speech = speech?;
            let first = !speech.has_begun();
            let said = speech.next().await;
            let mut text = String::new();
            if first && matches!(said, Said::Token(_) | Said::End { .. } | Said::NoEnd) {
                let role = match speech.tool() {
                    Some(name) => {
                        json!({"role": "assistant", "content": null, "tool_calls": [head.call(name, "")]})
                    }
                    None => json!({"role": "assistant", "content": ""}),
                };
                text.push_str(&head.chunk(&role, None));
            }
            let next = match said {
                Said::Token(token) => {
                    let delta = match speech.tool() {
                        Some(_) => json!({"tool_calls": [{"index": 0, "function": {"arguments": token}}]}),
                        None => json!({"content": token}),
                    };
                    text.push_str(&head.chunk(&delta, None));
                    Some(speech)
                }
                Said::Garbage => {
                    text.push_str("data: {\"choices\":[{\"delta\":{\"content\":\n\ndata: \u{1}<html>\n\n");
                    speech.end(Ended::Broken);
                    None
                }
                Said::LongLine(bytes) => {
                    text.push_str("data: ");
                    text.extend(std::iter::repeat_n('x', bytes));
                    speech.end(Ended::Broken);
                    None
                }
                Said::Drip => {
                    text.push(':');
                    Some(speech)
                }
                Said::Cut => {
                    speech.end(Ended::Broken);
                    return Some((Err(io::Error::other("cut on demand")), None));
                }
                Said::NoEnd => {
                    speech.end(Ended::Broken);
                    None
                }
                Said::End { finish } => {
                    text.push_str(&head.chunk(&json!({}), Some(finish)));
                    if usage && !speech.hides_usage() {
                        text.push_str(&head.usage(speech.usage()));
                    }
                    text.push_str("data: [DONE]\n\n");
                    speech.end(Ended::Finished);
                    None
                }
            };
            Some((Ok::<_, io::Error>(Bytes::from(text)), next))
        }
    });
    let kind = HeaderValue::from_static("text/event-stream");
    ([(header::CONTENT_TYPE, kind)], Body::from_stream(events)).into_response()
}

/// One JSON object.
async fn whole(mut speech: Speech, head: Head) -> Response {
    let mut text = String::new();
    let finish = loop {
        match speech.next().await {
            Said::Token(token) => text.push_str(&token),
            Said::End { finish } => break Some(finish),
            Said::NoEnd => break None,
            // Nothing is sent before the whole.
            Said::Drip => {}
            Said::Garbage | Said::LongLine(_) => {
                speech.end(Ended::Broken);
                return ([(header::CONTENT_TYPE, "application/json")], "{\"choices\":[{\u{1}<html>")
                    .into_response();
            }
            Said::Cut => {
                speech.end(Ended::Broken);
                let pieces = [Ok(Bytes::from_static(b"{\"id\":")), Err(io::Error::other("cut on demand"))];
                let body = Body::from_stream(futures::stream::iter(pieces));
                return ([(header::CONTENT_TYPE, "application/json")], body).into_response();
            }
        }
    };
    let message = match speech.tool() {
        Some(name) => json!({"role": "assistant", "content": null, "tool_calls": [head.call(name, &text)]}),
        None => json!({"role": "assistant", "content": text}),
    };
    let choice = json!({"index": 0, "message": message, "finish_reason": finish, "logprobs": null});
    let mut object = json!({"id": head.id, "object": "chat.completion", "created": head.created, "model": head.model,
        "choices": [choice]});
    if !speech.hides_usage() {
        object["usage"] = speech.usage();
    }
    speech.end(if finish.is_some() { Ended::Finished } else { Ended::Broken });
    Json(object).into_response()
}

impl Head {
    /// The only tool call of an answer.
    fn call(&self, name: &str, arguments: &str) -> Value {
        json!({"index": 0, "id": format!("call_{}", self.id), "type": "function",
            "function": {"name": name, "arguments": arguments}})
    }

    fn chunk(&self, delta: &Value, finish: Option<&str>) -> String {
        self.event(&json!([{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": null}]), None)
    }

    fn usage(&self, usage: Value) -> String {
        self.event(&json!([]), Some(usage))
    }

    fn event(&self, choices: &Value, usage: Option<Value>) -> String {
        let mut chunk = json!({"id": self.id, "object": "chat.completion.chunk", "created": self.created,
            "model": self.model, "choices": choices});
        if let Some(usage) = usage {
            chunk["usage"] = usage;
        }
        format!("data: {chunk}\n\n")
    }
}
