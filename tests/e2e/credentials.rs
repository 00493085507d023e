//! Keys as an operator makes them, over real processes, and a page in a real browser that has one.

use serde_json::{Value, json};
use tokio::process::Command;

use millhand_tests::browser::Browser;
use millhand_tests::provider::answer_to;
use millhand_tests::server::binary;
use millhand_tests::servers::{RabbitMq, Redis};
use millhand_tests::{Client, Launch, Provider, wait_for};

/// Runs `millhand keys …`; what it printed as JSON.
pub(crate) async fn keys(args: &[&str], env: &[(&str, &str)]) -> Value {
    let mut command = Command::new(binary());
    command.arg("keys").args(args).arg("--json").envs(env.iter().copied());
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The status of a path with this key.
async fn status(client: &Client, key: &str, path: &str) -> u16 {
    client.send(client.request("GET", path).bearer_auth(key)).await.unwrap().status
}

pub(crate) async fn becomes(client: &Client, key: &str, path: &str, wanted: u16) {
    wait_for("the key to change", || async { (status(client, key, path).await == wanted).then_some(()) })
        .await;
}

/// Through the running server, which owns the folder; and on the folder itself when nobody does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_made_and_revoked_while_the_server_runs_and_while_it_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let server = Launch::new(dir.path()).start().await;
    assert_eq!(server.client.get("/v1/jobs").await.status, 200, "no keys: this machine is served");
    let made = keys(&["create", "--tenant", "acme", "--data", data], &[]).await;
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert_eq!(made["tenant"], "acme");
    becomes(&server.client, key, "/v1/jobs", 200).await;
    wait_for("the door to shut", || async {
        (server.client.get("/v1/jobs").await.status == 401).then_some(())
    })
    .await;
    assert!(!server.logged().contains(key), "a key is never logged");
    let listed = keys(&["list", "--data", data], &[]).await;
    assert_eq!((&listed[0]["id"], &listed[0]["scopes"]), (&json!(id), &json!(["submit", "read"])));
    assert!(!listed.to_string().contains(key));
    server.sigterm().await;

    let second = keys(&["create", "--tenant", "acme", "--scopes", "read", "--data", data], &[]).await;
    assert_eq!(keys(&["revoke", id, "--data", data], &[]).await["revoked"], id);
    let server = Launch::new(dir.path()).start().await;
    assert_eq!(status(&server.client, key, "/v1/jobs").await, 401);
    assert_eq!(status(&server.client, second["key"].as_str().unwrap(), "/v1/jobs").await, 200);
    let unknown =
        Command::new(binary()).args(["keys", "revoke", "key_x", "--data", data]).output().await.unwrap();
    assert!(!unknown.status.success());
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("millhand keys list"));
}

/// On shared parts every ingress knows a key, and with one they serve other machines.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_ingress_knows_a_key_and_other_machines_may_come() {
    let (redis, rabbit) = futures::join!(Redis::start(), RabbitMq::start());
    let url = redis.url();
    let launch = |role| {
        Launch::shared(role)
            .env("MILLHAND_BROKER__KIND", "rabbitmq")
            .env("MILLHAND_BROKER__URL", rabbit.url())
            .env("MILLHAND_STORE__KIND", "redis")
            .env("MILLHAND_STORE__URL", url.as_str())
    };
    let open = launch("api").at("http://0.0.0.0:0");
    let (_, said) = open.try_start().await.err().expect("without a key only this machine is served");
    assert!(said.contains("millhand keys create"), "{said}");
    let env = [("MILLHAND_STORE__KIND", "redis"), ("MILLHAND_STORE__URL", url.as_str())];
    let key = keys(&["create", "--tenant", "acme"], &env).await["key"].as_str().unwrap().to_owned();
    let local = launch("api");
    let (first, second) = futures::join!(open.start(), local.start());
    for server in [&first, &second] {
        let client = Client::new(&server.url.replace("0.0.0.0", "127.0.0.1"));
        assert_eq!(status(&client, &key, "/v1/jobs").await, 200);
        assert_eq!(client.get("/v1/jobs").await.status, 401);
    }
}

/// A page with a ticket follows its job by `EventSource` and by WebSocket, and one with a key by `/v1/ws`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_in_a_real_browser_reads_with_a_ticket_and_with_a_protocol() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let server = Launch::new(dir.path()).model(&model.base_url()).start().await;
    let data = dir.path().to_str().unwrap();
    let made = keys(&["create", "--tenant", "acme", "--data", data], &[]).await;
    let key = made["key"].as_str().unwrap();
    becomes(&server.client, key, "/v1/jobs", 200).await;
    let browser = Browser::start();
    let page = format!("{}/docs/", server.url);
    let seen = browser.run(&page, &PAGE.replace("KEY", key)).await;
    assert_eq!(seen["refused"], 401, "{seen}");
    for way in ["eventsource", "socket", "multiplex"] {
        assert_eq!(seen[way], answer_to("页 tokens=3 gap=5"), "{seen}");
    }
    let log = server.logged();
    assert!(!log.contains(key) && !log.contains("mht_"), "neither key nor ticket is logged");
}

const PAGE: &str = r#"
(async () => {
    const headers = { authorization: "Bearer KEY", "content-type": "application/json" };
    const body = JSON.stringify({ input: "页 tokens=3 gap=5", agent: "chat" });
    const refused = (await fetch("/v1/jobs")).status;
    const job = await (await fetch("/v1/jobs", { method: "POST", headers, body })).json();
    const ticket = (await (await fetch(`/v1/jobs/${job.id}/ticket`, { method: "POST", headers })).json()).ticket;
    const events = `${job.links.events}?ticket=${encodeURIComponent(ticket)}`;
    const text = add => new Promise((done, failed) => {
        let said = "";
        add(event => {
            if (event.type === "output_text.delta") said += event.data.text;
            if (event.type === "job.completed") done(said);
        }, failed);
    });
    const eventsource = await text((take, failed) => {
        const source = new EventSource(events);
        for (const type of ["output_text.delta", "job.completed"]) {
            source.addEventListener(type, event => {
                take(JSON.parse(event.data));
                if (type === "job.completed") source.close();
            });
        }
        source.onerror = () => failed(new Error("the source broke"));
    });
    const at = location.origin.replace("http", "ws");
    const socket = await text((take, failed) => {
        const socket = new WebSocket(at + events);
        socket.onmessage = message => take(JSON.parse(message.data));
        socket.onerror = () => failed(new Error("the socket broke"));
    });
    const multiplex = await text((take, failed) => {
        const socket = new WebSocket(`${at}/v1/ws`, ["millhand", "KEY"]);
        socket.onopen = () => socket.send(JSON.stringify({ op: "subscribe", ref: 1, job_id: job.id }));
        socket.onmessage = message => take(JSON.parse(message.data));
        socket.onerror = () => failed(new Error("the socket broke"));
    });
    return { refused, eventsource, socket, multiplex };
})()
"#;
