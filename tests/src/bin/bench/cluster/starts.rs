//! How long a new worker takes to be there, alone and as one of as many as a supervisor starts at once.

use std::time::Duration;

use crate::median;
use crate::table::Table;

use super::stack::Stack;

const ROUNDS: usize = 8;
/// From one worker to eight.
const AT_ONCE: usize = 7;
const AIM_MS: f64 = 200.0;

pub(super) async fn measure(table: &mut Table, stack: &Stack) {
    for (workers, what) in
        [(1, "a worker is ready"), (AT_ONCE, "the last of seven that start at once is ready")]
    {
        let mut last = Vec::new();
        for _ in 0..ROUNDS {
            let took = stack.starting(workers).await;
            last.push(took.iter().max().map_or(0.0, Duration::as_secs_f64) * 1000.0);
        }
        let worst = last.iter().copied().fold(0.0, f64::max);
        let row = |what: &str| format!("{}: {what} of {ROUNDS} starts", stack.name());
        table.row(&row(&format!("{what}, p50")), (median(last), None, "ms"), "", None);
        table.row(&row(&format!("{what}, worst")), (worst, None, "ms"), "<= 200 ms", Some(worst <= AIM_MS));
    }
}
