//! Who decides: Millhand, and the rules that one would use without it.

use std::collections::VecDeque;
use std::time::Duration;

use millhand_common::scale::{Observed, Reason, Scaler};

use crate::scenario::settings;

/// What a rule can see.
pub(crate) struct Seen {
    pub(crate) now: Duration,
    pub(crate) observed: Observed,
    /// Of the workers that are up.
    pub(crate) busy_slots_per_worker: f64,
}

pub(crate) trait Rule {
    fn every_ms(&self) -> u64;
    fn decide(&mut self, seen: &Seen) -> u32;
}

/// The rules that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Millhand,
    KedaReady,
    KedaAll,
    CpuUsual,
    CpuTuned,
}

impl Name {
    pub(crate) const ALL: [Self; 5] =
        [Self::Millhand, Self::KedaReady, Self::KedaAll, Self::CpuUsual, Self::CpuTuned];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Millhand => "Millhand",
            Self::KedaReady => "KEDA, ready",
            Self::KedaAll => "KEDA, ready + running",
            Self::CpuUsual => "CPU, as usual",
            Self::CpuTuned => "CPU, tuned",
        }
    }

    pub(crate) fn rule(self) -> Box<dyn Rule> {
        match self {
            Self::Millhand => Box::new(Millhand::new()),
            Self::KedaReady => Box::new(Keda::counting(|seen| seen.ready)),
            Self::KedaAll => Box::new(Keda::counting(|seen| seen.ready + seen.running)),
            // A job that waits for a model uses 1.5 % of its share of a processor.
            Self::CpuUsual => Box::new(Cpu::new(0.015)),
            // As if one had found out what a full worker uses, and asked for so little that it is 96 %.
            Self::CpuTuned => Box::new(Cpu::new(0.06)),
        }
    }
}

/// Ours, each second; keeps why.
pub(crate) struct Millhand {
    scaler: Scaler,
    /// The first moment of each reason on end, with the workers.
    pub(crate) reasons: Vec<(Duration, u32, Reason)>,
}

impl Millhand {
    pub(crate) fn new() -> Self {
        Self { scaler: Scaler::new(settings()), reasons: Vec::new() }
    }
}

impl Rule for Millhand {
    fn every_ms(&self) -> u64 {
        1_000
    }

    fn decide(&mut self, seen: &Seen) -> u32 {
        let decision = self.scaler.decide(seen.now, &seen.observed);
        if self.reasons.last().is_none_or(|(_, _, last)| last.as_str() != decision.reason.as_str()) {
            self.reasons.push((seen.now, decision.workers, decision.reason));
        }
        decision.workers
    }
}

/// Kubernetes' HorizontalPodAutoscaler with its defaults: each 15 s; changes below 10 % are none; up by at
/// most 100 % or 4 pods; down to the most that was asked for in the last 300 s.
#[derive(Default)]
struct Hpa {
    asked: VecDeque<(Duration, u32)>,
}

const HPA_EVERY_MS: u64 = 15_000;
const HPA_WINDOW: Duration = Duration::from_secs(300);
const HPA_TOLERANCE: f64 = 0.1;

impl Hpa {
    /// `ratio` is how many times as many workers there should be.
    fn decide(&mut self, now: Duration, workers: u32, ratio: f64) -> u32 {
        let asked = if (ratio - 1.0).abs() <= HPA_TOLERANCE {
            workers
        } else {
            (f64::from(workers) * ratio).ceil() as u32
        };
        self.asked.push_back((now, asked));
        while self.asked.front().is_some_and(|(at, _)| *at + HPA_WINDOW < now) {
            self.asked.pop_front();
        }
        let most = self.asked.iter().map(|(_, asked)| *asked).max().unwrap_or(asked);
        let settled = if asked < workers { most.min(workers) } else { asked };
        settled.min(workers + workers.max(4)).clamp(1, settings().max)
    }
}

/// KEDA with a queue scaler and its defaults, `AverageValue`: as many workers as the depth fills. It looks
/// each 30 s whether to go from none to one, and back after 300 s without anything.
struct Keda {
    depth: fn(&Observed) -> u64,
    hpa: Hpa,
    looks: u64,
    last_active: Duration,
}

const KEDA_COOLDOWN: Duration = Duration::from_secs(300);

impl Keda {
    fn counting(depth: fn(&Observed) -> u64) -> Self {
        Self { depth, hpa: Hpa::default(), looks: 0, last_active: Duration::ZERO }
    }
}

impl Rule for Keda {
    fn every_ms(&self) -> u64 {
        HPA_EVERY_MS
    }

    fn decide(&mut self, seen: &Seen) -> u32 {
        let (depth, workers) = ((self.depth)(&seen.observed), seen.observed.workers);
        let polls = self.looks.is_multiple_of(2);
        self.looks += 1;
        if depth > 0 {
            self.last_active = seen.now;
        }
        if workers == 0 {
            return u32::from(polls && depth > 0);
        }
        if polls && self.last_active + KEDA_COOLDOWN <= seen.now {
            self.hpa = Hpa::default();
            return 0;
        }
        let target = f64::from(settings().slots);
        self.hpa.decide(seen.now, workers, depth as f64 / (target * f64::from(workers)))
    }
}

/// The autoscaler on processor time, with a target of 60 % of what a worker asked for, and never none.
struct Cpu {
    hpa: Hpa,
    per_job: f64,
    /// The metrics are means over half a minute.
    before: f64,
}

const CPU_TARGET: f64 = 0.6;
/// What a worker uses with nothing to do.
const CPU_IDLE: f64 = 0.02;

impl Cpu {
    fn new(per_job: f64) -> Self {
        Self { hpa: Hpa::default(), per_job, before: CPU_IDLE }
    }
}

impl Rule for Cpu {
    fn every_ms(&self) -> u64 {
        HPA_EVERY_MS
    }

    fn decide(&mut self, seen: &Seen) -> u32 {
        let used = CPU_IDLE + self.per_job * seen.busy_slots_per_worker;
        let mean = (used + std::mem::replace(&mut self.before, used)) / 2.0;
        self.hpa.decide(seen.now, seen.observed.workers.max(1), mean / CPU_TARGET)
    }
}
