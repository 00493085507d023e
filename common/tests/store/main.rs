//! The embedded store is held to what every store must do, to a model of it, and to what only a store
//! on disk can be asked.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod disk;
mod money;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millhand_common::adapters::embedded::{Clock, EmbeddedStore, Folder, StoreOptions};
use millhand_common::conformance::store::random::{self, Driven};
use millhand_common::conformance::store::{self, Subject};

/// A store in a folder of its own, with its clock.
struct Opened {
    store: Arc<EmbeddedStore>,
    clock: Clock,
}

fn open_at(path: &Path, clock: Clock) -> Opened {
    let options = StoreOptions { clock: clock.clone(), shares: store::shares(), ..StoreOptions::default() };
    open_with(path, options)
}

fn open_with(path: &Path, options: StoreOptions) -> Opened {
    let folder = Arc::new(Folder::open(path).unwrap());
    let clock = options.clock.clone();
    Opened { store: EmbeddedStore::open(&folder, options).unwrap(), clock }
}

fn subject(opened: Opened, folder: Arc<tempfile::TempDir>) -> Subject {
    let Opened { store, clock } = opened;
    Subject::new(store, move |duration: Duration| {
        // The folder lives as long as this hook, and so as long as the subject.
        let _ = &folder;
        clock.advance(duration);
        Box::pin(std::future::ready(()))
    })
}

async fn open() -> Subject {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    subject(open_at(dir.path(), Clock::manual()), dir)
}

millhand_common::store_conformance!(open);

#[test]
fn the_store_does_what_the_model_says() {
    random::the_store_does_what_the_model_says(96, || {
        Box::pin(async {
            let (dir, clock) = (Arc::new(tempfile::tempdir().unwrap()), Clock::manual());
            let its_clock = clock.clone();
            Driven {
                subject: subject(open_at(dir.path(), clock.clone()), Arc::clone(&dir)),
                now: Box::new(move || its_clock.now()),
                reopen: Box::new(move || {
                    let again = subject(open_at(dir.path(), clock.clone()), Arc::clone(&dir));
                    Box::pin(std::future::ready(again))
                }),
                reopening_voids_leases: true,
            }
        })
    });
}
