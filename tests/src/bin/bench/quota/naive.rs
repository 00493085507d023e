//! Policies that are common today, as clients that call the provider from as many slots as the product has. A
//! job keeps its slot until it is answered or given up.

mod admission;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use millhand_tests::servers::Redis;
use millhand_tests::{Client, Provider};
use serde_json::json;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::calls::{self, Reading};
use super::load::{self, Job, MAX_OUTPUT_TOKENS, OVERLOAD, Start};
use super::mode::{Mode, TOKENS_PER_MINUTE};
use super::outcome::{Outcome, Run};
use super::{SLOTS, WORKERS};
use admission::Admission;

/// As the official clients have it: a call is tried three times; what the provider asks for is waited, else
/// half a second, then one.
const TRIES: u32 = 3;
const BACK_OFF: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// Nothing but the retries of the official clients.
    Retries,
    /// A counter in Redis that begins anew each minute; what was not used comes back.
    Counter,
    /// A bucket in Redis, which everybody asks until it has enough; what was not used comes back.
    Polled,
}

impl Policy {
    pub(super) const ALL: [Self; 3] = [Self::Retries, Self::Counter, Self::Polled];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Retries => "SDK retries only",
            Self::Counter => "fixed-window counter",
            Self::Polled => "polled bucket",
        }
    }
}

/// What all slots share.
struct Fleet {
    provider: Client,
    admission: Option<Admission>,
    due: Mutex<mpsc::Receiver<Job>>,
    waited_us: AtomicU64,
    given_up: AtomicUsize,
    until: Instant,
}

pub(super) async fn measure(
    mode: Mode,
    policy: Policy,
    warm_up: Duration,
    measured: Duration,
) -> anyhow::Result<Outcome> {
    let flags = mode.provider_flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let (provider, redis) = futures::join!(Provider::with(&flags), Redis::start());
    let jobs = load::jobs(mode.allowed() * OVERLOAD, warm_up + measured);
    let (submit, due) = mpsc::channel(jobs.len().max(1));
    let start = Start::now();
    let fleet = Arc::new(Fleet {
        provider: provider.client().clone(),
        admission: Admission::of(policy, &redis.url(), TOKENS_PER_MINUTE).await?,
        due: Mutex::new(due),
        waited_us: AtomicU64::new(0),
        given_up: AtomicUsize::new(0),
        until: start.at + warm_up + measured,
    });
    let mut slots = JoinSet::new();
    for _ in 0..WORKERS * SLOTS {
        slots.spawn(Arc::clone(&fleet).work());
    }
    let submitting = async {
        for job in jobs.iter().copied() {
            sleep_until(start.at + job.due).await;
            submit.send(job).await.context("the slots are gone")?;
        }
        anyhow::Ok(())
    };
    let measuring = async {
        let at = async |after| {
            sleep_until(start.at + after).await;
            let waited = fleet.waited_us.load(Ordering::Relaxed) as f64 / 1e6;
            anyhow::Ok((Reading::of(&provider).await?, waited, Instant::now()))
        };
        anyhow::Ok([at(warm_up).await?, at(warm_up + measured).await?])
    };
    let ((), [from, to]) = futures::try_join!(submitting, measuring)?;
    let calls = calls::all(&provider).await?;
    drop(submit);
    while let Some(ended) = slots.join_next().await {
        ended??;
    }
    Ok(Outcome::of(&Run {
        jobs: &jobs,
        start,
        calls: &calls,
        readings: [from.0, to.0],
        waited: to.1 - from.1,
        slots: (to.2 - from.2).as_secs_f64() * (WORKERS * SLOTS) as f64,
        given_up: fleet.given_up.load(Ordering::Relaxed),
    }))
}

impl Fleet {
    /// One slot: a job after the other until the run is over.
    async fn work(self: Arc<Self>) -> anyhow::Result<()> {
        loop {
            let next = timeout_at(self.until, async { self.due.lock().await.recv().await }).await;
            let Ok(Some(job)) = next else { return Ok(()) };
            // What is not answered when the run is over is nobody's any more.
            if let Ok(answered) = timeout_at(self.until, self.answer(job)).await {
                answered?;
            }
        }
    }

    async fn answer(&self, job: Job) -> anyhow::Result<()> {
        // Nearly what the provider will count: a policy that guesses worse does worse.
        let reserved = job.size.input_tokens() + MAX_OUTPUT_TOKENS;
        for attempt in 0..TRIES {
            if let Some(admission) = &self.admission {
                while let Some(wait) = admission.take(reserved).await? {
                    self.wait(wait).await;
                }
            }
            let answer = self.call(job).await?;
            if let Some(admission) = &self.admission {
                let used = answer.unwrap_or(0);
                admission.give_back(reserved.saturating_sub(used)).await?;
            }
            match answer {
                Ok(_) => return Ok(()),
                Err(asked) if attempt + 1 < TRIES => {
                    self.wait(asked.unwrap_or(BACK_OFF * 2_u32.pow(attempt))).await;
                }
                Err(_) => {}
            }
        }
        self.given_up.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Waits with the slot in hand.
    async fn wait(&self, wait: Duration) {
        let begun = Instant::now();
        sleep(wait).await;
        let waited = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.waited_us.fetch_add(waited, Ordering::Relaxed);
    }

    /// The tokens that were used; when it was refused, how long the provider wants us to wait.
    async fn call(&self, job: Job) -> anyhow::Result<Result<u64, Option<Duration>>> {
        let body = json!({"model": "fake-1", "max_tokens": MAX_OUTPUT_TOKENS,
            "messages": [{"role": "user", "content": job.question()}]});
        let request = self.provider.request("POST", "/v1/chat/completions").json(&body);
        let answer = self.provider.send(request.header("traceparent", job.traceparent())).await?;
        if answer.status == 429 {
            let header = answer.headers.get("retry-after-ms").and_then(|ms| ms.to_str().ok()?.parse().ok());
            return Ok(Err(header.map(Duration::from_millis)));
        }
        ensure!(answer.status == 200, "the provider answered {}: {}", answer.status, answer.text);
        Ok(Ok(answer.json()["usage"]["total_tokens"].as_u64().context("a usage")?))
    }
}
