//! The sample collection: the handbook of a small museum, in English and Chinese, so that there is
//! something to ask before anything is added.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use millhand_common::follow::Follower;
use millhand_common::model::{
    AgentName, CollectionName, DocumentId, Hint, IngestItem, JobId, JobInput, JobSpec, Lane, OnBusy,
    TenantId, UploadId,
};
use millhand_common::ports::{Accept, Accepted, Broker, Documents, Expected, JobReader, JobStore};

/// Raise it when a document changes: folders that have an older one get the new one.
const VERSION: u32 = 1;
/// In the data folder: the version that was loaded into it.
const MARK: &str = "SAMPLE";
const DEADLINE: Duration = Duration::from_secs(600);

macro_rules! documents {
    ($($name:literal),* $(,)?) => {
        const DOCUMENTS: &[(&str, &str)] = &[$(($name, include_str!(concat!("../../sample/", $name)))),*];
    };
}

documents![
    "history.md",
    "machinery.md",
    "millhand-guide.md",
    "millhand-入门.md",
    "visiting.md",
    "volunteer-handbook.md",
    "参观指南.md",
    "志愿者须知.md",
    "水轮与石磨.md",
];

/// Questions that the sample answers.
pub(super) const QUESTIONS: &[&str] =
    &["How do I stop the mill in an emergency?", "如何紧急停机？", "How do I add my own documents?"];

/// What loading the sample needs.
pub(super) struct Sample {
    pub(super) store: Arc<dyn JobStore>,
    pub(super) reader: Arc<dyn JobReader>,
    pub(super) broker: Arc<dyn Broker>,
    pub(super) documents: Arc<dyn Documents>,
}

impl Sample {
    /// Loads the sample as an ordinary ingest job when the folder does not have this version of it,
    /// and returns when it can be asked. Whoever deletes the collection does not get it back.
    pub(super) async fn load(&self, folder: &Path) -> anyhow::Result<()> {
        let mark = folder.join(MARK);
        let loaded = tokio::fs::read_to_string(&mark).await.unwrap_or_default();
        if loaded.trim() == VERSION.to_string() {
            return Ok(());
        }
        let job = self.submit().await?;
        let mut log = Follower::new(Arc::clone(&self.reader), TenantId::default(), job, 0);
        let mut last = None;
        while let Some(event) = log.next().await? {
            last = Some(event);
        }
        match last {
            Some(end) if end.kind == "job.completed" => {}
            _ => bail!("job {job} did not complete: see `millhand jobs show {job}`"),
        }
        tokio::fs::write(&mark, format!("{VERSION}\n")).await.context("cannot note that the sample is loaded")
    }

    async fn submit(&self) -> anyhow::Result<JobId> {
        let tenant = TenantId::default();
        let mut items = Vec::new();
        for (name, text) in DOCUMENTS {
            let upload = UploadId::new();
            self.documents.put_upload(&tenant, upload, Bytes::from_static(text.as_bytes())).await?;
            items.push(IngestItem {
                upload,
                document_id: DocumentId::new(),
                name: (*name).to_owned(),
                content_type: Some("text/markdown; charset=utf-8".to_owned()),
                source: None,
                metadata: BTreeMap::new(),
                bytes: text.len() as u64,
            });
        }
        let spec = JobSpec {
            id: JobId::new(),
            tenant: tenant.clone(),
            input: JobInput::Ingest { collection: CollectionName::sample(), documents: items },
            agent: AgentName::rag(),
            lane: Lane::Interactive,
            conversation_id: None,
            collection: None,
            filter: None,
            deadline: DEADLINE,
            not_before: None,
            max_output_tokens: None,
            metadata: None,
            replay_of: None,
            traceparent: None,
        };
        let accept = Accept {
            spec,
            known_conversation: false,
            on_busy: OnBusy::Enqueue,
            replays_only: false,
            idempotency: None,
            expected: Expected::default(),
        };
        let job = match self.store.accept(accept).await? {
            Accepted::Created(job) | Accepted::Existing(job) => job,
            refused => bail!("the job was not accepted: {refused:?}"),
        };
        let hint = Hint { v: 1, job: job.spec.id, tenant, lane: job.spec.lane, traceparent: None };
        // Without the hint the job is late, not lost: it stands in the due index until `hinted`.
        if self.broker.publish(std::slice::from_ref(&hint)).await.is_ok() {
            self.store.hinted(&[(hint.tenant, hint.job)]).await?;
        }
        Ok(job.spec.id)
    }
}

/// Keeps a copy of the folder from loading the sample again.
pub(super) fn copy_mark(folder: &Path, target: &Path) -> std::io::Result<()> {
    match std::fs::copy(folder.join(MARK), target.join(MARK)) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_file_is_loaded_and_both_languages_are_there() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sample");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        assert_eq!(files, DOCUMENTS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        let chinese = |text: &str| text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
        assert!(QUESTIONS.iter().any(|question| chinese(question)));
        assert!(QUESTIONS.iter().any(|question| !chinese(question)));
    }
}
