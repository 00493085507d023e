//! The due index: whose turn it is, and what may not start yet.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::model::{JobId, Lane, Share, Shares, TenantId, Timestamp};
use crate::ports::{self, Lease};

use super::State;

/// How long after accept a queued job whose hint was confirmed, and not acted on, becomes due: the
/// broker may have lost it. A hint that comes later finds the job taken.
const HINT_LOST: Duration = Duration::from_secs(30);

/// A job's place in the due index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    No,
    /// Becomes due then. `waits`: for its hint, which may come before.
    At {
        at: Timestamp,
        waits: bool,
    },
    /// Due, in this place among its tenant's.
    Ready(u64),
}

#[derive(Default)]
pub(super) struct Line {
    shares: Shares,
    timers: BTreeSet<(Timestamp, JobId)>,
    ready: BTreeMap<Lane, BTreeMap<TenantId, BTreeSet<(u64, JobId)>>>,
    /// How many jobs of each tenant have a place here and could start.
    waiting: BTreeMap<Lane, HashMap<TenantId, u64>>,
    running: HashMap<TenantId, u32>,
    /// When the last job of each tenant began.
    served: HashMap<TenantId, Timestamp>,
}

impl Line {
    pub(super) fn new(shares: Shares) -> Self {
        Self { shares, ..Self::default() }
    }

    pub(super) fn runs(&mut self, tenant: &TenantId) {
        *self.running.entry(tenant.clone()).or_default() += 1;
    }

    fn running(&self, tenant: &TenantId) -> u32 {
        self.running.get(tenant).copied().unwrap_or(0)
    }

    /// Keeps what is in no file.
    pub(super) fn was_served_like(&mut self, old: &Self) {
        self.served.clone_from(&old.served);
    }

    fn has_room(&self, tenant: &TenantId) -> bool {
        self.shares.of(tenant).has_room(self.running(tenant))
    }

    /// The first job of a tenant in line, unless its tenant runs as many as it may: a job that lost its owner
    /// has a slot of its tenant already.
    fn first(&self, tenant: &TenantId, jobs: &BTreeSet<(u64, JobId)>) -> Option<(u64, JobId)> {
        jobs.first().copied().filter(|(place, _)| *place == 0 || self.has_room(tenant))
    }

    fn count(&mut self, lane: Lane, tenant: &TenantId) {
        *self.waiting.entry(lane).or_default().entry(tenant.clone()).or_default() += 1;
    }

    fn discount(&mut self, lane: Lane, tenant: &TenantId) {
        let Some(counts) = self.waiting.get_mut(&lane) else { return };
        if let Some(count) = counts.get_mut(tenant) {
            *count -= 1;
            if *count == 0 {
                counts.remove(tenant);
            }
        }
    }
}

impl State {
    /// Puts the job into the due index at `at`, replacing its earlier place.
    pub(in super::super) fn make_due(&mut self, id: JobId, at: Timestamp) {
        self.not_due(id);
        if let Some(live) = self.jobs.get_mut(&id) {
            let waits = live.ready_at < at && live.lease.is_none();
            live.due = Due::At { at, waits };
            self.line.timers.insert((at, id));
            if waits {
                self.line.count(live.lane, &live.tenant);
            }
        }
    }

    /// Keeps the job until its tenant has a slot for it.
    pub(in super::super) fn wait_for_tenant(&mut self, id: JobId, now: Timestamp) {
        self.make_due(id, now);
        self.ripen(now);
    }

    /// Whether the job has no place in the due index.
    pub(in super::super) fn is_idle(&self, id: JobId) -> bool {
        self.jobs.get(&id).is_some_and(|live| live.due == Due::No)
    }

    pub(in super::super) fn not_due(&mut self, id: JobId) {
        let Some(live) = self.jobs.get_mut(&id) else { return };
        match std::mem::replace(&mut live.due, Due::No) {
            Due::No => return,
            Due::At { at, waits } => {
                self.line.timers.remove(&(at, id));
                if !waits {
                    return;
                }
            }
            Due::Ready(place) => {
                if let Some(tenants) = self.line.ready.get_mut(&live.lane)
                    && let Some(jobs) = tenants.get_mut(&live.tenant)
                {
                    jobs.remove(&(place, id));
                    if jobs.is_empty() {
                        tenants.remove(&live.tenant);
                    }
                }
            }
        }
        self.line.discount(live.lane, &live.tenant);
    }

    /// When a new job becomes due that waits for its hint: at once when its tenant is below its share while
    /// another one holds a backlog, behind which the hint would wait.
    pub(in super::super) fn due_after_accept(
        &mut self,
        lane: Lane,
        tenant: &TenantId,
        now: Timestamp,
    ) -> Timestamp {
        self.ripen(now);
        let Some(counts) = self.line.waiting.get(&lane) else { return now + Lease::HINT_GRACE };
        let mine = (tenant, counts.get(tenant).copied().unwrap_or(0) + 1);
        if counts.iter().any(|(other, backlog)| self.line.shares.is_below(mine, (other, *backlog))) {
            return now;
        }
        now + Lease::HINT_GRACE
    }

    /// The broker holds the hint: the due index waits long enough to notice a lost one.
    pub(in super::super) fn hinted(&mut self, id: JobId) {
        if let Some((created_at, after)) = self.waits_for_its_hint(id)
            && after == Lease::HINT_GRACE
        {
            self.make_due(id, created_at + HINT_LOST);
        }
    }

    /// No hint stands for the job any more.
    pub(in super::super) fn unhinted(&mut self, id: JobId, now: Timestamp) {
        if self.waits_for_its_hint(id).is_some() {
            self.make_due(id, now);
        }
    }

