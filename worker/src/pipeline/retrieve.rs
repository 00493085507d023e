//! Finds the passages that an answer may rest on.

use std::time::Instant;

use millhand_common::brownout::Step;
use millhand_common::model::{
    CollectionName, EventBody, JobError, Passage, PassageRef, StepKind, TenantId, degraded,
};
use millhand_common::ports::{Documents, DocumentsError, Index, IndexError, SearchQuery};
use millhand_common::text::analyze::Language;
use millhand_common::trace;
use serde::{Deserialize, Serialize};
use tracing::Instrument;

use super::AnswerDeps;
use super::condense::Wordings;
use super::terms::{AskedTerm, Bag, coverage, languages, weigh};
use crate::attempt::{Attempt, Failure};
use crate::costs::{ToRead, Unread};
use crate::quota::{IN_PLACE, IN_PLACE_ONCE_BEGUN, Limited, Permit};

/// Passages asked of the index: rarity of terms is counted among them.
const CANDIDATES: usize = 40;
/// Passages kept, and their text: what fits a prompt beside a long answer.
const KEPT: usize = 10;
const KEPT_BYTES: usize = 20 * 1024;
/// Passages kept in a brownout: less than half of the prompt.
const KEPT_UNDER_LOAD: usize = 4;
const BY_WORDS_ONLY: &str = "this search goes by words only";
const UNRANKED: &str = "passages are ordered without a reranker";
/// Two passages with this share of their terms in common say the same.
const SAME: f32 = 0.85;

/// What retrieval found: all that later stages need of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Found {
    /// Best first.
    pub(crate) passages: Vec<Passage>,
    /// The terms of each wording, most trusted first.
    pub(crate) asked: Vec<Vec<AskedTerm>>,
    /// There was something to search.
    pub(crate) searched: bool,
    /// What it went without for the load.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) degraded: Vec<String>,
}

/// Searches the job's collections with every wording, as one journaled step.
pub(crate) async fn passages(
    attempt: &Attempt,
    deps: &AnswerDeps,
    wordings: &Wordings,
) -> Result<Found, Failure> {
    journaled(attempt, deps, "retrieval", StepKind::Retrieval, wordings.texts()).await
}

/// Searches them with these texts, most trusted first, as one step of this key.
pub(crate) async fn journaled(
    attempt: &Attempt,
    deps: &AnswerDeps,
    key: &str,
    kind: StepKind,
    texts: Vec<String>,
) -> Result<Found, Failure> {
    // Before the step is said to begin: a job that has to wait for quota has begun nothing.
    let embedding = match attempt.has_finished(key) {
        true => None,
        false => admit(attempt, deps, &texts).await?,
    };
    let span = tracing::info_span!(
        target: trace::TARGET,
        "retrieval",
        otel.kind = "internal",
        gen_ai.operation.name = "retrieval"
    );
    let found: Found =
        attempt.step(key, kind, search(attempt, deps, texts, embedding).instrument(span)).await?;
    attempt.go_without(&found.degraded);
    let passages = found.passages.iter().map(PassageRef::from).collect();
    attempt.emit(EventBody::RetrievalCompleted { passages }).await?;
    Ok(found)
}

async fn search(
    attempt: &Attempt,
    deps: &AnswerDeps,
    texts: Vec<String>,
    embedding: Option<Admitted>,
) -> Result<Found, Failure> {
    let spec = &attempt.job().spec;
    let (Some(index), Some(documents)) = (&deps.index, &deps.documents) else {
        let message = "no index is configured: set [index] kind, or ask the agent `chat`";
        return Err(Failure::Fatal(JobError::new("index_not_configured", message, false)));
    };
    let collections = match &spec.collection {
        Some(named) => named.as_slice().to_vec(),
        None => all_collections(documents.as_ref(), &spec.tenant).await?,
    };
    if collections.is_empty() {
        return Ok(Found::default());
    }
    let query = SearchQuery {
        vector: vector(attempt, deps, &texts, embedding).await?,
        texts,
        collections,
        filter: spec.filter.clone().unwrap_or_default(),
        limit: CANDIDATES,
    };
    let candidates = find(index.as_ref(), &spec.tenant, &query).await?;
    let under_load = attempt.goes_without(Step::FewerPassages);
    let asks_reranker = deps.reranker.is_some() && candidates.len() > 1;
    let judged = match asks_reranker && !under_load {
        true => rerank(attempt, deps, &query.texts[0], &candidates).await?,
        false => None,
    };
    let is_judged = judged.is_some();
    let mut found = choose(candidates, &query.texts, judged.as_deref());
    if under_load {
        found.keep_fewer();
    }
    if asks_reranker && !is_judged {
        found.degraded.push(degraded::NO_RERANKER.to_owned());
    }
    Ok(found)
}

