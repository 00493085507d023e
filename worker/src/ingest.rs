//! Documents in: each document of a job is parsed and split, then embedded, stored and indexed with others.

mod canonical;
mod child;
mod decode;
mod docx;
mod docx_body;
mod docx_styles;
mod embed;
mod html;
mod kind;
mod markdown;
mod parse;
mod parser;
mod pdf;
mod plain;
mod prepare;
mod reflow;
mod split;
mod table;
mod tokens;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use metrics::counter;
use millhand_common::model::{
    CollectionName, DocumentOutcome, EventBody, IngestItem, JobError, JobInput, Output, Status, StepKind,
    Terminal,
};
use millhand_common::ports::{Documents, DocumentsError, Embedder, Index, IndexError, Write, Writer};
use millhand_common::{crash, telemetry};

pub use child::parse_child_main;
pub use parse::{MAX_TEXT_BYTES, ParseError, parse};
pub use parser::{Parser, Place};
pub use split::split;

use crate::attempt::{Attempt, Begun, Failure, Stopped};
use crate::costs::Costs;
use crate::quota::{Limited, Turn};
use embed::{Embedded, embed};
use prepare::{Prepared, prepare};

/// Documents that one job prepares at a time, and that are written together.
const TOGETHER: usize = 8;
/// When to try again what failed for no fault of the documents.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What ingesting needs.
#[derive(Clone)]
pub struct IngestDeps {
    pub documents: Arc<dyn Documents>,
    pub index: Arc<dyn Index>,
    /// `None`: full text only.
    pub embedder: Option<Arc<Limited<dyn Embedder>>>,
    /// What its calls cost, and may.
    pub costs: Arc<Costs>,
    pub parser: Parser,
}

/// Ingests the documents of the attempt's job. One that fails does not fail the others; the job fails
/// when all do. A document that is finished is journaled, and not read again by a later attempt; one
/// that was written and not journaled is written again as the same version.
///
/// May be dropped: every document is then indexed whole or not at all.
///
/// # Errors
/// [`Failure::Retry`] when storage, index, embedder or parser cannot be used now.
pub async fn ingest(attempt: &Attempt, deps: &IngestDeps) -> Result<Terminal, Failure> {
    let JobInput::Ingest { collection, documents } = &attempt.job().spec.input else {
        return Err(Failure::Fatal(JobError::new("internal", "this job has no documents", false)));
    };
    // Before anything is begun: a job that has to wait has done nothing.
    let turn = match &deps.embedder {
        Some(embedder) => Some(embedder.turn(attempt).await?),
        None => None,
    };
    let (total, done) = (count(documents.len()), AtomicU32::new(0));
    let run = Run { attempt, deps, collection, turn, total, done };
    let mut outcomes = Vec::with_capacity(documents.len());
    // Boxed: a closure over borrowed items is not general enough for a `Send` future.
    let each: Vec<_> = documents.iter().enumerate().map(|(n, item)| run.prepare(n, item).boxed()).collect();
    let mut prepared = futures::stream::iter(each).buffered(TOGETHER).ready_chunks(TOGETHER);
    while let Some(ready) = prepared.next().await {
        let ready = ready.into_iter().collect::<Result<Vec<_>, Failure>>()?;
        outcomes.extend(run.write(ready).await?);
    }
    Ok(end(outcomes))
}

fn count(items: usize) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX)
}

fn end(outcomes: Vec<DocumentOutcome>) -> Terminal {
    let failed = |outcome: &&DocumentOutcome| outcome.error.is_some();
    let first =
        outcomes.iter().find(failed).filter(|_| outcomes.iter().all(|outcome| outcome.error.is_some()));
    let error = first.map(|first| {
        let reason = first.error.as_deref().unwrap_or_default();
        let message = match outcomes.len() {
            1 => format!("{}: {reason}", first.name),
            all => format!("none of {all} documents was ingested; {}: {reason}", first.name),
        };
        JobError::new("ingest_failed", message, false)
    });
    let status = if error.is_some() { Status::Failed } else { Status::Completed };
    Terminal { error, output: Some(Output::Ingest { documents: outcomes }), ..Terminal::bare(status) }
}