    /// When the job was accepted and how long after that it becomes due, if its hint is all that it waits
    /// for.
    fn waits_for_its_hint(&self, id: JobId) -> Option<(Timestamp, Duration)> {
        let live = self.jobs.get(&id).filter(|live| !live.started && live.lease.is_none())?;
        let Due::At { at, .. } = live.due else { return None };
        let after =
            [Lease::HINT_GRACE, HINT_LOST].into_iter().find(|after| at == live.created_at + *after)?;
        Some((live.created_at, after))
    }

    /// Moves jobs whose time has come into the ready order: those that lost their owner first, then by
    /// order of accept. Answers how many of them had a hint that nobody acted on.
    pub(in super::super) fn ripen(&mut self, now: Timestamp) -> u64 {
        let mut unheard = 0;
        while let Some((at, id)) = self.line.timers.first().copied()
            && at <= now
        {
            unheard += u64::from(self.waits_for_its_hint(id).is_some());
            self.line.timers.pop_first();
            if let Some(live) = self.jobs.get_mut(&id) {
                let lost_owner = live.lease.is_some_and(|held| held.owner.is_some());
                let place = if lost_owner { 0 } else { live.version };
                if live.due == (Due::At { at, waits: false }) {
                    self.line.count(live.lane, &live.tenant);
                }
                live.due = Due::Ready(place);
                let tenants = self.line.ready.entry(live.lane).or_default();
                tenants.entry(live.tenant.clone()).or_default().insert((place, id));
            }
        }
        unheard
    }

    /// The first job in line of the tenant whose turn it is.
    pub(in super::super) fn next_ready(&self, lane: Lane) -> Option<JobId> {
        let line = &self.line;
        let turn = |tenant: &TenantId| {
            line.shares.of(tenant).turn(line.running(tenant), line.served.get(tenant).copied())
        };
        let tenants = line.ready.get(&lane).filter(|_| !self.is_paused(lane))?.iter();
        tenants
            .filter_map(|(tenant, jobs)| {
                line.first(tenant, jobs).map(|(place, id)| (turn(tenant), place, id))
            })
            .min()
            .map(|(_, _, id)| id)
    }

    /// When [`Self::next_ready`] may answer: a past moment when it would now.
    pub(in super::super::super) fn next_due(&self) -> Option<Timestamp> {
        let lanes = self.line.ready.iter().filter(|(lane, _)| !self.is_paused(**lane));
        let mut ready = lanes.flat_map(|(_, tenants)| tenants);
        if ready.any(|(tenant, jobs)| self.line.first(tenant, jobs).is_some()) {
            return Some(Timestamp::from_millis(0));
        }
        self.line.timers.first().map(|(at, _)| *at)
    }

    pub(in super::super::super) fn shares(&self) -> Shares {
        self.line.shares.clone()
    }

    /// Whether the tenant runs fewer jobs than it may.
    pub(in super::super) fn has_room(&self, tenant: &TenantId) -> bool {
        self.line.has_room(tenant)
    }

    /// A job of the tenant begins; `anew` unless it only has a new owner.
    pub(in super::super) fn starts_running(&mut self, tenant: &TenantId, anew: bool, now: Timestamp) {
        if anew {
            self.line.runs(tenant);
        }
        self.line.served.insert(tenant.clone(), now);
    }

    pub(in super::super) fn stops_running(&mut self, tenant: &TenantId) {
        if let Some(running) = self.line.running.get_mut(tenant) {
            *running = running.saturating_sub(1);
            if *running == 0 {
                self.line.running.remove(tenant);
            }
        }
    }

    pub(in super::super) fn lines(&mut self, now: Timestamp) -> Vec<ports::Line> {
        self.ripen(now);
        let lanes = self.line.waiting.iter();
        lanes
            .flat_map(|(lane, counts)| {
                counts.iter().map(|(tenant, waiting)| ports::Line {
                    lane: *lane,
                    tenant: tenant.clone(),
                    waiting: *waiting,
                })
            })
            .collect()
    }

    pub(in super::super) fn tenants(&mut self, now: Timestamp) -> Vec<ports::TenantLoad> {
        self.ripen(now);
        let line = &self.line;
        let mut loads: BTreeMap<&TenantId, ports::TenantLoad> = BTreeMap::new();
        let fresh = |tenant: &TenantId| ports::TenantLoad {
            tenant: tenant.clone(),
            weight: line.shares.of(tenant).weight,
            waiting: 0,
            running: u64::from(line.running(tenant)),
            at_cap: !line.has_room(tenant),
            unserved_ms: 0,
        };
        for (tenant, waiting) in line.waiting.values().flatten() {
            loads.entry(tenant).or_insert_with(|| fresh(tenant)).waiting += waiting;
        }
        for tenant in line.running.keys() {
            loads.entry(tenant).or_insert_with(|| fresh(tenant));
        }
        let lanes = line.ready.iter().filter(|(lane, _)| !self.is_paused(**lane));
        for (tenant, jobs) in lanes.flat_map(|(_, tenants)| tenants) {
            let Some(first) = line.first(tenant, jobs).and_then(|(_, id)| self.jobs.get(&id)) else {
                continue;
            };
            let since = line.served.get(tenant).map_or(first.ready_at, |served| first.ready_at.max(*served));
            let unserved = u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
            let load = loads.entry(tenant).or_insert_with(|| fresh(tenant));
            load.unserved_ms = load.unserved_ms.max(unserved);
        }
        loads.into_values().collect()
    }

    /// Forgets who was served long ago.
    pub(in super::super) fn forget_served(&mut self, now: Timestamp) {
        self.line.served.retain(|_, at| now.since(*at) < Share::REMEMBERED);
    }
}
