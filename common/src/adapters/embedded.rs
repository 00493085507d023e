//! Everything on disk in one folder, in one process.
//!
//! `jobs.db` is the store (SQLite, one writer thread, group commit), the broker is a queue in memory
//! beside it, `documents/` and `index/` hold what jobs are answered from.

mod broker;
mod clock;
mod documents;
mod engine;
mod folder;
mod hub;
mod index;
mod reserve;
mod schema;
mod store;
mod wal;
mod writer;

pub use crate::search::{Opened, RebuildError};
pub use broker::EmbeddedBroker;
pub use clock::Clock;
pub use documents::EmbeddedDocuments;
pub use folder::{FORMAT, Folder, OpenError, finish_backup, prepare_backup};
pub use index::EmbeddedIndex;
pub use store::{EmbeddedStore, StoreOptions};
