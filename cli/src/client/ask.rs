//! `millhand ask`: the answer as it comes, then its sources.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Context;
use millhand_common::model::{
    Citation, Event, EventBody, JobId, OutputFold, Status, TerminalData, WaitReason,
};
use reqwest::Method;
use serde_json::{Value, json};

use super::Client;
use super::follow::follow;
use crate::args::AskArgs;
use crate::terminal::{at, one_line, print, print_json, printable};

/// Characters of a quotation that are shown.
const QUOTE: usize = 300;

pub(crate) async fn run(args: AskArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.client)?;
    let job = submit(&client, &args).await?;
    let id: JobId = at(&job, &["id"]).parse().context("the server's answer names no job")?;

    let quiet = args.client.json;
    let interactive = std::io::stderr().is_terminal();
    let mut screen = Screen::default();
    let reading = follow(&client, id, |event| {
        let shown = screen.take(event);
        if quiet {
            return Ok(());
        }
        if let Some(notice) = shown.notice.filter(|_| interactive) {
            eprintln!("{notice}");
        }
        print(&shown.text)
    });
    // Cancel-safe: the log stays with the server; whoever reads again starts where they like.
    tokio::select! {
        read = reading => read?,
        _ = tokio::signal::ctrl_c() => {
            let [show, cancel] = ["jobs show", "jobs cancel"].map(|command| args.client.next(command));
            eprintln!("\nThe job goes on without us: `{show} {id}`, or stop it with `{cancel} {id}`");
            return Ok(ExitCode::from(130));
        }
    }

    let job = client.get(client.url(["v1", "jobs", at(&job, &["id"])])).await?;
    if args.client.json {
        print_json(&job)?;
    } else {
        let line_end = if screen.fold.text.is_empty() { "" } else { "\n" };
        print(&format!("{line_end}{}", render_sources(&job)))?;
        if let Some(ending) = screen.ending() {
            eprintln!("{ending}");
        }
        print(&render_conversation(&job, &args.client.next("ask")))?;
    }
    let answered = Status::parse(at(&job, &["status"])).is_some_and(Status::enters_history);
    Ok(if answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn submit(client: &Client, args: &AskArgs) -> anyhow::Result<Value> {
    let mut body = json!({ "input": args.question });
    if let Some(agent) = &args.agent {
        body["agent"] = json!(agent.as_str());
    }
    if let Some(conversation) = args.conversation {
        body["conversation_id"] = json!(conversation.to_string());
    }
    match args.collection.as_slice() {
        [] => {}
        [one] => body["collection"] = json!(one.as_str()),
        many => body["collection"] = json!(many),
    }
    let request = client.request(Method::POST, client.url(["v1", "jobs"])).json(&body);
    Ok(client.json(request).await?)
}

/// What is on the screen, and what it should be.
#[derive(Default)]
struct Screen {
    fold: OutputFold,
    end: Option<(String, TerminalData)>,
}

/// What one event adds.
#[derive(Debug, Default, PartialEq)]
struct Shown {
    text: String,
    notice: Option<String>,
}

impl Screen {
    fn take(&mut self, event: &Event) -> Shown {
        let mut shown = Shown::default();
        let Some(body) = event.body() else { return shown };
        let before = self.fold.text.len();
        self.fold.push(&body);
        match body {
            EventBody::OutputTextDelta { text } => shown.text = printable(&text),
            EventBody::AttemptStarted { attempt, .. } if before > 0 => {
                shown.text = format!("\n\n[attempt {attempt}: the answer starts again]\n\n");
            }
            EventBody::OutputTextReset { .. } if self.fold.text.len() < before => {
                shown.text = format!("\n\n[the answer goes on from here]\n\n{}", printable(&self.fold.text));
            }
            EventBody::JobQueued { position: Some(ahead @ 1..), expected_start_at } => {
                let until = expected_start_at.map_or(String::new(), |time| format!(" until about {time}"));
                let jobs = if ahead == 1 { "job is" } else { "jobs are" };
                shown.notice = Some(format!("waiting{until}: {ahead} {jobs} ahead"));
            }
            EventBody::JobWaiting { reason, not_before } => {
                let until = not_before.map_or(String::new(), |time| format!(" until {time}"));
                shown.notice = Some(format!("waiting{until}: {}", waits_for(reason)));
            }
            EventBody::JobCompleted(data)
            | EventBody::JobIncomplete(data)
            | EventBody::JobFailed(data)
            | EventBody::JobCancelled(data)
            | EventBody::JobExpired(data) => {
                self.end = Some((event.kind.clone(), data));
            }
            _ => {}
        }
        shown
    }

    /// A sentence about an end other than an answer.
    fn ending(&self) -> Option<String> {
        let (kind, data) = self.end.as_ref()?;
        let reason = data.reason.as_deref();
        let error = data.error.as_ref();
        let sentence = match kind.as_str() {
            "job.completed" => return None,
            "job.incomplete" => match reason {
                Some("max_output_tokens") => "The answer is cut: it reached max_output_tokens.".to_owned(),
                Some("deadline") => "The answer is cut: the job reached its deadline.".to_owned(),
                _ => "The answer is cut.".to_owned(),
            },
            "job.cancelled" => "The job was cancelled.".to_owned(),
            "job.expired" => "No answer: the job reached its deadline. Ask again.".to_owned(),
            _ => match error {
                Some(error) => {
                    let again = if error.retryable { " Asking again may help." } else { "" };
                    format!("No answer: {} ({}).{again}", error.message.trim_end_matches('.'), error.code)
                }
                None => "No answer: the job failed.".to_owned(),
            },
        };
        Some(sentence)
    }
}

fn waits_for(reason: WaitReason) -> &'static str {
    match reason {
        WaitReason::Scheduled => "the job is scheduled",
        WaitReason::Quota => "the model's rate limit",
        WaitReason::Retry => "another try",
        WaitReason::Drain => "its worker shut down, another one takes over",
        WaitReason::Conversation => "the question before it in the conversation",
        WaitReason::Tenant => "your other jobs",
        WaitReason::Model => "the model, which does not answer now",
        WaitReason::Worker => "a free worker",
    }
}

