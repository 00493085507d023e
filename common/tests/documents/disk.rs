//! What a folder of documents keeps.

use bytes::Bytes;
use millhand_common::adapters::embedded::{EmbeddedDocuments, OpenError};
use millhand_common::conformance::documents::{by, collection, some_document, some_tenant};
use millhand_common::model::UploadId;
use millhand_common::ports::{DocumentLookup, Documents, DocumentsError, Write};

use super::open_at;

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (tenant, all) = (some_tenant(), collection("all"));
    let (old, new, gone) = (
        some_document(&all, "a", "old", by(1, 0)),
        some_document(&all, "a", "new", by(2, 0)),
        some_document(&all, "b", "gone", by(3, 0)),
    );
    let upload = UploadId::new();
    {
        let documents = open_at(dir.path());
        for document in [&old, &new, &gone] {
            documents.put(&tenant, document.clone()).await.unwrap();
        }
        documents.delete(&tenant, &all, gone.document.id, 4).await.unwrap();
        documents.put_upload(&tenant, upload, Bytes::from_static(b"bytes")).await.unwrap();
    }
    let documents = open_at(dir.path());
    let listed = documents.list(&tenant, &all, 10, None).await.unwrap().unwrap();
    assert_eq!(listed.data, std::slice::from_ref(&new.document));
    let text = documents.text(&tenant, &all, old.document.id).await.unwrap();
    assert_eq!(text, DocumentLookup::Found("old".to_owned()));
    let text = documents.text(&tenant, &all, gone.document.id).await.unwrap();
    assert_eq!(text, DocumentLookup::Deleted);
    let late = some_document(&all, "b", "late", by(3, 9));
    assert_eq!(documents.put(&tenant, late).await.unwrap(), Write::Stale);
    assert_eq!(documents.upload(&tenant, upload).await.unwrap().unwrap(), b"bytes"[..]);
    assert_eq!(documents.export(None, 10).await.unwrap(), [(tenant, new)]);
}

#[tokio::test]
async fn a_copy_made_meanwhile_is_whole() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let documents = EmbeddedDocuments::open(dir.path()).unwrap();
    let (tenant, all) = (some_tenant(), collection("all"));
    let kept = some_document(&all, "a", "kept", by(1, 0));
    documents.put(&tenant, kept.clone()).await.unwrap();
    documents.backup_to(&copy.path().join("documents.db")).unwrap();
    documents.delete(&tenant, &all, kept.document.id, 2).await.unwrap();
    let restored = open_at(copy.path());
    let text = restored.text(&tenant, &all, kept.document.id).await.unwrap();
    assert_eq!(text, DocumentLookup::Found("kept".to_owned()));
}

#[tokio::test]
async fn a_flipped_byte_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let (tenant, all) = (some_tenant(), collection("all"));
    let text = "a sentence that is easy to find on the disk";
    let hurt = some_document(&all, "hurt", text, by(1, 0));
    let whole = some_document(&all, "whole", "another text", by(1, 0));
    {
        let documents = open_at(dir.path());
        documents.put(&tenant, hurt.clone()).await.unwrap();
        documents.put(&tenant, whole.clone()).await.unwrap();
    }
    let file = dir.path().join("documents.db");
    // What is still in the write-ahead log only would be damaged there, not here.
    assert!(std::fs::metadata(dir.path().join("documents.db-wal")).map_or(0, |wal| wal.len()) == 0);
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    bytes[at + 3] ^= 0x20;
    std::fs::write(&file, bytes).unwrap();
    let documents = open_at(dir.path());
    let err = documents.text(&tenant, &all, hurt.document.id).await.unwrap_err();
    assert!(
        matches!(&err, DocumentsError::Damaged(what) if what.contains(&hurt.document.id.to_string())),
        "{err}"
    );
    // It does not stand in the way of the others.
    assert_eq!(documents.export(None, 10).await.unwrap(), [(tenant, whole)]);
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open_at(dir.path()));
    // SQLite keeps `user_version` at byte 60 of the file, big-endian.
    let file = dir.path().join("documents.db");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[60..64].copy_from_slice(&9_999u32.to_be_bytes());
    std::fs::write(&file, bytes).unwrap();
    let refused = EmbeddedDocuments::open(dir.path()).err().unwrap();
    assert!(matches!(refused, OpenError::Newer { found: 9_999, .. }), "{refused}");
}
