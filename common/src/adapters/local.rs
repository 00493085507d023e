//! What belongs to one process and is gone with it.

mod limiter;

pub use limiter::LocalLimiter;
