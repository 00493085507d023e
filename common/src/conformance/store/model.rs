//! A store as one would explain it on paper: what each operation answers and what it changes, with
//! no disk, no index and no speed.

use std::collections::HashMap;
use std::time::Duration;

use crate::model::{JobId, OnBusy, Status, Timestamp};
use crate::ports::{Appended, Closed, Lease, Released, Renewed};

/// How long a live owner has to close its job at the deadline itself.
const OWNER_GRACE: Duration = Duration::from_millis(500);

#[derive(Clone, Debug)]
pub(super) struct ModelJob {
    pub(super) id: JobId,
    pub(super) tenant: usize,
    pub(super) conversation: usize,
    pub(super) status: Status,
    pub(super) attempt: u32,
    pub(super) deaths: u32,
    pub(super) epoch: u64,
    pub(super) last_seq: u64,
    pub(super) cancel_requested: bool,
    pub(super) created_at: Timestamp,
    /// Given back or accepted for a later time.
    pub(super) ready_at: Timestamp,
    expires_at: Timestamp,
    lease: Option<Held>,
    has_text: bool,
    key: Option<(usize, u8, u8)>,
    pub(super) deleted: bool,
    pub(super) replayed_as: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    claim: u64,
    until: Timestamp,
    challenged: Option<Timestamp>,
    obey_by: Option<Timestamp>,
    /// Its process lives.
    owned: bool,
}

impl Held {
    fn is_live(&self, now: Timestamp) -> bool {
        self.owned && now < self.until && self.challenged.is_none_or(|by| now < by)
    }
}

pub(super) struct NewJob {
    pub(super) id: JobId,
    pub(super) tenant: usize,
    pub(super) conversation: usize,
    pub(super) on_busy: OnBusy,
    pub(super) key: Option<(u8, u8)>,
    pub(super) not_before: Option<Timestamp>,
    pub(super) deadline: Duration,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Created(usize),
    Existing(usize),
    KeyReused,
    Busy(usize),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    Run,
    Done,
    Busy,
    Waiting,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cancel {
    Job,
    Gone,
}

#[derive(Default)]
pub(super) struct Model {
    pub(super) jobs: Vec<ModelJob>,
    pub(super) now: u64,
}

impl Model {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }

    fn is_open(&self, job: usize) -> bool {
        !self.jobs[job].status.is_terminal() && !self.jobs[job].deleted
    }

    fn is_head(&self, job: usize) -> bool {
        let conversation = self.jobs[job].conversation;
        !(0..job).any(|earlier| self.jobs[earlier].conversation == conversation && self.is_open(earlier))
    }

    pub(super) fn accept(&mut self, new: &NewJob) -> Taken {
        if let Some((key, body)) = new.key {
            let same = |job: &ModelJob| {
                !job.deleted && job.key.is_some_and(|(tenant, used, _)| (tenant, used) == (new.tenant, key))
            };
            if let Some(found) = self.jobs.iter().position(same) {
                let is_same = self.jobs[found].key.is_some_and(|(_, _, used)| used == body);
                return if is_same { Taken::Existing(found) } else { Taken::KeyReused };
            }
        }
        let open: Vec<usize> = (0..self.jobs.len())
            .filter(|job| self.jobs[*job].conversation == new.conversation && self.is_open(*job))
            .collect();
        match (new.on_busy, open.first()) {
            (OnBusy::Reject, Some(busy)) => return Taken::Busy(*busy),
            (OnBusy::Interrupt, _) => open.iter().for_each(|job| self.end(*job, Status::Cancelled)),
            _ => {}
        }
        self.insert(new)
    }

    fn insert(&mut self, new: &NewJob) -> Taken {
        let now = self.now();
        let starts = new.not_before.filter(|at| *at > now).unwrap_or(now);
        self.jobs.push(ModelJob {
            id: new.id,
            tenant: new.tenant,
            conversation: new.conversation,
            status: Status::Queued,
            attempt: 0,
            deaths: 0,
            epoch: 0,
            last_seq: 1,
            cancel_requested: false,
            created_at: now,
            ready_at: starts,
            expires_at: starts + new.deadline,
            lease: None,
            has_text: false,
            key: new.key.map(|(key, body)| (new.tenant, key, body)),
            deleted: false,
            replayed_as: None,
        });
        Taken::Created(self.jobs.len() - 1)
    }

    /// Whether a claim would run the job.
    pub(super) fn is_claimable(&self, job: usize) -> bool {
        let now = self.now();
        let it = &self.jobs[job];
        self.is_open(job)
            && it.lease.is_none_or(|held| !held.is_live(now))
            && it.ready_at <= now
            && self.is_head(job)
    }

    pub(super) fn claim(&mut self, job: usize, claim: u64) -> Claim {
        let now = self.now();
        if !self.is_open(job) {
            return Claim::Done;
        }
        let (head, it) = (self.is_head(job), &mut self.jobs[job]);
        match it.lease {
            Some(held) if held.claim == claim => return Claim::Run,
            Some(held) if held.is_live(now) => return Claim::Busy,
            _ => {}
        }
        if it.expires_at <= now {
            self.end_at_deadline(job);
            return Claim::Done;
        }
        if it.cancel_requested {
            self.end(job, Status::Cancelled);
            return Claim::Done;
        }
        if it.ready_at > now || !head {
            return Claim::Waiting;
        }
        if it.lease.is_some() {
            it.deaths += 1;
            if it.deaths >= Lease::MAX_DEATHS {
                self.end(job, Status::Failed);
                return Claim::Done;
            }
        }
        it.status = Status::InProgress;
        it.attempt += 1;
        it.epoch += 1;
        it.last_seq += 1;
        // Text of an earlier attempt is void from here on.
        it.has_text = false;
        it.lease =
            Some(Held { claim, until: now + Lease::TTL, challenged: None, obey_by: None, owned: true });
        Claim::Run
    }

