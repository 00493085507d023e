//! `just bench-overload`: what is done of what is asked for, when far more is asked for than can be done.
//!
//! One ingress and one worker on a real RabbitMQ and a real Redis. The peak is bound by the model's pace and the
//! worker's slots, some 40 jobs a second, not by this machine. Goodput counts jobs that completed before their
//! deadline, by the store's times, in a window that is as long in every phase. All times come from the jobs'
//! records; refused jobs are not sent again.

use std::time::Duration;

use anyhow::Context;
use futures::{StreamExt, stream};
use millhand_common::model::Timestamp;
use millhand_tests::servers::{Kind, Queue, Redis};
use millhand_tests::{Client, Launch, Provider, Server};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::table::Table;
use crate::tenant::{self, moment, p95, records};

const SLOTS: f64 = 16.0;
/// A call of the model.
const CALL: Duration = Duration::from_millis(400);
const DEADLINE_SECONDS: u64 = 10;
/// Jobs of a phase are submitted for so long; the first part of it fills the queue and is not counted.
const PHASE: Duration = Duration::from_secs(30);
const WARM_UP: Duration = Duration::from_secs(12);
/// By how much it may be off, as models' times are. Calls that all took the same time would keep the slots in
/// step: they would all come free at once, and then none for a whole call.
const JITTER: &str = "0.3";
/// Of the quiet tenant, a second: a tenth of what can be done.
const QUIET_RATE: f64 = 4.0;
const SUBMITTING: usize = 512;
/// Of the noisy tenant, that wait before the last phase begins. They have time, so they are let in.
const BACKLOG: u32 = 10_000;
const PATIENT_SECONDS: u64 = 86_400;

/// What one tenant sends in one phase.
struct Sent {
    /// Ids of jobs that were let in.
    accepted: Vec<String>,
    refused: usize,
    /// Refusals without a `Retry-After` of 1 to 60 s, or with another status than 503.
    wrong: usize,
    /// How long a refusal took, the slowest but one in a hundred.
    refusing: Duration,
}

pub(crate) async fn measure() -> anyhow::Result<()> {
    let call = format!("{}ms", CALL.as_millis());
    let flags = ["--first-token", &call, "--per-token", "0ms", "--jitter", JITTER];
    let (provider, redis, queue) =
        futures::join!(Provider::with(&flags), Redis::start(), Queue::start(Kind::RabbitMq));
    let launch = |role| {
        Launch::shared(role).cluster(Kind::RabbitMq, &queue.url(), &redis.url()).model(&provider.base_url())
    };
    let (api, worker) = (launch("api"), launch("worker").arg("--slots").arg("16"));
    let (api, worker) = futures::join!(api.start(), worker.start());
    let keys = tenant::keys(&redis, &api.client).await?;
    let result = phases(&api, &keys).await;
    drop(worker);
    result
}

async fn phases(api: &Server, [noisy, quiet]: &[String; 2]) -> anyhow::Result<()> {
    let could = SLOTS / CALL.as_secs_f64();
    let mut table = Table::default();
    // Alone, and unloaded: what a job of the quiet tenant takes by itself.
    let (_, alone) = phase(&api.client, (noisy, 0.0), quiet).await?;
    let (peak, _) = phase(&api.client, (noisy, could * 1.1), quiet).await?;
    let (over, beside) = phase(&api.client, (noisy, could * 10.0), quiet).await?;
    let (after, _) = phase(&api.client, (noisy, could * 0.5), quiet).await?;
    let backlog = backlog(&api.client, noisy).await?;
    let (_, behind) = phase(&api.client, (noisy, 0.0), quiet).await?;
    let measured = |jobs: &[Value]| goodput(jobs);
    table.row("goodput at 1.1 times what can be done", (measured(&peak.jobs), Some(could), "/s"), "", None);
    let (good, floor) = (measured(&over.jobs), measured(&peak.jobs));
    table.row(
        "goodput at 10 times that",
        (good, Some(floor), "/s"),
        ">= 0.9 of peak",
        Some(good >= 0.9 * floor),
    );
    let expired = over.jobs.iter().filter(|job| job["status"] != "completed").count() as f64;
    let share = expired * 100.0 / over.jobs.len().max(1) as f64;
    table.row("let in and not completed, at 10 times", (share, None, "%"), "<= 5 %", Some(share <= 5.0));
    let wrong = over.sent.wrong as f64;
    table.row("refusals without an honest answer", (wrong, None, ""), "0", Some(over.sent.wrong == 0));
    let refusing = over.sent.refusing.as_secs_f64() * 1000.0;
    table.row("a refusal takes, p99", (refusing, None, "ms"), "", None);
    let (quiet_beside, quiet_alone) = (p95(&beside.jobs), p95(&alone.jobs));
    let met = quiet_beside <= 1.25 * quiet_alone;
    table.row("quiet tenant, p95 to the end", (quiet_beside, Some(quiet_alone), "s"), "<= 1.25", Some(met));
    let quiet_behind = p95(&behind.jobs);
    let met = quiet_behind <= 1.25 * quiet_alone;
    let what = format!("the same beside {backlog} queued jobs");
    table.row(&what, (quiet_behind, Some(quiet_alone), "s"), "<= 1.25", Some(met));
    let refused = (beside.sent.refused + behind.sent.refused) as f64;
    table.row("quiet tenant, refused", (refused, None, ""), "0", Some(refused == 0.0));
    let calm = p95(&after.jobs);
    table.row("p95 to the end at half the load, after 12 s", (calm, Some(quiet_alone), "s"), "", None);
    println!("{table}");
    for job in over.jobs.iter().filter(|job| job["status"] != "completed") {
        eprintln!("not completed: {job}");
    }
    println!(
        "Floors: what {SLOTS} slots can do at {CALL:?} a call; the peak of this run; the quiet tenant alone. \
         {} of {} jobs were refused at 10 times.",
        over.sent.refused,
        over.sent.refused + over.sent.accepted.len()
    );
    Ok(())
}

