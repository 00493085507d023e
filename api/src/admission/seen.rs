//! What an ingress knows of the work that waits, and what follows for a new job: no clocks, no I/O.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use millhand_common::model::{JobSpec, Lane, Shares, TenantId, Timestamp};
use millhand_common::ports::{Expected, LaneDepth, Line, WorkerInfo};
use tokio::time::Instant;

use crate::config::AdmissionConfig;

use super::rate::{Rate, Service};

/// A job that is ready for less than this is on its way to a free slot.
const WAITS: Duration = Duration::from_millis(250);

pub(super) struct Seen {
    /// As the store had them, and what was accepted here since.
    pub(super) lines: HashMap<(Lane, TenantId), u64>,
    /// When the store had them so.
    looked: Option<Instant>,
    /// Jobs that the store is asked to accept now.
    pub(super) asking: HashMap<(Lane, TenantId), u64>,
    /// When a job was last refused for the load.
    pub(super) overloaded: Option<Instant>,
    rate: Rate,
    service: Service,
    /// `None` before the first look.
    crew: Option<Crew>,
}

/// Who works, at the last look.
struct Crew {
    /// Of workers that take new jobs, and how many of them are free.
    slots: u64,
    free: u64,
    /// Jobs wait although it is not for a moment only.
    backlog: bool,
    paused: BTreeSet<Lane>,
    /// Jobs that were let in here since.
    since: u64,
}

/// Why a job is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It could not start in time; after so long it could.
    Wait(Duration),
    /// Its tenant has as many jobs in line as it may; one of them begins within about this time.
    Line(Duration),
}

impl Seen {
    pub(super) fn new(config: &AdmissionConfig) -> Self {
        let rate = Rate::new(f64::from(config.expected_jobs_per_second));
        let (lines, asking) = (HashMap::new(), HashMap::new());
        Self { lines, looked: None, asking, overloaded: None, rate, service: Service::default(), crew: None }
    }

    /// The store is asked to accept a job.
    pub(super) fn asks(&mut self, line: (Lane, TenantId)) {
        *self.asking.entry(line).or_default() += 1;
    }

    /// It has answered, and perhaps taken the job.
    pub(super) fn answered(&mut self, line: (Lane, TenantId), accepted: bool) {
        if let Some(asking) = self.asking.get_mut(&line) {
            *asking -= 1;
            if *asking == 0 {
                self.asking.remove(&line);
            }
        }
        if accepted {
            *self.lines.entry(line).or_default() += 1;
            if let Some(crew) = &mut self.crew {
                crew.since += 1;
            }
        }
    }

    /// What waited at a time, by the store.
    pub(super) fn see_lines(&mut self, lines: Vec<Line>, at: Instant) {
        self.looked = Some(at);
        self.lines = lines.into_iter().map(|line| ((line.lane, line.tenant), line.waiting)).collect();
    }

    /// How much was ever answered, whether jobs wait for workers, and who works: a paused lane waits for an
    /// operator, and while nobody works nothing can be measured.
    pub(super) fn see_progress(&mut self, lanes: &[LaneDepth], workers: &[WorkerInfo], at: Instant) {
        let waits = |lane: &LaneDepth| !lane.paused && WAITS.as_millis() <= u128::from(lane.oldest_ready_ms);
        let backlog = lanes.iter().any(waits);
        let answered = lanes.iter().map(|lane| lane.totals.ended).sum();
        let active = workers.iter().filter(|worker| !worker.draining);
        let (slots, free) = active.fold((0, 0), |(slots, free), worker| {
            (slots + u64::from(worker.slots), free + u64::from(worker.slots.saturating_sub(worker.running)))
        });
        self.rate.see(backlog && 0 < slots, answered, at);
        self.service.see(answered, lanes.iter().map(|lane| lane.totals.busy).sum());
        let paused = lanes.iter().filter(|lane| lane.paused).map(|lane| lane.lane).collect();
        self.crew = Some(Crew { slots, free, backlog, paused, since: 0 });
    }

    /// How long all that is in line in a lane takes.
    pub(super) fn wait_of(&self, lane: Lane) -> Duration {
        let line: u64 =
            self.lines.iter().filter(|((of, _), _)| *of == lane).map(|(_, waiting)| waiting).sum();
        Duration::from_secs_f64(line as f64 / self.rate.per_second())
    }

