//! Documents and an index in memory, as far as the ingress uses them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use millhand_common::model::{
    CollectionName, Document, DocumentId, Passage, PassageId, Span, TenantId, Timestamp, UploadId,
};
use millhand_common::ports::{
    DocumentLookup, Documents, DocumentsError, Index, IndexDocument, IndexError, NewDocument, Page,
    SearchQuery, Write, Writer,
};

#[derive(Default)]
pub(crate) struct MemoryDocuments(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    uploads: BTreeMap<UploadId, Bytes>,
    collections: BTreeMap<(TenantId, CollectionName), BTreeMap<String, (Document, String)>>,
    deleted: Vec<DocumentId>,
    /// Collection and document names the index was told to forget, in order.
    forgotten: Vec<String>,
    full: bool,
}

impl MemoryDocuments {
    pub(crate) fn uploads(&self) -> Vec<Bytes> {
        self.0.lock().unwrap().uploads.values().cloned().collect()
    }

    pub(crate) fn fill(&self) {
        self.0.lock().unwrap().full = true;
    }

    pub(crate) fn forgotten(&self) -> Vec<String> {
        self.0.lock().unwrap().forgotten.clone()
    }

    /// A document of the default tenant, as a worker would have stored it.
    pub(crate) fn insert(&self, collection: &str, name: &str, text: &str) -> DocumentId {
        self.insert_for(&TenantId::default(), collection, name, text)
    }

    pub(crate) fn insert_for(
        &self,
        tenant: &TenantId,
        collection: &str,
        name: &str,
        text: &str,
    ) -> DocumentId {
        let id = DocumentId::new();
        let collection: CollectionName = collection.parse().unwrap();
        let document = Document {
            id,
            collection: collection.clone(),
            name: name.to_owned(),
            title: name.to_owned(),
            content_type: "text/plain".to_owned(),
            bytes: text.len() as u64,
            passages: 1,
            source: None,
            metadata: BTreeMap::new(),
            created_at: Timestamp::from_millis(1_795_546_500_123),
        };
        let mut kept = self.0.lock().unwrap();
        let documents = kept.collections.entry((tenant.clone(), collection)).or_default();
        documents.insert(name.to_owned(), (document, text.to_owned()));
        id
    }

    fn find(
        &self,
        tenant: &TenantId,
        collection: &CollectionName,
        id: DocumentId,
    ) -> DocumentLookup<(Document, String)> {
        let kept = self.0.lock().unwrap();
        if kept.deleted.contains(&id) {
            return DocumentLookup::Deleted;
        }
        let all = kept
            .collections
            .get(&(tenant.clone(), collection.clone()))
            .into_iter()
            .flat_map(BTreeMap::values);
        match all.into_iter().find(|(document, _)| document.id == id) {
            Some(found) => DocumentLookup::Found(found.clone()),
            None => DocumentLookup::Unknown,
        }
    }
}

fn map<T, U>(lookup: DocumentLookup<T>, with: impl FnOnce(T) -> U) -> DocumentLookup<U> {
    match lookup {
        DocumentLookup::Found(value) => DocumentLookup::Found(with(value)),
        DocumentLookup::Deleted => DocumentLookup::Deleted,
        DocumentLookup::Unknown => DocumentLookup::Unknown,
    }
}

#[async_trait]
impl Documents for MemoryDocuments {
    async fn put_upload(&self, _: &TenantId, id: UploadId, bytes: Bytes) -> Result<(), DocumentsError> {
        let mut kept = self.0.lock().unwrap();
        if kept.full {
            return Err(DocumentsError::Full);
        }
        kept.uploads.insert(id, bytes);
        Ok(())
    }

    async fn upload(&self, _: &TenantId, id: UploadId) -> Result<Option<Bytes>, DocumentsError> {
        Ok(self.0.lock().unwrap().uploads.get(&id).cloned())
    }

    async fn drop_upload(&self, _: &TenantId, id: UploadId) -> Result<(), DocumentsError> {
        self.0.lock().unwrap().uploads.remove(&id);
        Ok(())
    }

    async fn drop_uploads_before(&self, _: Timestamp) -> Result<u64, DocumentsError> {
        Ok(0)
    }

    async fn create_collection(
        &self,
        tenant: &TenantId,
        name: &CollectionName,
    ) -> Result<bool, DocumentsError> {
        let mut kept = self.0.lock().unwrap();
        let key = (tenant.clone(), name.clone());
        let made = !kept.collections.contains_key(&key);
        kept.collections.entry(key).or_default();
        Ok(made)
    }

    async fn collections(&self, tenant: &TenantId) -> Result<Vec<(CollectionName, u64)>, DocumentsError> {
        let kept = self.0.lock().unwrap();
        let own = kept.collections.iter().filter(|((owner, _), _)| owner == tenant);
        Ok(own.map(|((_, name), documents)| (name.clone(), documents.len() as u64)).collect())
    }

