//! The live jobs in memory: what the writer needs to decide without reading the disk.
//!
//! Everything here is rebuilt from the disk at start, but for leases: those of an earlier process are
//! void by definition.

mod line;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use rusqlite::Connection;
use uuid::Uuid;

use crate::model::{
    ConversationId, JobId, Lane, LastHeard, Shares, Status, TenantId, Timestamp, Wait, WaitReason, WorkerId,
};
use crate::ports::{LaneDepth, Lease, WorkerInfo, WorkerOrders};

use super::super::schema::LIVE;
use super::spending::{self, Days, Money};
use super::totals::{self, OfLanes};
use line::{Due, Line};

/// A job that is not terminal.
#[derive(Clone, Debug)]
pub(in super::super) struct Live {
    pub(super) version: u64,
    pub(super) tenant: TenantId,
    pub(super) conversation: Option<ConversationId>,
    pub(super) lane: Lane,
    pub(super) created_at: Timestamp,
    pub(super) not_before: Option<Timestamp>,
    pub(super) expires_at: Timestamp,
    pub(super) started: bool,
    /// It was counted among those that could start.
    pub(super) arrived: bool,
    pub(super) attempt: u32,
    pub(super) deaths: u32,
    pub(super) epoch: u64,
    /// The claim that made this epoch.
    pub(super) op: Option<Uuid>,
    pub(super) last_seq: u64,
    /// When its owner last wrote an event: what others write to its log is no sign of it.
    pub(super) heard_at: Timestamp,
    pub(super) cancel_requested: bool,
    /// Its log says that its tenant runs as many jobs as it may.
    pub(super) waits_for_tenant: bool,
    /// Present while in progress.
    pub(super) lease: Option<Held>,
    /// Since when it could start.
    pub(super) ready_at: Timestamp,
    pub(super) money: Money,
    due: Due,
}

/// Who holds a job and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// `None`: an owner of an earlier process.
    pub(super) owner: Option<WorkerId>,
    /// When it was claimed.
    pub(super) since: Timestamp,
    pub(super) until: Timestamp,
    /// The owner has to renew by then.
    pub(super) challenged: Option<Timestamp>,
    /// The owner has to close the job as cancelled by then.
    pub(super) obey_by: Option<Timestamp>,
}

impl Held {
    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        self.owner.is_some() && now < self.until && self.challenged.is_none_or(|by| now < by)
    }
}

#[derive(Default)]
pub(in super::super) struct State {
    jobs: HashMap<JobId, Live>,
    /// Open jobs of each conversation, in order of accept.
    conversations: HashMap<ConversationId, BTreeSet<(u64, JobId)>>,
    line: Line,
    deadlines: BTreeSet<(Timestamp, JobId)>,
    workers: HashMap<WorkerId, (WorkerInfo, Timestamp)>,
    pub(super) days: Days,
    /// Of owners that have lost jobs; `None` is all of an earlier process. A process has few workers.
    heard: HashMap<Option<WorkerId>, LastHeard>,
    pub(super) totals: OfLanes,
    paused: BTreeSet<Lane>,
    /// Workers that are to drain.
    to_drain: HashSet<WorkerId>,
    last_version: u64,
}