impl Found {
    /// Keeps the best of what was found.
    fn keep_fewer(&mut self) {
        if KEPT_UNDER_LOAD < self.passages.len() {
            self.passages.truncate(KEPT_UNDER_LOAD);
            self.degraded.push(degraded::FEWER_PASSAGES.to_owned());
        }
    }
}

/// All collections that have documents, without the sample once there is another.
async fn all_collections(
    documents: &dyn Documents,
    tenant: &TenantId,
) -> Result<Vec<CollectionName>, Failure> {
    let all = documents.collections(tenant).await.map_err(|err| match err {
        DocumentsError::Full | DocumentsError::Unreachable(_) => retry("documents_unavailable", &err),
        DocumentsError::Damaged(_) => fatal("documents_damaged", &err),
    })?;
    let sample = CollectionName::sample();
    let filled: Vec<_> = all.into_iter().filter(|(_, count)| *count > 0).map(|(name, _)| name).collect();
    let own: Vec<_> = filled.iter().filter(|name| **name != sample).cloned().collect();
    Ok(if own.is_empty() { filled } else { own })
}

/// The right to have the question embedded.
struct Admitted(Option<Permit>);

/// `None` where there is no embedder, or the question is more than its limits ever allow.
async fn admit(attempt: &Attempt, deps: &AnswerDeps, texts: &[String]) -> Result<Option<Admitted>, Failure> {
    let Some(embedder) = &deps.embedder else { return Ok(None) };
    let asked = [texts[0].as_str()];
    match to_read(attempt, deps, embedder, embedder.model().name(), "embedding", &asked).admit(IN_PLACE).await
    {
        Ok(permit) => Ok(Some(Admitted(permit))),
        Err(denied) => Unread::from(denied).go_on(BY_WORDS_ONLY).map(|()| None),
    }
}

/// The question as the embedder sees it. An embedder that fails costs the dense leg, not the answer.
async fn vector(
    attempt: &Attempt,
    deps: &AnswerDeps,
    texts: &[String],
    admitted: Option<Admitted>,
) -> Result<Option<Vec<f32>>, Failure> {
    let (Some(embedder), Some(Admitted(permit))) = (&deps.embedder, admitted) else { return Ok(None) };
    let asked = [texts[0].as_str()];
    let call = to_read(attempt, deps, embedder, embedder.model().name(), "embedding", &asked);
    match call.make(permit, embedder.model().embed(&texts[..1], soon(attempt))).await {
        Ok(vectors) => Ok(vectors.into_iter().next()),
        Err(unread) => unread.go_on(BY_WORDS_ONLY).map(|()| None),
    }
}

/// How well each candidate answers, as the reranker sees it, 0 to 1. One that fails, or has no quota soon, costs
/// its order, not the answer: what was embedded for it would be paid again.
async fn rerank(
    attempt: &Attempt,
    deps: &AnswerDeps,
    question: &str,
    candidates: &[Passage],
) -> Result<Option<Vec<f32>>, Failure> {
    let Some(reranker) = &deps.reranker else { return Ok(None) };
    let texts: Vec<String> =
        candidates.iter().map(|passage| format!("{}\n{}", passage.title, passage.text)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    // It reads the question beside each of them.
    let read: Vec<&str> = texts.iter().flat_map(|text| [question, text]).collect();
    let call = to_read(attempt, deps, reranker, reranker.model().name(), "reranking", &read);
    let permit = match call.admit(IN_PLACE_ONCE_BEGUN).await {
        Ok(permit) => permit,
        Err(denied) => {
            tracing::warn!(?denied, "the reranker has no quota: {UNRANKED}");
            return Ok(None);
        }
    };
    match call.make(permit, reranker.model().rerank(question, &texts, soon(attempt))).await {
        Ok(scores) => Ok(Some(scaled(&scores))),
        Err(Unread::Failure(Failure::NoQuota { .. })) => Ok(None),
        Err(unread) => unread.go_on(UNRANKED).map(|()| None),
    }
}

fn to_read<'a, M: ?Sized>(
    attempt: &'a Attempt,
    deps: &'a AnswerDeps,
    model: &'a Limited<M>,
    name: &'a str,
    step: &'a str,
    texts: &'a [&'a str],
) -> ToRead<'a, M> {
    ToRead { attempt, costs: &deps.costs, model, name, step, texts }
}