struct Run<'a> {
    attempt: &'a Attempt,
    deps: &'a IngestDeps,
    collection: &'a CollectionName,
    /// Of the embedder, for all of the job.
    turn: Option<Turn>,
    total: u32,
    done: AtomicU32,
}

/// One document on its way.
enum Stage {
    /// An earlier attempt finished it.
    Replayed(DocumentOutcome),
    Failed(DocumentOutcome),
    Ready(Box<Prepared>),
}

impl<'a> Run<'a> {
    async fn prepare(&self, n: usize, item: &'a IngestItem) -> Result<(usize, Stage), Failure> {
        if let Begun::Replay(result) = self.attempt.begin(&key(n), StepKind::ToolCall).await? {
            let outcome = serde_json::from_value(result)
                .map_err(|err| Failure::Fatal(JobError::new("journal_unreadable", err.to_string(), false)))?;
            return Ok((n, Stage::Replayed(outcome)));
        }
        match prepare(self.attempt, self.deps, self.collection, item).await? {
            Ok(prepared) => {
                self.progress(&item.name, "parsed", self.done.load(Ordering::Relaxed)).await?;
                Ok((n, Stage::Ready(Box::new(prepared))))
            }
            Err(reason) => Ok((n, Stage::Failed(failed(item, reason)))),
        }
    }

    /// Stores and indexes what is ready, and says what became of each document, in order.
    async fn write(&self, stages: Vec<(usize, Stage)>) -> Result<Vec<DocumentOutcome>, Failure> {
        let mut ends: Vec<(usize, DocumentOutcome, bool)> = Vec::with_capacity(stages.len());
        let mut batch: Vec<(usize, Prepared)> = Vec::new();
        for (n, stage) in stages {
            match stage {
                Stage::Replayed(outcome) => ends.push((n, outcome, true)),
                Stage::Failed(outcome) => ends.push((n, outcome, false)),
                Stage::Ready(prepared) => batch.push((n, *prepared)),
            }
        }
        let Embedded { refused, failure } =
            embed(self.attempt, self.deps, self.turn.as_ref(), &mut batch).await;
        let (batch, without): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|(n, _)| !refused.contains_key(n));
        for (n, Prepared { entry, .. }) in without {
            let error = refused.get(&n).cloned();
            ends.push((n, DocumentOutcome { id: entry.id, name: entry.name, passages: 0, error }, false));
        }
        // What was paid is written, whatever became of the others.
        let is_whole = |(_, prepared): &(usize, Prepared)| {
            failure.is_none() || prepared.entry.passages.iter().all(|passage| passage.vector.is_some())
        };
        let batch = batch.into_iter().filter(is_whole).collect();
        for group in by_name(batch) {
            ends.extend(self.write_group(group).await?.into_iter().map(|(n, outcome)| (n, outcome, false)));
        }
        ends.sort_unstable_by_key(|&(n, ..)| n);
        for (n, outcome, replayed) in &ends {
            self.finish(*n, outcome, *replayed).await?;
        }
        match failure {
            Some(failure) => Err(failure),
            None => Ok(ends.into_iter().map(|(_, outcome, _)| outcome).collect()),
        }
    }

    /// Documents of different names.
    async fn write_group(
        &self,
        group: Vec<(usize, Prepared)>,
    ) -> Result<Vec<(usize, DocumentOutcome)>, Failure> {
        const STALE: &str = "a newer version of this document is stored";
        let tenant = &self.attempt.job().spec.tenant;
        let mut ends = Vec::with_capacity(group.len());
        let (mut written, mut entries) = (Vec::new(), Vec::new());
        for (n, Prepared { document, entry }) in group {
            let mut outcome = DocumentOutcome {
                id: entry.id,
                name: entry.name.clone(),
                passages: count(entry.passages.len()),
                error: None,
            };
            match self.deps.documents.put(tenant, document).await.map_err(documents_failure)? {
                Write::Written => {
                    written.push((n, outcome));
                    entries.push(entry);
                }
                Write::Stale => {
                    (outcome.passages, outcome.error) = (0, Some(STALE.to_owned()));
                    ends.push((n, outcome));
                }
            }
        }
        crash::point("ingest.document_stored");
        if !entries.is_empty() {
            let writes = self.deps.index.upsert(tenant, entries).await.map_err(index_failure)?;
            for ((n, mut outcome), write) in written.into_iter().zip(writes) {
                if write == Write::Stale {
                    (outcome.passages, outcome.error) = (0, Some(STALE.to_owned()));
                }
                ends.push((n, outcome));
            }
        }
        crash::point("ingest.indexed");
        Ok(ends)
    }

    /// Tells and journals the end of one document.
    async fn finish(&self, n: usize, outcome: &DocumentOutcome, replayed: bool) -> Result<(), Stopped> {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let stage = if outcome.error.is_none() { "indexed" } else { "failed" };
        self.progress(&outcome.name, stage, done).await?;
        if replayed {
            return Ok(());
        }
        let label = if outcome.error.is_none() { "ingested" } else { "failed" };
        counter!(telemetry::DOCUMENTS_INGESTED, "outcome" => label).increment(1);
        let result = serde_json::to_value(outcome).expect("outcomes are plain data");
        self.attempt.complete(&key(n), StepKind::ToolCall, result).await
    }

    async fn progress(&self, document: &str, stage: &str, done: u32) -> Result<(), Stopped> {
        let (document, stage) = (document.to_owned(), stage.to_owned());
        self.attempt.emit(EventBody::IngestProgress { document, stage, done, total: self.total }).await
    }
}

