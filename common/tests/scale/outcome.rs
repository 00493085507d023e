//! What came of a run.

/// Everything that is compared or drawn.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// From arrival to the end of each job, less its own time in a slot; of those that did not end, so far.
    pub(crate) waits_ms: Vec<u64>,
    /// What workers cost: from being started until they are gone.
    pub(crate) worker_ms: u64,
    /// When the number of workers was changed, and to what.
    pub(crate) changes: Vec<(u64, u32)>,
    /// When growing turned into shrinking, or the reverse.
    pub(crate) reversals: Vec<u64>,
    pub(crate) peak: u32,
    /// Jobs that lost their worker and went back.
    pub(crate) given_back: u64,
    /// Since when nothing was left to do, at the end.
    pub(crate) idle_since: Option<u64>,
    pub(crate) samples: Vec<Sample>,
    was_growing: Option<bool>,
    started: u64,
    ended: u64,
    waited_ms: u64,
}

/// One moment, or what happened since the one before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) at_ms: u64,
    pub(crate) depth: f64,
    pub(crate) workers: f64,
    /// Mean of the jobs that ended.
    pub(crate) wait_s: f64,
    /// Share of the quota.
    pub(crate) quota: f64,
}

impl Outcome {
    pub(crate) fn started(&mut self) {
        self.started += 1;
    }

    pub(crate) fn ended(&mut self, waited_ms: u64) {
        self.waits_ms.push(waited_ms);
        self.ended += 1;
        self.waited_ms += waited_ms;
    }

    pub(crate) fn decided(&mut self, now: u64, had: u32, wanted: u32) {
        self.peak = self.peak.max(wanted);
        if had == wanted {
            return;
        }
        let grows = wanted > had;
        if self.was_growing.is_some_and(|grew| grew != grows) {
            self.reversals.push(now);
        }
        self.was_growing = Some(grows);
        self.changes.push((now, wanted));
    }

    pub(crate) fn sample(&mut self, at_ms: u64, depth: usize, workers: usize, possible: f64) {
        let wait_s = self.waited_ms as f64 / self.ended.max(1) as f64 / 1000.0;
        let quota = (self.started as f64 / possible).min(1.0);
        (self.started, self.ended, self.waited_ms) = (0, 0, 0);
        let (depth, workers) = (depth as f64, workers as f64);
        self.samples.push(Sample { at_ms, depth, workers, wait_s, quota });
    }

    /// Seconds that all but this share of the jobs waited less than.
    pub(crate) fn wait(&self, share: f64) -> f64 {
        let mut waits = self.waits_ms.clone();
        waits.sort_unstable();
        let at = ((waits.len() as f64 * share) as usize).min(waits.len().saturating_sub(1));
        waits.get(at).map_or(0.0, |wait| *wait as f64 / 1000.0)
    }

    pub(crate) fn worker_hours(&self) -> f64 {
        self.worker_ms as f64 / 3_600_000.0
    }

    /// Workers at a second.
    pub(crate) fn workers_at(&self, second: u64) -> u32 {
        let after = self.changes.partition_point(|(at, _)| *at <= second * 1000);
        after.checked_sub(1).map_or(0, |at| self.changes[at].1)
    }

    /// The most reversals within five minutes of times of steady load, in seconds.
    pub(crate) fn most_flaps(&self, steady: &[(u64, u64)]) -> usize {
        let within = |from: u64, to: u64| self.reversals.iter().filter(|at| (from..to).contains(*at)).count();
        let windows = steady.iter().flat_map(|(from, to)| {
            let (from, to) = (from * 1000, to * 1000);
            let starts = self.reversals.iter().filter(move |at| (from..to).contains(*at));
            starts.map(move |at| within(*at, (at + 300_000).min(to)))
        });
        windows.max().unwrap_or(0)
    }
}
