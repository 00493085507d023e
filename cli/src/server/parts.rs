//! The embedded parts, opened on one data folder.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use millhand_common::adapters::embedded::{
    EmbeddedBroker, EmbeddedDocuments, EmbeddedIndex, EmbeddedStore, Folder, Opened, StoreOptions,
    finish_backup, prepare_backup,
};
use millhand_common::ports::{Documents, Embedder, Index};
use millhand_worker::ingest::{IngestDeps, Parser};

use crate::config::{Config, IndexKind};

/// The data folder where `--data` names none.
pub(crate) const DEFAULT_DATA: &str = "./millhand-data";

/// Everything that keeps something.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) folder: Arc<Folder>,
    pub(super) store: Arc<EmbeddedStore>,
    pub(super) broker: Arc<EmbeddedBroker>,
    documents: Arc<EmbeddedDocuments>,
    /// `None` where the configuration asks for none.
    index: Option<Arc<dyn Index>>,
}

impl Parts {
    /// Opens the folder, makes it when it is not there, and refuses one that is damaged, newer or in
    /// use. Blocks.
    pub(super) async fn open(
        path: &Path,
        config: &Config,
        embedder: Option<Arc<dyn Embedder>>,
    ) -> anyhow::Result<Self> {
        let folder = Arc::new(Folder::open(path)?);
        let options = StoreOptions {
            keep_jobs: config.retention.jobs,
            keep_events: config.retention.events.min(config.retention.jobs),
            ..StoreOptions::default()
        };
        let store = EmbeddedStore::open(&folder, options)?;
        let documents = Arc::new(EmbeddedDocuments::open(&folder.documents())?);
        let index = match config.index.kind {
            IndexKind::None => None,
            _ => Some(open_index(&folder, &documents, embedder).await?),
        };
        Ok(Self { folder, store, broker: Arc::new(EmbeddedBroker::new()), documents, index })
    }

    pub(super) fn documents(&self) -> Option<Arc<dyn Documents>> {
        // Without an index nothing can be asked of documents.
        self.index.as_ref().map(|_| -> Arc<dyn Documents> { self.documents.clone() })
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
        let documents = target.join("documents");
        std::fs::create_dir_all(&documents).context("cannot make the copy's folder")?;
        self.documents.backup_to(&documents.join("documents.db")).context("cannot copy the documents")?;
        // The index is built anew from the documents when the copy is opened.
        Ok(finish_backup(target)?)
    }
}

/// Opens the index, and builds it anew from the documents where that is needed.
async fn open_index(
    folder: &Folder,
    documents: &EmbeddedDocuments,
    embedder: Option<Arc<dyn Embedder>>,
) -> anyhow::Result<Arc<dyn Index>> {
    let name = embedder.as_ref().map(|embedder| embedder.name().to_owned());
    let (index, opened) = EmbeddedIndex::open(&folder.index(), name).context("cannot open the index")?;
    if let Opened::NeedsRebuild(reason) = opened {
        tracing::info!(reason, "the index is built anew");
        index.rebuild_from(documents, embedder).await.context("cannot build the index anew")?;
    }
    Ok(Arc::new(index))
}

/// Copies a data folder that no server uses.
pub(crate) async fn back_up(data: &Path, target: &Path) -> anyhow::Result<()> {
    let parts = Parts::open(data, &Config::default(), None).await?;
    let target = target.to_owned();
    tokio::task::spawn_blocking(move || parts.back_up(&target)).await.context("copying broke")?
}