/// The documents an answer rests on, by the numbers in its text; empty without citations.
pub(super) fn render_sources(job: &Value) -> String {
    let citations: Vec<Citation> =
        serde_json::from_value(job["output"]["citations"].clone()).unwrap_or_default();
    let answer = at(job, &["output", "text"]);
    let mut sources: BTreeMap<usize, (String, Vec<String>)> = BTreeMap::new();
    for (place, citation) in (1..).zip(&citations) {
        let number = marker(answer, citation).unwrap_or(place);
        let title = if citation.title.is_empty() { String::new() } else { format!("  {}", citation.title) };
        let source = format!("{}/{}{title}", citation.collection, citation.document);
        let quotes = &mut sources.entry(number).or_insert_with(|| (printable(&source), Vec::new())).1;
        let quote = one_line(&citation.quote, QUOTE);
        if !quotes.contains(&quote) {
            quotes.push(quote);
        }
    }
    let mut text = String::new();
    if !sources.is_empty() {
        text.push_str("\nSources\n");
    }
    for (number, (source, quotes)) in sources {
        let _ = writeln!(text, "[{number}] {source}");
        for quote in quotes {
            let _ = writeln!(text, "    “{quote}”");
        }
    }
    text
}

/// The number in the first `[n]` at the end of the citation's span of the answer, or right after it.
fn marker(answer: &str, citation: &Citation) -> Option<usize> {
    let number = |text: &str| text.strip_prefix('[')?.split_once(']')?.0.parse().ok();
    let after = answer.get(citation.answer_span.to..)?.trim_start();
    number(after).or_else(|| {
        let within = citation.answer_span.of(answer)?;
        number(within.get(within.rfind('[')?..)?)
    })
}

fn render_conversation(job: &Value, ask: &str) -> String {
    match at(job, &["conversation_id"]) {
        "" => String::new(),
        id => format!("\nGo on with: {ask} -c {id} \"…\"\n"),
    }
}

