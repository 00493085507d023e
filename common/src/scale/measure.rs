//! What is measured over time. Means are weighted by fractions, never by powers, so that every machine
//! computes the same digits.

use std::time::Duration;

/// Arrivals count less the longer ago they were; this is the mean age of what counts.
///
/// Source: the error of such a rate, in slots, is sqrt(service time / (2 × memory)) square roots of the busy
/// slots: a third of one for answers of 10 s. A longer memory would follow a rise too slowly.
const ARRIVALS_MEMORY: f64 = 45.0;
/// At the start it is as if nothing had come for this long: one early job is no rush.
const QUIET_BEFORE: f64 = 10.0;
/// Jobs over which the means of ended jobs are formed.
///
/// Source: answers vary about as much as they last, so this mean is known to 3 %, which for 100 busy slots
/// is as much as the error of the rate.
const ENDED_MEMORY: f64 = 500.0;
/// Jobs that took, together, longer than this many times the mean count as if they had taken just that: a job that hung
/// tells nothing of the next. When all have become so slow, the mean follows after some dozens.
const MOST_ODD: f64 = 4.0;
/// How many ended jobs the expectation counts for.
const EXPECTED_WEIGHT: f64 = 5.0;

/// The rate of arrivals.
#[derive(Clone, Debug)]
pub(super) struct Arrivals {
    jobs: f64,
    seconds: f64,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self { jobs: 0.0, seconds: QUIET_BEFORE }
    }
}

impl Arrivals {
    pub(super) fn add(&mut self, jobs: u64, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        let kept = ARRIVALS_MEMORY / (ARRIVALS_MEMORY + seconds);
        self.jobs = (self.jobs + jobs as f64) * kept;
        self.seconds = (self.seconds + seconds) * kept;
    }

    pub(super) fn per_second(&self) -> f64 {
        self.jobs / self.seconds
    }
}

/// What ended jobs took on average. Stays as it is while none ends.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    jobs: f64,
    busy_seconds: f64,
    calls: f64,
}

impl Ended {
    pub(super) fn expecting(service: Duration) -> Self {
        Self {
            jobs: EXPECTED_WEIGHT,
            busy_seconds: service.as_secs_f64() * EXPECTED_WEIGHT,
            calls: EXPECTED_WEIGHT,
        }
    }

    pub(super) fn add(&mut self, jobs: u64, busy: Duration, calls: u64) {
        if jobs == 0 {
            return;
        }
        let kept = (ENDED_MEMORY / (self.jobs + jobs as f64)).min(1.0);
        let busy_seconds = busy.as_secs_f64().min(jobs as f64 * self.service_seconds() * MOST_ODD);
        self.jobs = (self.jobs + jobs as f64) * kept;
        self.busy_seconds = (self.busy_seconds + busy_seconds) * kept;
        self.calls = (self.calls + calls as f64) * kept;
    }

    pub(super) fn service_seconds(&self) -> f64 {
        self.busy_seconds / self.jobs
    }

    pub(super) fn calls(&self) -> f64 {
        self.calls / self.jobs
    }
}
