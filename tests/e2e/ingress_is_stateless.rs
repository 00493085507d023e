//! Disconnecting never cancels, and many readers of one log see the same.

use futures::future::join_all;

use millhand_tests::log::check_log;
use millhand_tests::{Launch, Provider};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_leave_do_not_end_a_job_and_many_see_the_same() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let server = Launch::new(dir.path()).model(&model.base_url()).start().await;
    let job = server.client.chat("众 tokens=40 gap=15").await;
    server.client.sse(&job, 0, |events| events.len() >= 4).await;
    let logs = join_all((0..50).map(|_| server.client.sse(&job, 0, |_| false))).await;
    let record = server.client.finished(&job).await;
    assert_eq!(record["status"], "completed");
    check_log(&record, &logs[0]);
    for log in &logs {
        assert_eq!(log, &logs[0]);
    }
    assert_eq!(server.metric("millhand_api_stream_gaps_total").await, 0.0);
}
