//! P10: SIGTERM loses nothing, duplicates nothing, cuts no request.

use futures::future::join_all;

use millhand_tests::log::check_log;
use millhand_tests::provider::answer_to;
use millhand_tests::{Launch, Provider, wait_for};
use rustix::process::Signal;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_jobs_finish_waiting_ones_stay_and_the_exit_is_clean() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let launch = Launch::new(dir.path()).model(&model.base_url()).arg("--slots").arg("4");
    let server = launch.start().await;
    let questions: Vec<String> = (0..12).map(|n| format!("停{n} tokens=30 gap=20")).collect();
    let jobs = join_all(questions.iter().map(|question| server.client.chat(question))).await;
    wait_for("four to run", || async { (model.calls().await.len() >= 4).then_some(()) }).await;
    let waiting = {
        let (client, job) = (server.client.clone(), jobs[0].clone());
        let first = async move { client.try_get(&format!("/v1/jobs/{job}?wait=30")).await };
        let stop = async {
            // Asked before the stop, so that the stop meets it.
            tokio::task::yield_now().await;
            wait_for("the long poll to be there", || async {
                (server.metric("millhand_worker_running_jobs").await > 0.0).then_some(())
            })
            .await;
            server.signal(Signal::TERM);
        };
        let (answer, ()) = futures::join!(first, stop);
        answer
    };
    assert_eq!(waiting.expect("a request in flight is answered").status, 200);
    let (status, log) = server.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");

    let before = model.calls().await.len();
    assert!(before < 12, "waiting jobs did not start during the drain: {before}");
    let server = launch.start().await;
    for (job, question) in jobs.iter().zip(&questions) {
        let record = server.client.finished(job).await;
        assert_eq!((record["status"].as_str(), record["attempt"].as_u64()), (Some("completed"), Some(1)));
        assert_eq!(record["output"]["text"], answer_to(question));
        check_log(&record, &server.client.log(job, 0).await);
    }
    assert_eq!(model.calls().await.len(), 12, "each was asked once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_longer_than_the_drain_is_given_back_without_a_death() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let launch =
        Launch::new(dir.path()).model(&model.base_url()).env("MILLHAND_WORKER__DRAIN_TIMEOUT", "300ms");
    let server = launch.start().await;
    let job = server.client.chat("long tokens=60 gap=50").await;
    wait_for("it to be asked", || async { (!model.calls().await.is_empty()).then_some(()) }).await;
    let (status, log) = server.sigterm().await;
    assert_eq!(status.code(), Some(0), "{log}");
    let server = launch.start().await;
    let record = server.client.finished(&job).await;
    assert_eq!((record["status"].as_str(), record["attempt"].as_u64()), (Some("completed"), Some(2)));
    let events = server.client.log(&job, 0).await;
    check_log(&record, &events);
    assert!(events.iter().any(|event| event.contains("\"reason\":\"drain\"")), "{events:?}");
}
