//! [`JobStore`] in Redis.

use std::collections::BTreeMap;

use std::time::Duration;

use async_trait::async_trait;
use redis::{Value, cmd};
use uuid::Uuid;

use crate::model::{
    ConversationId, EventBody, Job, JobId, Lane, OnBusy, Status, TenantId, Terminal, Timestamp, WaitReason,
    WorkerId,
};
use crate::ports::{
    Accept, Accepted, Appended, By, Cancelled, Claim, Claimed, Closed, DeadLetter, Expected, JobStore,
    LaneDepth, Lease, Line, Released, Renewed, Replayed, Run, StoreError, SweepReport, TenantLoad,
    WorkerInfo, WorkerOrders, WorkerSignal,
};
use crate::telemetry;

use super::due::SHARDS;
use super::reply::{self, at, damaged, list, name, number, text, unknown};
use super::scripts::{self, Script};
use super::store::{CloseBy, RedisStore, count_ended, shard_of};

/// Data of `job.queued`.
pub(super) fn queued(expected: Expected) -> String {
    let Expected { position, start_at: expected_start_at } = expected;
    EventBody::JobQueued { position, expected_start_at }.parts().1.get().to_owned()
}

fn flat(events: &[EventBody]) -> Vec<String> {
    events.iter().map(EventBody::parts).flat_map(|(kind, data)| [kind, data.get().to_owned()]).collect()
}

fn fenced<T>(answer: T) -> T {
    metrics::counter!(telemetry::FENCED_WRITES).increment(1);
    answer
}

impl RedisStore {
    /// Runs a script that takes the names of jobs, once in each shard that has some of them.
    async fn run_for_jobs(&self, script: &Script, jobs: &[(TenantId, JobId)]) -> Result<(), StoreError> {
        let mut by_shard: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        for (tenant, job) in jobs {
            by_shard.entry(shard_of(tenant)).or_default().push(name(tenant, job.uuid()));
        }
        let calls = by_shard
            .into_iter()
            .map(|(shard, names)| self.run_with(script, vec![self.prefix_of(shard)], names));
        futures::future::try_join_all(calls).await.map(|_| ())
    }
}

