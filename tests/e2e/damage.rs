//! A damaged folder: a torn tail is repaired, anything else is refused and named.

use std::fs;
use std::path::Path;

use millhand_tests::{Launch, Provider};

/// A folder with finished jobs in its write-ahead log, left by a kill.
async fn killed(dir: &Path) -> (Launch, Vec<String>) {
    let model = Provider::start().await;
    let launch = Launch::new(dir).model(&model.base_url());
    let server = launch.start().await;
    let mut jobs = Vec::new();
    for n in 0..10 {
        let job = server.client.chat(&format!("第{n} tokens=4")).await;
        server.client.finished(&job).await;
        jobs.push(job);
    }
    server.kill9().await;
    (launch, jobs)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_tail_is_repaired_and_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let (launch, jobs) = killed(dir.path()).await;
    let log = dir.path().join("jobs.db-wal");
    let mut bytes = fs::read(&log).unwrap();
    assert!(bytes.len() > 10_000, "the log holds something");
    // Half of one more write, that nobody was told of.
    let half = bytes[32..32 + 2000].to_vec();
    bytes.extend(half);
    fs::write(&log, bytes).unwrap();
    let server = launch.start().await;
    for job in &jobs {
        assert_eq!(server.client.job(job).await["status"], "completed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_in_the_middle_refuses_to_start_and_names_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let (launch, _) = killed(dir.path()).await;
    let log = dir.path().join("jobs.db-wal");
    let mut bytes = fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&log, &bytes).unwrap();
    let (status, said) = launch.try_start().await.err().expect("it refuses");
    assert!(!status.success());
    assert!(said.contains("jobs.db-wal at byte") && said.contains("damaged"), "{said}");
    assert_eq!(fs::read(&log).unwrap(), bytes, "nothing was touched");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_in_the_database_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (launch, jobs) = killed(dir.path()).await;
    // A clean stop moves everything from the log into the database.
    let (status, log) = launch.start().await.sigterm().await;
    assert!(status.success(), "{log}");
    let file = dir.path().join("jobs.db");
    let mut bytes = fs::read(&file).unwrap();
    let needle = "第3 tokens".as_bytes();
    let places: Vec<usize> =
        (0..bytes.len() - needle.len()).filter(|at| bytes[*at..].starts_with(needle)).collect();
    assert!(!places.is_empty(), "it is stored");
    // Old copies may lie in free space: the live one is among these.
    for at in places {
        bytes[at + 1] ^= 1;
    }
    fs::write(&file, &bytes).unwrap();
    let (status, said) = launch.try_start().await.err().expect("it refuses");
    assert!(!status.success());
    assert!(said.contains("jobs.db") && said.contains("damaged"), "{said} {jobs:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_in_use_or_of_a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let launch = Launch::new(&data);
    let server = launch.start().await;
    let (status, said) = launch.try_start().await.err().expect("it refuses");
    assert!(!status.success() && said.contains("in use"), "{said}");
    assert_eq!(server.client.get("/readyz").await.status, 200, "the first one goes on");
    server.kill9().await;
    fs::write(data.join("FORMAT"), "999\n").unwrap();
    let (status, said) = launch.try_start().await.err().expect("it refuses");
    assert!(!status.success() && said.contains("999") && said.contains("newer"), "{said}");
}
