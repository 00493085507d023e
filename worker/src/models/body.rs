//! What a chat model is sent.

use millhand_common::model::Sampling;
use millhand_common::ports::{ChatMessage, ChatRequest, ChatRole, ToolCall, ToolSpec};
use serde::Serialize;
use serde_json::Value;

#[derive(Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<&'static str>,
    stream: bool,
    stream_options: StreamOptions,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(flatten)]
    sampling: Sampling,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
struct Message<'a> {
    role: ChatRole,
    content: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Called<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Called<'a> {
    id: &'a str,
    r#type: &'static str,
    function: CalledFunction<'a>,
}

#[derive(Serialize)]
struct CalledFunction<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Serialize)]
struct Tool<'a> {
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    description: &'a str,
    parameters: &'a Value,
}

impl<'a> Body<'a> {
    pub(super) fn of(model: &'a str, request: &'a ChatRequest, is_openai: bool) -> Self {
        // OpenAI's newer models refuse `max_tokens`; servers that copy it often know nothing else.
        let (max_tokens, max_completion_tokens) =
            if is_openai { (None, request.max_output_tokens) } else { (request.max_output_tokens, None) };
        Self {
            model,
            messages: request.messages.iter().map(Message::of).collect(),
            tools: request.tools.iter().map(Tool::of).collect(),
            tool_choice: (!request.tools.is_empty() && !request.may_call).then_some("none"),
            stream: true,
            stream_options: StreamOptions { include_usage: true },
            max_tokens,
            max_completion_tokens,
            sampling: request.sampling,
        }
    }
}

impl<'a> Message<'a> {
    fn of(message: &'a ChatMessage) -> Self {
        Self {
            role: message.role,
            content: &message.content,
            tool_calls: message.tool_calls.iter().map(Called::of).collect(),
            tool_call_id: message.tool_call_id.as_deref(),
        }
    }
}

impl<'a> Called<'a> {
    fn of(ToolCall { id, name, arguments }: &'a ToolCall) -> Self {
        Self { id, r#type: "function", function: CalledFunction { name, arguments } }
    }
}

impl<'a> Tool<'a> {
    fn of(tool: &'a ToolSpec) -> Self {
        let ToolSpec { name, description, .. } = tool;
        Self { r#type: "function", function: Function { name, description, parameters: tool.parameters() } }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serde_json::json;

    use super::*;

    fn request() -> ChatRequest {
        ChatRequest {
            messages: Vec::new(),
            tools: Vec::new(),
            may_call: true,
            max_output_tokens: Some(9),
            sampling: Sampling::default(),
            deadline: Instant::now(),
            traceparent: None,
        }
    }

    fn sent(request: &ChatRequest) -> String {
        serde_json::to_string(&Body::of("m", request, false)).unwrap()
    }

    #[test]
    fn a_model_is_told_how_to_sample_only_where_an_agent_says_so() {
        let start = r#"{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true},"max_tokens":9"#;
        assert_eq!(sent(&request()), format!("{start}}}"));
        let cold = Sampling { temperature: Some(0.0), seed: Some(-7) };
        let cold = ChatRequest { sampling: cold, ..request() };
        assert_eq!(sent(&cold), format!(r#"{start},"temperature":0.0,"seed":-7}}"#));
    }

    #[test]
    fn tools_their_calls_and_what_they_returned_are_told_as_the_protocol_says() {
        let call =
            ToolCall { id: "c1".to_owned(), name: "find".to_owned(), arguments: "{\"q\":1}".to_owned() };
        let mut asked = ChatMessage::new(ChatRole::Assistant, String::new());
        asked.tool_calls = vec![call];
        let mut returned = ChatMessage::new(ChatRole::Tool, "水".to_owned());
        returned.tool_call_id = Some("c1".to_owned());
        let tools = vec![ToolSpec::new("find", "Finds.", json!({"type": "object"}))];
        let mut request = ChatRequest { messages: vec![asked, returned], tools, ..request() };
        let body: Value = serde_json::from_str(&sent(&request)).unwrap();
        let function = json!({"name": "find", "arguments": "{\"q\":1}"});
        assert_eq!(
            body["messages"],
            json!([
                {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "type": "function", "function": function}]},
                {"role": "tool", "content": "水", "tool_call_id": "c1"},
            ])
        );
        let function = json!({"name": "find", "description": "Finds.", "parameters": {"type": "object"}});
        assert_eq!(body["tools"], json!([{"type": "function", "function": function}]));
        assert_eq!(body.get("tool_choice"), None);
        request.may_call = false;
        assert!(sent(&request).contains(r#""tool_choice":"none""#));
    }
}
