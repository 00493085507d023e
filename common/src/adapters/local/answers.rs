//! Answers kept in memory, for the process that makes all calls by itself.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use lru::LruCache;
use uuid::Uuid;

use crate::ports::{AnswerCache, AnswerKey, Asked, StoreError};

/// What an entry takes besides its answer, about.
const ENTRY_BYTES: usize = 256;

/// An [`AnswerCache`] in memory. It is empty when the process starts; when it is full those go first that were
/// not asked for the longest.
pub struct LocalAnswers {
    most_bytes: usize,
    inner: Mutex<Inner>,
}

struct Inner {
    kept: LruCache<AnswerKey, Kept>,
    bytes: usize,
    flights: HashMap<AnswerKey, Flight>,
}

struct Kept {
    answer: String,
    until: Instant,
}

#[derive(Clone, Copy)]
struct Flight {
    id: Uuid,
    until: Instant,
}

impl LocalAnswers {
    /// Keeps answers in about `most_bytes` of memory.
    #[must_use]
    pub fn new(most_bytes: usize) -> Self {
        let inner = Inner { kept: LruCache::unbounded(), bytes: 0, flights: HashMap::new() };
        Self { most_bytes, inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn answer(&mut self, key: &AnswerKey, now: Instant) -> Option<String> {
        let kept = self.kept.get(key)?;
        if now < kept.until {
            return Some(kept.answer.clone());
        }
        self.forget(key);
        None
    }

    fn keep(&mut self, key: &AnswerKey, kept: Kept, most_bytes: usize) {
        self.forget(key);
        self.bytes += bytes(&kept);
        self.kept.put(key.clone(), kept);
        while self.bytes > most_bytes
            && let Some((_, oldest)) = self.kept.pop_lru()
        {
            self.bytes -= bytes(&oldest);
        }
    }

    fn forget(&mut self, key: &AnswerKey) {
        if let Some(kept) = self.kept.pop(key) {
            self.bytes -= bytes(&kept);
        }
    }

    /// The one who has the lead.
    fn leader(&self, key: &AnswerKey, now: Instant) -> Option<Uuid> {
        self.flights.get(key).filter(|flight| now < flight.until).map(|flight| flight.id)
    }
}

fn bytes(kept: &Kept) -> usize {
    ENTRY_BYTES + kept.answer.len()
}

#[async_trait]
impl AnswerCache for LocalAnswers {
    async fn ask(&self, key: &AnswerKey, flight: Uuid, lease: Duration) -> Result<Asked, StoreError> {
        let (mut inner, now) = (self.inner(), Instant::now());
        if let Some(answer) = inner.answer(key, now) {
            return Ok(Asked::Kept(answer));
        }
        if inner.leader(key, now).is_some_and(|leader| leader != flight) {
            return Ok(Asked::Follow);
        }
        inner.flights.insert(key.clone(), Flight { id: flight, until: now + lease });
        Ok(Asked::Lead)
    }

    async fn renew(&self, key: &AnswerKey, flight: Uuid, lease: Duration) -> Result<bool, StoreError> {
        let (mut inner, now) = (self.inner(), Instant::now());
        let leads = inner.leader(key, now) == Some(flight);
        if leads {
            inner.flights.insert(key.clone(), Flight { id: flight, until: now + lease });
        }
        Ok(leads)
    }

    async fn land(
        &self,
        key: &AnswerKey,
        flight: Uuid,
        answer: &str,
        keep: Duration,
    ) -> Result<bool, StoreError> {
        let (mut inner, now) = (self.inner(), Instant::now());
        let leads = inner.leader(key, now) == Some(flight);
        if leads {
            inner.flights.remove(key);
            let kept = Kept { answer: answer.to_owned(), until: now + keep };
            inner.keep(key, kept, self.most_bytes);
        }
        Ok(leads)
    }

    async fn abandon(&self, key: &AnswerKey, flight: Uuid) -> Result<(), StoreError> {
        let mut inner = self.inner();
        if inner.flights.get(key).is_some_and(|held| held.id == flight) {
            inner.flights.remove(key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn what_was_not_asked_for_the_longest_goes_first_and_what_is_too_large_is_not_kept() {
        let key = |n: u32| AnswerKey::new("a".parse().unwrap(), &n);
        let cache = LocalAnswers::new(3 * (ENTRY_BYTES + 10));
        let land = async |n: u32, size: usize| {
            let flight = Uuid::now_v7();
            assert_eq!(cache.ask(&key(n), flight, MINUTE).await.unwrap(), Asked::Lead, "{n}");
            assert!(cache.land(&key(n), flight, &"x".repeat(size), MINUTE).await.unwrap());
        };
        let is_kept = |n: u32| cache.inner().kept.contains(&key(n));
        for n in 1..=3 {
            land(n, 10).await;
        }
        let asked = cache.ask(&key(1), Uuid::now_v7(), MINUTE).await.unwrap();
        assert!(matches!(asked, Asked::Kept(_)), "{asked:?}");
        land(4, 10).await;
        assert_eq!([1, 2, 3, 4].map(is_kept), [true, false, true, true]);
        land(5, 10_000).await;
        assert!(!is_kept(5));
        let inner = cache.inner();
        assert_eq!(inner.bytes, inner.kept.iter().map(|(_, kept)| bytes(kept)).sum::<usize>());
        assert!(inner.flights.is_empty());
    }
}
