//! The embedded parts, opened on one data folder.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use millhand_common::adapters::embedded::{
    EmbeddedBroker, EmbeddedDocuments, EmbeddedIndex, EmbeddedStore, Folder, Opened, StoreOptions,
    finish_backup, prepare_backup,
};
use millhand_common::ports::{Documents, Embedder, Index};
use millhand_worker::ingest::{IngestDeps, Parser};

use super::sample;
use crate::config::{Config, IndexKind};

/// The data folder where `--data` names none.
pub(crate) const DEFAULT_DATA: &str = "./millhand-data";

/// Everything that keeps something.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) folder: Arc<Folder>,
    pub(super) store: Arc<EmbeddedStore>,
    pub(super) broker: Arc<EmbeddedBroker>,
    /// Both, or neither with `[index] kind = "none"`.
    search: Option<(Arc<EmbeddedDocuments>, Arc<EmbeddedIndex>)>,
}

impl Parts {
    /// Opens the folder, makes it when it is not there, and refuses one that is damaged, newer or in
    /// use. An index that does not fit its documents or the embedder is built anew first.
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
        let search = match config.index.kind {
            IndexKind::None => None,
            _ => Some(open_search(&folder, embedder).await?),
        };
        Ok(Self { folder, store, broker: Arc::new(EmbeddedBroker::new()), search })
    }

    pub(super) fn documents(&self) -> Option<Arc<dyn Documents>> {
        let (documents, _) = self.search.as_ref()?;
        Some(Arc::clone(documents) as Arc<dyn Documents>)
    }

    pub(super) fn index(&self) -> Option<Arc<dyn Index>> {
        let (_, index) = self.search.as_ref()?;
        Some(Arc::clone(index) as Arc<dyn Index>)
    }

    /// Ends writing to the index; call it when nothing works any more.
    pub(super) async fn close(&self) {
        if let Some((_, index)) = &self.search {
            index.close().await;
        }
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
        if let Some((documents, _)) = &self.search {
            // The index is left out: it is built anew from the documents.
            let folder = target.join("documents");
            fs::create_dir(&folder).context("cannot copy the documents")?;
            documents.backup_to(&folder.join("documents.db")).context("cannot copy the documents")?;
        }
        sample::copy_mark(self.folder.path(), target).context("cannot copy the folder's marks")?;
        Ok(finish_backup(target)?)
    }
}

async fn open_search(
    folder: &Folder,
    embedder: Option<Arc<dyn Embedder>>,
) -> anyhow::Result<(Arc<EmbeddedDocuments>, Arc<EmbeddedIndex>)> {
    let documents = Arc::new(EmbeddedDocuments::open(&folder.documents())?);
    let name = embedder.as_ref().map(|embedder| embedder.name().to_owned());
    let (index, opened) =
        EmbeddedIndex::open(&folder.index(), name).context("cannot open the search index")?;
    if let Opened::NeedsRebuild(reason) = opened {
        if !folder.is_fresh() {
            tracing::info!(reason, "the search index is built anew; this may take a while");
        }
        let built = index.rebuild_from(&*documents, embedder).await;
        built.with_context(|| format!("the search index cannot be built anew ({reason})"))?;
    }
    Ok((documents, Arc::new(index)))
}

/// Copies a data folder that no server uses.
pub(crate) async fn back_up(data: &Path, target: &Path) -> anyhow::Result<()> {
    let parts = Parts::open(data, &Config::default(), None).await?;
    let target = target.to_owned();
    tokio::task::spawn_blocking(move || parts.back_up(&target)).await.context("copying broke")?
}
