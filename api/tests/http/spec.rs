//! The specification is made from the code, and its page works offline.

use serde_json::Value;

use crate::support::start;

#[tokio::test(flavor = "multi_thread")]
async fn the_spec_names_every_route_and_resolves() {
    let ingress = start().await;
    let spec = ingress.client.get("/openapi.json").await.json();
    let mut lines = Vec::new();
    for (path, item) in spec["paths"].as_object().unwrap() {
        let methods: Vec<_> = item.as_object().unwrap().keys().map(String::as_str).collect();
        lines.push(format!("{path}: {}", methods.join(" ")));
    }
    lines.sort();
    insta::assert_snapshot!(lines.join("\n"), @"
    /healthz: get
    /readyz: get
    /v1/agents: get
    /v1/collections/{collection}/documents/{id}/text: get
    /v1/collections/{collection}/documents/{id}: delete get
    /v1/collections/{collection}/documents: get post
    /v1/collections/{collection}/search: post
    /v1/collections/{collection}: delete get
    /v1/collections: get post
    /v1/conversations/{id}/messages: get
    /v1/conversations/{id}: delete get
    /v1/conversations: get post
    /v1/jobs/{id}/cancel: post
    /v1/jobs/{id}/events: get
    /v1/jobs/{id}/ticket: post
    /v1/jobs/{id}: delete get
    /v1/jobs: get post
    /v1/usage: get
    /v1/ws: get
    ");
    let text = spec.to_string();
    for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert_ne!(spec["components"]["schemas"][name], Value::Null, "{name} is referred to and not defined");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_needs_nothing_from_outside() {
    let ingress = start().await;
    assert!(matches!(ingress.client.get("/docs").await.status, 303 | 307 | 308));
    let page = ingress.client.get("/docs/").await;
    assert_eq!(page.status, 200);
    for foreign in ["src=\"http", "href=\"http", "src=\"//"] {
        assert!(!page.text().contains(foreign), "{foreign}");
    }
    let script = ingress.client.get("/docs/swagger-initializer.js").await;
    assert!(script.text().contains("/openapi.json"));
    assert_eq!(ingress.client.get("/docs/swagger-ui-bundle.js").await.status, 200);
}
