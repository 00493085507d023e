//! What belongs to one process and is gone with it.

mod answers;
mod limiter;

pub use answers::LocalAnswers;
pub use limiter::LocalLimiter;
