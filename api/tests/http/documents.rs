//! Collections, uploads, documents and search.

use millhand_common::model::{JobInput, TenantId};
use millhand_common::ports::{JobReader, Lookup};
use serde_json::json;

use crate::support::client::Answer;
use crate::support::{Ingress, id_of, problem, start, start_with};

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// Name, file name, content type, bytes.
type Part<'a> = (&'a str, Option<&'a str>, Option<&'a str>, &'a [u8]);

/// A multipart body of these parts.
fn form(parts: &[Part<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file, kind, bytes) in parts {
        body.extend_from_slice(format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"").as_bytes());
        if let Some(file) = file {
            body.extend_from_slice(format!("; filename=\"{file}\"").as_bytes());
        }
        if let Some(kind) = kind {
            body.extend_from_slice(format!("\r\nContent-Type: {kind}").as_bytes());
        }
        body.extend_from_slice(b"\r\n\r\n");
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--B--\r\n");
    body
}

async fn upload(ingress: &Ingress, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let headers = [&[("Content-Type", "multipart/form-data; boundary=B")], headers].concat();
    ingress.client.send("POST", "/v1/collections/%E6%89%8B%E5%86%8C/documents", &headers, body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn files_become_an_ingest_job_whose_originals_are_stored_before_202() {
    let ingress = start().await;
    let body = form(&[
        ("file", Some("文档/第一章.md"), Some("text/markdown"), "# 标题".as_bytes()),
        ("file", Some("b.pdf"), Some("application/octet-stream"), &[0, 159, 146, 150]),
    ]);
    let answer = upload(&ingress, &[("Idempotency-Key", "u1")], &body).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let view = answer.json();
    assert_eq!(
        (&view["kind"], &view["collection"], &view["lane"]),
        (&json!("ingest"), &json!("手册"), &json!("interactive"))
    );
    assert_eq!((&view["agent"], &view["conversation_id"]), (&json!(null), &json!(null)));
    let Lookup::Found(job) = ingress.store.get(&TenantId::default(), id_of(&view)).await.unwrap() else {
        panic!()
    };
    let JobInput::Ingest { documents, .. } = job.spec.input else { panic!() };
    let named: Vec<_> =
        documents.iter().map(|item| (item.name.as_str(), item.content_type.as_deref(), item.bytes)).collect();
    assert_eq!(named, [("文档/第一章.md", Some("text/markdown"), 8), ("b.pdf", None, 4)]);
    assert_eq!(ingress.documents.uploads(), ["# 标题".as_bytes(), &[0, 159, 146, 150]]);
    assert_eq!(job.spec.deadline.as_secs(), 3600);
    // The collection can be asked at once.
    assert_eq!(
        ingress.client.get("/v1/collections/%E6%89%8B%E5%86%8C").await.json(),
        json!({ "name": "手册", "documents": 0 })
    );
    assert_eq!(
        ingress.client.post("/v1/jobs", &json!({ "input": "?", "collection": "手册" })).await.status,
        202
    );
    // The same upload again is the same job, and its originals are not kept twice.
    let again = upload(&ingress, &[("Idempotency-Key", "u1")], &body).await;
    assert_eq!(
        (again.json()["id"].as_str(), again.header("idempotency-replayed")),
        (view["id"].as_str(), Some("true"))
    );
    assert_eq!(ingress.documents.uploads().len(), 2);
    let other =
        upload(&ingress, &[("Idempotency-Key", "u1")], &form(&[("file", Some("c"), None, b"c")])).await;
    problem(&other, 422, "idempotency_mismatch");
    assert_eq!(ingress.documents.uploads().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn text_becomes_an_ingest_job_too() {
    let ingress = start().await;
    let body = json!({ "name": "a.md", "text": "正文", "source": "https://example.com", "metadata": { "年": 2026, "公开": true } });
    let answer = ingress.client.post("/v1/collections/c/documents", &body).await;
    assert_eq!(answer.status, 202);
    assert_eq!(ingress.documents.uploads(), ["正文".as_bytes()]);
    let bad = [
        ("c", json!({ "name": "a", "text": "x", "metadata": { "k": [1] } })),
        ("c", json!({ "name": " ", "text": "x" })),
        ("a%20b", json!({ "name": "a", "text": "x" })),
    ];
    for (collection, body) in bad {
        let answer = ingress.client.post(&format!("/v1/collections/{collection}/documents"), &body).await;
        problem(&answer, 422, "invalid_request");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_are_wrong_are_refused_and_leave_nothing() {
    let ingress = start_with(|state| state.config.limits.upload_bytes = 1000).await;
    let file = |name: &'static str| ("file", Some(name), None, &b"x"[..]);
    for parts in [
        &[("document", Some("a"), None, &b"x"[..])][..],
        &[("file", None, None, b"x")],
        &[file("a"), file("a")],
        &[file("  ")],
        &[],
    ] {
        let answer = upload(&ingress, &[], &form(parts)).await;
        assert!(matches!(answer.status, 400 | 422), "{parts:?}: {answer:?}");
    }
    problem(&upload(&ingress, &[], b"--B\r\nnonsense").await, 400, "malformed_multipart");
    problem(
        &upload(
            &ingress,
            &[],
            &form(&[("file", Some("a"), None, &[0; 600]), ("file", Some("b"), None, &[0; 600])]),
        )
        .await,
        413,
        "too_large",
    );
    let text = json!({ "name": "a", "text": "x".repeat(2000) });
    problem(&ingress.client.post("/v1/collections/c/documents", &text).await, 413, "too_large");
    let plain = ingress
        .client
        .send("POST", "/v1/collections/c/documents", &[("Content-Type", "text/plain")], b"x")
        .await;
    problem(&plain, 415, "unsupported_media_type");
    assert!(ingress.documents.uploads().is_empty());
    assert_eq!(ingress.client.get("/v1/jobs").await.json()["data"], json!([]));
    ingress.documents.fill();
    let full = ingress.client.post("/v1/collections/c/documents", &json!({ "name": "a", "text": "x" })).await;
    problem(&full, 503, "storage_full");
    assert!(full.header("retry-after").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_listed_read_and_deleted_at_once() {
    let ingress = start().await;
    let first = ingress.documents.insert("书", "一.txt", "春眠不觉晓");
    ingress.documents.insert("书", "二.txt", "处处闻啼鸟");
    let path = "/v1/collections/%E4%B9%A6/documents";
    let page = ingress.client.get(&format!("{path}?limit=1")).await.json();
    let next = page["next_cursor"].as_str().unwrap();
    let rest = ingress.client.get(&format!("{path}?limit=1&cursor={next}")).await.json();
    assert_eq!((&page["data"][0]["name"], &rest["data"][0]["name"]), (&json!("一.txt"), &json!("二.txt")));
    assert_eq!(rest["next_cursor"], json!(null));
    let mut view = ingress.client.get(&format!("{path}/{first}")).await.json();
    assert_eq!(view["id"], first.to_string());
    view["id"] = "doc_X".into();
    insta::assert_json_snapshot!(view, @r#"
    {
      "bytes": 15,
      "content_type": "text/plain",
      "created_at": "2026-11-24T18:55:00.123Z",
      "id": "doc_X",
      "metadata": {},
      "name": "一.txt",
      "passages": 1,
      "source": null
    }
    "#);
    let text = ingress.client.get(&format!("{path}/{first}/text")).await;
    assert_eq!(
        (text.text().as_str(), text.header("content-type")),
        ("春眠不觉晓", Some("text/plain; charset=utf-8"))
    );

    let search = json!({ "query": "不觉", "filter": { "name": "一.txt" } });
    let mut found = ingress.client.post("/v1/collections/%E4%B9%A6/search", &search).await.json();
    assert_eq!(found["results"][0]["passage_id"], format!("{first}#0"));
    found["results"][0]["document_id"] = "doc_X".into();
    found["results"][0]["passage_id"] = "doc_X#0".into();
    insta::assert_json_snapshot!(found, @r#"
    {
      "results": [
        {
          "document": "一.txt",
          "document_id": "doc_X",
          "passage_id": "doc_X#0",
          "score": 1.5,
          "span": [
            6,
            12
          ],
          "text": "不觉",
          "title": "一.txt"
        }
      ]
    }
    "#);

    assert_eq!(ingress.client.delete(&format!("{path}/{first}")).await.status, 204);
    assert_eq!(ingress.documents.forgotten(), ["书/一.txt"]);
    assert_eq!(ingress.client.delete(&format!("{path}/{first}")).await.status, 204, "idempotent");
    problem(&ingress.client.get(&format!("{path}/{first}/text")).await, 410, "gone");
    problem(&ingress.client.get(&format!("{path}/doc_1")).await, 404, "document_not_found");
    assert_eq!(ingress.client.delete("/v1/collections/%E4%B9%A6").await.status, 204);
    assert_eq!(ingress.documents.forgotten().last().unwrap(), "书");
    problem(&ingress.client.get(path).await, 404, "collection_not_found");
    problem(&ingress.client.delete("/v1/collections/%E4%B9%A6").await, 404, "collection_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_are_made_once_and_searches_are_checked() {
    let ingress = start().await;
    let made = ingress.client.post("/v1/collections", &json!({ "name": "c" })).await;
    assert_eq!((made.status, made.json()), (201, json!({ "name": "c", "documents": 0 })));
    assert_eq!(ingress.client.post("/v1/collections", &json!({ "name": "c" })).await.status, 200);
    ingress.client.post("/v1/collections", &json!({ "name": "a" })).await;
    let page = ingress.client.get("/v1/collections?limit=1").await.json();
    assert_eq!(page["data"][0]["name"], "a");
    let rest = ingress
        .client
        .get(&format!("/v1/collections?cursor={}", page["next_cursor"].as_str().unwrap()))
        .await
        .json();
    assert_eq!(rest["data"], json!([{ "name": "c", "documents": 0 }]));
    for bad in [json!({ "name": "a/b" }), json!({ "name": "" }), json!({}), json!({ "name": "x", "x": 1 })] {
        problem(&ingress.client.post("/v1/collections", &bad).await, 422, "invalid_request");
    }
    for bad in [
        json!({ "query": " " }),
        json!({ "query": "x", "limit": 0 }),
        json!({ "query": "x", "limit": 101 }),
        json!({ "query": "x", "filter": { "color": 1 } }),
        json!({ "query": "x".repeat(5000) }),
    ] {
        problem(&ingress.client.post("/v1/collections/c/search", &bad).await, 422, "invalid_request");
    }
    problem(
        &ingress.client.post("/v1/collections/none/search", &json!({ "query": "x" })).await,
        404,
        "collection_not_found",
    );
    let body = ingress.client.send("POST", "/v1/collections/c/search", &[JSON], b"{").await;
    problem(&body, 400, "malformed_json");
}
