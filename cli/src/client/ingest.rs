//! `millhand ingest`: files in, and back when all of them can be asked.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures::stream::{self, StreamExt};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use millhand_common::model::{EventBody, JobId};
use reqwest::multipart::{Form, Part};
use reqwest::{Method, Url, header::HeaderName};
use serde_json::{Value, json};

use super::files::{self, Found, MAX_FILE_BYTES, MAX_NAME_BYTES, Walk};
use super::follow::follow;
use super::{Client, RequestError};
use crate::args::IngestArgs;
use crate::terminal::{at, print, print_json, printable, table};

/// Files of one job, and their bytes together. Small enough that progress is seen and a retried
/// upload is cheap, large enough that a job costs little beside its documents.
const BATCH_FILES: usize = 32;
const BATCH_BYTES: u64 = 8 * 1024 * 1024;
/// Jobs sent and not ended.
const IN_FLIGHT: usize = 4;
/// How long one upload is tried again while the server is full or away.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) async fn run(args: IngestArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.client)?;
    let found = files::walk(&args.paths)?;
    if found.files.is_empty() {
        bail!("no documents there{}", render_skipped(&found));
    }
    // Before megabytes are sent: is there a server, and does it take documents?
    client.get(client.url(["v1", "collections"])).await?;
    let url = client.url(["v1", "collections", args.collection.as_str(), "documents"]);

    let bar = progress(found.files.len(), args.client.json);
    let mut outcomes = Vec::new();
    let mut jobs = stream::iter(batches(found.files.clone()))
        .map(|batch| ingest(&client, &url, batch, &bar))
        .buffer_unordered(IN_FLIGHT);
    while let Some(done) = jobs.next().await {
        outcomes.extend(done?);
    }
    bar.finish_and_clear();

    outcomes.sort_by(|a, b| a.name.cmp(&b.name));
    let failed = outcomes.iter().filter(|outcome| outcome.error.is_some()).count();
    if args.client.json {
        let documents: Vec<_> = outcomes.iter().map(Outcome::to_json).collect();
        print_json(&json!({ "documents": documents, "failed": failed, "skipped": found.skipped }))?;
    } else {
        print(&render(&outcomes, &found, args.collection.as_str(), &args.client.next("ask")))?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What became of one file.
#[derive(Clone, Debug)]
struct Outcome {
    name: String,
    /// Absent when the file never became a document.
    id: Option<String>,
    passages: u64,
    error: Option<String>,
}

impl Outcome {
    fn failed(name: &str, error: impl Into<String>) -> Self {
        Self { name: name.to_owned(), id: None, passages: 0, error: Some(error.into()) }
    }

    fn of(document: &Value) -> Self {
        let text = |key| Some(at(document, &[key]).to_owned()).filter(|text| !text.is_empty());
        Self {
            name: at(document, &["name"]).to_owned(),
            id: text("id"),
            passages: document["passages"].as_u64().unwrap_or_default(),
            error: text("error"),
        }
    }

    fn to_json(&self) -> Value {
        json!({ "name": self.name, "id": self.id, "passages": self.passages, "error": self.error })
    }
}

/// Neighbouring files together, within [`BATCH_FILES`] and [`BATCH_BYTES`].
fn batches(files: Vec<Found>) -> Vec<Vec<Found>> {
    let mut batches: Vec<Vec<Found>> = Vec::new();
    let mut bytes = 0;
    for file in files {
        match batches.last_mut() {
            Some(batch) if batch.len() < BATCH_FILES && bytes + file.bytes <= BATCH_BYTES => {
                bytes += file.bytes;
                batch.push(file);
            }
            _ => {
                bytes = file.bytes;
                batches.push(vec![file]);
            }
        }
    }
    batches
}

/// Brings one batch in.
async fn ingest(
    client: &Client,
    url: &Url,
    batch: Vec<Found>,
    bar: &ProgressBar,
) -> anyhow::Result<Vec<Outcome>> {
    let (mut outcomes, mut parts) = (Vec::new(), Vec::new());
    for file in batch {
        match read(&file).await {
            Ok(bytes) => parts.push((file.name, bytes)),
            Err(error) => {
                bar.inc(1);
                outcomes.push(Outcome::failed(&file.name, error));
            }
        }
    }
    if parts.is_empty() {
        return Ok(outcomes);
    }
    match send(client, url, &parts, bar).await {
        Err(err) if is_about_the_files(&err) && parts.len() > 1 => {
            // One of them is refused: find out which, and take the others.
            for part in parts.chunks(1) {
                outcomes.extend(sent_or_refused(send(client, url, part, bar).await, part, bar)?);
            }
        }
        sent => outcomes.extend(sent_or_refused(sent, &parts, bar)?),
    }
    Ok(outcomes)
}

/// Whether the same files would be refused again.
fn is_about_the_files(err: &anyhow::Error) -> bool {
    err.downcast_ref().is_some_and(|err| {
        matches!(err, RequestError::Refused { .. }) && RequestError::retry_after(err).is_none()
    })
}

fn sent_or_refused(
    sent: anyhow::Result<Vec<Outcome>>,
    parts: &[(String, Vec<u8>)],
    bar: &ProgressBar,
) -> anyhow::Result<Vec<Outcome>> {
    match sent {
        Err(err) if is_about_the_files(&err) => {
            bar.inc(parts.len() as u64);
            Ok(parts.iter().map(|(name, _)| Outcome::failed(name, err.to_string())).collect())
        }
        sent => sent,
    }
}

/// Sends files as one job and waits for its end.
async fn send(
    client: &Client,
    url: &Url,
    parts: &[(String, Vec<u8>)],
    bar: &ProgressBar,
) -> anyhow::Result<Vec<Outcome>> {
    let job = upload(client, url, parts).await?;
    let id: JobId = at(&job, &["id"]).parse().context("the server's answer names no job")?;
    follow(client, id, |event| {
        if let Some(EventBody::IngestProgress { document, stage, .. }) = event.body() {
            bar.set_message(printable(&document));
            if matches!(stage.as_str(), "indexed" | "failed") {
                bar.inc(1);
            }
        }
        Ok(())
    })
    .await?;
    let job = client.get(client.url(["v1", "jobs", &id.to_string()])).await?;
    Ok(outcomes_of(&job, parts))
}

/// One outcome per file, also when the job ended without saying.
fn outcomes_of(job: &Value, parts: &[(String, Vec<u8>)]) -> Vec<Outcome> {
    let documents = job["output"]["documents"].as_array().map_or(&[] as &[_], Vec::as_slice);
    let mut outcomes: Vec<Outcome> = documents.iter().map(Outcome::of).collect();
    let reason = match at(job, &["error", "message"]) {
        "" => format!("job {} ended as {}", at(job, &["id"]), at(job, &["status"])),
        message => message.to_owned(),
    };
    for (name, _) in parts {
        if !outcomes.iter().any(|outcome| outcome.name == *name) {
            outcomes.push(Outcome::failed(name, reason.clone()));
        }
    }
    outcomes
}

async fn read(file: &Found) -> Result<Vec<u8>, String> {
    if file.name.len() > MAX_NAME_BYTES {
        return Err(format!("its name is longer than {MAX_NAME_BYTES} bytes"));
    }
    if file.bytes > MAX_FILE_BYTES {
        return Err(format!("larger than {} MiB", MAX_FILE_BYTES / 1024 / 1024));
    }
    tokio::fs::read(&file.path).await.map_err(|err| format!("cannot be read: {err}"))
}

/// Sends the files; the key makes it safe to send them again when the answer was lost.
async fn upload(client: &Client, url: &Url, parts: &[(String, Vec<u8>)]) -> Result<Value, RequestError> {
    let key = format!("ingest-{}", JobId::new());
    let started = Instant::now();
    loop {
        let mut form = Form::new().percent_encode_noop();
        for (name, bytes) in parts {
            form = form.part("file", Part::bytes(bytes.clone()).file_name(name.replace('"', "\\\"")));
        }
        let request = client
            .request(Method::POST, url.clone())
            .header(HeaderName::from_static("idempotency-key"), &key)
            .multipart(form);
        match client.json(request).await {
            Err(err) => match err.retry_after() {
                Some(wait) if started.elapsed() + wait < PATIENCE => tokio::time::sleep(wait).await,
                _ => return Err(err),
            },
            ok => return ok,
        }
    }
}

fn progress(files: usize, json: bool) -> ProgressBar {
    // Draws only when standard error is a terminal.
    let target = if json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(files as u64), target);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {elapsed}  {wide_msg}")
        .expect("the template is a constant");
    bar.with_style(style)
}

