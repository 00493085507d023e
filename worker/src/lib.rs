//! Queue in, answer out: takes jobs as slots allow, runs their pipeline, journals every step.

pub mod attempt;
pub mod ingest;
