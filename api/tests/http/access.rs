//! Keys, scopes and tenants, over every path there is.

use futures::{SinkExt, StreamExt};
use millhand_common::model::{ApiKey, Scope, TenantId, Timestamp};
use millhand_common::ports::Keys;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::client::{Answer, Client};
use crate::support::{Ingress, id_of, problem, start, wait_for};

const BOTH: [Scope; 2] = [Scope::Submit, Scope::Read];

/// Adds a key and waits until it is asked for.
async fn key(ingress: &Ingress, tenant: &str, scopes: &[Scope]) -> (ApiKey, String) {
    let (key, secret) = ApiKey::new(tenant.parse().unwrap(), scopes.to_vec());
    ingress.store.add_key(&key).await.unwrap();
    wait_for("the key to be known", async || {
        let answer = with(&ingress.client, &secret, "GET", "/v1/agents", &Value::Null).await;
        (answer.status != 401 && ingress.client.get("/v1/agents").await.status == 401).then_some(())
    })
    .await;
    (key, secret)
}

async fn with(client: &Client, secret: &str, method: &str, path: &str, body: &Value) -> Answer {
    let bearer = format!("Bearer {secret}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let body = if body.is_null() { String::new() } else { body.to_string() };
    client.send(method, path, &headers, body.as_bytes()).await
}

/// Every method and path of the specification.
async fn operations(ingress: &Ingress) -> Vec<(String, String)> {
    let spec = ingress.client.get("/openapi.json").await.json();
    let paths = spec["paths"].as_object().unwrap();
    let all: Vec<_> = paths
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone()))
        })
        .collect();
    assert!(all.len() > 20, "{all:?}");
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn once_there_is_a_key_every_path_asks_for_one_but_those_that_say_nothing() {
    let ingress = start().await;
    let (key, secret) = key(&ingress, "acme", &BOTH).await;
    let stranger = ApiKey::new(TenantId::default(), BOTH.to_vec()).1;
    for (method, path) in operations(&ingress).await {
        let path = path.replace("{id}", "job_1").replace("{collection}", "c");
        let without = ingress.client.send(&method, &path, &[], b"").await;
        if matches!(path.as_str(), "/healthz" | "/readyz") {
            assert_eq!(without.status, 200, "{method} {path}");
            continue;
        }
        assert_eq!(without.header("www-authenticate"), Some("Bearer"), "{method} {path}");
        problem(&without, 401, "unauthorized");
        for wrong in [&stranger, &key.digest, &key.id, &secret[..secret.len() - 1]] {
            let refused = with(&ingress.client, wrong, &method, &path, &Value::Null).await;
            problem(&refused, 401, "unauthorized");
        }
        let known = with(&ingress.client, &secret, &method, &path, &Value::Null).await;
        assert!(!matches!(known.status, 401 | 403 | 500), "{method} {path}: {known:?}");
    }
    problem(&ingress.client.get("/nowhere").await, 401, "unauthorized");
    for open in ["/openapi.json", "/docs/"] {
        assert_eq!(ingress.client.get(open).await.status, 200, "{open}");
    }
    let in_address = ingress.client.get(&format!("/v1/jobs?key={secret}")).await;
    assert_eq!(in_address.status, 401, "a key in an address opens nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_one_tenants_is_404_to_another_on_every_path() {
    let ingress = start().await;
    let (_, ours) = key(&ingress, "acme", &BOTH).await;
    let (_, theirs) = key(&ingress, "globex", &BOTH).await;
    let us =
        async |method: &str, path: &str, body: &Value| with(&ingress.client, &ours, method, path, body).await;
    let them = async |method: &str, path: &str, body: &Value| {
        with(&ingress.client, &theirs, method, path, body).await
    };
    let document = ingress.documents.insert_for(&"acme".parse().unwrap(), "手册", "信", "磨坊九点开门。");
    let found = us("GET", &format!("/v1/collections/手册/documents/{document}"), &Value::Null).await;
    assert_eq!(found.status, 200, "{found:?}");
    let job = us("POST", "/v1/jobs", &json!({"input": "开门？", "agent": "chat"})).await.json();
    let (id, conversation) = (id_of(&job), job["conversation_id"].as_str().unwrap().to_owned());
    let mut met = 0;
    for (method, path) in operations(&ingress).await {
        let Some(path) = path
            .contains('{')
            .then(|| match path.split('/').nth(2) {
                Some("conversations") => path.replace("{id}", &conversation),
                Some("collections") => path.replace("{id}", &document.to_string()),
                _ => path.replace("{id}", &id.to_string()),
            })
            .map(|path| path.replace("{collection}", "手册"))
        else {
            continue;
        };
        // Adding a document makes a collection: of one's own, whatever its name.
        if method == "POST" && path.ends_with("/documents") {
            continue;
        }
        let body = if path.ends_with("/search") { json!({"query": "磨坊"}) } else { Value::Null };
        let answer = them(&method, &path, &body).await;
        assert_eq!(answer.status, 404, "{method} {path}: {answer:?}");
        met += 1;
    }
    assert!(met >= 12, "{met} paths name something");
    for list in ["/v1/jobs", "/v1/conversations", "/v1/collections"] {
        assert_eq!(them("GET", list, &Value::Null).await.json()["data"], json!([]), "{list}");
    }
    let stolen = json!({"input": "开门？", "agent": "chat", "conversation_id": conversation});
    assert_eq!(them("POST", "/v1/jobs", &stolen).await.status, 404);
    let stolen = json!({"input": "开门？", "collection": "手册"});
    assert_eq!(them("POST", "/v1/jobs", &stolen).await.status, 404);
    let bearer = format!("Bearer {theirs}");
    let path = format!("/v1/jobs/{id}/events");
    let sse = ingress.client.sse(&path, &format!("Authorization: {bearer}\r\n")).await;
    assert_eq!(sse.head.status, 404);
    assert_eq!(ingress.client.websocket(&path, &[("authorization", &bearer)]).await.unwrap_err(), 404);
    let mut socket = ingress.client.websocket("/v1/ws", &[("authorization", &bearer)]).await.unwrap();
    for op in ["subscribe", "cancel"] {
        socket.send(Message::text(json!({"op": op, "ref": 1, "job_id": id}).to_string())).await.unwrap();
        let Some(Ok(Message::Text(answer))) = socket.next().await else { panic!("an answer") };
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["error"]["status"], 404, "{answer}");
    }
    assert_eq!(us("GET", &format!("/v1/jobs/{id}"), &Value::Null).await.json()["status"], "queued");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_does_what_its_scopes_say() {
    let ingress = start().await;
    let (_, reads) = key(&ingress, "acme", &[Scope::Read]).await;
    let (_, submits) = key(&ingress, "acme", &[Scope::Submit]).await;
    let question = json!({"input": "问", "agent": "chat"});
    problem(&with(&ingress.client, &reads, "POST", "/v1/jobs", &question).await, 403, "insufficient_scope");
    let accepted = with(&ingress.client, &submits, "POST", "/v1/jobs", &question).await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let path = format!("/v1/jobs/{}", id_of(&accepted.json()));
    problem(&with(&ingress.client, &submits, "GET", &path, &Value::Null).await, 403, "insufficient_scope");
    assert_eq!(with(&ingress.client, &reads, "GET", &path, &Value::Null).await.status, 200);
    let bearer = format!("Bearer {reads}");
    let mut socket = ingress.client.websocket("/v1/ws", &[("authorization", &bearer)]).await.unwrap();
    let submit = json!({"op": "submit", "ref": 1, "job": question});
    socket.send(Message::text(submit.to_string())).await.unwrap();
    let Some(Ok(Message::Text(answer))) = socket.next().await else { panic!("an answer") };
    assert_eq!(serde_json::from_str::<Value>(&answer).unwrap()["error"]["code"], "insufficient_scope");
}

/// Also what it had opened: a stream that goes on would go on telling.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_dead_and_so_are_its_streams() {
    let ingress = start().await;
    let (key, secret) = key(&ingress, "acme", &BOTH).await;
    let question = json!({"input": "问", "agent": "chat"});
    let job = with(&ingress.client, &secret, "POST", "/v1/jobs", &question).await.json();
    let path = format!("/v1/jobs/{}/events", id_of(&job));
    let bearer = format!("Bearer {secret}");
    let mut stream = ingress.client.sse(&path, &format!("Authorization: {bearer}\r\n")).await;
    let mut socket = ingress.client.websocket("/v1/ws", &[("authorization", &bearer)]).await.unwrap();
    assert!(stream.block().await.unwrap().contains("job.queued"));

    assert!(ingress.store.revoke_key(&key.id, Timestamp::now()).await.unwrap());
    let mut after = Vec::new();
    while let Some(block) = stream.block().await {
        after.push(block);
    }
    assert!(after.iter().all(|block| block.starts_with("retry:")), "{after:?}");
    let closed = socket.next().await;
    assert!(matches!(closed, Some(Ok(Message::Close(_)))), "{closed:?}");
    let refused = with(&ingress.client, &secret, "GET", "/v1/jobs", &Value::Null).await;
    problem(&refused, 401, "unauthorized");
    // The last key is gone, and the door stays shut.
    problem(&ingress.client.get("/v1/jobs").await, 401, "unauthorized");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_opens_the_events_of_its_job_and_nothing_else() {
    let ingress = start().await;
    let (_, secret) = key(&ingress, "acme", &BOTH).await;
    let ask = async |method: &str, path: &str, body: &Value| {
        with(&ingress.client, &secret, method, path, body).await
    };
    let question = json!({"input": "问", "agent": "chat"});
    let mut jobs = Vec::new();
    for _ in 0..2 {
        jobs.push(id_of(&ask("POST", "/v1/jobs", &question).await.json()));
    }
    let made = ask("POST", &format!("/v1/jobs/{}/ticket", jobs[0]), &Value::Null).await;
    assert_eq!(made.status, 201, "{made:?}");
    let ticket = made.json()["ticket"].as_str().unwrap().to_owned();
    let events = |job| format!("/v1/jobs/{job}/events?ticket={ticket}");
    assert_eq!(ingress.client.get(&events(jobs[0])).await.status, 200);
    assert!(ingress.client.websocket(&events(jobs[0]), &[]).await.is_ok());
    let mut stream = ingress.client.sse(&events(jobs[0]), "").await;
    assert!(stream.block().await.unwrap().contains("job.queued"));
    problem(&ingress.client.get(&events(jobs[1])).await, 401, "unauthorized");
    for path in
        [format!("/v1/jobs/{}", jobs[0]), "/v1/jobs".to_owned(), format!("/v1/jobs/{}/cancel", jobs[0])]
    {
        let answer = ingress.client.get(&format!("{path}?ticket={ticket}")).await;
        assert_eq!(answer.status, 401, "{path}");
    }
    problem(&ask("POST", "/v1/jobs/job_1/ticket", &Value::Null).await, 404, "job_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_takes_its_key_as_a_protocol() {
    let ingress = start().await;
    let (_, secret) = key(&ingress, "acme", &BOTH).await;
    assert_eq!(ingress.client.websocket("/v1/ws", &[]).await.unwrap_err(), 401);
    for offer in [format!("millhand, {secret}"), secret.clone()] {
        let socket = ingress.client.websocket("/v1/ws", &[("sec-websocket-protocol", &offer)]).await;
        let mut socket = socket.unwrap();
        socket.send(Message::text(json!({"op": "ping", "ref": 1}).to_string())).await.unwrap();
        let Some(Ok(Message::Text(answer))) = socket.next().await else { panic!("an answer") };
        assert_eq!(serde_json::from_str::<Value>(&answer).unwrap()["ok"], true);
    }
}