#[async_trait]
impl JobStore for RedisStore {
    async fn accept(&self, accept: Accept) -> Result<Accepted, StoreError> {
        let is_full = self.room.is_full(&self.link).await?;
        let refused = match (accept.replays_only, is_full) {
            (true, _) => "replays",
            (false, true) => "full",
            (false, false) => "",
        };
        let spec = &accept.spec;
        let (key, digest) = accept.idempotency.map_or_else(Default::default, |(key, digest)| {
            (key, digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        });
        let on_busy = match accept.on_busy {
            OnBusy::Enqueue => "enqueue",
            OnBusy::Reject => "reject",
            OnBusy::Interrupt => "interrupt",
        };
        let shard = shard_of(&spec.tenant);
        let args = [
            name(&spec.tenant, spec.id.uuid()),
            spec.lane.as_str().to_owned(),
            conversation(spec.conversation_id),
            u8::from(accept.known_conversation).to_string(),
            on_busy.to_owned(),
            key,
            digest,
            moment(spec.not_before),
            spec.deadline.as_millis().to_string(),
            serde_json::to_string(spec).expect("a spec is plain data with string keys"),
            queued(accept.expected),
            queued(Expected { position: None, start_at: spec.not_before }),
            self.crowd
                .before(&spec.tenant, spec.lane, self.options.shares.as_ref())
                .map_or(String::new(), |most| most.to_string()),
            refused.to_owned(),
            moment(accept.expected.start_at),
        ];
        let answer = self.run(&scripts::ACCEPT, shard, args).await?;
        crate::crash::point("accept.committed");
        self.heads.mark(shard);
        let parts = list(&answer.value)?;
        match text(at(parts, 0)?)? {
            "created" => {
                count_ended(at(parts, 2)?)?;
                Ok(Accepted::Created(Box::new(reply::job(at(parts, 1)?)?)))
            }
            "existing" => {
                let job = Box::new(reply::job(at(parts, 1)?)?);
                // Made by an earlier try whose answer was lost.
                let own = answer.repeated && job.spec.id == spec.id;
                Ok(if own { Accepted::Created(job) } else { Accepted::Existing(job) })
            }
            "full" => Err(StoreError::Full),
            "replays" => Ok(Accepted::Refused),
            "reused" => Ok(Accepted::KeyReused),
            "no_conversation" => Ok(Accepted::NoConversation),
            "busy" => Ok(Accepted::ConversationBusy(JobId::from_uuid(reply::uuid(at(parts, 1)?)?))),
            other => unknown(other),
        }
    }

    async fn hinted(&self, jobs: &[(TenantId, JobId)]) -> Result<(), StoreError> {
        self.run_for_jobs(&scripts::HINTED, jobs).await
    }

    async fn unhinted(&self, jobs: &[(TenantId, JobId)]) -> Result<(), StoreError> {
        self.run_for_jobs(&scripts::UNHINTED, jobs).await
    }

    async fn claim(&self, tenant: &TenantId, job: JobId, claim: Claim) -> Result<Claimed, StoreError> {
        self.feed.know(claim.owner);
        let shard = shard_of(tenant);
        let [owner, op, data, out] = Self::claim_args(claim);
        let args = [name(tenant, job.uuid()), owner, op, data, out];
        let answer = self.run(&scripts::CLAIM, shard, args).await?.value;
        crate::crash::point("claim.committed");
        let parts = list(&answer)?;
        metrics::counter!(telemetry::TAKEOVERS).increment(number(at(parts, 2)?)?);
        count_ended(at(parts, 3)?)?;
        match text(at(parts, 0)?)? {
            "run" => Ok(Claimed::Run(Box::new(self.started(claim, at(parts, 1)?)?))),
            "done" => Ok(Claimed::Done),
            "busy" => Ok(Claimed::Busy),
            "waiting" => Ok(Claimed::Waiting),
            "expired" => {
                self.expire(tenant, job).await?;
                Ok(Claimed::Done)
            }
            other => unknown(other),
        }
    }

    async fn claim_due(&self, lane: Lane, claim: Claim) -> Result<Option<Run>, StoreError> {
        let shards = self.heads.promising();
        if shards.is_empty() {
            return Ok(None);
        }
        self.feed.know(claim.owner);
        self.heads.reading(&shards);
        let found = async {
            let (mut heads, mut failure) = (Vec::new(), None);
            for (some, answer) in self.run_over(&scripts::HEADS, &shards, &[]).await {
                match answer {
                    Ok(answer) => heads.extend(self.heads.read(&some, list(&answer)?, lane)?),
                    // A master that is away does not hold up the work of the others.
                    Err(err) => failure = Some(err),
                }
            }
            heads.sort_unstable();
            for head in heads {
                let run = self.claim_in(head.shard, lane, claim).await;
                self.heads.mark(head.shard);
                if let Some(run) = run? {
                    return Ok((Some(run), failure));
                }
            }
            failure.map_or(Ok((None, None)), Err)
        };
        let found: Result<(Option<Run>, Option<StoreError>), StoreError> = found.await;
        if !matches!(found, Ok((_, None))) {
            shards.iter().for_each(|shard| self.heads.mark(*shard));
        }
        crate::crash::point("claim.committed");
        found.map(|(run, _)| run)
    }

    async fn due(&self) {
        self.heads.due().await;
    }

    async fn challenge(&self, tenant: &TenantId, job: JobId) -> Result<(), StoreError> {
        let args = [name(tenant, job.uuid()), String::new()];
        let answer = self.run(&scripts::CHALLENGE, shard_of(tenant), args).await?.value;
        let owner = text(at(list(&answer)?, 0)?)?;
        if owner.is_empty() {
            return Ok(());
        }
        self.heads.mark(shard_of(tenant));
        let args = [String::new(), owner.to_owned()];
        for (shard, answer) in (0..SHARDS).zip(self.run_everywhere(&scripts::CHALLENGE, &args).await) {
            if !text(at(list(&answer?)?, 0)?)?.is_empty() {
                self.heads.mark(shard);
            }
        }
        Ok(())
    }

    async fn renew(&self, lease: &Lease) -> Result<Renewed, StoreError> {
        let args = [name(&lease.tenant, lease.job.uuid()), lease.epoch.to_string()];
        let answer = self.run(&scripts::RENEW, shard_of(&lease.tenant), args).await?.value;
        match text(at(list(&answer)?, 0)?)? {
            "ok" => Ok(Renewed::Ok),
            "cancel" => Ok(Renewed::CancelRequested),
            "expired" => Ok(Renewed::Expired),
            "fenced" => {
                self.feed.lets_go(lease.job, lease.epoch);
                Ok(fenced(Renewed::Fenced))
            }
            other => unknown(other),
        }
    }

    async fn append(
        &self,
        lease: &Lease,
        first_seq: u64,
        events: Vec<EventBody>,
    ) -> Result<Appended, StoreError> {
        let mut args =
            vec![name(&lease.tenant, lease.job.uuid()), lease.epoch.to_string(), first_seq.to_string()];
        args.extend(flat(&events));
        let answer =
            self.run_with(&scripts::APPEND, vec![self.prefix_of(shard_of(&lease.tenant))], args).await?;
        let parts = list(&answer.value)?;
        match text(at(parts, 0)?)? {
            "ok" => Ok(Appended::Ok),
            // Written by an earlier try whose answer was lost.
            "duplicate" if answer.repeated => Ok(Appended::Ok),
            "duplicate" => Ok(Appended::Duplicate),
            "behind" => Ok(Appended::Behind(number(at(parts, 1)?)?)),
            "fenced" => Ok(fenced(Appended::Fenced)),
            other => unknown(other),
        }
    }

    async fn release(
        &self,
        lease: &Lease,
        not_before: Option<Timestamp>,
        reason: WaitReason,
    ) -> Result<Released, StoreError> {
        let data = |not_before| EventBody::JobWaiting { reason, not_before }.parts().1.get().to_owned();
        let args = [
            name(&lease.tenant, lease.job.uuid()),
            lease.epoch.to_string(),
            moment(not_before),
            reply::wait_word(reason).to_owned(),
            data(None),
            data(not_before),
        ];
        let shard = shard_of(&lease.tenant);
        let answer = self.run(&scripts::RELEASE, shard, args).await?.value;
        crate::crash::point("drain.released");
        self.heads.mark(shard);
        self.feed.lets_go(lease.job, lease.epoch);
        match text(at(list(&answer)?, 0)?)? {
            "ok" => Ok(Released::Ok),
            "fenced" => Ok(fenced(Released::Fenced)),
            other => unknown(other),
        }
    }

    async fn close(
        &self,
        tenant: &TenantId,
        job: JobId,
        by: By,
        terminal: Terminal,
    ) -> Result<Closed, StoreError> {
        let by = match by {
            By::Owner { epoch, first_seq, tail } => {
                CloseBy { word: "owner", epoch, seq: first_seq, tail: flat(&tail) }
            }
            By::Anyone => CloseBy { word: "anyone", epoch: 0, seq: 0, tail: Vec::new() },
        };
        let epoch = by.epoch;
        crate::crash::point("close.before_commit");
        let answer = self.close_by(tenant, job, Uuid::now_v7(), by, &terminal).await?;
        crate::crash::point("close.committed");
        self.feed.lets_go(job, epoch);
        let parts = list(&answer.value)?;
        match text(at(parts, 0)?)? {
            "ok" => Ok(Closed::Ok),
            "fenced" => Ok(fenced(Closed::Fenced)),
            "already" => Status::parse(text(at(parts, 1)?)?)
                .map(Closed::Already)
                .ok_or_else(|| damaged("a record has no status")),
            other => unknown(other),
        }
    }

    async fn cancel(&self, tenant: &TenantId, job: JobId) -> Result<Cancelled, StoreError> {
        let shard = shard_of(tenant);
        let answer = self.run(&scripts::CANCEL, shard, [name(tenant, job.uuid())]).await?.value;
        self.heads.mark(shard);
        let parts = list(&answer)?;
        match text(at(parts, 0)?)? {
            "job" => {
                count_ended(at(parts, 2)?)?;
                Ok(Cancelled::Job(Box::new(reply::job(at(parts, 1)?)?)))
            }
            "gone" => Ok(Cancelled::Gone),
            "unknown" => Ok(Cancelled::Unknown),
            other => unknown(other),
        }
    }

    async fn present(&self, worker: &WorkerInfo) -> Result<WorkerOrders, StoreError> {
        self.feed.know(worker.id);
        let info = serde_json::to_string(worker).expect("plain data");
        let args = vec![worker.id.to_string(), info, Lease::PRESENCE_TTL.as_millis().to_string()];
        let answer = self.run_with(&scripts::PRESENT, vec![self.workers_key()], args).await?.value;
        let parts = list(&answer)?;
        let paused = list(at(parts, 1)?)?.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        let is_paused = |lane: &Lane| paused.contains(&lane.as_str());
        let paused = Lane::ALL.into_iter().filter(is_paused).collect();
        Ok(WorkerOrders { drain: number(at(parts, 0)?)? == 1, paused })
    }

    async fn drain_worker(&self, worker: WorkerId) -> Result<bool, StoreError> {
        let answer =
            self.run_with(&scripts::DRAIN, vec![self.workers_key()], vec![worker.to_string()]).await?.value;
        Ok(number(at(list(&answer)?, 0)?)? == 1)
    }

    async fn pause_lane(&self, lane: Lane, paused: bool) -> Result<(), StoreError> {
        let args = vec![lane.as_str().to_owned(), u8::from(paused).to_string()];
        for answer in self.run_everywhere(&scripts::PAUSE, &args).await {
            answer?;
        }
        self.run_with(&scripts::PAUSE, vec![self.workers_key()], args).await.map(|_| ())
    }

    async fn signal(&self, worker: WorkerId) -> WorkerSignal {
        self.feed.signal(worker).await
    }

    async fn sweep(&self) -> Result<SweepReport, StoreError> {
        self.sweep_all().await
    }

    async fn stamp(&self) -> Result<u64, StoreError> {
        // Above every version given so far; then no shard gives one below it any more.
        let mut floor = 0;
        for version in self.ask_everywhere("GET", "version", None).await? {
            if !reply::is_nothing(&version) {
                floor = floor.max(number(&version)?);
            }
        }
        let answer = self.run(&scripts::STAMP, 0, [floor.to_string(), "give".to_owned()]).await?;
        let stamp = number(&answer.value)?;
        self.run_everywhere(&scripts::STAMP, &[stamp.to_string(), "raise".to_owned()])
            .await
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?;
        Ok(stamp)
    }

    async fn delete(&self, tenant: &TenantId, job: JobId) -> Result<bool, StoreError> {
        let args = [name(tenant, job.uuid()), Uuid::now_v7().simple().to_string()];
        let answer = self.run(&scripts::REMOVE, shard_of(tenant), args).await?.value;
        removed(&answer)
    }

    async fn depth(&self, soon: Duration) -> Result<Vec<LaneDepth>, StoreError> {
        self.depth_of_all(soon).await
    }

    async fn lines(&self) -> Result<Vec<Line>, StoreError> {
        self.lines_of_all().await
    }

    async fn tenants(&self) -> Result<Vec<TenantLoad>, StoreError> {
        self.loads_of_all().await
    }

    async fn workers(&self) -> Result<Vec<WorkerInfo>, StoreError> {
        self.present_workers().await
    }

    async fn dead_letters(&self, limit: usize, before: Option<JobId>) -> Result<Vec<DeadLetter>, StoreError> {
        self.letters(limit, before).await
    }

    async fn replay(&self, job: JobId) -> Result<Replayed, StoreError> {
        self.replay_letter(job).await
    }

    async fn drop_dead_letter(&self, job: JobId) -> Result<bool, StoreError> {
        self.drop_letter(job).await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        // A write, so that a replica or a failing disk shows.
        let mut write = cmd("SET");
        write.arg(format!("{}:ready", self.prefix_of(0))).arg("1").arg("PX").arg(1000);
        self.link.command(write).await.map(|_| ())
    }
}

/// What a removal says.
pub(super) fn removed(answer: &Value) -> Result<bool, StoreError> {
    match text(at(list(answer)?, 0)?)? {
        "removed" | "dropped" => Ok(true),
        "unknown" => Ok(false),
        "open" => Err(StoreError::Open),
        other => unknown(other),
    }
}

pub(super) fn conversation(id: Option<ConversationId>) -> String {
    id.map_or(String::new(), |id| id.uuid().simple().to_string())
}

fn moment(at: Option<Timestamp>) -> String {
    at.map_or(String::new(), |at| at.as_millis().to_string())
}

/// Jobs of a list of records.
pub(super) fn jobs(value: &Value) -> Result<Vec<Job>, StoreError> {
    list(value)?.iter().map(reply::job).collect()
}
