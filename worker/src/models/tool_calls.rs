//! Tool calls out of the pieces that a stream brings.

use millhand_common::model::Usage;
use millhand_common::ports::{ChatDelta, FinishReason, ToolCall};
use serde::Deserialize;

/// A part of one call, or a whole one: servers differ.
#[derive(Deserialize)]
pub(super) struct CallPiece {
    #[serde(default)]
    index: Option<usize>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: FunctionPiece,
}

#[derive(Default, Deserialize)]
struct FunctionPiece {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
}

/// Calls half heard, with the index that their pieces have.
#[derive(Default)]
pub(super) struct Calls(Vec<(Option<usize>, ToolCall)>);

impl Calls {
    pub(super) fn take(&mut self, pieces: Vec<CallPiece>) {
        for CallPiece { index, id, function } in pieces {
            let id = id.filter(|id| !id.is_empty());
            // Some servers number every call 0: an id of its own makes another call of it.
            let continued = self.0.iter_mut().rev().find(|(at, call)| {
                (index.is_none() || *at == index) && id.as_ref().is_none_or(|id| *id == call.id)
            });
            let begins = index.is_none() && function.name.is_some();
            let call = match continued {
                Some((_, call)) if !begins => call,
                _ => {
                    self.0.push((index, ToolCall { id: id.unwrap_or_default(), ..ToolCall::default() }));
                    let Some((_, call)) = self.0.last_mut() else { continue };
                    call
                }
            };
            call.name.push_str(&function.name.unwrap_or_default());
            call.arguments.push_str(&function.arguments.unwrap_or_default());
        }
    }

    /// The end of an answer, with its calls before it.
    pub(super) fn finish(self, reason: FinishReason, usage: Option<Usage>) -> Vec<ChatDelta> {
        // Some servers say `stop` of an answer that asks for tools; one that was cut asks for none.
        let asks = !self.0.is_empty() && matches!(reason, FinishReason::Stop | FinishReason::ToolCalls);
        let reason = match reason {
            FinishReason::Stop | FinishReason::ToolCalls if asks => FinishReason::ToolCalls,
            FinishReason::ToolCalls => FinishReason::Stop,
            reason => reason,
        };
        let calls = self.0.into_iter().filter(|_| asks).enumerate().map(|(at, (_, mut call))| {
            if call.id.is_empty() {
                call.id = format!("call_{at}");
            }
            ChatDelta::ToolCall(call)
        });
        calls.chain([ChatDelta::Finished { reason, usage }]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(chunks: &[&str], reason: FinishReason) -> Vec<(String, String, String)> {
        let mut calls = Calls::default();
        for chunk in chunks {
            calls.take(serde_json::from_str(chunk).unwrap());
        }
        let deltas = calls.finish(reason, None);
        assert!(matches!(deltas.last(), Some(ChatDelta::Finished { .. })));
        let call = |delta| match delta {
            ChatDelta::ToolCall(ToolCall { id, name, arguments }) => Some((id, name, arguments)),
            _ => None,
        };
        deltas.into_iter().filter_map(call).collect()
    }

    fn call(id: &str, name: &str, arguments: &str) -> (String, String, String) {
        (id.to_owned(), name.to_owned(), arguments.to_owned())
    }

    #[test]
    fn pieces_of_several_calls_come_together() {
        let chunks = [
            r#"[{"index":0,"id":"a","type":"function","function":{"name":"find","arguments":""}}]"#,
            r#"[{"index":0,"function":{"arguments":"{\"q\":"}}]"#,
            r#"[{"index":1,"id":"b","function":{"name":"look","arguments":"{"}},{"index":0,"function":{"arguments":"1}"}}]"#,
            r#"[{"index":1,"function":{"arguments":"}"}}]"#,
        ];
        let both = [call("a", "find", "{\"q\":1}"), call("b", "look", "{}")];
        assert_eq!(heard(&chunks, FinishReason::ToolCalls), both);
        assert_eq!(heard(&chunks, FinishReason::Stop), both);
        assert!(heard(&chunks, FinishReason::Length).is_empty(), "what was cut is no call");
    }

    #[test]
    fn servers_that_number_badly_or_not_at_all_are_understood() {
        let same_index = [
            r#"[{"index":0,"id":"a","function":{"name":"find","arguments":"{}"}}]"#,
            r#"[{"index":0,"id":"b","function":{"name":"find","arguments":"{}"}}]"#,
        ];
        let two = [call("a", "find", "{}"), call("b", "find", "{}")];
        assert_eq!(heard(&same_index, FinishReason::ToolCalls), two);
        let whole = [
            r#"[{"function":{"name":"find","arguments":"{}"}},{"function":{"name":"look","arguments":"{}"}}]"#,
        ];
        let named = [call("call_0", "find", "{}"), call("call_1", "look", "{}")];
        assert_eq!(heard(&whole, FinishReason::Stop), named);
    }
}