fn key(n: usize) -> String {
    format!("ingest:{n}")
}

fn failed(item: &IngestItem, reason: String) -> DocumentOutcome {
    DocumentOutcome { id: item.document_id, name: item.name.clone(), passages: 0, error: Some(reason) }
}

/// Cuts a batch so that no group has a name twice: of one name the last document must win.
fn by_name(batch: Vec<(usize, Prepared)>) -> Vec<Vec<(usize, Prepared)>> {
    let mut groups: Vec<Vec<(usize, Prepared)>> = Vec::new();
    let mut names: HashSet<String> = HashSet::new();
    for (n, prepared) in batch {
        let fresh = names.insert(prepared.entry.name.clone());
        match groups.last_mut() {
            Some(group) if fresh => group.push((n, prepared)),
            _ => {
                names = HashSet::from([prepared.entry.name.clone()]);
                groups.push(vec![(n, prepared)]);
            }
        }
    }
    groups
}

/// Fences what this attempt writes.
fn writer(attempt: &Attempt) -> Writer {
    Writer { version: attempt.job().version, epoch: attempt.lease().epoch }
}

fn retry(code: &str, message: impl ToString) -> Failure {
    Failure::Retry { error: JobError::new(code, message.to_string(), true), after: Some(RETRY_AFTER) }
}

fn documents_failure(err: DocumentsError) -> Failure {
    match err {
        DocumentsError::Full => retry("storage_full", err),
        DocumentsError::Unreachable(_) => retry("documents_unavailable", err),
        DocumentsError::Damaged(_) => {
            Failure::Fatal(JobError::new("documents_damaged", err.to_string(), false))
        }
    }
}

fn index_failure(err: IndexError) -> Failure {
    match err {
        IndexError::Full => retry("storage_full", err),
        IndexError::Unreachable(_) => retry("index_unavailable", err),
        IndexError::Damaged(_) => Failure::Fatal(JobError::new("index_damaged", err.to_string(), false)),
        IndexError::Dimensions { .. } => {
            Failure::Fatal(JobError::new("embedder_changed", err.to_string(), false))
        }
    }
}