fn render(outcomes: &[Outcome], walk: &Walk, collection: &str, ask: &str) -> String {
    let failed: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| Some(vec![printable(&outcome.name), printable(outcome.error.as_deref()?)]))
        .collect();
    let taken = outcomes.len() - failed.len();
    let passages: u64 = outcomes.iter().map(|outcome| outcome.passages).sum();
    let mut text = String::new();
    if taken > 0 {
        let _ = writeln!(
            text,
            "{taken} {} in `{collection}` ({passages} passages){}",
            if taken == 1 { "document is" } else { "documents are" },
            render_skipped(walk)
        );
    }
    if !failed.is_empty() {
        let _ = writeln!(text, "{} failed:\n{}", failed.len(), table(&["document", "reason"], &failed));
    }
    if taken > 0 {
        let _ = writeln!(text, "Ask: {ask} \"…\" --collection {collection}");
    }
    text
}

fn render_skipped(walk: &Walk) -> String {
    if walk.skipped.is_empty() {
        return String::new();
    }
    let kinds: Vec<_> = walk.skipped.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    format!("; left out: {} (name a file itself to try it)", kinds.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_by_files_and_by_bytes() {
        let file = |bytes| Found { path: "x".into(), name: "x".into(), bytes };
        let sizes = |files: Vec<Found>| batches(files).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(vec![file(1); 70]), [32, 32, 6]);
        assert_eq!(sizes(vec![file(5 << 20), file(5 << 20), file(1), file(60 << 20), file(1)]), [1, 2, 1, 1]);
        assert!(sizes(vec![]).is_empty());
    }

    #[test]
    fn every_file_has_an_outcome_and_failures_are_a_table() {
        let job = json!({"id": "job_1", "status": "completed", "output": {"documents": [
            {"id": "doc_1", "name": "手册.md", "passages": 4, "error": null},
            {"id": "doc_2", "name": "scan.pdf", "passages": 0, "error": "no text found"}]}});
        let parts = ["手册.md", "scan.pdf", "lost.md"].map(|name| (name.to_owned(), Vec::new()));
        let outcomes = outcomes_of(&job, &parts);
        let walk = Walk { skipped: [(".png".to_owned(), 2)].into(), ..Walk::default() };
        insta::assert_snapshot!(render(&outcomes, &walk, "mill", "millhand ask"), @r#"
        1 document is in `mill` (4 passages); left out: 2 .png (name a file itself to try it)
        2 failed:
        document  reason
        scan.pdf  no text found
        lost.md   job job_1 ended as completed

        Ask: millhand ask "…" --collection mill
        "#);
    }
}