    /// How many jobs start before a new one. All that wait are the most it could be; as long as others wait too
    /// its tenant has its share of what is answered, and stands behind its own line only. Batch jobs wait for
    /// both lanes.
    pub(super) fn ahead(&self, lane: Lane, tenant: &TenantId, shares: &Shares) -> f64 {
        let (mut ahead, mut own, mut others) = (0, 0, HashSet::new());
        for ((of, whose), waiting) in self.lines.iter().chain(&self.asking) {
            if *of == lane || lane == Lane::Batch {
                ahead += waiting;
                if whose == tenant {
                    own += waiting;
                } else {
                    others.insert(whose);
                }
            }
        }
        let weights: u64 = others.iter().map(|other| u64::from(shares.of(other).weight)).sum();
        let weight = u64::from(shares.of(tenant).weight);
        let fair = own as f64 * (weights + weight) as f64 / weight as f64;
        fair.min(ahead as f64)
    }

    /// When a job with so many ahead of it starts, if that can be said: nobody knows when an operator resumes a
    /// lane, when workers come, or when a tenant that may run only so many jobs has room.
    pub(super) fn starts_in(
        &self,
        ahead: f64,
        lane: Lane,
        tenant: &TenantId,
        shares: &Shares,
    ) -> Option<Duration> {
        let crew = self.crew.as_ref().filter(|crew| 0 < crew.slots && !crew.paused.contains(&lane))?;
        if shares.of(tenant).max_running.is_some_and(|most| u64::from(most) < crew.slots) {
            return None;
        }
        if !crew.backlog && crew.since < crew.free {
            return Some(Duration::ZERO);
        }
        // What a backlog showed, quota and all; else what slots can do.
        let slots = || self.service.seconds().map(|seconds| crew.slots as f64 / seconds);
        let per_second = self.rate.measured().or_else(slots)?;
        Some(Duration::from_secs_f64((ahead + 1.0) / per_second))
    }

    /// When a new job is expected to start. Its place is known before any worker is.
    pub(super) fn expected(&self, spec: &JobSpec, shares: &Shares, now: Timestamp) -> Expected {
        if self.looked.is_none() {
            return Expected::default();
        }
        let ahead = self.ahead(spec.lane, &spec.tenant, shares);
        let wait = self.starts_in(ahead, spec.lane, &spec.tenant, shares);
        Expected { position: Some(ahead.round() as u64), start_at: wait.map(|wait| now + wait) }
    }

    /// For how long a lane's line has moved since it was seen. Where nobody works it does not.
    fn moved(&self, lane: Lane, now: Instant) -> Duration {
        let moves = |crew: &Crew| 0 < crew.slots && !crew.paused.contains(&lane);
        let looked = self.looked.filter(|_| self.crew.as_ref().is_some_and(moves));
        looked.map_or(Duration::ZERO, |at| now.saturating_duration_since(at))
    }

