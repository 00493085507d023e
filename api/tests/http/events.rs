//! One job's log as JSON and as server-sent events.

use millhand_common::model::{Event, EventBody, JobId};
use serde_json::{Value, json};

use crate::support::client::Streaming;
use crate::support::{Ingress, delta, problem, start, start_with, wait_for};

/// A finished job; its log has four events.
async fn finished(ingress: &Ingress) -> JobId {
    let id = ingress.submit("问？").await;
    ingress.answer(id, "答。\n\nevent: job.completed\ndata: {}").await;
    id
}

/// The event of an SSE block, checked against its own fields.
fn event_of(block: &str) -> Event {
    let lines: Vec<_> = block.trim_end().split('\n').collect();
    assert_eq!(lines.len(), 3, "{block:?}");
    let event: Event = serde_json::from_str(lines[2].strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(lines[0], format!("id: {}", event.seq));
    assert_eq!(lines[1], format!("event: {}", event.kind));
    event
}

async fn rest(mut stream: Streaming) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(block) = stream.block().await {
        events.push(event_of(&block));
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_can_be_resumed_after_every_event() {
    let ingress = start().await;
    let id = finished(&ingress).await;
    let path = format!("/v1/jobs/{id}/events");
    let stream = ingress.client.sse(&path, "").await;
    assert_eq!(stream.head.header("content-type"), Some("text/event-stream"));
    let all = rest(stream).await;
    let kinds: Vec<_> = all.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["job.queued", "attempt.started", "output_text.delta", "job.completed"]);
    for after in 0..4 {
        let resumed = rest(ingress.client.sse(&path, &format!("Last-Event-ID: {after}\r\n")).await).await;
        assert_eq!(resumed, all[after..]);
        let page = ingress.client.get(&format!("{path}?after={after}")).await.json();
        assert_eq!(page["events"], serde_json::to_value(&all[after..]).unwrap());
        assert_eq!(page["next_after"], Value::Null);
    }
    // Last-Event-ID wins.
    let both = ingress.client.sse(&format!("{path}?after=0"), "Last-Event-ID: 3\r\n").await;
    assert_eq!(rest(both).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn live_events_arrive_and_the_stream_ends_with_the_job() {
    let ingress = start().await;
    let id = ingress.submit("live").await;
    let mut stream = ingress.client.sse(&format!("/v1/jobs/{id}/events"), "").await;
    assert_eq!(event_of(&stream.block().await.unwrap()).seq, 1);
    let run = ingress.claim(id).await;
    assert_eq!(event_of(&stream.block().await.unwrap()).kind, "attempt.started");
    for (seq, text) in (3..).zip(["一", "two", "𝔗"]) {
        ingress.write(&run, seq, delta(text)).await;
        let event = event_of(&stream.block().await.unwrap());
        assert_eq!(
            (event.seq, event.body()),
            (seq, Some(EventBody::OutputTextDelta { text: text.to_owned() }))
        );
    }
    ingress.finish(id, "一two𝔗").await;
    assert!(event_of(&stream.block().await.unwrap()).is_terminal());
    assert_eq!(stream.block().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_go_on_where_they_ended() {
    let ingress = start().await;
    let id = ingress.submit("pages").await;
    let path = format!("/v1/jobs/{id}/events");
    let open = ingress.client.get(&path).await.json();
    assert_eq!((open["events"].as_array().unwrap().len(), &open["next_after"]), (1, &json!(1)));
    let nothing = ingress.client.get(&format!("{path}?after=1")).await.json();
    assert_eq!(nothing, json!({ "events": [], "next_after": 1 }));
    ingress.answer(id, "x").await;
    let first = ingress.client.get(&format!("{path}?limit=2")).await.json();
    assert_eq!((first["events"].as_array().unwrap().len(), &first["next_after"]), (2, &json!(2)));
    let last = ingress.client.get(&format!("{path}?after=2&limit=2")).await.json();
    assert_eq!((last["events"].as_array().unwrap().len(), &last["next_after"]), (2, &Value::Null));
    problem(&ingress.client.get(&format!("{path}?limit=0")).await, 422, "invalid_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn cursors_at_the_end_beyond_it_and_bad_ones() {
    let ingress = start().await;
    let id = finished(&ingress).await;
    let path = format!("/v1/jobs/{id}/events");
    let end = ingress.client.get(&format!("{path}?after=4")).await;
    assert_eq!(end.json(), json!({ "events": [], "next_after": null }));
    let sse = ingress.client.sse(&format!("{path}?after=4"), "").await.whole().await;
    assert_eq!((sse.status, sse.body.len()), (204, 0));
    problem(&ingress.client.get(&format!("{path}?after=5")).await, 409, "cursor_ahead");
    let ahead = ingress.client.sse(&path, "Last-Event-ID: 18446744073709551615\r\n").await.whole().await;
    problem(&ahead, 409, "cursor_ahead");
    let long = "9".repeat(10_000);
    for bad in ["abc", "-1", "99999999999999999999-0", "1%0A2", long.as_str(), ""] {
        problem(&ingress.client.get(&format!("{path}?after={bad}")).await, 400, "bad_cursor");
    }
    let bad = ingress.client.sse(&path, &format!("Last-Event-ID: {long}\r\n")).await.whole().await;
    problem(&bad, 400, "bad_cursor");
    let unknown = format!("/v1/jobs/{}/events", JobId::new());
    problem(&ingress.client.get(&unknown).await, 404, "job_not_found");
    problem(&ingress.client.sse(&unknown, "").await.whole().await, 404, "job_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_cap_a_stream_is_refused_and_a_place_comes_back() {
    let ingress = start_with(|state| state.config.limits.streams = 1).await;
    let id = ingress.submit("one at a time").await;
    let path = format!("/v1/jobs/{id}/events");
    let mut first = ingress.client.sse(&path, "").await;
    assert!(first.block().await.is_some());
    let refused = ingress.client.sse(&path, "").await.whole().await;
    problem(&refused, 503, "too_many_streams");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(ingress.client.get(&path).await.status, 200, "reading a page takes no place");
    drop(first);
    wait_for("a place among the streams", async || {
        (ingress.client.sse(&path, "").await.head.status == 200).then_some(())
    })
    .await;
}