/// What came of one tenant's jobs.
struct Outcome {
    sent: Sent,
    /// Records of those that were created, or ended, after the warm-up.
    jobs: Vec<Value>,
}

/// Both tenants send at their pace; then all that was let in ends.
async fn phase(
    client: &Client,
    (noisy, rate): (&str, f64),
    quiet: &str,
) -> anyhow::Result<(Outcome, Outcome)> {
    let from = Timestamp::now() + WARM_UP;
    let (of_noisy, of_quiet) =
        futures::try_join!(send(client, noisy, rate), send(client, quiet, QUIET_RATE))?;
    let until = from + (PHASE - WARM_UP);
    let of_noisy = outcome(client, noisy, of_noisy, from, until).await?;
    Ok((of_noisy, outcome(client, quiet, of_quiet, from, until).await?))
}

/// Submits jobs that have all the time there is; answers how many were let in.
async fn backlog(client: &Client, key: &str) -> anyhow::Result<u32> {
    let submit = |n: u32| {
        let body = json!({"input": format!("patient {n} tokens=3"), "agent": "chat",
            "deadline_seconds": PATIENT_SECONDS});
        let request = client.request("POST", "/v1/jobs").bearer_auth(key).json(&body);
        async move { anyhow::Ok(client.send(request).await?.status == 202) }
    };
    let answers: Vec<_> = stream::iter((0..BACKLOG).map(submit)).buffer_unordered(64).collect().await;
    answers.into_iter().try_fold(0, |sum, let_in| Ok(sum + u32::from(let_in?)))
}

async fn send(client: &Client, key: &str, rate: f64) -> anyhow::Result<Sent> {
    let mut sent = Sent { accepted: Vec::new(), refused: 0, wrong: 0, refusing: Duration::ZERO };
    let (start, mut submitting, mut refusing) = (Instant::now(), JoinSet::new(), Vec::new());
    let mut take = |answer: (u16, Option<u64>, String, Duration)| {
        let (status, retry_after, id, took) = answer;
        if status == 202 {
            sent.accepted.push(id);
            return;
        }
        sent.refused += 1;
        sent.wrong +=
            usize::from(status != 503 || !retry_after.is_some_and(|after| (1..=60).contains(&after)));
        refusing.push(took);
    };
    for n in 0..(rate * PHASE.as_secs_f64()) as u32 {
        sleep_until(start + Duration::from_secs_f64(f64::from(n) / rate)).await;
        while submitting.len() >= SUBMITTING {
            take(submitting.join_next().await.context("one is under way")??);
        }
        let body = json!({"input": format!("job {n} tokens=3"), "agent": "chat",
            "deadline_seconds": DEADLINE_SECONDS});
        let (client, request) =
            (client.clone(), client.request("POST", "/v1/jobs").bearer_auth(key).json(&body));
        submitting.spawn(async move {
            let began = Instant::now();
            let answer = client.send(request).await.expect("the ingress answers");
            let after = answer.headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
            let id = answer.json()["id"].as_str().unwrap_or_default().to_owned();
            (answer.status, after, id, began.elapsed())
        });
    }
    while let Some(answer) = submitting.join_next().await {
        take(answer?);
    }
    refusing.sort_unstable();
    sent.refusing = refusing.get(refusing.len() * 99 / 100).copied().unwrap_or_default();
    Ok(sent)
}

async fn outcome(
    client: &Client,
    key: &str,
    sent: Sent,
    from: Timestamp,
    until: Timestamp,
) -> anyhow::Result<Outcome> {
    let mut jobs = Vec::new();
    for job in records(client, key, &sent.accepted).await? {
        let ended = moment(&job, "finished_at")?;
        if from <= ended && ended < until {
            jobs.push(job);
        }
    }
    Ok(Outcome { sent, jobs })
}

fn goodput(jobs: &[Value]) -> f64 {
    let good = jobs.iter().filter(|job| job["status"] == "completed").count();
    good as f64 / (PHASE - WARM_UP).as_secs_f64()
}
