//! From a situation to a number of workers and its reason.

use std::time::Duration;

use super::{Quota, Reason, Settings};

/// How much more than the mean is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Margin {
    /// Square roots of the busy slots that are kept free.
    pub roots: f64,
    /// How many times the slots that the quota can keep busy are of use.
    pub quota: f64,
}

/// Workers are added when this does not fit.
///
/// Source: with one square root to spare one job in five has to wait at all, and then for a fraction of its
/// service time (Erlang C). Slots that the quota could not keep busy on average are not added.
pub const GROW: Margin = Margin { roots: 1.0, quota: 1.0 };
/// Workers are taken away when this has room.
///
/// Source: the two measures (see `measure.rs`) err together by half a square root; over an hour the highest
/// and the lowest of such a measure are five times that apart, and so are these two. Ten times the error of
/// the service time is what lies between the quotas.
pub const SHRINK: Margin = Margin { roots: 3.5, quota: 1.3 };
/// The most that lateness multiplies the need by: it says that measures are wrong, not by how much.
const MOST_LATE: f64 = 2.0;

/// From this share on the quota is said to be used; it decides nothing else.
const NEARLY_ALL: f64 = 0.9;

/// All that a decision depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Situation {
    /// Workers that were started and not told to stop.
    pub workers: u32,
    /// Jobs that are ready, or will be before a new worker could be up.
    pub backlog: u64,
    pub running: u64,
    pub oldest_ready: Duration,
    pub arrivals_per_second: f64,
    /// Mean time of a job in its slot.
    pub service_seconds: f64,
    pub calls_per_job: f64,
    pub quota: Option<Quota>,
    /// Jobs run and others wait, and for this long, which is too long, none has ended.
    pub stalled_for: Option<Duration>,
    /// The most workers that any moment of the last [`super::SETTLE`] needed, by [`SHRINK`].
    pub most_needed: u32,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// As many there should be, within `min` and `max`.
    pub workers: u32,
    pub reason: Reason,
    /// What this moment alone could be left with, by [`SHRINK`].
    pub needed: u32,
}

/// The number of workers for a situation.
///
/// Within `min` and `max`; it never adds workers beyond the quota; and more work, more quota or a longer
/// wait never make it fewer.
#[must_use]
pub fn decide(settings: &Settings, now: &Situation) -> Decision {
    let (grow, why) = workers(settings, now, GROW);
    let (shrink, why_not) = workers(settings, now, SHRINK);
    // A running job is not taken its slot, though it may have been given to it for a rush that is over.
    let needed = shrink.max(settings.clamp(settings.workers_for(now.running as f64)));
    let kept = settings.clamp(now.workers);
    let least = needed.max(now.most_needed);
    let (workers, reason) = match now.stalled_for {
        Some(still_for) if grow > kept && kept > 0 => {
            (kept, Reason::Stalled { still_for, running: now.running })
        }
        _ if grow > kept => (grow, why),
        _ if least < kept && shrink < needed => (least, Reason::Running { jobs: now.running }),
        _ if least < kept => (least, why_not),
        _ if needed < kept => (kept, Reason::Settling { needed }),
        // What keeps it from growing says more than what it has room for.
        _ => (kept, why),
    };
    Decision { workers, reason, needed }
}

/// The number of workers that work and quota call for, and what it comes from.
fn workers(settings: &Settings, now: &Situation, margin: Margin) -> (u32, Reason) {
    if now.backlog == 0 && now.running == 0 {
        return (settings.clamp(0), Reason::Idle);
    }
    let load = Load::of(settings, now, margin);
    let wanted = settings.workers_for(load.slots).max(1);
    let mut reason = load.reason(settings, now);
    let mut workers = wanted;
    if let Some(quota) = now.quota
        && let Some(cap) = quota_cap(settings, now, &quota, margin)
        && cap < workers
    {
        workers = cap;
        reason = binding(now, &quota, cap);
    }
    if workers > settings.max {
        reason = Reason::Most { wanted: workers, max: settings.max };
    } else if workers < settings.min {
        reason = Reason::Least { wanted: workers, min: settings.min };
    }
    (settings.clamp(workers), reason)
}

/// Slots, and what they are for.
struct Load {
    busy: f64,
    slots: f64,
    is_late: bool,
}

impl Load {
    fn of(settings: &Settings, now: &Situation, margin: Margin) -> Self {
        let busy = now.arrivals_per_second * now.service_seconds;
        let drain_target = settings.drain_target.as_secs_f64().max(1.0);
        let draining = now.backlog as f64 * now.service_seconds / drain_target;
        let in_time = settings.start_up.as_secs_f64() + drain_target;
        let lateness = (now.oldest_ready.as_secs_f64() / in_time).clamp(1.0, MOST_LATE);
        let slots = (busy + margin.roots * busy.sqrt() + draining) * lateness;
        Self { busy, slots, is_late: lateness > 1.0 }
    }

    fn reason(&self, settings: &Settings, now: &Situation) -> Reason {
        if self.is_late {
            return Reason::Late {
                oldest: now.oldest_ready,
                target: settings.start_up + settings.drain_target,
            };
        }
        Reason::Load {
            arrivals_per_second: now.arrivals_per_second,
            service_seconds: now.service_seconds,
            busy: self.busy,
            backlog: now.backlog,
            slots: self.slots,
        }
    }
}

/// Workers whose slots the quota can keep busy; at least one, to find out when there is more. None when
/// jobs make no calls.
fn quota_cap(settings: &Settings, now: &Situation, quota: &Quota, margin: Margin) -> Option<u32> {
    if now.calls_per_job <= 0.0 {
        return None;
    }
    let jobs_per_second = quota.calls_per_second / now.calls_per_job;
    Some(settings.workers_for(jobs_per_second * now.service_seconds * margin.quota).max(1))
}

fn binding(now: &Situation, quota: &Quota, cap: u32) -> Reason {
    let Quota { limit, used, .. } = *quota;
    if now.workers >= cap && used >= NEARLY_ALL {
        return Reason::QuotaUsed { workers: now.workers, limit, used };
    }
    Reason::QuotaEnough { workers: cap, limit, used }
}