impl State {
    /// What the disk holds: every job in progress lost its owner, every queued one is due.
    pub(in super::super) fn load(db: &Connection, shares: Shares) -> rusqlite::Result<Self> {
        let mut state = Self {
            line: Line::new(shares),
            last_version: db.query_row(
                "SELECT max(coalesce((SELECT max(version) FROM jobs), 0),
                            coalesce((SELECT value FROM meta WHERE key = 'stamp'), 0))",
                [],
                |row| row.get(0),
            )?,
            ..Self::default()
        };
        let mut statement = db.prepare(&format!(
            "SELECT id, version, tenant, conversation, lane, status, attempt, deaths, epoch, op, not_before,
                    created_at, expires_at, cancel_requested, wait,
                    (SELECT max(seq) FROM events WHERE events.job = jobs.version),
                    (SELECT max(at) FROM events WHERE events.job = jobs.version AND kind NOT LIKE 'job.%')
             FROM jobs WHERE {LIVE} ORDER BY version"
        ))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id = super::record::job_id(row.get(0)?);
            let in_progress = row.get::<_, i64>(5)? == super::record::status_code(Status::InProgress);
            let created_at = Timestamp::from_millis(row.get(11)?);
            let not_before = row.get::<_, Option<u64>>(10)?.map(Timestamp::from_millis);
            // A job given back for a later time keeps that time: `Retry-After` is a floor.
            let wait: Option<Wait> =
                row.get::<_, Option<String>>(14)?.and_then(|text| serde_json::from_str(&text).ok());
            // When a worker was expected to be free keeps nothing from starting.
            let wait = wait.filter(|wait| wait.reason != WaitReason::Worker);
            let arrived = row.get::<_, u32>(6)? > 0 || wait.is_none();
            let starts = wait.as_ref().and_then(|wait| wait.expected_start_at).or(not_before);
            let live = Live {
                version: row.get(1)?,
                tenant: super::record::tenant(row.get(2)?)?,
                conversation: row.get::<_, Option<Uuid>>(3)?.map(ConversationId::from_uuid),
                lane: super::record::lane(row.get(4)?),
                created_at,
                not_before,
                expires_at: Timestamp::from_millis(row.get(12)?),
                started: row.get::<_, u32>(6)? > 0,
                arrived,
                attempt: row.get(6)?,
                deaths: row.get(7)?,
                epoch: row.get(8)?,
                op: row.get(9)?,
                last_seq: row.get::<_, Option<u64>>(15)?.unwrap_or(0),
                heard_at: row.get::<_, Option<u64>>(16)?.map_or(created_at, Timestamp::from_millis),
                cancel_requested: row.get(13)?,
                waits_for_tenant: wait.is_some_and(|wait| wait.reason == WaitReason::Tenant),
                lease: in_progress.then_some(Held {
                    owner: None,
                    since: Timestamp::from_millis(0),
                    until: Timestamp::from_millis(0),
                    challenged: None,
                    obey_by: None,
                }),
                ready_at: starts.unwrap_or(created_at),
                money: Money::default(),
                due: Due::No,
            };
            let at = live.ready_at;
            state.insert(id, live);
            state.make_due(id, at);
        }
        state.days = spending::load(db, &mut state.jobs)?;
        state.totals = totals::load(db)?;
        state.paused = totals::paused(db)?;
        Ok(state)
    }

    /// Takes over the leases that are still true of jobs read back after a rollback.
    pub(in super::super) fn with_leases_of(mut self, old: &Self) -> Self {
        for (id, live) in &mut self.jobs {
            if let (Some(before), Some(_)) = (old.jobs.get(id), live.lease)
                && before.epoch == live.epoch
            {
                live.lease = before.lease;
            }
        }
        let held: Vec<(JobId, TenantId)> = self
            .jobs
            .iter()
            .filter(|(_, live)| live.lease.is_some_and(|held| held.owner.is_some()))
            .map(|(id, live)| (*id, live.tenant.clone()))
            .collect();
        for (id, tenant) in held {
            self.not_due(id);
            self.line.runs(&tenant);
        }
        spending::keep_holds(&mut self.jobs, &mut self.days, &old.jobs);
        self.line.was_served_like(&old.line);
        self.heard = old.heard.clone();
        self.workers = old.workers.clone();
        self.to_drain = old.to_drain.clone();
        self.last_version = self.last_version.max(old.last_version);
        self
    }

    /// Adds an accepted job; it is not due yet.
    pub(super) fn insert(&mut self, id: JobId, live: Live) {
        self.deadlines.insert((live.expires_at, id));
        if let Some(conversation) = live.conversation {
            self.conversations.entry(conversation).or_default().insert((live.version, id));
        }
        self.jobs.insert(id, live);
    }

    /// A new job's entry, to be completed by the caller's own fields.
    pub(super) fn new_job(
        version: u64,
        spec: &crate::model::JobSpec,
        created_at: Timestamp,
        expires_at: Timestamp,
    ) -> Live {
        Live {
            version,
            tenant: spec.tenant.clone(),
            conversation: spec.conversation_id,
            lane: spec.lane,
            created_at,
            not_before: spec.not_before,
            expires_at,
            started: false,
            arrived: false,
            attempt: 0,
            deaths: 0,
            epoch: 0,
            op: None,
            last_seq: 0,
            heard_at: created_at,
            cancel_requested: false,
            waits_for_tenant: false,
            lease: None,
            ready_at: spec.not_before.unwrap_or(created_at),
            money: Money::default(),
            due: Due::No,
        }
    }

    /// Forgets a job that became terminal; answers the next job of its conversation when it was the
    /// head.
    pub(super) fn remove(&mut self, id: JobId) -> Option<JobId> {
        self.not_due(id);
        let live = self.jobs.remove(&id)?;
        self.deadlines.remove(&(live.expires_at, id));
        if live.lease.is_some_and(|held| held.owner.is_some()) {
            self.stops_running(&live.tenant);
        }
        let conversation = live.conversation?;
        let open = self.conversations.get_mut(&conversation)?;
        let was_head = open.first() == Some(&(live.version, id));
        open.remove(&(live.version, id));
        if open.is_empty() {
            self.conversations.remove(&conversation);
            return None;
        }
        open.first().filter(|_| was_head).map(|(_, next)| *next)
    }

    pub(super) fn get(&self, id: JobId) -> Option<&Live> {
        self.jobs.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: JobId) -> Option<&mut Live> {
        self.jobs.get_mut(&id)
    }

    /// The last sign of life of a job's owner. It is asked when the first of its jobs is lost, for afterwards they
    /// are another's.
    pub(super) fn last_heard(&mut self, id: JobId) -> Option<LastHeard> {
        let owner = self.jobs.get(&id)?.lease?.owner;
        if let Some(known) = self.heard.get(&owner) {
            return Some(*known);
        }
        let of_owner = self.held().filter(|(_, _, held)| held.owner == owner);
        let (at, jobs) =
            of_owner.fold((None, 0), |(at, jobs), (_, live, _)| (at.max(Some(live.heard_at)), jobs + 1));
        let heard = LastHeard { at: at?, jobs };
        self.heard.insert(owner, heard);
        Some(heard)
    }

    /// Whether the job is the first open one of its conversation.
    pub(super) fn is_head(&self, id: JobId) -> bool {
        let Some(live) = self.jobs.get(&id) else { return false };
        live.conversation
            .and_then(|conversation| self.conversations.get(&conversation))
            .is_none_or(|open| open.first().is_some_and(|(_, head)| *head == id))
    }

    /// Open jobs of a conversation, in order.
    pub(super) fn open_jobs(&self, conversation: ConversationId) -> Vec<JobId> {
        self.conversations
            .get(&conversation)
            .map(|open| open.iter().map(|(_, id)| *id).collect())
            .unwrap_or_default()
    }

    /// A number above every earlier one, near the store's time in microseconds.
    pub(super) fn next_version(&mut self, now: Timestamp) -> u64 {
        self.last_version = (now.as_millis() * 1000).max(self.last_version + 1);
        self.last_version
    }

    /// Jobs whose deadline is at or before `moment`.
    pub(super) fn past_deadline(&self, moment: Timestamp) -> Vec<JobId> {
        self.deadlines.iter().take_while(|(at, _)| *at <= moment).map(|(_, id)| *id).collect()
    }

    /// Jobs in progress.
    pub(super) fn held(&self) -> impl Iterator<Item = (JobId, &Live, Held)> {
        self.jobs.iter().filter_map(|(id, live)| live.lease.map(|held| (*id, live, held)))
    }

    pub(super) fn present(&mut self, worker: WorkerInfo, now: Timestamp) -> WorkerOrders {
        let drain = self.to_drain.contains(&worker.id);
        self.workers.insert(worker.id, (worker, now + Lease::PRESENCE_TTL));
        WorkerOrders { drain, paused: self.paused.iter().copied().collect() }
    }

    /// False when no such worker lives.
    pub(super) fn drain(&mut self, worker: WorkerId, now: Timestamp) -> bool {
        let lives = self.workers.get(&worker).is_some_and(|(_, until)| *until > now);
        if lives {
            self.to_drain.insert(worker);
        }
        lives
    }

    pub(super) fn is_paused(&self, lane: Lane) -> bool {
        self.paused.contains(&lane)
    }

    pub(super) fn pause(&mut self, lane: Lane, paused: bool) {
        if paused {
            self.paused.insert(lane);
        } else {
            self.paused.remove(&lane);
        }
    }

    /// Forgets and answers the workers whose word that they live has run out.
    pub(super) fn absent(&mut self, now: Timestamp) -> Vec<WorkerId> {
        let absent: Vec<WorkerId> =
            self.workers.iter().filter(|(_, (_, until))| *until <= now).map(|(id, _)| *id).collect();
        for worker in &absent {
            self.workers.remove(worker);
            self.to_drain.remove(worker);
        }
        absent
    }

    pub(super) fn workers(&self, now: Timestamp) -> Vec<WorkerInfo> {
        let mut workers: Vec<WorkerInfo> =
            self.workers.values().filter(|(_, until)| *until > now).map(|(info, _)| info.clone()).collect();
        workers.sort_by_key(|worker| worker.id);
        workers
    }

    pub(super) fn depth(&self, now: Timestamp, soon: Duration) -> Vec<LaneDepth> {
        let mut depths = Lane::ALL.map(|lane| LaneDepth {
            totals: self.totals[totals::place(lane)],
            paused: self.is_paused(lane),
            ..LaneDepth::empty(lane)
        });
        for (id, live) in &self.jobs {
            let depth = &mut depths[totals::place(live.lane)];
            let starts = live.not_before.map_or(live.ready_at, |at| at.max(live.ready_at));
            if live.lease.is_some_and(|held| held.is_live(now)) {
                depth.running += 1;
            } else if live.waits_for_tenant || !self.is_head(*id) {
                depth.waiting += 1;
            } else if starts > now {
                depth.waiting += 1;
                depth.due_soon += u64::from(starts <= now + soon);
            } else {
                depth.ready += 1;
                let age = u64::try_from(now.since(live.ready_at).as_millis()).unwrap_or(u64::MAX);
                depth.oldest_ready_ms = depth.oldest_ready_ms.max(age);
            }
        }
        depths.to_vec()
    }
}
