//! The embedded parts, opened on one data folder.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use millhand_common::adapters::embedded::{
    EmbeddedBroker, EmbeddedStore, Folder, StoreOptions, finish_backup, prepare_backup,
};
use millhand_common::ports::{Documents, Embedder, Index};
use millhand_worker::ingest::{IngestDeps, Parser};

use crate::config::Config;

/// The data folder where `--data` names none.
pub(crate) const DEFAULT_DATA: &str = "./millhand-data";

/// Everything that keeps something.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) folder: Arc<Folder>,
    pub(super) store: Arc<EmbeddedStore>,
    pub(super) broker: Arc<EmbeddedBroker>,
    documents: Option<Arc<dyn Documents>>,
    index: Option<Arc<dyn Index>>,
}

impl Parts {
    /// Opens the folder, makes it when it is not there, and refuses one that is damaged, newer or in
    /// use. Blocks.
    pub(super) async fn open(
        path: &Path,
        config: &Config,
        _embedder: Option<Arc<dyn Embedder>>,
    ) -> anyhow::Result<Self> {
        let folder = Arc::new(Folder::open(path)?);
        let options = StoreOptions {
            keep_jobs: config.retention.jobs,
            keep_events: config.retention.events.min(config.retention.jobs),
            ..StoreOptions::default()
        };
        let store = EmbeddedStore::open(&folder, options)?;
        Ok(Self { folder, store, broker: Arc::new(EmbeddedBroker::new()), documents: None, index: None })
    }

    pub(super) fn documents(&self) -> Option<Arc<dyn Documents>> {
        self.documents.clone()
    }

    pub(super) fn index(&self) -> Option<Arc<dyn Index>> {
        self.index.clone()
    }

    /// What ingesting needs; `None` without an index.
    pub(super) fn ingest(&self, embedder: Option<Arc<dyn Embedder>>) -> anyhow::Result<Option<IngestDeps>> {
        let (Some(documents), Some(index)) = (self.documents(), self.index()) else { return Ok(None) };
        let exe = std::env::current_exe().context("cannot find this program's own file")?;
        let parser = Parser::new(exe);
        Ok(Some(IngestDeps { documents, index, embedder, parser }))
    }

    /// Copies everything into a new folder while the server runs. Blocks.
    pub(super) fn back_up(&self, target: &Path) -> anyhow::Result<()> {
        prepare_backup(target)?;
        // Jobs first: a job that ends in between runs again after a restore, but none is ended in the
        // copy whose documents are not in it.
        self.store.backup_to(&target.join("jobs.db")).context("cannot copy the jobs")?;
        Ok(finish_backup(target)?)
    }
}

/// Copies a data folder that no server uses.
pub(crate) async fn back_up(data: &Path, target: &Path) -> anyhow::Result<()> {
    let parts = Parts::open(data, &Config::default(), None).await?;
    let target = target.to_owned();
    tokio::task::spawn_blocking(move || parts.back_up(&target)).await.context("copying broke")?
}
