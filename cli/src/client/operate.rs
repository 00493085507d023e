//! `millhand workers` and `millhand lanes`, over the admin address.

use serde_json::{Value, json};

use super::Client;
use crate::args::{
    ClientArgs, LaneArgs, LanesArgs, LanesCommand, WorkerDrainArgs, WorkersArgs, WorkersCommand,
};
use crate::terminal::{at, print, print_json, printable, table};

pub(crate) async fn workers(args: WorkersArgs) -> anyhow::Result<()> {
    match args.command {
        WorkersCommand::List(args) => list(&args.into(), "workers", workers_table).await,
        WorkersCommand::Drain(WorkerDrainArgs { worker, client }) => {
            let client: ClientArgs = client.into();
            let answer = order(&client, ["workers", &worker.to_string(), "drain"]).await?;
            if client.json {
                return print_json(&answer);
            }
            print(&format!("{worker} drains: it finishes what it runs and pulls no more.\n"))
        }
    }
}

pub(crate) async fn lanes(args: LanesArgs) -> anyhow::Result<()> {
    let (LaneArgs { lane, client }, verb, then) = match args.command {
        LanesCommand::List(args) => return list(&args.into(), "queues", lanes_table).await,
        LanesCommand::Pause(args) => (args, "pause", "paused: jobs are accepted, none of them starts"),
        LanesCommand::Resume(args) => (args, "resume", "resumed"),
    };
    let client: ClientArgs = client.into();
    let answer = order(&client, ["lanes", &lane, verb]).await?;
    if client.json {
        return print_json(&answer);
    }
    print(&format!("The lane {lane} is {then}.\n"))
}

async fn list(args: &ClientArgs, what: &str, render: fn(&[Value]) -> String) -> anyhow::Result<()> {
    let client = Client::new(args)?;
    let page = client.get(client.url(["v1", what])).await?;
    if args.json {
        return print_json(&page);
    }
    print(&render(rows(&page)))
}

async fn order(args: &ClientArgs, path: [&str; 3]) -> anyhow::Result<Value> {
    let client = Client::new(args)?;
    let url = client.url(["v1"].into_iter().chain(path));
    Ok(client.post(url, &json!({})).await?)
}

/// The entries of a list.
pub(super) fn rows(page: &Value) -> &[Value] {
    page["data"].as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn workers_table(workers: &[Value]) -> String {
    if workers.is_empty() {
        return "No worker lives.\n".to_owned();
    }
    let row = |worker: &Value| {
        let state = if worker["draining"] == true { "drains" } else { "works" };
        vec![
            printable(at(worker, &["id"])),
            state.to_owned(),
            worker["running"].to_string(),
            worker["slots"].to_string(),
        ]
    };
    table(&["worker", "state", "running", "slots"], &workers.iter().map(row).collect::<Vec<_>>())
}

pub(super) fn lanes_table(lanes: &[Value]) -> String {
    let row = |lane: &Value| {
        let oldest = lane["oldest_ready_ms"].as_f64().unwrap_or(0.0) / 1000.0;
        let state = if lane["paused"] == true { "paused" } else { "open" };
        vec![
            printable(at(lane, &["lane"])),
            state.to_owned(),
            lane["ready"].to_string(),
            lane["waiting"].to_string(),
            lane["running"].to_string(),
            format!("{oldest:.1} s"),
            lane["ended"].to_string(),
        ]
    };
    let head = ["lane", "state", "ready", "waiting", "running", "oldest", "answered"];
    table(&head, &lanes.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_and_lanes_are_tables() {
        let worker = json!({"id": "worker_1", "slots": 64, "running": 3, "draining": true});
        insta::assert_snapshot!(workers_table(&[worker]), @r"
        worker    state   running  slots
        worker_1  drains  3        64
        ");
        let lane = json!({"lane": "batch", "ready": 7, "waiting": 2, "running": 0, "oldest_ready_ms": 1250,
            "paused": true, "ended": 12});
        insta::assert_snapshot!(lanes_table(&[lane]), @r"
        lane   state   ready  waiting  running  oldest  answered
        batch  paused  7      2        0        1.2 s   12
        ");
    }
}
