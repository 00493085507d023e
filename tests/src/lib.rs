//! Starts and stops the real product, talks to it as a client would, waits for conditions.
//!
//! The binary is the one beside the tests, `target/<profile>/millhand`: `./tests/run` builds it with
//! crash points compiled in.

pub mod browser;
pub mod client;
pub mod collector;
pub mod documents;
pub mod faults;
pub mod load;
pub mod log;
pub mod provider;
pub mod server;
pub mod servers;
pub mod storm;
pub mod wait;

pub use browser::Browser;
pub use client::Client;
pub use provider::{Call, Provider};
pub use server::{Launch, Server};
pub use wait::wait_for;
