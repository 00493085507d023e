//! Models that read and do not write, within their quota.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use millhand_common::model::Timestamp;
use millhand_common::ports::{Embedder, ModelError, Reading};
use millhand_common::tokens;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use uuid::Uuid;

use super::{Denied, IN_PLACE, Permit, Quota, count_yield, ticket};
use crate::attempt::{Attempt, Failure};

/// Jobs of one process that read in bulk at a time: they hold their slots while they wait for more quota, which
/// more of them would not bring.
const BULK: usize = 2;
/// When a job comes again that found no turn: a quarter of its age, so that a long line is not asked all the time.
const SHORTEST_AGAIN: Duration = Duration::from_secs(1);
const LONGEST_AGAIN: Duration = Duration::from_secs(60);

/// An embedder or a reranker, and what all its calls may take.
pub struct Limited<M: ?Sized> {
    model: Arc<M>,
    /// `None`: its calls are not limited.
    quota: Option<Arc<Quota>>,
    bulk: Arc<Semaphore>,
}

/// The right to read in bulk, as long as it is kept.
pub(crate) struct Turn {
    _held: Option<OwnedSemaphorePermit>,
}

impl<M: ?Sized> Limited<M> {
    #[must_use]
    pub fn new(model: Arc<M>, quota: Option<Arc<Quota>>) -> Arc<Self> {
        Arc::new(Self { model, quota, bulk: Arc::new(Semaphore::new(BULK)) })
    }

    /// Itself, whatever its quota.
    #[must_use]
    pub fn model(&self) -> &M {
        &self.model
    }

    pub(crate) fn is_limited(&self) -> bool {
        self.quota.is_some()
    }

    /// The right to have a job's `texts` read, waited for in place for at most `patience`; `None` where nothing
    /// limits it. Dropped, it is given back.
    ///
    /// # Errors
    /// [`Denied`] when there is none soon, or never.
    pub(crate) async fn admit(
        &self,
        attempt: &Attempt,
        step: &str,
        texts: &[&str],
        patience: Duration,
    ) -> Result<Option<Permit>, Denied> {
        let Some(quota) = &self.quota else { return Ok(None) };
        let input = tokens::at_most(texts.iter().copied());
        let ticket = ticket(attempt.job().spec.id, step);
        let admitted = quota.wait_for(ticket, [input, 0], None, patience).await;
        count_yield(&admitted, input);
        admitted.map(Some)
    }
}

impl<M: ?Sized> Limited<M> {
    /// The turn of a job that reads in bulk: it comes when there is quota that nobody waits for.
    ///
    /// # Errors
    /// [`Failure::NoQuota`] when it does not come soon.
    pub(crate) async fn turn(&self, attempt: &Attempt) -> Result<Turn, Failure> {
        let Some(quota) = &self.quota else { return Ok(Turn { _held: None }) };
        let turn = async {
            let held = Arc::clone(&self.bulk).acquire_owned().await;
            quota.gate.opened(&*quota.limiter).await;
            // It is never closed.
            Turn { _held: held.ok() }
        };
        timeout(IN_PLACE, turn).await.map_err(|_| {
            let age = Timestamp::now().since(attempt.job().created_at);
            let after = (age / 4).clamp(SHORTEST_AGAIN, LONGEST_AGAIN);
            count_yield(&Err(Denied::Later { after }), 0);
            Failure::NoQuota { after }
        })
    }

    /// As [`Self::admit`], for who has a turn: stands in the line only when there is quota, so that the line is
    /// short for those whose answer waits for it.
    pub(crate) async fn admit_in_turn(
        &self,
        _turn: &Turn,
        attempt: &Attempt,
        step: &str,
        texts: &[&str],
        patience: Duration,
    ) -> Result<Option<Permit>, Denied> {
        let Some(quota) = &self.quota else { return Ok(None) };
        let until = Instant::now() + patience;
        if timeout(patience, quota.gate.opened(&*quota.limiter)).await.is_err() {
            return Err(Denied::Later { after: SHORTEST_AGAIN });
        }
        self.admit(attempt, step, texts, until.saturating_duration_since(Instant::now())).await
    }
}

/// What no job asks for: searches, and indexes that are built anew. Quota is waited for until the deadline.
#[async_trait]
impl Embedder for Limited<dyn Embedder> {
    fn name(&self) -> &str {
        self.model.name()
    }

    async fn embed(&self, texts: &[String], deadline: Instant) -> Result<Reading<Vec<Vec<f32>>>, ModelError> {
        let Some(quota) = &self.quota else { return self.model.embed(texts, deadline).await };
        let input = tokens::at_most(texts.iter().map(String::as_str));
        let patience = deadline.saturating_duration_since(Instant::now());
        let admitted = quota.wait_for(Uuid::now_v7(), [input, 0], None, patience).await;
        let mut permit = admitted.map_err(|denied| match denied {
            Denied::Later { after } => {
                ModelError::RateLimited { retry_after: Some(after), limits: Box::default() }
            }
            Denied::Never(error) => ModelError::TooLarge(error.message),
        })?;
        permit.sent();
        let read = self.model.embed(texts, deadline).await;
        permit.over(&read);
        read
    }
}

impl Permit {
    /// A call of a model that reads has ended so.
    pub(crate) fn over<T>(&mut self, read: &Result<Reading<T>, ModelError>) {
        match read {
            Ok(read) => {
                self.answered(&read.limits);
                self.ended(read.usage);
            }
            Err(err) => self.failed(err),
        }
    }
}
