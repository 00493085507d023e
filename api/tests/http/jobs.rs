//! Submit, read, list, cancel, delete, conversations.

use std::sync::atomic::Ordering;

use millhand_common::model::{Agent, JobId, Lane};
use millhand_common::ports::{Broker, JobStore, LaneDepth};
use serde_json::{Value, json};

use crate::support::{delta, id_of, problem, start, start_with};

/// Replaces what differs from run to run.
fn stable(mut job: Value) -> Value {
    let id = job["id"].as_str().unwrap().to_owned();
    let text = job.to_string().replace(&id, "job_X");
    job = serde_json::from_str(&text).unwrap();
    for field in ["conversation_id", "created_at", "expires_at", "started_at", "finished_at"] {
        if job[field].is_string() {
            job[field] = "…".into();
        }
    }
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submitted_job_can_be_read_until_its_end() {
    let ingress = start().await;
    let answer = ingress
        .client
        .post("/v1/jobs", &json!({ "input": "为什么天是蓝的？", "metadata": { "来源": 1 } }))
        .await;
    assert_eq!(answer.status, 202);
    let id = id_of(&answer.json());
    assert_eq!(answer.header("location"), Some(format!("/v1/jobs/{id}").as_str()));
    insta::assert_json_snapshot!(stable(answer.json()), @r#"
    {
      "agent": "rag",
      "attempt": 0,
      "collection": null,
      "conversation_id": "…",
      "created_at": "…",
      "error": null,
      "expires_at": "…",
      "finished_at": null,
      "id": "job_X",
      "kind": "chat",
      "lane": "interactive",
      "links": {
        "cancel": "/v1/jobs/job_X/cancel",
        "events": "/v1/jobs/job_X/events",
        "self": "/v1/jobs/job_X"
      },
      "metadata": {
        "来源": 1
      },
      "object": "job",
      "output": null,
      "replay_of": null,
      "started_at": null,
      "status": "queued",
      "usage": null,
      "wait": {
        "expected_start_at": null,
        "reason": "worker"
      }
    }
    "#);
    let path = format!("/v1/jobs/{id}");
    let waiting = crate::support::get_in_background(ingress.client, format!("{path}?wait=20"));
    ingress.answer(id, "瑞利散射。").await;
    let waited = waiting.answer().await;
    assert_eq!(waited.status, 200);
    assert_eq!(waited.json()["status"], "completed");
    assert_eq!(waited.json()["output"], json!({ "text": "瑞利散射。", "answered": true, "citations": [] }));
    assert_eq!(ingress.client.get(&path).await.json(), waited.json());
}

#[tokio::test(flavor = "multi_thread")]
async fn prefer_wait_answers_200_with_the_end_or_202_without() {
    let ingress = start().await;
    let body = json!({ "input": "quick?" });
    let late = ingress.client.post_with("/v1/jobs", &[("Prefer", "wait=0")], &body).await;
    assert_eq!((late.status, late.header("preference-applied")), (202, Some("wait=0")));
    let (answer, ()) =
        tokio::join!(ingress.client.post_with("/v1/jobs", &[("Prefer", "wait=20")], &body), async {
            let hint = loop {
                let lent = ingress.broker.receive(Lane::Interactive).await.unwrap();
                let hint = lent.hint.clone();
                lent.ack().await.unwrap();
                if Some(hint.job) != Some(id_of(&late.json())) {
                    break hint;
                }
            };
            ingress.answer(hint.job, "yes").await;
        });
    assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("completed")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hint_carries_the_trace_and_is_confirmed_to_the_store() {
    let ingress = start().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let answer =
        ingress.client.post_with("/v1/jobs", &[("traceparent", &parent)], &json!({ "input": "x" })).await;
    let lent = ingress.broker.receive(Lane::Interactive).await.unwrap();
    assert_eq!(lent.hint.job, id_of(&answer.json()));
    assert!(lent.hint.traceparent.as_deref().unwrap().contains(trace));
    lent.ack().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn accepts_go_on_while_the_broker_is_away() {
    let ingress = start().await;
    ingress.broker.away.store(true, Ordering::Relaxed);
    let id = ingress.submit("anybody there?").await;
    assert_eq!(ingress.client.get(&format!("/v1/jobs/{id}")).await.json()["status"], "queued");
    let ready = ingress.client.get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["broker"]), (503, &json!("away")));
    assert!(ingress.admin.get("/readyz").await.text().contains("secret-host"));
    ingress.broker.refused.notified().await;
    ingress.broker.away.store(false, Ordering::Relaxed);
    let next = ingress.submit("and now?").await;
    let lent = ingress.broker.receive(Lane::Interactive).await.unwrap();
    assert_eq!(lent.hint.job, next, "the first hint is left to the due index");
    let depth: Vec<LaneDepth> = ingress.store.depth(std::time::Duration::ZERO).await.unwrap();
    assert_eq!(depth.iter().map(|lane| lane.ready).sum::<u64>(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_and_body_make_one_job_also_fifty_at_once() {
    let ingress = start().await;
    let key = [("Idempotency-Key", "order-7")];
    let body = json!({ "input": "一次", "lane": "batch" });
    let all = (0..50).map(|_| ingress.client.post_with("/v1/jobs", &key, &body));
    let answers = futures::future::join_all(all).await;
    let ids: std::collections::HashSet<JobId> = answers.iter().map(|answer| id_of(&answer.json())).collect();
    assert!(answers.iter().all(|answer| answer.status == 202));
    assert_eq!(ids.len(), 1);
    let replayed = answers.iter().filter(|answer| answer.header("idempotency-replayed") == Some("true"));
    assert_eq!(replayed.count(), 49);
    // Another spelling of the same body is the same body; another body is not.
    let spelled = r#"{ "lane": "batch",  "input": "\u4e00\u6b21" }"#;
    let headers = [("Content-Type", "application/json"), key[0]];
    let again = ingress.client.send("POST", "/v1/jobs", &headers, spelled.as_bytes()).await;
    assert_eq!(ids, [id_of(&again.json())].into());
    let other = ingress.client.post_with("/v1/jobs", &key, &json!({ "input": "二次" })).await;
    problem(&other, 422, "idempotency_mismatch");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_404_at_submit() {
    let ingress = start().await;
    for (body, code) in [
        (json!({ "input": "x", "agent": "oracle" }), "agent_not_found"),
        (
            json!({ "input": "x", "conversation_id": "conv_0190a0a0-0000-7000-8000-000000000000" }),
            "conversation_not_found",
        ),
        (json!({ "input": "x", "conversation_id": "conv_1" }), "conversation_not_found"),
        (json!({ "input": "x", "collection": "无" }), "collection_not_found"),
        (json!({ "input": "x", "collection": ["../x"] }), "collection_not_found"),
    ] {
        problem(&ingress.client.post("/v1/jobs", &body).await, 404, code);
    }
    let empty = ingress.client.get("/v1/jobs").await.json();
    assert_eq!(empty, json!({ "data": [], "next_cursor": null }), "a refused submit leaves nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_configured_is_said_at_submit() {
    let ingress = start_with(|state| {
        state.index = None;
        state.model_configured = false;
    })
    .await;
    problem(&ingress.client.post("/v1/jobs", &json!({ "input": "x" })).await, 422, "index_not_configured");
    let chat = json!({ "input": "x", "agent": "chat" });
    problem(&ingress.client.post("/v1/jobs", &chat).await, 422, "model_not_configured");
    problem(&ingress.client.get("/v1/collections").await, 422, "index_not_configured");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_takes_its_jobs_in_turn() {
    let ingress = start().await;
    let made = ingress.client.post("/v1/conversations", &json!({})).await;
    assert_eq!(made.status, 201);
    let conversation = made.json()["id"].as_str().unwrap().to_owned();
    let ask =
        |on_busy: &str| json!({ "input": "下一个", "conversation_id": conversation, "on_busy": on_busy });
    let first = id_of(&ingress.client.post("/v1/jobs", &ask("enqueue")).await.json());
    let busy = problem(&ingress.client.post("/v1/jobs", &ask("reject")).await, 409, "conversation_busy");
    assert!(busy["detail"].as_str().unwrap().contains(&first.to_string()));
    let second = ingress.client.post("/v1/jobs", &ask("enqueue")).await.json();
    assert_eq!(second["wait"]["reason"], "conversation");
    problem(
        &ingress.client.delete(&format!("/v1/conversations/{conversation}")).await,
        409,
        "conversation_open",
    );
    let third = id_of(&ingress.client.post("/v1/jobs", &ask("interrupt")).await.json());
    assert_eq!(ingress.client.get(&format!("/v1/jobs/{first}")).await.json()["status"], "cancelled");
    ingress.answer(third, "好").await;

    let path = format!("/v1/conversations/{conversation}");
    assert_eq!(ingress.client.get(&path).await.json()["jobs"], 3);
    let messages = ingress.client.get(&format!("{path}/messages")).await.json();
    let said: Vec<_> = messages["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| (m["role"].clone(), m["content"].clone()))
        .collect();
    assert_eq!(said, [("user".into(), "下一个".into()), ("assistant".into(), "好".into())]);
    assert_eq!(messages["data"][0]["job_id"], third.to_string());
    assert_eq!(ingress.client.get("/v1/conversations").await.json()["data"][0]["object"], "conversation");
    assert_eq!(ingress.client.delete(&path).await.status, 204);
    assert!(matches!(ingress.client.get(&path).await.status, 404 | 410));
    problem(&ingress.client.get(&format!("/v1/jobs/{third}")).await, 410, "gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_is_idempotent_and_delete_waits_for_the_end() {
    let ingress = start().await;
    let id = ingress.submit("stop").await;
    let path = format!("/v1/jobs/{id}");
    problem(&ingress.client.delete(&path).await, 409, "job_open");
    let cancelled = ingress.client.send("POST", &format!("{path}/cancel"), &[], b"").await;
    assert_eq!((cancelled.status, &cancelled.json()["status"]), (200, &json!("cancelled")));
    let again = ingress.client.send("POST", &format!("{path}/cancel"), &[], b"").await;
    assert_eq!((again.status, again.json()), (200, cancelled.json()));
    assert_eq!(ingress.client.delete(&path).await.status, 204);
    assert_eq!(ingress.client.delete(&path).await.status, 204);
    problem(&ingress.client.get(&path).await, 410, "gone");
    problem(&ingress.client.get(&format!("{path}/events")).await, 410, "gone");
    let unknown = format!("/v1/jobs/{}", JobId::new());
    problem(&ingress.client.delete(&unknown).await, 404, "job_not_found");
    problem(&ingress.client.send("POST", &format!("{unknown}/cancel"), &[], b"").await, 404, "job_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_walked_by_its_cursors() {
    let ingress = start().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(ingress.submit(&format!("第{n}个")).await.to_string());
    }
    ingress.answer(ids[1].parse().unwrap(), "done").await;
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = ingress.client.get(&format!("/v1/jobs?limit=2{cursor}")).await.json();
        seen.extend(
            page["data"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    ids.reverse();
    assert_eq!(seen, ids);
    let done = ingress.client.get("/v1/jobs?status=completed").await.json();
    assert_eq!(done["data"].as_array().unwrap().len(), 1);
    problem(&ingress.client.get("/v1/jobs?cursor=xyz").await, 400, "bad_cursor");
    for bad in [
        "limit=0",
        "limit=101",
        "limit=x",
        "status=done",
        "conversation_id=1",
        "color=red",
        "limit=1&limit=2",
    ] {
        problem(&ingress.client.get(&format!("/v1/jobs?{bad}")).await, 422, "invalid_request");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_and_usage_are_lists() {
    let ingress = start_with(|state| state.agents = Agent::built_in()).await;
    insta::assert_json_snapshot!(ingress.client.get("/v1/agents").await.json(), @r#"
    {
      "data": [
        {
          "description": "Talks with the model, without documents.",
          "kind": "chat",
          "name": "chat"
        },
        {
          "description": "Answers from your documents, with citations.",
          "kind": "rag",
          "name": "rag"
        },
        {
          "description": "Searches your documents step by step, as the model decides, and answers with citations.",
          "kind": "react",
          "name": "react"
        }
      ],
      "next_cursor": null
    }
    "#);
    assert_eq!(ingress.client.get("/v1/usage?by=model").await.json(), json!({ "data": [] }));
    problem(&ingress.client.get("/v1/usage?by=colour").await, 422, "invalid_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_sees_the_end_of_a_running_job_at_once() {
    let ingress = start().await;
    let id = ingress.submit("long").await;
    let run = ingress.claim(id).await;
    let waiting = crate::support::get_in_background(ingress.client, format!("/v1/jobs/{id}?wait=60"));
    ingress.write(&run, 3, delta("一")).await;
    let running = ingress.client.get(&format!("/v1/jobs/{id}?wait=0")).await.json();
    assert_eq!((&running["status"], &running["attempt"]), (&json!("in_progress"), &json!(1)));
    ingress.finish(id, "一").await;
    assert_eq!(waiting.answer().await.json()["status"], "completed");
}