    async fn delete_collection(
        &self,
        tenant: &TenantId,
        name: &CollectionName,
        _: u64,
    ) -> Result<bool, DocumentsError> {
        Ok(self.0.lock().unwrap().collections.remove(&(tenant.clone(), name.clone())).is_some())
    }

    async fn put(&self, _: &TenantId, _: NewDocument) -> Result<Write, DocumentsError> {
        unreachable!("only workers write documents")
    }

    async fn list(
        &self,
        tenant: &TenantId,
        collection: &CollectionName,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Option<Page<Document>>, DocumentsError> {
        let kept = self.0.lock().unwrap();
        let key = (tenant.clone(), collection.clone());
        let Some(documents) = kept.collections.get(&key) else { return Ok(None) };
        let rest = documents.iter().filter(|(name, _)| after.is_none_or(|after| after < name.as_str()));
        let mut data: Vec<_> = rest.map(|(_, (document, _))| document.clone()).collect();
        let more = limit < data.len();
        data.truncate(limit);
        let next = data.last().filter(|_| more).map(|document| document.name.clone());
        Ok(Some(Page { data, next }))
    }

    async fn get(
        &self,
        tenant: &TenantId,
        collection: &CollectionName,
        id: DocumentId,
    ) -> Result<DocumentLookup<Document>, DocumentsError> {
        Ok(map(self.find(tenant, collection, id), |(document, _)| document))
    }

    async fn text(
        &self,
        tenant: &TenantId,
        collection: &CollectionName,
        id: DocumentId,
    ) -> Result<DocumentLookup<String>, DocumentsError> {
        Ok(map(self.find(tenant, collection, id), |(_, text)| text))
    }

    async fn delete(
        &self,
        tenant: &TenantId,
        collection: &CollectionName,
        id: DocumentId,
        _: u64,
    ) -> Result<DocumentLookup<Document>, DocumentsError> {
        let found = self.find(tenant, collection, id);
        if let DocumentLookup::Found((document, _)) = &found {
            let mut kept = self.0.lock().unwrap();
            kept.deleted.push(id);
            let key = (tenant.clone(), collection.clone());
            kept.collections.get_mut(&key).unwrap().remove(&document.name);
        }
        Ok(map(found, |(document, _)| document))
    }

    async fn replaced(&self, _: usize) -> Result<Vec<(TenantId, DocumentId)>, DocumentsError> {
        Ok(Vec::new())
    }

    async fn forget(&self, _: &TenantId, _: DocumentId) -> Result<(), DocumentsError> {
        Ok(())
    }

    async fn export(
        &self,
        _: Option<DocumentId>,
        _: usize,
    ) -> Result<Vec<(TenantId, NewDocument)>, DocumentsError> {
        Ok(Vec::new())
    }

    async fn ready(&self) -> Result<(), DocumentsError> {
        Ok(())
    }
}

/// Finds documents that hold the query.
pub(crate) struct MemoryIndex(pub(crate) Arc<MemoryDocuments>);

#[async_trait]
impl Index for MemoryIndex {
    async fn upsert(&self, _: &TenantId, _: Vec<IndexDocument>) -> Result<Vec<Write>, IndexError> {
        unreachable!("only workers write the index")
    }

    async fn delete(
        &self,
        _: &TenantId,
        collection: &CollectionName,
        name: &str,
        writer: Writer,
    ) -> Result<Write, IndexError> {
        assert!(0 < writer.version, "a delete is fenced");
        self.0.0.lock().unwrap().forgotten.push(format!("{collection}/{name}"));
        Ok(Write::Written)
    }

    async fn delete_collection(
        &self,
        _: &TenantId,
        collection: &CollectionName,
        writer: Writer,
    ) -> Result<(), IndexError> {
        assert!(0 < writer.version, "a delete is fenced");
        self.0.0.lock().unwrap().forgotten.push(collection.to_string());
        Ok(())
    }

    async fn search(&self, tenant: &TenantId, query: &SearchQuery) -> Result<Vec<Passage>, IndexError> {
        let kept = self.0.0.lock().unwrap();
        let named = query.collections.iter().map(|name| (tenant.clone(), name.clone()));
        let all = named.filter_map(|key| kept.collections.get(&key)).flat_map(BTreeMap::values);
        let hits = all.filter_map(|(document, text)| {
            let from = text.find(&query.texts[0])?;
            let span = Span::new(from, from + query.texts[0].len());
            Some(Passage {
                collection: document.collection.clone(),
                document_id: document.id,
                document: document.name.clone(),
                passage_id: PassageId { document: document.id, ordinal: 0 },
                title: document.title.clone(),
                text: span.of(text)?.to_owned(),
                span,
                score: 1.5,
            })
        });
        Ok(hits.take(query.limit).collect())
    }

    async fn ready(&self) -> Result<(), IndexError> {
        Ok(())
    }
}
