//! Follows one job's log to its end, over any [`JobReader`].
//!
//! It subscribes, then reads the log, then takes live events; what it has seen is dropped by `seq`,
//! and a gap, a lag or a closed subscription makes it read the log again. So a reader sees every
//! event once, in order, whatever the wake-up path loses.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::model::{Event, JobId, TenantId};
use crate::ports::{JobReader, LogPage, Lookup, Signal, StoreError, Subscription};

/// Events read from the log at a time.
pub const PAGE: usize = 256;

/// A cursor that moves through one log.
pub struct Follower {
    reader: Arc<dyn JobReader>,
    tenant: TenantId,
    job: JobId,
    seen: u64,
    ready: VecDeque<Arc<Event>>,
    subscription: Option<Subscription>,
    /// The log may hold more than `seen` without news of it.
    stale: bool,
    ended: bool,
}

/// Why following cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    #[error("no such job")]
    Unknown,
    #[error("the job or this part of its log is no longer kept")]
    Gone,
    #[error("the cursor is beyond the end of the log, {last_seq}")]
    Ahead { last_seq: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Follower {
    /// A follower of the events after `after`.
    #[must_use]
    pub fn new(reader: Arc<dyn JobReader>, tenant: TenantId, job: JobId, after: u64) -> Self {
        Self {
            reader,
            tenant,
            job,
            seen: after,
            ready: VecDeque::new(),
            subscription: None,
            stale: true,
            ended: false,
        }
    }

    /// A follower that goes on from a `page` of the events after `after`, [`PAGE`] of them if there are more. It
    /// was asked for after `subscription` began, or came with it, so that nothing falls between the two.
    #[must_use]
    pub fn from_page(
        reader: Arc<dyn JobReader>,
        tenant: TenantId,
        job: JobId,
        after: u64,
        subscription: Subscription,
        page: LogPage,
    ) -> Self {
        let mut follower = Self::new(reader, tenant, job, after);
        follower.subscription = Some(subscription);
        follower.take(page);
        follower
    }

    /// The next event; `None` after the terminal one. Cancel-safe: an event is handed out or kept.
    pub async fn next(&mut self) -> Result<Option<Arc<Event>>, FollowError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.seen = event.seq;
                self.ended = event.is_terminal();
                return Ok(Some(event));
            }
            if self.ended {
                return Ok(None);
            }
            if self.stale {
                self.read().await?;
                continue;
            }
            let Some(subscription) = &mut self.subscription else {
                self.stale = true;
                continue;
            };
            match subscription.next().await {
                Signal::Event(event) if event.seq == self.seen + 1 => self.ready.push_back(event),
                Signal::Event(event) if event.seq <= self.seen => {}
                Signal::Event(_) => {
                    metrics::counter!(crate::telemetry::STREAM_REREADS).increment(1);
                    self.stale = true;
                }
                Signal::Lagged => self.stale = true,
                Signal::Closed => {
                    self.subscription = None;
                    self.stale = true;
                }
            }
        }
    }

    async fn read(&mut self) -> Result<(), FollowError> {
        let mut at_hand = None;
        if self.subscription.is_none() {
            // Before reading, so that nothing falls between the two.
            let mut subscription = self.reader.subscribe(&self.tenant, self.job, self.seen).await?;
            at_hand = subscription.take_log();
            self.subscription = Some(subscription);
        }
        let page = match at_hand {
            Some(page) => page,
            None => match self.reader.log(&self.tenant, self.job, self.seen, PAGE).await? {
                Lookup::Found(page) => page,
                Lookup::Gone => return Err(FollowError::Gone),
                Lookup::Unknown => return Err(FollowError::Unknown),
            },
        };
        if self.seen > page.last_seq {
            return Err(FollowError::Ahead { last_seq: page.last_seq });
        }
        if page.trimmed_to > self.seen && page.last_seq > self.seen {
            return Err(FollowError::Gone);
        }
        self.take(page);
        Ok(())
    }

    fn take(&mut self, page: LogPage) {
        let full = page.events.len() == PAGE;
        self.stale = full;
        self.ended = page.sealed && page.events.is_empty() && !full;
        self.ready.extend(page.events);
    }
}
