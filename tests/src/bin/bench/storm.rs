//! `just bench-overload`, its last row: an ingress dies, and all its readers come back to another one.

use std::time::Duration;

use millhand_tests::storm::{Seen, storm};

use crate::table::Table;

const READERS: usize = 2_000;
/// A browser waits for 1 to 5 s: this is worse.
const WITHIN: Duration = Duration::from_secs(1);

pub(crate) async fn measure() {
    let Seen { calm, storm } = storm(READERS, WITHIN).await;
    let [calm, storm] = [calm, storm].map(|took| Seen::p95(&took).as_secs_f64() * 1000.0);
    let mut table = Table::default();
    let what = format!("submit, p95, while {READERS} streams come back within {WITHIN:?}, against before");
    table.row(&what, (storm, Some(calm), "ms"), "<= 2 x", Some(storm <= 2.0 * calm));
    println!("{table}{READERS} streams came back; no event was missed, none came twice.");
}
