//! Uploads: kept until dropped, orphans swept.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::some_tenant;
use crate::model::{Timestamp, UploadId};
use crate::ports::Documents;

pub async fn an_upload_is_what_was_put_until_it_is_dropped(documents: Arc<dyn Documents>) {
    let (tenant, stranger) = (some_tenant(), some_tenant());
    let id = UploadId::new();
    let bytes = Bytes::from((0..=255u8).cycle().take(300_000).collect::<Vec<_>>());
    documents.put_upload(&tenant, id, Bytes::from_static(b"first try")).await.unwrap();
    documents.put_upload(&tenant, id, bytes.clone()).await.unwrap();
    assert_eq!(documents.upload(&tenant, id).await.unwrap(), Some(bytes));
    assert_eq!(documents.upload(&stranger, id).await.unwrap(), None);
    documents.drop_upload(&stranger, id).await.unwrap();
    assert!(documents.upload(&tenant, id).await.unwrap().is_some());
    documents.drop_upload(&tenant, id).await.unwrap();
    documents.drop_upload(&tenant, id).await.unwrap();
    assert_eq!(documents.upload(&tenant, id).await.unwrap(), None);
}

pub async fn old_uploads_are_dropped_and_young_ones_are_not(documents: Arc<dyn Documents>) {
    let tenant = some_tenant();
    let id = UploadId::new();
    documents.put_upload(&tenant, id, Bytes::from_static("原件".as_bytes())).await.unwrap();
    documents.drop_uploads_before(Timestamp::now() - Duration::from_secs(3600)).await.unwrap();
    assert!(documents.upload(&tenant, id).await.unwrap().is_some());
    let dropped = documents.drop_uploads_before(Timestamp::now() + Duration::from_secs(3600)).await.unwrap();
    assert!(1 <= dropped);
    assert_eq!(documents.upload(&tenant, id).await.unwrap(), None);
}
