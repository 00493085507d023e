//! `millhand dead-letters`, over the admin address.

use std::fmt::Write as _;

use anyhow::bail;
use millhand_common::model::JobId;
use reqwest::Method;
use serde_json::{Value, json};

use super::Client;
use super::jobs::render_job;
use crate::args::{ClientArgs, DeadLetterArgs, DeadLettersArgs, DeadLettersCommand, DeadLettersListArgs};
use crate::terminal::{at, one_line, print, print_json, printable, table};

/// The largest page the server gives.
const PAGE: u32 = 100;

pub(crate) async fn run(args: DeadLettersArgs) -> anyhow::Result<()> {
    match args.command.unwrap_or(DeadLettersCommand::List(args.list)) {
        DeadLettersCommand::List(args) => list(args).await,
        DeadLettersCommand::Show(args) => show(args).await,
        DeadLettersCommand::Replay(args) => replay(args).await,
        DeadLettersCommand::Drop(args) => drop(args).await,
    }
}

async fn page(client: &Client, limit: u32, cursor: Option<&str>) -> anyhow::Result<Value> {
    let mut url = client.url(["v1", "dead-letters"]);
    url.query_pairs_mut().append_pair("limit", &limit.to_string());
    if let Some(cursor) = cursor {
        url.query_pairs_mut().append_pair("cursor", cursor);
    }
    Ok(client.get(url).await?)
}

async fn list(args: DeadLettersListArgs) -> anyhow::Result<()> {
    let args_json = args.client.json;
    let client = Client::new(&args.client.into())?;
    let page = page(&client, args.limit, None).await?;
    if args_json {
        return print_json(&page);
    }
    print(&render_list(&page))
}

fn render_list(page: &Value) -> String {
    let letters = page["data"].as_array().map_or(&[] as &[_], Vec::as_slice);
    if letters.is_empty() {
        return "No dead letters.\n".to_owned();
    }
    let row = |letter: &Value| {
        let replayed = at(letter, &["replayed_as"]);
        vec![
            printable(at(letter, &["job", "id"])),
            printable(at(letter, &["job", "kind"])),
            printable(at(letter, &["buried_at"])),
            printable(if replayed.is_empty() { "-" } else { replayed }),
            one_line(at(letter, &["job", "error", "message"]), 80),
        ]
    };
    let rows: Vec<_> = letters.iter().map(row).collect();
    let mut text = table(&["job", "kind", "since", "replayed as", "error"], &rows);
    let _ = writeln!(text, "\nRun one again: millhand dead-letters replay JOB");
    text
}

async fn show(args: DeadLetterArgs) -> anyhow::Result<()> {
    let args_json = args.client.json;
    let client = Client::new(&ClientArgs::from(args.client))?;
    let letter = find(&client, args.job).await?;
    if args_json {
        return print_json(&letter);
    }
    let replayed = match at(&letter, &["replayed_as"]) {
        "" => String::new(),
        job => format!("{:<16} {}\n", "replayed as", printable(job)),
    };
    let since = printable(at(&letter, &["buried_at"]));
    print(&format!("{:<16} {since}\n{replayed}{}", "dead since", render_job(&letter["job"])))
}

/// The dead letter of a job: lists are the only way to read them.
async fn find(client: &Client, job: JobId) -> anyhow::Result<Value> {
    let id = job.to_string();
    let mut cursor = None;
    loop {
        let page = page(client, PAGE, cursor.as_deref()).await?;
        let letters = page["data"].as_array().map_or(&[] as &[_], Vec::as_slice);
        if let Some(letter) = letters.iter().find(|letter| at(letter, &["job", "id"]) == id) {
            return Ok(letter.clone());
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => bail!("{id} is not among the dead letters: `millhand dead-letters` lists them"),
        }
    }
}

async fn replay(args: DeadLetterArgs) -> anyhow::Result<()> {
    let args_json = args.client.json;
    let client = Client::new(&ClientArgs::from(args.client))?;
    let url = client.url(["v1", "dead-letters", &args.job.to_string(), "replay"]);
    let job = client.post(url, &json!({})).await?;
    if args_json {
        return print_json(&job);
    }
    let id = printable(at(&job, &["id"]));
    print(&format!("{id} runs in its place: millhand jobs show {id}\n"))
}

async fn drop(args: DeadLetterArgs) -> anyhow::Result<()> {
    let args_json = args.client.json;
    let client = Client::new(&ClientArgs::from(args.client))?;
    let url = client.url(["v1", "dead-letters", &args.job.to_string(), "drop"]);
    client.send(client.request(Method::POST, url).json(&json!({}))).await?;
    if args_json {
        return print_json(&json!({ "dropped": args.job }));
    }
    print(&format!("{} is no longer among the dead letters; its job stays, failed.\n", args.job))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letters_are_a_table_with_what_to_do() {
        let page = json!({"data": [{"buried_at": "2026-11-24T18:55:00.123Z", "replayed_as": null,
            "job": {"id": "job_1", "kind": "chat", "error": {"message": "killed its worker\n3 times"}}}]});
        insta::assert_snapshot!(render_list(&page), @r"
        job    kind  since                     replayed as  error
        job_1  chat  2026-11-24T18:55:00.123Z  -            killed its worker 3 times

        Run one again: millhand dead-letters replay JOB
        ");
    }
}
