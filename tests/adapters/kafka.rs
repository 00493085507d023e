//! The Kafka broker on a real Kafka.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use millhand_common::adapters::kafka::{KafkaBroker, KafkaConfig};
use millhand_common::model::{Hint, JobId, Lane};
use millhand_common::ports::{Broker, BrokerError};
use millhand_tests::servers::Kafka;
use tokio::sync::OnceCell;

/// One node for the whole program; each test has topics and a group of its own.
static KAFKA: OnceCell<Kafka> = OnceCell::const_new();

async fn config(partitions: i32) -> KafkaConfig {
    let own = JobId::new().to_string();
    KafkaConfig {
        servers: KAFKA.get_or_init(Kafka::start).await.servers(),
        prefix: format!("test.{own}"),
        group: own,
        partitions,
        replication: None,
        options: BTreeMap::new(),
    }
}

/// Kafka orders one partition only, so the suite runs on one.
async fn open() -> Arc<dyn Broker> {
    Arc::new(KafkaBroker::connect(config(1).await).await.unwrap())
}

millhand_common::broker_conformance!(open);

fn hint() -> Hint {
    millhand_common::conformance::broker::hint(Lane::Interactive)
}

/// A hint that was received and never acked comes to the next consumer; one that was acked does not,
/// because a consumer that leaves commits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_leaves_commits_what_was_acked_and_nothing_else() {
    let config = config(1).await;
    let broker = KafkaBroker::connect(config.clone()).await.unwrap();
    let sent = [hint(), hint()];
    broker.publish(&sent).await.unwrap();
    broker.receive(Lane::Interactive).await.unwrap().ack().await.unwrap();
    let held = broker.receive(Lane::Interactive).await.unwrap();
    drop((held, broker));
    let next = KafkaBroker::connect(config).await.unwrap();
    let patience = Duration::from_secs(60);
    let again = tokio::time::timeout(patience, next.receive(Lane::Interactive)).await.unwrap().unwrap();
    assert_eq!(again.hint, sent[1]);
    again.ack().await.unwrap();
}

/// A second consumer joins under load: partitions move, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebalance_under_load_loses_nothing() {
    let config = config(6).await;
    let first = KafkaBroker::connect(config.clone()).await.unwrap();
    let second = KafkaBroker::connect(config).await.unwrap();
    let sent: Vec<_> = (0..400).map(|_| hint()).collect();
    first.publish(&sent[..200]).await.unwrap();
    let (mut got, mut by_second) = (HashSet::new(), 0);
    while got.len() < 50 {
        let delivery = first.receive(Lane::Interactive).await.unwrap();
        got.insert(delivery.hint.job);
        delivery.ack().await.unwrap();
    }
    first.publish(&sent[200..]).await.unwrap();
    let all = async {
        while got.len() < sent.len() || by_second == 0 {
            if got.len() == sent.len() {
                // The second came late: more work, until it has had some.
                first.publish(&[hint()]).await.unwrap();
            }
            // Cancel-safe by the contract of `Broker::receive`.
            let delivery = tokio::select! {
                delivery = first.receive(Lane::Interactive) => delivery,
                delivery = second.receive(Lane::Interactive) => { by_second += 1; delivery }
            };
            let delivery = delivery.unwrap();
            if sent.iter().any(|hint| hint.job == delivery.hint.job) {
                got.insert(delivery.hint.job);
            }
            // Refused when its partition has moved meanwhile: it comes again there.
            let _moved = delivery.ack().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("every hint comes");
}

/// What waits is read as fast as short jobs end. A consumer that pauses whenever it has enough reads a few
/// hints in each `fetch.wait.max.ms`: these took minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_of_short_jobs_is_read_without_pauses() {
    let broker = KafkaBroker::connect(config(32).await).await.unwrap();
    let sent: Vec<_> = (0..2000).map(|_| hint()).collect();
    broker.publish(&sent).await.unwrap();
    // The group forms with the first one.
    broker.receive(Lane::Interactive).await.unwrap().ack().await.unwrap();
    let all = async {
        for _ in 1..sent.len() {
            broker.receive(Lane::Interactive).await.unwrap().ack().await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.expect("hints come without pauses");
}

/// What a client of a node with passwords is configured with.
fn login(kafka: &Kafka, protocol: &str, mechanism: &str, password: &str) -> KafkaConfig {
    let options = [
        ("security.protocol", protocol),
        ("sasl.mechanism", mechanism),
        ("sasl.username", "mill"),
        ("sasl.password", password),
    ];
    KafkaConfig {
        servers: kafka.servers(),
        prefix: "test.login".to_owned(),
        group: "test.login".to_owned(),
        partitions: 1,
        replication: None,
        options: options.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
    }
}

async fn serves(config: KafkaConfig) {
    let broker = KafkaBroker::connect(config).await.unwrap();
    let sent = hint();
    broker.publish(std::slice::from_ref(&sent)).await.unwrap();
    assert_eq!(broker.receive(Lane::Interactive).await.unwrap().hint, sent);
    broker.ready().await.unwrap();
}

async fn refused(config: KafkaConfig) -> BrokerError {
    let err = KafkaBroker::connect(config).await.err().expect("it is refused");
    assert!(!format!("{err} {err:?}").contains("canary"), "{err}");
    err
}

/// Options of librdkafka pass through, and a refusal says why without the password.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_lets_in_and_a_wrong_one_is_told_without_saying_it() {
    let kafka = Kafka::start_for("mill", "canary-4c07").await;
    let with = |password: &str| login(&kafka, "SASL_PLAINTEXT", "PLAIN", password);
    serves(with("canary-4c07")).await;
    let err = refused(with("canary-wrong")).await;
    assert!(err.to_string().contains("uthentication failed"), "{err}");
    let mut misspelt = with("canary-4c07");
    misspelt.options.insert("sasl.pasword".to_owned(), "canary-4c07".to_owned());
    let err = refused(misspelt).await;
    assert!(matches!(err, BrokerError::Refused(_)) && err.to_string().contains("`sasl.pasword`"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_with_an_authority_of_one_s_own_and_scram_let_in() {
    let kafka = Kafka::start_with_tls_for("mill", "canary-4c07").await;
    let with = |password: &str, authority: Option<&str>| {
        let mut config = login(&kafka, "SASL_SSL", "SCRAM-SHA-512", password);
        let authority = authority.map(|file| ("ssl.ca.location".to_owned(), file.to_owned()));
        config.options.extend(authority);
        config
    };
    let authority = kafka.authority();
    let authority = authority.to_str();
    serves(with("canary-4c07", authority)).await;
    let err = refused(with("canary-wrong", authority)).await;
    assert!(err.to_string().contains("uthentication failed"), "{err}");
    let err = refused(with("canary-4c07", None)).await;
    assert!(err.to_string().contains("certificate verify failed"), "{err}");
    let err = refused(login(&kafka, "SASL_PLAINTEXT", "SCRAM-SHA-512", "canary-4c07")).await;
    assert!(matches!(err, BrokerError::Unreachable(_)), "it does not answer without TLS: {err}");
}
