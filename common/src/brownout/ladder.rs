//! On which step to stand. Pure: `now` is any clock that never goes back.

use std::time::Duration;

use super::Step;

/// A step is taken back when the load is less than this share of what it is taken at: taking it makes the load
/// less by itself, and should not be its own end.
const FALLS_AT: f64 = 0.5;
/// Of a longer time without a look nothing is known: what had to hold without a break begins anew.
const BLIND: Duration = Duration::from_secs(5);

/// Goes up when the load was high enough at every look for some time, however far, and down likewise.
#[derive(Debug)]
pub(super) struct Ladder {
    rungs: Vec<Rung>,
    rise_after: Duration,
    fall_after: Duration,
    /// How many rungs are taken.
    height: usize,
    seen: Option<Duration>,
}

#[derive(Debug)]
struct Rung {
    step: Step,
    at: f64,
    /// Since when the load has been high enough for it, or low enough to take it back.
    high: Option<Duration>,
    low: Option<Duration>,
}

impl Ladder {
    /// Of steps with the load at which they are taken, both rising.
    pub(super) fn new(steps: Vec<(Step, f64)>, rise_after: Duration, fall_after: Duration) -> Self {
        let rungs = steps.into_iter().map(|(step, at)| Rung { step, at, high: None, low: None }).collect();
        Self { rungs, rise_after, fall_after, height: 0, seen: None }
    }

    /// The hardest step to take, with this load now.
    pub(super) fn look(&mut self, now: Duration, load: f64) -> Option<Step> {
        let blind = self.seen.is_some_and(|seen| now.saturating_sub(seen) > BLIND);
        self.seen = Some(now);
        for rung in &mut self.rungs {
            if blind {
                (rung.high, rung.low) = (None, None);
            }
            hold(&mut rung.high, load >= rung.at, now);
            hold(&mut rung.low, load < rung.at * FALLS_AT, now);
        }
        let for_long =
            |since: Option<Duration>, enough| since.is_some_and(|since| now.saturating_sub(since) >= enough);
        while self.rungs.get(self.height).is_some_and(|next| for_long(next.high, self.rise_after)) {
            self.height += 1;
        }
        while self.height > 0 && for_long(self.rungs[self.height - 1].low, self.fall_after) {
            self.height -= 1;
        }
        self.height.checked_sub(1).map(|top| self.rungs[top].step)
    }
}

/// Since when it holds.
fn hold(since: &mut Option<Duration>, holds: bool, now: Duration) {
    *since = if holds { since.or(Some(now)) } else { None };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RISE: u64 = 5;
    const FALL: u64 = 30;

    fn ladder() -> Ladder {
        let steps = Step::ALL.into_iter().zip([0.1, 0.25, 0.5, 0.75, 1.5]).collect();
        Ladder::new(steps, Duration::from_secs(RISE), Duration::from_secs(FALL))
    }

    /// The step after each second of these loads.
    fn steps(loads: impl IntoIterator<Item = f64>) -> Vec<Option<Step>> {
        let mut ladder = ladder();
        let looks = loads.into_iter().enumerate();
        looks.map(|(second, load)| ladder.look(Duration::from_secs(second as u64), load)).collect()
    }

    fn changes(steps: &[Option<Step>]) -> usize {
        steps.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }

    #[test]
    fn it_rises_only_when_the_load_lasts_and_then_as_far_as_it_is_high() {
        let load = [0.6; 5].into_iter().chain([0.0]).chain([0.6; 7]);
        let steps = steps(load);
        assert!(steps[..11].iter().all(Option::is_none), "one look without it begins anew: {steps:?}");
        assert_eq!(steps[11..], [Some(Step::SmallerModel); 2]);
    }

    #[test]
    fn it_falls_step_by_step_when_the_load_is_half_for_long() {
        let up = [2.0; 6];
        let steps = steps(up.into_iter().chain([0.8; 100]).chain([0.2; 31]).chain([0.0; 31]));
        assert_eq!(steps[5..106], [Some(Step::RefuseAll); 101], "0.8 is more than half of 1.5");
        assert_eq!(steps[136], Some(Step::FewerPassages), "0.2 is less than half of 0.5, not of 0.25");
        assert_eq!(steps[167], None);
    }

    #[test]
    fn a_load_around_a_threshold_does_not_make_it_flap() {
        // The steps themselves lower the load: with one it is 0.3, without it 0.6.
        let mut ladder = ladder();
        let mut taken = None;
        let steps: Vec<_> = (0..600_u64)
            .map(|second| {
                let load = if taken >= Some(Step::SmallerModel) { 0.3 } else { 0.6 };
                taken = ladder.look(Duration::from_secs(second), load);
                taken
            })
            .collect();
        assert_eq!(changes(&steps), 1, "{steps:?}");
        let noisy = (0..600).map(|second| [0.45, 0.55, 0.5][second % 3]);
        let steps = self::steps(noisy);
        assert_eq!((changes(&steps), steps[599]), (1, Some(Step::FewerPassages)), "{steps:?}");
    }

    #[test]
    fn a_time_without_looks_counts_for_nothing() {
        let mut ladder = ladder();
        assert_eq!(ladder.look(Duration::from_secs(0), 2.0), None);
        assert_eq!(ladder.look(Duration::from_secs(60), 2.0), None, "what was in between is not known");
        assert_eq!(ladder.look(Duration::from_secs(65), 2.0), Some(Step::RefuseAll));
        assert_eq!(ladder.look(Duration::from_secs(600), 0.0), Some(Step::RefuseAll));
    }

    proptest! {
        /// Whatever the load does, a step that is taken back was taken for `FALL` at least, and one that is
        /// taken again was away for `RISE`.
        #[test]
        fn no_load_makes_it_change_faster_than_configured(loads in prop::collection::vec(0.0..2.0_f64, 1..400)) {
            let steps = steps(loads);
            for step in Step::ALL {
                let taken: Vec<_> = steps.iter().map(|at| *at >= Some(step)).collect();
                let runs = taken.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u64));
                let runs: Vec<_> = runs.collect();
                for (taken, seconds) in &runs[1..runs.len().max(2) - 1] {
                    prop_assert!(*seconds >= if *taken { FALL } else { RISE }, "{step:?}: {steps:?}");
                }
            }
        }
    }
}