    pub(super) fn refusal(
        &self,
        spec: &JobSpec,
        config: &AdmissionConfig,
        shares: &Shares,
        now: Instant,
    ) -> Option<Refusal> {
        let line = (spec.lane, spec.tenant.clone());
        let own: u64 = [&self.lines, &self.asking].iter().filter_map(|lines| lines.get(&line)).sum();
        let most = shares.of(&spec.tenant).max_queued;
        if most.is_some_and(|most| u64::from(most) <= own) {
            return Some(Refusal::Line(Duration::from_secs_f64(1.0 / self.rate.per_second())));
        }
        let ahead = self.ahead(spec.lane, &spec.tenant, shares);
        let wait = Duration::from_secs_f64(ahead / self.rate.per_second());
        // A look that takes long does not make those wait that have long begun.
        let wait = wait.saturating_sub(self.moved(spec.lane, now));
        // The line of a system with too much to do is as long as it may be: jobs that were let in up to their
        // deadline would end too late, every second one, and cost what they take.
        let in_time = spec.deadline / 2;
        let longest = config.max_wait(spec.lane).map_or(in_time, |most| most.min(in_time));
        // A tenant without a line waits for nothing here, so an idle system lets everything in.
        (longest <= wait).then(|| Refusal::Wait(wait.saturating_sub(longest)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use millhand_common::model::{AgentName, JobId, JobInput, WorkerId};
    use millhand_common::ports::Totals;

    use super::*;

    fn job(deadline: Duration) -> JobSpec {
        JobSpec {
            id: JobId::new(),
            tenant: TenantId::default(),
            input: JobInput::Chat { messages: Vec::new() },
            agent: AgentName::rag(),
            lane: Lane::Interactive,
            conversation_id: None,
            collection: None,
            filter: None,
            deadline,
            not_before: None,
            max_output_tokens: None,
            metadata: None,
            replay_of: None,
            traceparent: None,
        }
    }

    /// All its slots are taken.
    fn worker(slots: u32) -> WorkerInfo {
        let id = WorkerId::new();
        WorkerInfo { id, slots, running: slots, draining: false, own_index: false, host: String::new() }
    }

    fn depth(line: &VecDeque<u64>, now: u64, answered: u64) -> [LaneDepth; 1] {
        [LaneDepth {
            ready: line.len() as u64,
            oldest_ready_ms: line.front().map_or(0, |since| now - since),
            totals: Totals { ended: answered, ..Totals::default() },
            ..LaneDepth::empty(Lane::Interactive)
        }]
    }

    /// Ten jobs a second are answered, two hundred are expected to be, a hundred are asked for, each within ten
    /// seconds: at first a thousand are let in of which most expire, in two or three bursts of hundreds a second.
    #[test]
    fn jobs_that_expire_in_line_do_not_make_it_look_faster() {
        const DEADLINE: u64 = 10_000;
        let config = AdmissionConfig::default();
        let (mut seen, shares, start) = (Seen::new(&config), Shares::default(), Instant::now());
        let spec = job(Duration::from_millis(DEADLINE));
        let (mut line, mut answered) = (VecDeque::new(), 0);
        let (mut expired, mut waits) = (Vec::new(), Vec::new());
        for now in (0..120_000).step_by(10) {
            while line.front().is_some_and(|since| since + DEADLINE <= now) {
                line.pop_front();
                expired.push(now);
            }
            if now % 100 == 0
                && let Some(since) = line.pop_front()
            {
                answered += 1;
                waits.push((now, now - since));
            }
            if now % 250 == 0 {
                let waiting = line.len() as u64;
                let tenant = TenantId::default();
                let lines = vec![Line { lane: Lane::Interactive, tenant, waiting }];
                seen.see_lines(lines, start + Duration::from_millis(now));
            }
            if now % 1000 == 0 {
                let at = start + Duration::from_millis(now);
                seen.see_progress(&depth(&line, now, answered), &[worker(10)], at);
            }
            let at = start + Duration::from_millis(now);
            if seen.refusal(&spec, &config, &shares, at).is_none() {
                line.push_back(now);
                seen.asks((spec.lane, spec.tenant.clone()));
                seen.answered((spec.lane, spec.tenant.clone()), true);
            }
        }
        let early = expired.iter().filter(|at| **at < 30_000).count();
        assert!(early > 100, "the expectation was far too high: {early}");
        let late = expired.iter().filter(|at| **at >= 60_000).count();
        assert_eq!(late, 0, "once it has faded nothing is let in to expire");
        let calm: Vec<_> = waits.iter().filter(|(at, _)| *at >= 60_000).map(|(_, wait)| *wait).collect();
        assert_eq!(calm.len(), 600, "and nothing is kept out that could be answered");
        // At most half the deadline is expected, and a little more comes of what is left of the expectation.
        assert!(calm.iter().all(|wait| (4_500..=6_000).contains(wait)), "{calm:?}");
    }

    /// A job's place and wait are what the line makes of them, also when the line is answered slower or faster
    /// than before.
    #[test]
    fn when_a_job_starts_is_said_by_what_was_answered() {
        let (shares, start, spec) = (Shares::default(), Instant::now(), job(Duration::from_secs(3600)));
        let mut seen = Seen::new(&AdmissionConfig::default());
        let now = Timestamp::from_millis(0);
        assert_eq!(seen.expected(&spec, &shares, now), Expected::default(), "nothing is known yet");
        let expected = |seen: &Seen, waiting: u64| {
            let ahead = seen.ahead(spec.lane, &spec.tenant, &shares);
            assert!((ahead - waiting as f64).abs() < 1e-9, "{ahead}");
            seen.starts_in(ahead, spec.lane, &spec.tenant, &shares).map(|wait| wait.as_secs_f64())
        };
        let waits = |seen: &mut Seen, waiting: u64| {
            let tenant = TenantId::default();
            seen.see_lines(vec![Line { lane: Lane::Interactive, tenant, waiting }], start);
        };
        let look = |seen: &mut Seen, second: u64, answered: u64, waited_ms: u64, worker: &WorkerInfo| {
            let lane = LaneDepth {
                oldest_ready_ms: waited_ms,
                totals: Totals {
                    ended: answered,
                    busy: Duration::from_secs(2 * answered),
                    ..Totals::default()
                },
                ..LaneDepth::empty(Lane::Interactive)
            };
            seen.see_progress(&[lane], std::slice::from_ref(worker), start + Duration::from_secs(second));
        };
        let (busy, idle) = (worker(4), WorkerInfo { running: 3, ..worker(4) });
        look(&mut seen, 0, 0, 0, &busy);
        assert_eq!(expected(&seen, 0), None, "how long answers take is not known");
        look(&mut seen, 1, 100, 0, &idle);
        assert_eq!(expected(&seen, 0), Some(0.0), "a slot is free");
        seen.asks((spec.lane, spec.tenant.clone()));
        seen.answered((spec.lane, spec.tenant.clone()), true);
        assert_eq!(expected(&seen, 1), Some(1.0), "it is taken: the second of four slots of two seconds");
        waits(&mut seen, 9);
        look(&mut seen, 2, 100, 900, &busy);
        assert_eq!(expected(&seen, 9), Some(5.0), "the tenth of two a second");
        for second in 3..13 {
            look(&mut seen, second, 100 + (second - 2), 900, &busy);
        }
        assert_eq!(expected(&seen, 9), Some(10.0), "a quota lets through one a second");
        look(&mut seen, 13, 110, 900, &WorkerInfo { draining: true, ..busy });
        assert_eq!(expected(&seen, 9), None, "nobody works");
    }

    /// A system that does as much as it is asked for, and a store that does not say so for a second.
    #[test]
    fn who_has_begun_while_a_look_took_long_is_not_waited_for() {
        let config = AdmissionConfig { expected_jobs_per_second: 20, ..AdmissionConfig::default() };
        let (shares, start, spec) = (Shares::default(), Instant::now(), job(Duration::from_secs(1)));
        for (slots, refused) in [(4, false), (0, true)] {
            let mut seen = Seen::new(&config);
            seen.see_lines(Vec::new(), start);
            seen.see_progress(&[], &[worker(slots)], start);
            for _ in 0..20 {
                seen.asks((spec.lane, spec.tenant.clone()));
                seen.answered((spec.lane, spec.tenant.clone()), true);
            }
            let refusal =
                |millis| seen.refusal(&spec, &config, &shares, start + Duration::from_millis(millis));
            assert_eq!(
                refusal(0),
                Some(Refusal::Wait(Duration::from_millis(500))),
                "twenty have come at once"
            );
            assert_eq!(refusal(1000).is_some(), refused);
        }
    }

    #[test]
    fn a_paused_lane_and_an_unstaffed_system_measure_nothing() {
        let config = AdmissionConfig { expected_jobs_per_second: 10, ..AdmissionConfig::default() };
        let start = Instant::now();
        let look = |seen: &mut Seen, second: u64, paused: bool, staffed: bool| {
            let lane = LaneDepth {
                paused,
                oldest_ready_ms: 60_000,
                totals: Totals { ended: second, ..Totals::default() },
                ..LaneDepth::empty(Lane::Interactive)
            };
            let workers: &[_] = if staffed { &[worker(1)] } else { &[] };
            seen.see_progress(&[lane], workers, start + Duration::from_secs(second));
        };
        for (paused, staffed, measured) in [(true, true, false), (false, false, false), (false, true, true)] {
            let mut seen = Seen::new(&config);
            for second in 0..20 {
                look(&mut seen, second, paused, staffed);
            }
            assert_eq!(seen.rate.per_second() < 10.0, measured, "{}", seen.rate.per_second());
        }
    }
}
