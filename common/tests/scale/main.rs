//! The scaler in virtual time: a pool of workers under load, Millhand's rule beside those of others, and
//! the page that shows what came of it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod dice;
mod docs;
mod outcome;
mod plot;
mod promises;
mod properties;
mod provider;
mod rules;
mod scenario;
mod world;
