//! Readers that all come back at once.

use std::time::Duration;

use millhand_tests::storm::{Seen, storm};

const READERS: usize = 500;

/// All readers return in the same moment, which is worse than any `retry:` lets them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_returning_readers_costs_no_event_and_no_submit() {
    let Seen { calm, storm } = storm(READERS, Duration::ZERO).await;
    println!(
        "{READERS} streams came back. {} and {} submits, p95 {:?} before and {:?} meanwhile",
        calm.len(),
        storm.len(),
        Seen::p95(&calm),
        Seen::p95(&storm)
    );
}
