//! Two tenants of one cluster: their keys, and what their jobs took.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use millhand_common::model::Timestamp;
use millhand_tests::server::binary;
use millhand_tests::servers::Redis;
use millhand_tests::{Client, wait_for};
use serde_json::Value;

/// The key of a noisy and that of a quiet tenant, once the ingress knows both.
pub(crate) async fn keys(redis: &Redis, client: &Client) -> anyhow::Result<[String; 2]> {
    let keys = [key("noisy", redis).await?, key("quiet", redis).await?];
    // While no key is known everybody is one tenant.
    for (key, status) in [("mh_none", 401), (&keys[0], 200), (&keys[1], 200)] {
        wait_for("the keys to be known", || async {
            let asked = client.request("GET", "/v1/jobs").bearer_auth(key);
            client.send(asked).await.is_ok_and(|answer| answer.status == status).then_some(())
        })
        .await;
    }
    Ok(keys)
}

async fn key(tenant: &str, redis: &Redis) -> anyhow::Result<String> {
    let mut command = tokio::process::Command::new(binary());
    command.args(["keys", "create", "--tenant", tenant, "--json"]);
    command.env("MILLHAND_STORE__KIND", "redis").env("MILLHAND_STORE__URL", redis.url());
    let output = command.output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let made: Value = serde_json::from_slice(&output.stdout)?;
    Ok(made["key"].as_str().context("a key")?.to_owned())
}

/// The records of a tenant's jobs, each when it has ended or a minute later.
pub(crate) async fn records(client: &Client, key: &str, ids: &[String]) -> anyhow::Result<Vec<Value>> {
    let read = |id: &String| {
        let path = format!("/v1/jobs/{id}?wait=60");
        async move {
            let answer = client.send(client.request("GET", &path).bearer_auth(key)).await?;
            ensure!(answer.status == 200, "{}", answer.text);
            anyhow::Ok(answer.json())
        }
    };
    stream::iter(ids.iter().map(read)).buffer_unordered(32).try_collect().await
}

pub(crate) fn moment(job: &Value, of: &str) -> anyhow::Result<Timestamp> {
    serde_json::from_value(job[of].clone()).with_context(|| format!("no {of}: {job}"))
}

/// From accept to the end, in seconds.
pub(crate) fn p95(jobs: &[Value]) -> f64 {
    let took = |job: &Value| Some(moment(job, "finished_at").ok()?.since(moment(job, "created_at").ok()?));
    let mut took: Vec<Duration> = jobs.iter().filter_map(took).collect();
    took.sort_unstable();
    took.get(took.len() * 95 / 100).map_or(f64::NAN, Duration::as_secs_f64)
}