#[cfg(test)]
mod tests {
    use millhand_common::model::{
        CollectionName, DocumentId, JobError, PassageId, Span, Timestamp, WorkerId,
    };

    use super::*;

    fn shown(screen: &mut Screen, body: &EventBody) -> String {
        let event = Event::new(JobId::new(), 1, 1, Timestamp::from_millis(0), body);
        screen.take(&event).text
    }

    #[test]
    fn a_lost_attempt_and_a_reset_are_said_and_the_text_stays_right() {
        let mut screen = Screen::default();
        let delta = |text: &str| EventBody::OutputTextDelta { text: text.to_owned() };
        let started = |attempt| EventBody::AttemptStarted { attempt, worker: WorkerId::new() };
        let all: String = [
            started(1),
            delta("The mill"),
            started(2),
            delta("水车"),
            delta(" turns"),
            EventBody::OutputTextReset { length: 6 },
            delta("转"),
        ]
        .iter()
        .map(|body| shown(&mut screen, body))
        .collect();
        insta::assert_snapshot!(all, @r"
        The mill

        [attempt 2: the answer starts again]

        水车 turns

        [the answer goes on from here]

        水车转
        ");
        assert_eq!(screen.fold.text, "水车转");
    }

    #[test]
    fn a_place_in_line_is_told_when_there_is_a_line() {
        let notice = |position| {
            let at = Timestamp::from_millis(1_800_000_000_000);
            let body = EventBody::JobQueued { position, expected_start_at: Some(at) };
            Screen::default().take(&Event::new(JobId::new(), 1, 0, at, &body)).notice
        };
        assert_eq!((notice(None), notice(Some(0))), (None, None));
        insta::assert_snapshot!(notice(Some(1)).unwrap(), @"waiting until about 2027-01-15T08:00:00.000Z: 1 job is ahead");
        insta::assert_snapshot!(notice(Some(12)).unwrap(), @"waiting until about 2027-01-15T08:00:00.000Z: 12 jobs are ahead");
    }

    #[test]
    fn every_end_but_an_answer_is_told() {
        let mut screen = Screen::default();
        assert_eq!(screen.ending(), None);
        shown(&mut screen, &EventBody::JobCompleted(TerminalData::default()));
        assert_eq!(screen.ending(), None);
        let error = JobError::new("model_error", "The model is away.", true);
        shown(&mut screen, &EventBody::JobFailed(TerminalData { error: Some(error), ..Default::default() }));
        insta::assert_snapshot!(screen.ending().unwrap(), @"No answer: The model is away (model_error). Asking again may help.");
        shown(&mut screen, &EventBody::JobExpired(TerminalData::default()));
        insta::assert_snapshot!(screen.ending().unwrap(), @"No answer: the job reached its deadline. Ask again.");
    }

    #[test]
    fn sources_carry_the_numbers_of_the_text() {
        let answer = "It opens at ten. [2] 周一闭馆。[1]";
        let citation = |span: (usize, usize), document: &str, quote: &str| {
            let id = DocumentId::new();
            Citation {
                answer_span: Span::from(span),
                collection: CollectionName::sample(),
                document_id: id,
                document: document.to_owned(),
                passage_id: PassageId { document: id, ordinal: 0 },
                title: "Visit".to_owned(),
                span: Span::new(0, quote.len()),
                quote: quote.to_owned(),
            }
        };
        let citations = [
            citation((0, 16), "en.md", "opens at\nten"),
            citation((21, 36), "zh.md", "周一闭馆"),
            citation((21, 36), "zh.md", "周一闭馆"),
        ];
        let job = json!({"output": {"text": answer, "answered": true, "citations": citations}});
        insta::assert_snapshot!(render_sources(&job), @r"

        Sources
        [1] sample/zh.md  Visit
            “周一闭馆”
        [2] sample/en.md  Visit
            “opens at ten”
        ");
        assert_eq!(render_sources(&json!({"output": null})), "");
    }
}
