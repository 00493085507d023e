//! Vectors for the passages of documents that are written together: one call at a time, as the ledger has it,
//! of as many texts as one call takes.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use millhand_common::model::JobError;
use millhand_common::ports::{Embedder, ModelError};
use millhand_common::search::{one_call, text_of};

use super::prepare::Prepared;
use super::{IngestDeps, RETRY_AFTER, retry};
use crate::attempt::{Attempt, Failure};
use crate::costs::{Costs, ToRead, Unread};
use crate::quota::{IN_PLACE_ONCE_BEGUN, Limited, Turn};

/// What became of documents that were to get vectors.
pub(super) struct Embedded {
    /// Documents that get none, and why: that is their own and final.
    pub(super) refused: HashMap<usize, String>,
    /// Why the attempt ends with those that have theirs.
    pub(super) failure: Option<Failure>,
}

/// Gives the passages of `documents` their vectors. Once something was paid the quota of what remains is waited
/// for in place: vectors are kept nowhere before they are written.
pub(super) async fn embed(
    attempt: &Attempt,
    deps: &IngestDeps,
    turn: Option<&Turn>,
    documents: &mut [(usize, Prepared)],
) -> Embedded {
    let (mut refused, mut failure) = (HashMap::new(), None);
    let Some((embedder, turn)) = deps.embedder.as_deref().zip(turn) else {
        return Embedded { refused, failure };
    };
    let (mut of, mut texts) = (Vec::new(), Vec::new());
    for (n, Prepared { entry, .. }) in documents.iter() {
        of.extend(entry.passages.iter().map(|_| *n));
        texts.extend(entry.passages.iter().map(|passage| text_of(&entry.title, passage)));
    }
    let mut vectors: Vec<Option<Vec<f32>>> = vec![None; texts.len()];
    let mut calls = calls(&texts);
    while let Some(call) = calls.pop_front() {
        let (first, last) = (of[call.start], of[call.end - 1]);
        if first == last && refused.contains_key(&first) {
            continue;
        }
        let is_paid = vectors.iter().any(Option::is_some);
        match read(attempt, &deps.costs, (embedder, turn), &texts[call.clone()], is_paid).await {
            Ok(read) => vectors[call].iter_mut().zip(read).for_each(|(vector, read)| *vector = Some(read)),
            Err(Unread::Failure(Failure::NoQuota { after })) if is_paid => {
                tokio::time::sleep(after).await;
                calls.push_front(call);
            }
            Err(Unread::Failure(why)) => {
                failure = Some(why);
                break;
            }
            Err(Unread::TooLarge(_) | Unread::Model(ModelError::TooLarge(_))) if call.len() > 1 => {
                let middle = call.start + call.len() / 2;
                calls.push_front(middle..call.end);
                calls.push_front(call.start..middle);
            }
            Err(Unread::TooLarge(error)) => {
                refused.insert(first, error.message);
            }
            Err(Unread::Model(err)) if first == last => {
                refused.insert(first, err.to_string());
            }
            Err(Unread::Model(_)) => {
                each_document(&of, call).into_iter().rev().for_each(|one| calls.push_front(one));
            }
        }
    }
    let passages = documents.iter_mut().flat_map(|(_, prepared)| &mut prepared.entry.passages);
    passages.zip(vectors).for_each(|(passage, vector)| passage.vector = vector);
    Embedded { refused, failure }
}

/// Has `texts` read. A [`Unread::Model`] is about the texts: others would do better.
async fn read(
    attempt: &Attempt,
    costs: &Costs,
    (embedder, turn): (&Limited<dyn Embedder>, &Turn),
    texts: &[String],
    is_paid: bool,
) -> Result<Vec<Vec<f32>>, Unread> {
    let asked: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (name, step) = (embedder.model().name(), "embedding");
    let call = ToRead { attempt, costs, model: embedder, name, step, texts: &asked };
    let patience = if is_paid { attempt.time_left() } else { IN_PLACE_ONCE_BEGUN };
    let permit = embedder.admit_in_turn(turn, attempt, step, &asked, patience).await?;
    let read = call.make(permit, embedder.model().embed(texts, attempt.deadline())).await;
    read.map_err(|unread| match unread {
        Unread::Model(err) => unread_by(err, embedder.is_limited()),
        unread => unread,
    })
}

/// What the attempt makes of an error of the embedder.
fn unread_by(err: ModelError, is_limited: bool) -> Unread {
    Unread::Failure(match err {
        ModelError::Rejected(_) | ModelError::Filtered(_) | ModelError::TooLarge(_) => {
            return Unread::Model(err);
        }
        ModelError::Unauthorized | ModelError::NoCredit(_) => {
            Failure::Fatal(JobError::new("embedder_failed", err.to_string(), false))
        }
        ModelError::RateLimited { retry_after, .. } | ModelError::Overloaded { retry_after }
            if is_limited =>
        {
            Failure::NoQuota { after: retry_after.unwrap_or(RETRY_AFTER) }
        }
        ModelError::RateLimited { retry_after, .. } | ModelError::Overloaded { retry_after } => {
            let error = JobError::new("embedder_unavailable", err.to_string(), true);
            Failure::Retry { error, after: retry_after }
        }
        ModelError::Unavailable(_) | ModelError::TimedOut | ModelError::Malformed(_) => {
            retry("embedder_unavailable", err)
        }
    })
}

/// All of them, in calls.
fn calls(texts: &[String]) -> VecDeque<Range<usize>> {
    let (mut calls, mut from) = (VecDeque::new(), 0);
    while from < texts.len() {
        let to = from + one_call(&texts[from..]);
        calls.push_back(from..to);
        from = to;
    }
    calls
}

/// A call of its own for each document that `call` has texts of.
fn each_document(of: &[usize], call: Range<usize>) -> Vec<Range<usize>> {
    let mut from = call.start;
    let ones = of[call].chunk_by(|a, b| a == b).map(move |one| {
        let range = from..from + one.len();
        from = range.end;
        range
    });
    ones.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_call_is_made_again_for_each_document() {
        let of = [0, 0, 1, 3, 3, 3, 4];
        assert_eq!(each_document(&of, 1..6), [1..2, 2..3, 3..6]);
        assert_eq!(each_document(&of, 2..5), [2..3, 3..5]);
    }
}
