//! `millhand jobs`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::follow::follow;
use super::{Client, ask};
use crate::args::{ClientArgs, JobArgs, JobsArgs, JobsCommand, JobsListArgs};
use crate::terminal::{at, one_line, print, print_json, printable, table};

pub(crate) async fn run(args: JobsArgs) -> anyhow::Result<()> {
    match args.command.unwrap_or(JobsCommand::List(args.list)) {
        JobsCommand::List(args) => list(args).await,
        JobsCommand::Show(args) => show(args).await,
        JobsCommand::Events(args) => events(args).await,
        JobsCommand::Cancel(args) => cancel(args).await,
    }
}

async fn list(args: JobsListArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.client)?;
    let mut url = client.url(["v1", "jobs"]);
    {
        let mut query = url.query_pairs_mut();
        query.append_pair("limit", &args.limit.to_string());
        if let Some(status) = args.status {
            query.append_pair("status", status.as_str());
        }
        if let Some(conversation) = args.conversation {
            query.append_pair("conversation_id", &conversation.to_string());
        }
    }
    let page = client.get(url).await?;
    if args.client.json {
        return print_json(&page);
    }
    print(&render_list(&page))
}

fn render_list(page: &Value) -> String {
    let jobs = page["data"].as_array().map_or(&[] as &[_], Vec::as_slice);
    if jobs.is_empty() {
        return "No jobs.\n".to_owned();
    }
    let cell = |job: &Value, key: &str| printable(at(job, &[key]));
    let row = |job: &Value| {
        vec![
            cell(job, "id"),
            cell(job, "status"),
            cell(job, "kind"),
            cell(job, "agent"),
            job["attempt"].to_string(),
            cell(job, "created_at"),
            one_line(at(job, &["error", "message"]), 60),
        ]
    };
    let rows: Vec<_> = jobs.iter().map(row).collect();
    table(&["id", "status", "kind", "agent", "attempt", "created", "error"], &rows)
}

async fn fetch(args: &ClientArgs, job: &str) -> anyhow::Result<Value> {
    let client = Client::new(args)?;
    Ok(client.get(client.url(["v1", "jobs", job])).await?)
}

async fn show(args: JobArgs) -> anyhow::Result<()> {
    let job = fetch(&args.client, &args.job.to_string()).await?;
    if args.client.json {
        return print_json(&job);
    }
    print(&render_job(&job))
}

pub(super) fn render_job(job: &Value) -> String {
    let mut text = String::new();
    let keys = [
        "id",
        "status",
        "kind",
        "agent",
        "lane",
        "conversation_id",
        "attempt",
        "created_at",
        "started_at",
        "finished_at",
        "expires_at",
        "replay_of",
    ];
    for key in keys {
        let value = match &job[key] {
            Value::Null => continue,
            Value::String(text) => printable(text),
            value => value.to_string(),
        };
        let _ = writeln!(text, "{key:<16} {value}");
    }
    let line = |text: &mut String, name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{name:<16} {}", printable(value));
        }
    };
    line(&mut text, "waits for", at(job, &["wait", "reason"]));
    line(&mut text, "starts at", at(job, &["wait", "expected_start_at"]));
    line(&mut text, "error", at(job, &["error", "code"]));
    line(&mut text, "", at(job, &["error", "message"]));
    if let Some(usage) = job["usage"].as_object() {
        let usage: Vec<_> = usage.iter().map(|(key, value)| format!("{key} {value}")).collect();
        let _ = writeln!(text, "{:<16} {}", "usage", usage.join(", "));
    }
    if let Some(documents) = job["output"]["documents"].as_array() {
        text.push('\n');
        let row = |document: &Value| {
            vec![
                document["passages"].to_string(),
                printable(at(document, &["name"])),
                printable(at(document, &["error"])),
            ]
        };
        text.push_str(&table(
            &["passages", "document", "error"],
            &documents.iter().map(row).collect::<Vec<_>>(),
        ));
    }
    let answer = at(job, &["output", "text"]);
    if !answer.is_empty() {
        let _ = writeln!(text, "\n{}", printable(answer).trim_end());
        text.push_str(&ask::render_sources(job));
    }
    text
}

async fn events(args: JobArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.client)?;
    let json = args.client.json;
    follow(&client, args.job, |event| {
        if json {
            return print(&format!("{}\n", event.to_json()));
        }
        let data = one_line(event.data.get(), 160);
        print(&format!("{:>5}  {}  {:<22} {data}\n", event.seq, event.at, event.kind))
    })
    .await
}

async fn cancel(args: JobArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.client)?;
    let job = client.post(client.url(["v1", "jobs", &args.job.to_string(), "cancel"]), &json!({})).await?;
    if args.client.json {
        return print_json(&job);
    }
    match at(&job, &["status"]) {
        "in_progress" => print(&format!("{} is running; it is told to stop.\n", args.job)),
        status => print(&format!("{} is {status}.\n", args.job)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_a_table_and_an_empty_one_says_so() {
        let page = json!({"data": [{"id": "job_1", "status": "failed", "kind": "chat", "agent": "rag",
            "attempt": 3, "created_at": "2026-11-24T18:55:00.123Z",
            "error": {"code": "poison", "message": "killed its worker 3 times"}}]});
        insta::assert_snapshot!(render_list(&page), @r"
        id     status  kind  agent  attempt  created                   error
        job_1  failed  chat  rag    3        2026-11-24T18:55:00.123Z  killed its worker 3 times
        ");
        insta::assert_snapshot!(render_list(&json!({"data": []})), @"No jobs.");
    }

    #[test]
    fn a_job_is_shown_with_what_it_made() {
        let job = json!({"id": "job_1", "status": "completed", "kind": "ingest", "attempt": 1,
            "output": {"documents": [
                {"name": "手册.md", "passages": 4, "error": null},
                {"name": "scan.pdf", "passages": 0, "error": "no text found"}]}});
        insta::assert_snapshot!(render_job(&job), @r"
        id               job_1
        status           completed
        kind             ingest
        attempt          1

        passages  document  error
        4         手册.md
        0         scan.pdf  no text found
        ");
    }
}
