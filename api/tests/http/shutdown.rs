//! SIGTERM cuts no request: readiness off, requests in flight answered, streams told to come back.

use std::time::Duration;

use futures::StreamExt;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{get_in_background, start, start_with, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_politely_and_long_polls_are_answered() {
    let mut ingress = start().await;
    let id = ingress.submit("收尾").await;
    let path = format!("/v1/jobs/{id}/events");
    let mut sse = ingress.client.sse(&path, "").await;
    assert!(sse.block().await.unwrap().starts_with("id: 1"));
    let mut one = ingress.client.websocket(&path, &[]).await.unwrap();
    assert!(matches!(one.next().await, Some(Ok(Message::Text(_)))));
    let mut many = ingress.client.websocket("/v1/ws", &[]).await.unwrap();
    let poll = get_in_background(ingress.client, format!("/v1/jobs/{id}?wait=60"));

    ingress.shutdown.cancel();
    let last = sse.block().await.unwrap();
    let retry: u64 = last.strip_prefix("retry: ").unwrap().trim().parse().unwrap();
    assert!((1000..=5000).contains(&retry), "{last}");
    assert_eq!(sse.block().await, None);
    for socket in [&mut one, &mut many] {
        let Some(Ok(Message::Close(Some(frame)))) = socket.next().await else { panic!("no close frame") };
        assert_eq!(u16::from(frame.code), 1001);
    }
    let answer = poll.answer().await;
    assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("queued")));
    drop((one, many));
    while let Some(ended) = ingress.servers.join_next().await {
        ended.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_goes_off_first_and_answers_close_their_connections() {
    let mut ingress = start_with(|state| state.config.limits.drain_delay = Duration::from_secs(2)).await;
    assert_eq!(ingress.client.get("/readyz").await.status, 200);
    ingress.shutdown.cancel();
    let off = wait_for("readiness off", async || {
        let answer = ingress.client.get("/readyz").await;
        (answer.status == 503).then_some(answer)
    })
    .await;
    assert_eq!(off.json()["draining"], true);
    // Still accepting: a load balancer may not have noticed yet.
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", ingress.client.address);
    let late = ingress.client.raw(request.as_bytes()).await;
    assert_eq!((late.status, late.header("connection")), (200, Some("close")));
    while let Some(ended) = ingress.servers.join_next().await {
        ended.unwrap().unwrap();
    }
}
