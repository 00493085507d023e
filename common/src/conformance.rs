//! What every adapter of a port must do; each adapter's tests run these.

pub mod answers;
pub mod broker;
pub mod documents;
pub mod index;
pub mod keys;
pub mod limiter;
pub mod store;