    pub(super) fn challenge(&mut self, job: usize) {
        let now = self.now();
        if let Some(held) = &mut self.jobs[job].lease
            && held.is_live(now)
        {
            held.challenged.get_or_insert(now + Lease::CHALLENGE);
        }
    }

    fn is_owner(&self, job: usize, epoch: u64) -> bool {
        self.is_open(job) && self.jobs[job].epoch == epoch && self.jobs[job].lease.is_some()
    }

    pub(super) fn renew(&mut self, job: usize, epoch: u64) -> Renewed {
        let now = self.now();
        if !self.is_owner(job, epoch) {
            return Renewed::Fenced;
        }
        let it = &mut self.jobs[job];
        let Some(held) = it.lease.as_mut().filter(|held| held.is_live(now)) else { return Renewed::Fenced };
        held.until = now + Lease::TTL;
        held.challenged = None;
        match (it.expires_at <= now, it.cancel_requested) {
            (true, _) => Renewed::Expired,
            (false, true) => Renewed::CancelRequested,
            (false, false) => Renewed::Ok,
        }
    }

    pub(super) fn append(&mut self, job: usize, epoch: u64, first_seq: u64, count: u64) -> Appended {
        if !self.is_owner(job, epoch) {
            return Appended::Fenced;
        }
        let it = &mut self.jobs[job];
        if first_seq == it.last_seq + 1 {
            it.last_seq += count;
            it.has_text = true;
            Appended::Ok
        } else if first_seq + count <= it.last_seq + 1 {
            Appended::Duplicate
        } else {
            Appended::Behind(it.last_seq)
        }
    }

    pub(super) fn release(&mut self, job: usize, epoch: u64, not_before: Option<Timestamp>) -> Released {
        let now = self.now();
        if self.is_open(job) && self.jobs[job].epoch == epoch && self.jobs[job].lease.is_none() {
            return Released::Ok;
        }
        if !self.is_owner(job, epoch) {
            return Released::Fenced;
        }
        let it = &mut self.jobs[job];
        it.status = Status::Queued;
        it.lease = None;
        it.last_seq += 1;
        it.ready_at = not_before.filter(|at| *at > now).unwrap_or(now);
        Released::Ok
    }

    /// `epoch` is `None` for a close by anyone.
    pub(super) fn close(&mut self, job: usize, epoch: Option<u64>, status: Status) -> Closed {
        let it = &self.jobs[job];
        if it.deleted {
            return Closed::Fenced;
        }
        if it.status.is_terminal() {
            let mine = epoch == Some(it.epoch) && it.status == status;
            return if mine { Closed::Ok } else { Closed::Already(it.status) };
        }
        if epoch.is_some_and(|epoch| !self.is_owner(job, epoch)) {
            return Closed::Fenced;
        }
        self.end(job, status);
        Closed::Ok
    }

    pub(super) fn cancel(&mut self, job: usize) -> Cancel {
        let now = self.now();
        let it = &mut self.jobs[job];
        if it.deleted {
            return Cancel::Gone;
        }
        if !it.status.is_terminal() {
            match it.lease.as_mut().filter(|held| held.is_live(now)) {
                Some(held) => {
                    held.obey_by.get_or_insert(now + Lease::CANCEL_GRACE);
                    it.cancel_requested = true;
                }
                None => self.end(job, Status::Cancelled),
            }
        }
        Cancel::Job
    }

    pub(super) fn sweep(&mut self) {
        let now = self.now();
        for job in 0..self.jobs.len() {
            let it = &self.jobs[job];
            if !self.is_open(job) {
                continue;
            }
            if it.lease.is_some_and(|held| held.obey_by.is_some_and(|by| by <= now)) {
                self.end(job, Status::Cancelled);
            } else if it.expires_at <= now {
                let owned = it.lease.is_some_and(|held| held.is_live(now));
                if !owned || it.expires_at + OWNER_GRACE <= now {
                    self.end_at_deadline(job);
                }
            }
        }
    }

    pub(super) fn reopen(&mut self) {
        for job in &mut self.jobs {
            if let Some(held) = &mut job.lease {
                held.owned = false;
                held.obey_by = None;
            }
        }
    }

    /// Whether it is removed; `None` while it is open.
    pub(super) fn delete(&mut self, job: usize) -> Option<bool> {
        if self.is_open(job) {
            return None;
        }
        Some(!std::mem::replace(&mut self.jobs[job].deleted, true))
    }

    /// The replaying job and whether this made it; `None` when there is no dead letter.
    pub(super) fn replay(&mut self, job: usize, new: impl FnOnce() -> NewJob) -> Option<(usize, bool)> {
        let it = &self.jobs[job];
        if it.deleted || it.status != Status::Failed {
            return None;
        }
        if let Some(earlier) = it.replayed_as.filter(|earlier| !self.jobs[*earlier].deleted) {
            return Some((earlier, false));
        }
        self.insert(&new());
        let made = self.jobs.len() - 1;
        self.jobs[job].replayed_as = Some(made);
        Some((made, true))
    }

    fn end_at_deadline(&mut self, job: usize) {
        let status = if self.jobs[job].has_text { Status::Incomplete } else { Status::Expired };
        self.end(job, status);
    }

    fn end(&mut self, job: usize, status: Status) {
        let it = &mut self.jobs[job];
        it.status = status;
        it.last_seq += 1;
        it.lease = None;
    }

    /// By id, for what the store chose itself.
    pub(super) fn index(&self) -> HashMap<JobId, usize> {
        self.jobs.iter().enumerate().map(|(at, job)| (job.id, at)).collect()
    }
}
