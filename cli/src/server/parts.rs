//! The ports of a process, and what is behind each.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use millhand_common::adapters::embedded::{
    EmbeddedBroker, EmbeddedDocuments, EmbeddedIndex, EmbeddedStore, Folder, Opened, StoreOptions,
    finish_backup, prepare_backup,
};
use millhand_common::ports::{
    Broker, Budget, Conversations, Documents, Embedder, Index, JobReader, JobStore, Keys,
};
use millhand_worker::costs::Costs;
use millhand_worker::ingest::{IngestDeps, Parser};
use millhand_worker::quota::Limited;

use super::{sample, shared};
use crate::config::{BrokerKind, Config, IndexKind, StoreKind};

/// The data folder where `--data` names none.
pub(crate) const DEFAULT_DATA: &str = "./millhand-data";

/// Everything that keeps something.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) store: Arc<dyn JobStore>,
    pub(super) reader: Arc<dyn JobReader>,
    pub(super) conversations: Arc<dyn Conversations>,
    pub(super) keys: Arc<dyn Keys>,
    pub(super) budget: Arc<dyn Budget>,
    pub(super) broker: Arc<dyn Broker>,
    /// Both, or neither without an index.
    pub(super) documents: Option<Arc<dyn Documents>>,
    pub(super) index: Option<Arc<dyn Index>>,
    pub(super) embedded: Embedded,
}

/// What belongs to this process and its folder alone.
#[derive(Clone, Default)]
pub(super) struct Embedded {
    pub(super) folder: Option<Arc<Folder>>,
    store: Option<Arc<EmbeddedStore>>,
    documents: Option<Arc<EmbeddedDocuments>>,
    index: Option<Arc<EmbeddedIndex>>,
}

impl Parts {
    /// Opens what the configuration names. The folder is made when it is not there, and refused when it
    /// is damaged, newer or in use; without one every part must be one that processes share.
    pub(super) async fn open(
        path: Option<&Path>,
        config: &Config,
        embedder: Option<Arc<dyn Embedder>>,
    ) -> anyhow::Result<Self> {
        let folder = path.map(Folder::open).transpose()?.map(Arc::new);
        let mut embedded = Embedded { folder, ..Embedded::default() };
        let (store, reader, conversations, keys, budget) = embedded.open_store(config).await?;
        let broker: Arc<dyn Broker> = match config.broker.kind {
            BrokerKind::Embedded => Arc::new(EmbeddedBroker::new()),
            BrokerKind::Kafka => shared::kafka(config).await?,
            BrokerKind::Rabbitmq => shared::rabbitmq(config).await?,
        };
        let (documents, index) = embedded.open_search(config, embedder).await?.unzip();
        Ok(Self { store, reader, conversations, keys, budget, broker, documents, index, embedded })
    }

    /// What ingesting needs; `None` without an index.
    pub(super) fn ingest(
        &self,
        embedder: Option<Arc<Limited<dyn Embedder>>>,
        costs: Arc<Costs>,
    ) -> anyhow::Result<Option<IngestDeps>> {
        let (Some(documents), Some(index)) = (self.documents.clone(), self.index.clone()) else {
            return Ok(None);
        };
        let exe = std::env::current_exe().context("cannot find this program's own file")?;
        Ok(Some(IngestDeps { documents, index, embedder, costs, parser: Parser::new(exe) }))
    }
}

type StorePorts =
    (Arc<dyn JobStore>, Arc<dyn JobReader>, Arc<dyn Conversations>, Arc<dyn Keys>, Arc<dyn Budget>);
type SearchPorts = (Arc<dyn Documents>, Arc<dyn Index>);

impl Embedded {
    async fn open_store(&mut self, config: &Config) -> anyhow::Result<StorePorts> {
        match config.store.kind {
            StoreKind::Embedded => {
                let options = StoreOptions {
                    keep_jobs: config.retention.jobs,
                    keep_events: config.retention.events.min(config.retention.jobs),
                    shares: config.shares(),
                    ..StoreOptions::default()
                };
                let store = EmbeddedStore::open(self.folder()?, options)?;
                self.store = Some(Arc::clone(&store));
                Ok((store.clone(), store.clone(), store.clone(), store.clone(), store))
            }
            StoreKind::Redis => {
                let store = shared::redis(config).await?;
                Ok((store.clone(), store.clone(), store.clone(), store.clone(), store))
            }
        }
    }

    async fn open_search(
        &mut self,
        config: &Config,
        embedder: Option<Arc<dyn Embedder>>,
    ) -> anyhow::Result<Option<SearchPorts>> {
        match config.index.kind {
            None | Some(IndexKind::None) => Ok(None),
            Some(IndexKind::Embedded) => {
                let (documents, index) = open_index(self.folder()?, embedder).await?;
                self.documents = Some(Arc::clone(&documents));
                self.index = Some(Arc::clone(&index));
                Ok(Some((documents, index)))
            }
            Some(IndexKind::Pgvector) => Ok(Some(shared::pgvector(config, embedder).await?)),
            Some(IndexKind::Chroma) => bail!("Chroma comes with a later version"),
        }
    }

    fn folder(&self) -> anyhow::Result<&Arc<Folder>> {
        self.folder.as_ref().context("an embedded part needs a data folder")
    }

    /// Ends writing to the index; call it when nothing works any more.
    pub(super) async fn close(&self) {
        if let Some(index) = &self.index {
            index.close().await;
        }
    }

    /// Copies everything in the folder into a new one while the server runs. Blocks.
    pub(super) fn back_up(&self, target: &Path) -> anyhow::Result<()> {
        let (Some(folder), Some(store)) = (&self.folder, &self.store) else {
            bail!("jobs are not kept in a data folder here: copy the shared store with its own tools");
        };
        prepare_backup(target)?;
        // Jobs first: a job that ends in between runs again after a restore, but none is ended in the
        // copy whose documents are not in it.
        store.backup_to(&target.join("jobs.db")).context("cannot copy the jobs")?;
        if let Some(documents) = &self.documents {
            // The index is left out: it is built anew from the documents.
            let folder = target.join("documents");
            fs::create_dir(&folder).context("cannot copy the documents")?;
            documents.backup_to(&folder.join("documents.db")).context("cannot copy the documents")?;
        }
        sample::copy_mark(folder.path(), target).context("cannot copy the folder's marks")?;
        Ok(finish_backup(target)?)
    }
}

/// An index that does not fit its documents or the embedder is built anew first.
async fn open_index(
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
    let mut config = Config::default();
    config.index.kind = Some(IndexKind::Embedded);
    let parts = Parts::open(Some(data), &config, None).await?;
    let target = target.to_owned();
    tokio::task::spawn_blocking(move || parts.embedded.back_up(&target)).await.context("copying broke")?
}
