//! The agent that finds its passages by itself: the model asks for searches, reads what they found, and
//! answers. Each call of the model and of a tool is one journaled step.

use std::time::Instant;

use millhand_common::model::{Agent, EventBody, StepKind, Terminal};
use millhand_common::ports::{ChatMessage, ChatRole, ToolCall, ToolSpec};
use millhand_common::{telemetry, trace};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::{Instrument, Span};

use super::compose::{self, Prompt};
use super::condense;
use super::extract;
use super::generate::{self, Made};
use super::phrases::Voice;
use super::speaker::Speaker;
use super::{AnswerDeps, recall, record, retrieve, route};
use crate::attempt::{Attempt, Failure};

/// Calls of the model; the last one has to answer.
///
/// Source: questions over several documents need two or three searches; a model that has not found it in
/// five does not find it in ten, and each round costs the whole prompt again.
const MOST_ROUNDS: usize = 6;
/// Searches that one reply may ask for.
const MOST_CALLS: usize = 4;
const SEARCH: &str = "search_documents";

pub(super) async fn answer(attempt: &Attempt, deps: &AnswerDeps, agent: &Agent) -> Result<Terminal, Failure> {
    let question = attempt.job().spec.question();
    let voice = Voice::of(question);
    let route = route(attempt, deps, agent)?;
    let history = recall::history(attempt, deps).await?;
    let mut prompt = compose::searching(agent, &history, question, vec![search_tool()]);
    let mut speaker = Speaker::new(attempt);
    let mut round = 0;
    loop {
        round += 1;
        prompt.step = format!("model:{round}");
        prompt.may_call = round < MOST_ROUNDS;
        let Made::Reply(reply) = generate::reply(&mut speaker, deps, &route, prompt.clone()).await? else {
            let wordings = condense::wordings(question, &history);
            let found = retrieve::passages(attempt, deps, &wordings).await?;
            let quotes = extract::quotations(question, &found);
            return record::quotations(&mut speaker, voice, quotes, &found, true).await;
        };
        if reply.tool_calls.is_empty() || !prompt.may_call {
            return record::grounded(&mut speaker, voice, reply).await;
        }
        let mut asked = ChatMessage::new(ChatRole::Assistant, speaker.text.clone());
        asked.tool_calls.clone_from(&reply.tool_calls);
        prompt.messages.push(asked);
        // What it says beside its calls is not the answer.
        speaker.start_over().await?;
        for (at, call) in reply.tool_calls.iter().enumerate() {
            let key = (at < MOST_CALLS).then(|| format!("tool:{round}.{}", at + 1));
            let content = returned(attempt, deps, agent, &mut prompt, key.as_deref(), call).await?;
            let mut message = ChatMessage::new(ChatRole::Tool, content);
            message.tool_call_id = Some(call.id.clone());
            prompt.messages.push(message);
        }
    }
}

fn search_tool() -> ToolSpec {
    let query = json!({
        "type": "string",
        "description": "What to look for, in the words that the documents would use.",
    });
    let parameters = json!({
        "type": "object",
        "properties": {"query": query},
        "required": ["query"],
        "additionalProperties": false,
    });
    ToolSpec::new(SEARCH, "Finds passages of the user's documents.", parameters)
}

#[derive(Deserialize)]
struct SearchArguments {
    query: String,
}

/// The span of one search.
fn traced() -> Span {
    tracing::info_span!(
        target: trace::TARGET,
        "execute_tool",
        otel.name = format!("execute_tool {SEARCH}"),
        otel.kind = "internal",
        gen_ai.operation.name = "execute_tool",
        gen_ai.tool.name = SEARCH,
    )
}

/// What the model is told of a call; `key`: the step under which it is made, or it is not made.
async fn returned(
    attempt: &Attempt,
    deps: &AnswerDeps,
    agent: &Agent,
    prompt: &mut Prompt,
    key: Option<&str>,
    call: &ToolCall,
) -> Result<String, Failure> {
    let arguments = serde_json::from_str(&call.arguments).unwrap_or(Value::String(call.arguments.clone()));
    let name = call.name.clone();
    attempt.emit(EventBody::ToolCalled { name: name.clone(), arguments: arguments.clone() }).await?;
    let refused = match (key, name.as_str(), serde_json::from_value::<SearchArguments>(arguments)) {
        (Some(key), SEARCH, Ok(SearchArguments { query })) if !query.trim().is_empty() => {
            let began = Instant::now();
            let search = retrieve::journaled(attempt, deps, key, StepKind::ToolCall, vec![query]);
            let found = search.instrument(traced()).await?;
            metrics::histogram!(telemetry::TOOL_DURATION, "gen_ai_tool_name" => SEARCH)
                .record(began.elapsed().as_secs_f64());
            let result = json!({"passages": found.passages.len()});
            attempt.emit(EventBody::ToolReturned { name, result }).await?;
            if found.passages.is_empty() {
                let nothing = if found.searched { "Nothing was found." } else { "There are no documents." };
                return Ok(nothing.to_owned());
            }
            let question = attempt.job().spec.question();
            return Ok(compose::lay_out(agent, question, &found.passages, &mut prompt.passages));
        }
        (None, ..) => format!("not made: at most {MOST_CALLS} calls at a time"),
        (_, SEARCH, _) => "the arguments are {\"query\": \"…\"}, with words in it".to_owned(),
        _ => format!("there is no such tool; there is `{SEARCH}`"),
    };
    attempt.emit(EventBody::ToolReturned { name, result: json!({"error": refused}) }).await?;
    Ok(format!("Error: {refused}."))
}
