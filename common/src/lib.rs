//! What `api` and `worker` must agree on: plain data ([`model`]), the ports to outside systems
//! ([`ports`]), the adapters that only `cli` picks ([`adapters`]), and names of signals.

pub mod adapters;
pub mod brownout;
#[cfg(feature = "testing")]
pub mod conformance;
pub mod crash;
pub mod follow;
pub mod limiter;
pub mod model;
pub mod ports;
pub mod prices;
pub mod scale;
pub mod search;
pub mod telemetry;
pub mod text;
pub mod tokens;
pub mod trace;
