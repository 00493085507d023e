//! The state of the index that searches see: always a whole commit.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tantivy::collector::DocSetCollector;
use tantivy::query::TermQuery;
use tantivy::schema::{IndexRecordOption, Value};
use tantivy::{DocAddress, Index, IndexReader, ReloadPolicy, Searcher, TantivyDocument, TantivyError, Term};

use super::prepare;
use super::schema::{ANALYSER, FIELDS, ROW, SCHEMA};
use crate::ports::Writer;
use crate::search::MAX_LANGUAGES;
use crate::text::analyze::Language;

/// Checksums of an index up to this size are read when it is opened: a fraction of a second.
const CHECKED_BYTES: u64 = 64 << 20;
/// Decompressed blocks of stored passages kept in memory, 16 KiB each, per segment.
const CACHED_BLOCKS: usize = 8;

fn tantivy_folder(folder: &Path) -> PathBuf {
    folder.join("text")
}

/// Opens what is there; says what is wrong with it.
pub(super) fn open(folder: &Path) -> Result<Index, String> {
    let folder = tantivy_folder(folder);
    let open = || {
        let index = Index::open_in_dir(&folder)?;
        if index.schema() != *SCHEMA {
            return Err(TantivyError::SchemaError("other fields".to_owned()));
        }
        // Opens every segment: a missing or short file shows here.
        let _ = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        let bytes: u64 =
            fs::read_dir(&folder)?.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).sum();
        if bytes <= CHECKED_BYTES
            && let Some(file) = index.validate_checksum()?.into_iter().next()
        {
            return Err(TantivyError::InternalError(format!("{} fails its checksum", file.display())));
        }
        Ok(index)
    };
    // tantivy panics on some damage.
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(open)) {
        Ok(Ok(index)) => Ok(registered(index)),
        Ok(Err(err)) => Err(format!("it is damaged: {err}")),
        Err(_) => Err("it is damaged".to_owned()),
    }
}

pub(super) fn create(folder: &Path) -> tantivy::Result<Index> {
    let folder = tantivy_folder(folder);
    fs::create_dir_all(&folder)?;
    Index::create_in_dir(&folder, SCHEMA.clone()).map(registered)
}

fn registered(index: Index) -> Index {
    index.tokenizers().register(ANALYSER, prepare::analyser());
    index
}

/// One commit, and what is known of it.
pub(super) struct Snapshot {
    pub(super) searcher: Searcher,
    /// Languages of its passages, the most frequent first.
    pub(super) languages: Vec<Language>,
}

/// The latest commit.
pub(super) struct Snapshots {
    reader: IndexReader,
    latest: RwLock<Arc<Snapshot>>,
}

impl Snapshots {
    pub(super) fn new(index: &Index) -> tantivy::Result<Self> {
        let reader = index
            .reader_builder()
            .reload_policy(ReloadPolicy::Manual)
            .doc_store_cache_num_blocks(CACHED_BLOCKS)
            .try_into()?;
        let latest = Snapshot::of(reader.searcher())?;
        Ok(Self { reader, latest: RwLock::new(Arc::new(latest)) })
    }

    pub(super) fn latest(&self) -> Arc<Snapshot> {
        Arc::clone(&self.latest.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes the last commit what searches see.
    pub(super) fn reload(&self) -> tantivy::Result<()> {
        self.reader.reload()?;
        let latest = Arc::new(Snapshot::of(self.reader.searcher())?);
        *self.latest.write().unwrap_or_else(PoisonError::into_inner) = latest;
        Ok(())
    }
}

impl Snapshot {
    fn of(searcher: Searcher) -> tantivy::Result<Self> {
        let mut counts: Vec<(Language, u64)> = Vec::new();
        for segment in searcher.segment_readers() {
            let inverted = segment.inverted_index(FIELDS.language)?;
            let mut codes = inverted.terms().stream()?;
            while codes.advance() {
                let language = Language::from_code(std::str::from_utf8(codes.key()).unwrap_or("und"));
                let passages = u64::from(codes.value().doc_freq);
                match counts.iter_mut().find(|(known, _)| *known == language) {
                    Some((_, count)) => *count += passages,
                    None => counts.push((language, passages)),
                }
            }
        }
        counts.sort_by_key(|(language, count)| (std::cmp::Reverse(*count), language.code()));
        let languages = counts.into_iter().take(MAX_LANGUAGES).map(|(language, _)| language).collect();
        Ok(Self { searcher, languages })
    }

    pub(super) fn with_term(&self, term: Term) -> tantivy::Result<Vec<DocAddress>> {
        let query = TermQuery::new(term, IndexRecordOption::Basic);
        Ok(self.searcher.search(&query, &DocSetCollector)?.into_iter().collect())
    }

    pub(super) fn stored(&self, at: DocAddress) -> tantivy::Result<Vec<u8>> {
        let doc: TantivyDocument = self.searcher.doc(at)?;
        let stored = doc.get_first(FIELDS.stored).and_then(|value| value.as_bytes());
        Ok(stored.unwrap_or_default().to_vec())
    }

    /// The writer in a fence, and what it fences.
    pub(super) fn fence(&self, at: DocAddress) -> tantivy::Result<Option<Fence>> {
        Ok(Fence::parse(&self.stored(at)?))
    }

    /// Rows of the vectors of these passages.
    pub(super) fn rows(&self, at: &[DocAddress]) -> tantivy::Result<Vec<u64>> {
        let mut rows = Vec::new();
        for doc in at {
            let segment = self.searcher.segment_reader(doc.segment_ord);
            rows.extend(segment.fast_fields().u64(ROW)?.first(doc.doc_id));
        }
        Ok(rows)
    }
}

/// What a fence stores: the newest writer, and the key it guards.
#[derive(Clone, Copy)]
pub(super) struct Fence {
    pub(super) key: [u8; 32],
    pub(super) writer: Writer,
}

impl Fence {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let Writer { version, epoch } = self.writer;
        [&version.to_le_bytes()[..], &epoch.to_le_bytes(), &self.key].concat()
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let key = bytes.get(16..48)?.try_into().ok()?;
        Some(Self { key, writer: Writer { version: number(0)?, epoch: number(8)? } })
    }
}
