//! What an ingress knows of the work that waits, and what follows for a new job: no clocks, no I/O.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use millhand_common::model::{JobSpec, Lane, Shares, TenantId};
use millhand_common::ports::{LaneDepth, Line};
use tokio::time::Instant;

use crate::config::AdmissionConfig;

use super::rate::Rate;

/// A job that is ready for less than this is on its way to a free slot.
const WAITS: Duration = Duration::from_millis(250);

pub(super) struct Seen {
    /// As the store had them, and what was accepted here since.
    pub(super) lines: HashMap<(Lane, TenantId), u64>,
    /// Jobs that the store is asked to accept now.
    pub(super) asking: HashMap<(Lane, TenantId), u64>,
    /// When a job was last refused for the load.
    pub(super) overloaded: Option<Instant>,
    rate: Rate,
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
        Self { lines: HashMap::new(), asking: HashMap::new(), overloaded: None, rate }
    }

    /// What waits now, by the store.
    pub(super) fn see_lines(&mut self, lines: Vec<Line>) {
        self.lines = lines.into_iter().map(|line| ((line.lane, line.tenant), line.waiting)).collect();
    }

    /// How much was ever answered, and whether jobs wait for workers: a paused lane waits for an operator, and
    /// with nobody at work (`staffed`) nothing can be measured.
    pub(super) fn see_progress(&mut self, lanes: &[LaneDepth], staffed: bool, at: Instant) {
        let waits = |lane: &LaneDepth| !lane.paused && WAITS.as_millis() <= u128::from(lane.oldest_ready_ms);
        let answered = lanes.iter().map(|lane| lane.totals.ended).sum();
        self.rate.see(staffed && lanes.iter().any(waits), answered, at);
    }

    /// How long all that is in line in a lane takes.
    pub(super) fn wait_of(&self, lane: Lane) -> Duration {
        let line: u64 =
            self.lines.iter().filter(|((of, _), _)| *of == lane).map(|(_, waiting)| waiting).sum();
        Duration::from_secs_f64(line as f64 / self.rate.per_second())
    }

    /// How long a new job waits. All that is ahead of it is the most it could be; as long as others wait too its
    /// tenant has its share of what is answered, and waits for its own line only. Batch jobs wait for both lanes.
    fn wait(&self, lane: Lane, tenant: &TenantId, shares: &Shares) -> Duration {
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
        Duration::from_secs_f64(fair.min(ahead as f64) / self.rate.per_second())
    }

    pub(super) fn refusal(
        &self,
        spec: &JobSpec,
        config: &AdmissionConfig,
        shares: &Shares,
    ) -> Option<Refusal> {
        let line = (spec.lane, spec.tenant.clone());
        let own: u64 = [&self.lines, &self.asking].iter().filter_map(|lines| lines.get(&line)).sum();
        let most = shares.of(&spec.tenant).max_queued;
        if most.is_some_and(|most| u64::from(most) <= own) {
            return Some(Refusal::Line(Duration::from_secs_f64(1.0 / self.rate.per_second())));
        }
        let wait = self.wait(spec.lane, &spec.tenant, shares);
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

    use millhand_common::model::{AgentName, JobId, JobInput};
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
                seen.see_lines(vec![Line { lane: Lane::Interactive, tenant, waiting }]);
            }
            if now % 1000 == 0 {
                seen.see_progress(&depth(&line, now, answered), true, start + Duration::from_millis(now));
            }
            if seen.refusal(&spec, &config, &shares).is_none() {
                line.push_back(now);
                *seen.lines.entry((spec.lane, spec.tenant.clone())).or_default() += 1;
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
            seen.see_progress(&[lane], staffed, start + Duration::from_secs(second));
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
