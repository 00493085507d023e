//! How a chat job is answered: the whole way as one function, one line per stage.

mod again;
mod claim;
mod compose;
mod condense;
mod extract;
mod generate;
mod markers;
mod phrases;
mod react;
mod recall;
mod record;
mod retrieve;
mod speaker;
mod support;
mod terms;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use millhand_common::brownout::Step;
use millhand_common::model::{Agent, AgentKind, AgentName, JobError, Terminal};
use millhand_common::ports::{Conversations, Documents, Embedder, Index, JobReader, Reranker};

use crate::attempt::{Attempt, Failure};
use crate::cache::Cache;
use crate::costs::Costs;
use crate::quota::Limited;
use crate::routing::{Route, Routes};
pub(crate) use again::outcome;
use generate::Made;
use phrases::Voice;
use speaker::Speaker;

/// What answering needs from outside.
pub struct AnswerDeps {
    pub conversations: Arc<dyn Conversations>,
    /// Reads what earlier turns cited; without it follow-ups go by earlier questions alone.
    pub jobs: Option<Arc<dyn JobReader>>,
    pub documents: Option<Arc<dyn Documents>>,
    pub index: Option<Arc<dyn Index>>,
    /// Without a model, `rag` answers with quotations and `chat` cannot answer.
    pub routes: Arc<Routes>,
    /// Answers of deterministic agents that are given again; without it every call is made.
    pub cache: Option<Arc<Cache>>,
    /// What the models' calls cost, and may.
    pub costs: Arc<Costs>,
    pub embedder: Option<Arc<Limited<dyn Embedder>>>,
    pub reranker: Option<Arc<Limited<dyn Reranker>>>,
    pub agents: HashMap<AgentName, Agent>,
    /// Longest time of one model call, its stream included; the job's deadline cuts it further.
    pub call_timeout: Duration,
}

impl AnswerDeps {
    /// A model call that takes longer than this has gone wrong.
    pub const CALL_TIMEOUT: Duration = Duration::from_secs(600);
}

/// Answers a chat job. Every piece of paid or slow work is a journaled step: a later attempt replays
/// it. May be dropped at any await; what was emitted by then stays in the attempt's log.
pub async fn answer(attempt: &Attempt, deps: &AnswerDeps) -> Result<Terminal, Failure> {
    let spec = &attempt.job().spec;
    let agent = deps.agents.get(&spec.agent).ok_or_else(|| {
        let message = format!("there is no agent `{}`: GET /v1/agents lists them", spec.agent);
        Failure::Fatal(JobError::new("unknown_agent", message, false))
    })?;
    match agent.kind {
        AgentKind::Rag => answer_from_documents(attempt, deps, agent).await,
        AgentKind::Chat => talk(attempt, deps, agent).await,
        AgentKind::React => react::answer(attempt, deps, agent).await,
    }
}

async fn answer_from_documents(
    attempt: &Attempt,
    deps: &AnswerDeps,
    agent: &Agent,
) -> Result<Terminal, Failure> {
    let question = attempt.job().spec.question();
    let voice = Voice::of(question);
    let history = recall::history(attempt, deps).await?;
    let wordings = condense::wordings(question, &history);
    let found = retrieve::passages(attempt, deps, &wordings).await?;
    let mut speaker = Speaker::new(attempt);
    if found.passages.is_empty() {
        return record::nothing_found(&mut speaker, voice, found.searched).await;
    }
    let route = models(attempt, deps, agent);
    if let Some(route) = &route {
        let prompt = compose::grounded(agent, &history, question, &found.passages);
        if let Made::Reply(reply) = generate::reply(&mut speaker, deps, route, prompt).await? {
            return record::grounded(&mut speaker, voice, reply).await;
        }
    }
    let quotes = extract::quotations(question, &found);
    record::quotations(&mut speaker, voice, quotes, &found, route.is_some()).await
}

async fn talk(attempt: &Attempt, deps: &AnswerDeps, agent: &Agent) -> Result<Terminal, Failure> {
    let route = route(attempt, deps, agent)?;
    let history = recall::history(attempt, deps).await?;
    let prompt = compose::chat(agent, &history, attempt.job().spec.question());
    let mut speaker = Speaker::new(attempt);
    match generate::reply(&mut speaker, deps, &route, prompt).await? {
        Made::Reply(reply) => Ok(record::talk(&speaker, reply)),
        Made::NoModel => {
            let message =
                format!("no model of the class `{}` can answer now, and nothing else can", route.class);
            Err(Failure::Fatal(JobError::new("model_unavailable", message, true)))
        }
    }
}

/// The models that may answer.
fn models(attempt: &Attempt, deps: &AnswerDeps, agent: &Agent) -> Option<Route> {
    deps.routes.of(agent, &attempt.job().spec, attempt.goes_without(Step::SmallerModel))
}

/// The models of an agent that can do nothing without one.
fn route(attempt: &Attempt, deps: &AnswerDeps, agent: &Agent) -> Result<Route, Failure> {
    models(attempt, deps, agent).ok_or_else(|| {
        let message = "this agent needs a model: set [model] base_url and name, or OPENAI_BASE_URL";
        Failure::Fatal(JobError::new("model_not_configured", message, false))
    })
}
