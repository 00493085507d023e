//! The embedded store is held to what every store must do, to a model of it, and to what only a store
//! on disk can be asked.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod disk;
mod model;
mod random;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millhand_common::adapters::embedded::{Clock, EmbeddedStore, Folder, StoreOptions};
use millhand_common::conformance::store::Subject;

/// A store in a folder of its own, with its clock.
struct Opened {
    store: Arc<EmbeddedStore>,
    clock: Clock,
}

fn open_at(path: &Path, clock: Clock) -> Opened {
    let options = StoreOptions { clock: clock.clone(), ..StoreOptions::default() };
    open_with(path, options)
}

fn open_with(path: &Path, options: StoreOptions) -> Opened {
    let folder = Arc::new(Folder::open(path).unwrap());
    let clock = options.clock.clone();
    Opened { store: EmbeddedStore::open(&folder, options).unwrap(), clock }
}

async fn open() -> Subject {
    let dir = tempfile::tempdir().unwrap();
    let Opened { store, clock } = open_at(dir.path(), Clock::manual());
    Subject::new(store, move |duration: Duration| {
        // The folder lives as long as this hook, and so as long as the subject.
        let _ = &dir;
        clock.advance(duration);
        Box::pin(std::future::ready(()))
    })
}

millhand_common::store_conformance!(open);
