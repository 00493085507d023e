//! What happens to the pool.

use std::time::Duration;

use millhand_common::scale::Settings;

/// Lines over time, in seconds.
type Line = Vec<(f64, f64)>;

/// One story. Workers have 16 slots and take 20 s to start, as a container on a node that is there does.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) seconds: u64,
    /// Jobs per second.
    pub(crate) arrivals: Line,
    /// How many times as long as usual an answer takes.
    pub(crate) slowness: Line,
    /// Calls per second that the provider allows; each job makes one.
    pub(crate) quota: Line,
    /// Nothing ends from here to there, in seconds.
    pub(crate) stuck: Option<(f64, f64)>,
    /// Times of steady load, in seconds.
    pub(crate) steady: Vec<(u64, u64)>,
}

pub(crate) fn settings() -> Settings {
    Settings { start_up: Duration::from_secs(20), ..Settings::new(0, 24, 16) }
}

impl Scenario {
    fn new(name: &'static str, about: &'static str, seconds: u64, arrivals: Line) -> Self {
        let (slowness, quota) = (vec![(0.0, 1.0)], vec![(0.0, 40.0)]);
        Self { name, about, seconds, arrivals, slowness, quota, stuck: None, steady: Vec::new() }
    }
}

fn flat(rate: f64) -> Line {
    vec![(0.0, rate)]
}

/// A value from each time on.
fn steps(steps: &[(f64, f64)]) -> Line {
    let mut line = Line::new();
    for (at, value) in steps {
        line.extend(line.last().map(|(_, before)| (*at, *before)));
        line.push((*at, *value));
    }
    line
}

pub(crate) fn all() -> Vec<Scenario> {
    vec![steady(), burst(), day(), drift(), stuck(), quota()]
}

pub(crate) fn steady() -> Scenario {
    let about = "10 jobs/s for an hour, from a cold start.";
    Scenario { steady: vec![(120, 3600)], ..Scenario::new("steady", about, 3600, flat(10.0)) }
}

pub(crate) fn burst() -> Scenario {
    let about = "2 jobs/s; 600 jobs within 15 s after 10 minutes, again after 20; nothing any more after 30.";
    let rush = 40.0;
    let arrivals =
        steps(&[(0.0, 2.0), (600.0, rush), (615.0, 2.0), (1200.0, rush), (1215.0, 2.0), (1800.0, 0.0)]);
    let steady = vec![(120, 600), (615, 1200), (1215, 1800), (1800, 2400)];
    Scenario { steady, ..Scenario::new("burst", about, 2400, arrivals) }
}

pub(crate) fn day() -> Scenario {
    let about = "A day: 0.05 jobs/s at night, two peaks of 8 and 6 jobs/s.";
    let hours = [
        (0.0, 0.2),
        (3.0, 0.05),
        (5.0, 0.05),
        (7.0, 0.8),
        (9.0, 5.0),
        (11.0, 8.0),
        (12.5, 5.0),
        (14.0, 5.5),
        (15.5, 6.0),
        (18.0, 3.0),
        (20.0, 2.5),
        (22.0, 1.0),
        (24.0, 0.2),
    ];
    let arrivals = hours.iter().map(|(hour, rate)| (hour * 3600.0, *rate)).collect();
    Scenario::new("day", about, 86_400, arrivals)
}

pub(crate) fn drift() -> Scenario {
    let about = "Over two hours jobs grow from 2 to 6 per second, and answers become twice as long.";
    let line = |from: f64, to: f64| vec![(0.0, from), (600.0, from), (7800.0, to)];
    Scenario { slowness: line(1.0, 2.0), ..Scenario::new("drift", about, 9000, line(2.0, 6.0)) }
}

pub(crate) fn stuck() -> Scenario {
    let about = "5 jobs/s; from minute 15 to 20 the model hangs and nothing ends.";
    let steady = vec![(120, 900), (1200, 3000)];
    let base = Scenario::new("stuck", about, 3000, flat(5.0));
    Scenario { stuck: Some((900.0, 1200.0)), steady, ..base }
}

pub(crate) fn quota() -> Scenario {
    let about = "6 jobs/s where the provider allows 8 calls/s; from minute 15 to 30 it allows 4.";
    let quota = steps(&[(0.0, 8.0), (900.0, 4.0), (1800.0, 8.0)]);
    let steady = vec![(120, 900), (900, 1800), (1800, 5400)];
    Scenario { quota, steady, ..Scenario::new("quota", about, 5400, flat(6.0)) }
}
