//! `millhand up` on any mix of its own parts and shared ones: a kill loses nothing, whatever the mix, and
//! a mix that cannot keep its promises is refused.

use futures::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use millhand_tests::client::id;
use millhand_tests::documents::{add, check_citations};
use millhand_tests::log::check_log;
use millhand_tests::provider::answer_to;
use millhand_tests::server::binary;
use millhand_tests::servers::{Kafka, Postgres, RabbitMq, Redis};
use millhand_tests::{Launch, Provider, Server, wait_for};

const FERRY: &str = "# 渡轮手册\n\n渡轮每四十分钟从橡树港出发一班。自行车票价为三克朗。\n";
const WINTER: &str = "# Winter\n\nFrom November to March the last crossing of the ferry is at 18:20.\n";

/// Uses the shared part of this kind.
fn on(launch: Launch, section: &str, kind: &str, url: impl Into<String>) -> Launch {
    let key = |name| format!("MILLHAND_{section}__{name}");
    launch.env(&key("KIND"), kind).env(&key("URL"), url)
}

async fn new_database(postgres: &Postgres, data: &TempDir) -> String {
    let database = postgres.new_database().await;
    let mut migrate = Command::new(binary());
    migrate.arg("migrate").arg("--data").arg(data.path());
    migrate.env("MILLHAND_INDEX__KIND", "pgvector").env("MILLHAND_INDEX__URL", &database);
    let migrated = migrate.output().await.unwrap();
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    database
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_loses_nothing_with_rabbitmq_beside_an_embedded_store() {
    let (dir, queue) = (TempDir::new().unwrap(), RabbitMq::start().await);
    a_kill_loses_nothing(on(Launch::new(dir.path()), "BROKER", "rabbitmq", queue.url())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_loses_nothing_with_kafka_beside_an_embedded_store() {
    let (dir, queue) = (TempDir::new().unwrap(), Kafka::start().await);
    a_kill_loses_nothing(on(Launch::new(dir.path()), "BROKER", "kafka", queue.servers())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_loses_nothing_with_redis_beside_an_embedded_broker_and_index() {
    let (dir, redis) = (TempDir::new().unwrap(), Redis::start().await);
    a_kill_loses_nothing(on(Launch::new(dir.path()), "STORE", "redis", redis.url())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_loses_nothing_with_pgvector_beside_an_embedded_store() {
    let (dir, postgres) = (TempDir::new().unwrap(), Postgres::shared().await);
    let database = new_database(&postgres, &dir).await;
    a_kill_loses_nothing(on(Launch::new(dir.path()), "INDEX", "pgvector", database)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_loses_nothing_with_every_part_shared() {
    let dir = TempDir::new().unwrap();
    let (queue, redis, postgres) = futures::join!(RabbitMq::start(), Redis::start(), Postgres::shared());
    let launch = on(Launch::new(dir.path()), "BROKER", "rabbitmq", queue.url());
    let launch = on(launch, "STORE", "redis", redis.url());
    let database = new_database(&postgres, &dir).await;
    a_kill_loses_nothing(on(launch, "INDEX", "pgvector", database)).await;
}

/// Asks for a chat and for a document, kills the process in the middle of more of both, and wants all of
/// them from the next one.
async fn a_kill_loses_nothing(launch: Launch) {
    let model = Provider::start().await;
    let launch = launch.model(&model.base_url());
    let server = launch.start().await;
    add(&server.client, "ferry", "渡轮.md", FERRY).await;
    let first = server.client.chat("first tokens=4").await;
    assert_eq!(server.client.finished(&first).await["output"]["text"], answer_to("first tokens=4"));
    the_fare_is_known(&server).await;

    let questions: Vec<String> = (0..8).map(|n| format!("问{n} tokens=40 gap=25")).collect();
    let chats = join_all(questions.iter().map(|question| server.client.chat(question))).await;
    wait_for("jobs to run", || async { (10 <= model.calls().await.len()).then_some(()) }).await;
    let body = json!({"name": "winter.md", "text": WINTER, "content_type": "text/markdown"});
    let winter = server.client.post("/v1/collections/ferry/documents", &body).await;
    assert_eq!(winter.status, 202, "{}", winter.text);
    let fare = server.client.submit(json!({"input": "自行车票价是多少？", "collection": "ferry"})).await;
    server.kill9().await;

    let server = launch.start().await;
    let ended = join_all(chats.iter().map(|job| server.client.finished(job))).await;
    for (job, question) in ended.iter().zip(&questions) {
        assert_eq!(job["output"]["text"], answer_to(question), "{job}");
        check_log(job, &server.client.log(&id(job), 0).await);
    }
    assert!(ended.iter().any(|job| job["attempt"] != 1), "some of them ran when it was killed");
    says_the_fare(&server, &fare).await;
    assert_eq!(server.client.finished(&id(&winter.json())).await["status"], "completed");
    the_fare_is_known(&server).await;
    let asked = json!({"input": "When is the last crossing from November to March?", "collection": "ferry"});
    let answer = server.client.submit(asked).await;
    assert!(answered(&server, &answer).await["output"]["text"].as_str().unwrap().contains("18:20"));
    assert_eq!(server.client.job(&first).await["status"], "completed", "ended before, and kept");
    server.idle().await;
    let (status, log) = server.sigterm().await;
    assert_eq!(status.code(), Some(0), "{log}");
}

async fn the_fare_is_known(server: &Server) {
    let job = server.client.submit(json!({"input": "自行车票价是多少？", "collection": "ferry"})).await;
    says_the_fare(server, &job).await;
}

async fn says_the_fare(server: &Server, job: &str) {
    let job = answered(server, job).await;
    assert!(job["output"]["text"].as_str().unwrap().contains("三克朗"), "{job}");
}

async fn answered(server: &Server, job: &str) -> Value {
    let job = server.client.finished(job).await;
    assert_eq!(job["status"], "completed", "{job}");
    check_log(&job, &server.client.log(&id(&job), 0).await);
    check_citations(&server.client, &job).await;
    job
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_index_beside_other_workers_of_one_store_is_refused() {
    let (one, two, redis) = (TempDir::new().unwrap(), TempDir::new().unwrap(), Redis::start().await);
    let launch = |dir: &TempDir| on(Launch::new(dir.path()), "STORE", "redis", redis.url());
    let first = launch(&one).start().await;
    let workers = async || first.operator().get("/v1/workers").await.text.contains("\"own_index\":true");
    wait_for("its worker to be there", async || workers().await.then_some(())).await;
    let (status, said) = launch(&two).try_start().await.err().expect("it is refused");
    assert!(!status.success() && said.contains("set `index.kind = \"pgvector\"`"), "{said}");
    // Nor may one join that would take the first one's questions without having its documents.
    let bare = launch(&two).env("MILLHAND_INDEX__KIND", "none");
    let (status, said) = bare.try_start().await.err().expect("it is refused");
    assert!(!status.success() && said.contains("an embedded index takes jobs from the same store"), "{said}");
    let (status, log) = first.sigterm().await;
    assert_eq!(status.code(), Some(0), "{log}");
    bare.start().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_of_many_refuses_parts_of_its_own_and_says_what_to_set() {
    for role in ["api", "worker"] {
        for (kind, launch, what_to_do) in [
            ("store", Launch::shared(role), "set `store.kind"),
            (
                "broker",
                on(Launch::shared(role), "STORE", "redis", "redis://127.0.0.1:1"),
                "set `broker.kind`",
            ),
            (
                "index",
                on(
                    on(Launch::shared(role), "STORE", "redis", "redis://127.0.0.1:1"),
                    "BROKER",
                    "kafka",
                    "127.0.0.1:1",
                )
                .env("MILLHAND_INDEX__KIND", "embedded"),
                "set `index.kind",
            ),
        ] {
            let (status, said) = launch.try_start().await.err().expect("it is refused");
            assert!(!status.success(), "{role}, {kind}");
            assert!(said.contains(&format!("millhand {role}")) && said.contains(what_to_do), "{said}");
            assert!(said.contains("belongs to one"), "the reason is said: {said}");
        }
    }
}
