//! Faults against the real system: several ingresses and workers on real servers, clients that insist,
//! something that breaks in the middle, and a check of everything anybody saw.
//!
//! `tests/faults` runs each of them small; `just chaos` runs them until the numbers mean something.

mod check;
mod fault;
mod proxy;
mod run;
mod system;

pub use crate::servers::Kind;
pub use check::Report;
pub use fault::Fault;
pub use proxy::{Mode, Proxy};
pub use run::run;
pub use system::System;
