//! P3: a reader that resumes sees every later event once, in order, however it reads.

use millhand_tests::log::check_log;
use millhand_tests::{Launch, Provider};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_transport_resumes_after_every_event_with_the_same_bytes() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let server = Launch::new(dir.path()).model(&model.base_url()).start().await;
    let job = server.client.chat("流 tokens=12 gap=15").await;
    let live = server.client.sse(&job, 0, |_| false).await;
    let record = server.client.finished(&job).await;
    check_log(&record, &live);
    assert!(live.len() >= 8, "{live:?}");
    for after in 0..live.len() as u64 {
        let rest = &live[usize::try_from(after).unwrap()..];
        assert_eq!(server.client.log(&job, after).await, rest, "JSON after {after}");
        assert_eq!(server.client.sse(&job, after, |_| false).await, rest, "SSE after {after}");
        assert_eq!(server.client.ws(&job, after).await, rest, "WebSocket after {after}");
    }
    let end = live.len();
    assert!(server.client.log(&job, end as u64).await.is_empty());
    assert!(server.client.ws(&job, end as u64).await.is_empty());
    let path = format!("/v1/jobs/{job}/events");
    let sse = server.client.request("GET", &path).header("accept", "text/event-stream");
    let at_the_end = server.client.send(sse.header("last-event-id", end)).await.unwrap();
    assert_eq!(at_the_end.status, 204);
    let ahead = server.client.get(&format!("{path}?after={}", end + 1)).await;
    assert_eq!((ahead.status, ahead.json()["code"].as_str()), (409, Some("cursor_ahead")));
    assert_eq!(server.metric("millhand_api_stream_gaps_total").await, 0.0);
}

/// Cut after each event while the job runs, the pieces are the whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_cut_after_each_event_misses_nothing() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let server = Launch::new(dir.path()).model(&model.base_url()).start().await;
    let job = server.client.chat("cut tokens=30 gap=20").await;
    let mut seen: Vec<String> = Vec::new();
    let mut connections = 0;
    loop {
        let mut piece = server.client.sse(&job, seen.len() as u64, |events| !events.is_empty()).await;
        if piece.is_empty() {
            break;
        }
        piece.truncate(1);
        seen.extend(piece);
        connections += 1;
    }
    assert!(connections > 15, "it was cut {connections} times");
    check_log(&server.client.finished(&job).await, &seen);
    assert_eq!(seen, server.client.log(&job, 0).await);
}

/// A reader over a kill -9 goes on where it was, and what it has read stays true.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_after_a_kill() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let launch = Launch::new(dir.path()).model(&model.base_url());
    let server = launch.start().await;
    let job = server.client.chat("killed tokens=60 gap=20").await;
    let mut seen = server.client.sse(&job, 0, |events| events.len() >= 10).await;
    server.kill9().await;
    let server = launch.start().await;
    seen.extend(server.client.sse(&job, seen.len() as u64, |_| false).await);
    check_log(&server.client.finished(&job).await, &seen);
    assert_eq!(seen, server.client.log(&job, 0).await);
    let attempts = seen.iter().filter(|event| event.contains("\"attempt.started\"")).count();
    assert_eq!(attempts, 2, "the kill met a running job");
}