/// Until when a model that only helps may take: it must leave time for the answer.
fn soon(attempt: &Attempt) -> Instant {
    attempt.deadline().min(Instant::now() + attempt.time_left() / 4)
}

/// The lowest as 0 and the highest as 1: rerankers have scales of their own.
fn scaled(scores: &[f32]) -> Vec<f32> {
    let lowest = scores.iter().copied().fold(f32::INFINITY, f32::min);
    let range = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max) - lowest;
    scores.iter().map(|score| if range > 0.0 { (score - lowest) / range } else { 1.0 }).collect()
}

async fn find(index: &dyn Index, tenant: &TenantId, query: &SearchQuery) -> Result<Vec<Passage>, Failure> {
    index.search(tenant, query).await.map_err(|err| match err {
        IndexError::Full | IndexError::Unreachable(_) => retry("index_unavailable", &err),
        IndexError::Damaged(_) | IndexError::Dimensions { .. } => fatal("index_damaged", &err),
    })
}

fn retry(code: &str, err: &dyn std::error::Error) -> Failure {
    Failure::Retry { error: JobError::new(code, err.to_string(), true), after: None }
}

fn fatal(code: &str, err: &dyn std::error::Error) -> Failure {
    Failure::Fatal(JobError::new(code, err.to_string(), false))
}

/// Orders candidates as they were judged, else by what the index says and by how much of the question they
/// and their headings have, and keeps the best that do not repeat each other.
fn choose(candidates: Vec<Passage>, texts: &[String], judged: Option<&[f32]>) -> Found {
    let langs = languages(&candidates);
    let bag = |text: &str| Bag::of(text, Language::detect(text));
    let bodies: Vec<Bag> = candidates
        .iter()
        .map(|passage| Bag::of(&passage.text, Language::detect(&passage.text)).union(&bag(&passage.title)))
        .collect();
    let asked: Vec<_> = texts.iter().map(|text| weigh(text, &langs, &bodies)).collect();
    let top = candidates.iter().map(|passage| passage.score).fold(f32::MIN_POSITIVE, f32::max);
    let mut ranked: Vec<(f32, Passage, Bag)> = candidates
        .into_iter()
        .zip(bodies)
        .enumerate()
        .map(|(at, (passage, body))| {
            if let Some(judged) = judged {
                return (judged[at], passage, body);
            }
            let heading = bag(own_heading(&passage.title));
            let fit =
                asked.iter().map(|asked| 0.4 * coverage(asked, &body) + 0.2 * coverage(asked, &heading));
            let score = 0.4 * (passage.score / top).max(0.0) + fit.fold(0.0, f32::max);
            (score, passage, body)
        })
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.passage_id.cmp(&b.1.passage_id)));

    let mut kept: Vec<(Passage, Bag)> = Vec::new();
    let mut bytes = 0;
    for (score, mut passage, body) in ranked {
        bytes += passage.text.len();
        if kept.len() == KEPT || (bytes > KEPT_BYTES && !kept.is_empty()) {
            break;
        }
        if kept.iter().all(|(_, other)| similarity(&body, other) < SAME) {
            passage.score = score;
            kept.push((passage, body));
        }
    }
    let passages = kept.into_iter().map(|(passage, _)| passage).collect();
    Found { passages, asked, searched: true, degraded: Vec::new() }
}

/// The heading right above a passage.
pub(crate) fn own_heading(title: &str) -> &str {
    title.rsplit('›').next().unwrap_or(title).trim()
}

/// Share of common terms among all terms of the two.
pub(crate) fn similarity(a: &Bag, b: &Bag) -> f32 {
    let common = a.0.intersection(&b.0).count();
    let all = a.0.len() + b.0.len() - common;
    if all == 0 { 0.0 } else { common as f32 / all as f32 }
}
