//! The same events over WebSockets, one job or many to a socket.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use millhand_common::model::JobId;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{delta, id_of, start, start_with};

type Socket = WebSocketStream<TcpStream>;

async fn receive(socket: &mut Socket) -> Message {
    loop {
        let next =
            tokio::time::timeout(Duration::from_secs(20), socket.next()).await.expect("a frame in time");
        match next.expect("a frame before the end").expect("a sound frame") {
            Message::Ping(_) | Message::Pong(_) => {}
            message => return message,
        }
    }
}

async fn frame(socket: &mut Socket) -> Value {
    match receive(socket).await {
        Message::Text(text) => serde_json::from_str(&text).unwrap(),
        other => panic!("not a text frame: {other:?}"),
    }
}

async fn close_code(socket: &mut Socket) -> u16 {
    match receive(socket).await {
        Message::Close(Some(frame)) => frame.code.into(),
        other => panic!("not a close frame: {other:?}"),
    }
}

async fn say(socket: &mut Socket, op: Value) {
    socket.send(Message::Text(op.to_string().into())).await.unwrap();
}

/// Says `op` and reads the answer, which comes before any later frame.
async fn ask(socket: &mut Socket, op: Value) -> Value {
    say(socket, op).await;
    frame(socket).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_jobs_events_come_one_frame_each_then_close_1000() {
    let ingress = start().await;
    let id = ingress.submit("好").await;
    let path = format!("/v1/jobs/{id}/events");
    let mut socket = ingress.client.websocket(&path, &[]).await.unwrap();
    assert_eq!(frame(&mut socket).await["type"], "job.queued");
    ingress.answer(id, "行").await;
    for (seq, kind) in [(2, "attempt.started"), (3, "output_text.delta"), (4, "job.completed")] {
        let event = frame(&mut socket).await;
        assert_eq!(
            (&event["seq"], &event["type"], &event["job_id"]),
            (&json!(seq), &json!(kind), &json!(id.to_string()))
        );
    }
    assert_eq!(close_code(&mut socket).await, 1000);
    // At the end already: it closes at once.
    let mut socket = ingress.client.websocket(&format!("{path}?after=4"), &[]).await.unwrap();
    assert_eq!(close_code(&mut socket).await, 1000);
    assert_eq!(ingress.client.websocket(&format!("{path}?after=5"), &[]).await.err(), Some(409));
    assert_eq!(ingress.client.websocket(&format!("{path}?after=x"), &[]).await.err(), Some(400));
    let unknown = format!("/v1/jobs/{}/events", JobId::new());
    assert_eq!(ingress.client.websocket(&unknown, &[]).await.err(), Some(404));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_jobs_share_a_socket() {
    let ingress = start().await;
    let mut socket = ingress.client.websocket("/v1/ws", &[]).await.unwrap();
    let mut ids = Vec::new();
    for n in [1, 2] {
        let submit =
            json!({ "op": "submit", "ref": n, "job": { "input": "问" }, "idempotency_key": format!("k{n}") });
        let answer = ask(&mut socket, submit.clone()).await;
        assert_eq!(
            (&answer["ref"], &answer["ok"], &answer["job"]["object"]),
            (&json!(n), &json!(true), &json!("job"))
        );
        assert_eq!(
            ask(&mut socket, submit).await["job"]["id"],
            answer["job"]["id"],
            "the key makes it one job"
        );
        ids.push(id_of(&answer["job"]));
    }
    // A submit does not subscribe: the next frame is an answer, not an event.
    ingress.answer(ids[0], "一").await;
    assert_eq!(
        ask(&mut socket, json!({ "op": "ping", "ref": "p" })).await,
        json!({ "ref": "p", "ok": true })
    );

    let subscribed =
        ask(&mut socket, json!({ "op": "subscribe", "ref": "s", "job_id": ids[0].to_string() })).await;
    assert_eq!(subscribed, json!({ "ref": "s", "ok": true }));
    for seq in 1..=4 {
        assert_eq!(frame(&mut socket).await["seq"], seq);
    }
    // A live one beside it, from a cursor.
    let live = json!({ "op": "subscribe", "ref": "l", "job_id": ids[1].to_string(), "after": 1 });
    assert_eq!(ask(&mut socket, live).await["ok"], true);
    let run = ingress.claim(ids[1]).await;
    let event = frame(&mut socket).await;
    assert_eq!((&event["seq"], &event["job_id"]), (&json!(2), &json!(ids[1].to_string())));
    // Unsubscribed, nothing more of it comes.
    assert_eq!(
        ask(&mut socket, json!({ "op": "unsubscribe", "job_id": ids[1].to_string() })).await["ok"],
        true
    );
    ingress.write(&run, 3, delta("二")).await;
    assert_eq!(ask(&mut socket, json!({ "op": "ping", "ref": 9 })).await["ref"], 9);
    // Subscribed again, it starts over; a second subscribe replaces the first.
    for reference in ["a", "b"] {
        let again = json!({ "op": "subscribe", "ref": reference, "job_id": ids[1].to_string(), "after": 3 });
        assert_eq!(ask(&mut socket, again).await["ref"], reference);
    }
    let cancel = ask(&mut socket, json!({ "op": "cancel", "ref": "c", "job_id": ids[1].to_string() })).await;
    assert_eq!((&cancel["ok"], &cancel["job"]["id"]), (&json!(true), &json!(ids[1].to_string())));
    ingress.finish(ids[1], "二").await;
    assert_eq!(frame(&mut socket).await["seq"], 4);
    assert_eq!(
        ask(&mut socket, json!({ "op": "ping", "ref": "end" })).await["ref"],
        "end",
        "the event came once"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_and_the_socket_stays() {
    let ingress = start().await;
    let id = ingress.submit("x").await.to_string();
    let mut socket = ingress.client.websocket("/v1/ws", &[]).await.unwrap();
    for (op, code, status) in [
        (json!({ "op": "dance", "ref": 1 }), "invalid_request", 422),
        (json!({ "ref": 1 }), "invalid_request", 422),
        (json!({ "op": "ping", "ref": 1, "extra": 1 }), "invalid_request", 422),
        (json!({ "op": "submit", "ref": 1, "job": { "input": "" } }), "invalid_request", 422),
        (json!({ "op": "submit", "ref": 1, "job": { "input": "x", "agent": "no" } }), "agent_not_found", 404),
        (
            json!({ "op": "submit", "ref": 1, "job": { "input": "x" }, "idempotency_key": "a b" }),
            "bad_idempotency_key",
            400,
        ),
        (json!({ "op": "subscribe", "ref": 1, "job_id": "job_1" }), "job_not_found", 404),
        (json!({ "op": "subscribe", "ref": 1, "job_id": id, "after": 2 }), "cursor_ahead", 409),
        (json!({ "op": "subscribe", "ref": 1, "job_id": id, "after": -1 }), "invalid_request", 422),
        (json!({ "op": "cancel", "ref": 1, "job_id": JobId::new().to_string() }), "job_not_found", 404),
    ] {
        let answer = ask(&mut socket, op.clone()).await;
        assert_eq!((&answer["ref"], &answer["ok"]), (&json!(1), &json!(false)), "{op}");
        assert_eq!(
            (&answer["error"]["code"], &answer["error"]["status"]),
            (&json!(code), &json!(status)),
            "{op}"
        );
    }
    socket.send(Message::Text("not json".into())).await.unwrap();
    assert_eq!(frame(&mut socket).await["error"]["code"], "malformed_json");
    assert_eq!(ask(&mut socket, json!({ "op": "ping", "ref": "still" })).await["ref"], "still");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_37_frames_that_break_the_rules_close_the_socket() {
    let ingress = start().await;
    let open = async || ingress.client.websocket("/v1/ws", &[]).await.unwrap();
    let mut large = open().await;
    large.send(Message::Text("x".repeat(65 * 1024).into())).await.unwrap();
    assert_eq!(close_code(&mut large).await, 1009);
    let mut binary = open().await;
    binary.send(Message::Binary(vec![1, 2].into())).await.unwrap();
    assert_eq!(close_code(&mut binary).await, 1003);
    let mut utf8 = open().await;
    let frame = tokio_tungstenite::tungstenite::protocol::frame::Frame::message(
        vec![0xff, 0xfe],
        tokio_tungstenite::tungstenite::protocol::frame::coding::OpCode::Data(
            tokio_tungstenite::tungstenite::protocol::frame::coding::Data::Text,
        ),
        true,
    );
    utf8.send(Message::Frame(frame)).await.unwrap();
    assert_eq!(close_code(&mut utf8).await, 1007);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_37_a_flood_closes_the_socket() {
    let ingress = start_with(|state| state.config.limits.socket_messages_per_second = 1).await;
    let mut socket = ingress.client.websocket("/v1/ws", &[]).await.unwrap();
    for _ in 0..50 {
        // It may be closed before all is said.
        let _closed = socket.send(Message::Ping(Vec::new().into())).await;
    }
    assert_eq!(close_code(&mut socket).await, 1008);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_route_asked_without_an_upgrade_says_so() {
    let ingress = start().await;
    let answer = ingress.client.get("/v1/ws").await;
    assert!(matches!(answer.status, 400 | 426), "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
}
