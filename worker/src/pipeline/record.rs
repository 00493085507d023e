//! Says the answer's last words and makes the job's end of it.

use millhand_common::model::{Citation, Output, Passage, Span, Status, Terminal, Usage};
use millhand_common::ports::FinishReason;

use super::extract::Quotation;
use super::generate::Reply;
use super::phrases::{Voice, says_not_found};
use super::retrieve::Found;
use super::speaker::Speaker;
use crate::attempt::Failure;

/// Closest passages named when there is no answer.
const CLOSEST: usize = 3;

/// Nothing was found, or there was nothing to search.
pub(crate) async fn nothing_found(
    speaker: &mut Speaker<'_>,
    voice: Voice,
    searched: bool,
) -> Result<Terminal, Failure> {
    speaker.say(if searched { voice.not_answered() } else { voice.no_documents() }).await?;
    Ok(completed(speaker, false))
}

/// Quotations, or that there are none and what comes closest. `instead`: a model was to answer and none
/// could.
pub(crate) async fn quotations(
    speaker: &mut Speaker<'_>,
    voice: Voice,
    quotations: Vec<Quotation>,
    found: &Found,
    instead: bool,
) -> Result<Terminal, Failure> {
    if quotations.is_empty() {
        speaker.say(voice.not_answered()).await?;
        speaker.say(&closest(voice, &found.passages)).await?;
        return Ok(completed(speaker, false));
    }
    speaker.say(if instead { voice.quotations_instead() } else { voice.quotations() }).await?;
    for quotation in quotations {
        let Some(passage) = found.passages.get(quotation.passage) else { continue };
        let Some(quote) = quotation.span.of(&passage.text) else { continue };
        let from = speaker.text.len() + "\n\n".len();
        let number = speaker.citations.len() + 1;
        speaker.say(&format!("\n\n{quote} [{number}]")).await?;
        let answer_span = Span::new(from, from + quote.len());
        speaker.cite(citation(passage, quotation.span, answer_span)).await?;
    }
    Ok(completed(speaker, true))
}

/// A model's answer from passages.
pub(crate) async fn grounded(
    speaker: &mut Speaker<'_>,
    voice: Voice,
    reply: Reply,
) -> Result<Terminal, Failure> {
    let blank = speaker.text.trim().is_empty();
    let supported = !speaker.citations.is_empty();
    let answered = supported && !reply.none;
    if blank {
        speaker.say(voice.not_answered()).await?;
    } else if !answered && !reply.none && !says_not_found(&speaker.text) {
        speaker.say(&format!("\n\n{}", voice.unsupported())).await?;
    }
    let terminal = completed(speaker, answered);
    Ok(finish(reply, terminal))
}

/// A model's answer without documents.
pub(crate) fn talk(speaker: &Speaker<'_>, reply: Reply) -> Terminal {
    finish(reply, completed(speaker, true))
}

fn finish(reply: Reply, mut terminal: Terminal) -> Terminal {
    let cut = match reply.finish {
        FinishReason::Stop | FinishReason::ToolCalls => None,
        FinishReason::Length => Some("max_output_tokens"),
        FinishReason::ContentFilter => Some("content_filter"),
    };
    if let Some(reason) = cut {
        terminal.status = Status::Incomplete;
        terminal.reason = Some(reason.to_owned());
    }
    terminal
}

fn completed(speaker: &Speaker<'_>, answered: bool) -> Terminal {
    let output = Output::answer(speaker.text.clone(), answered, speaker.citations.clone());
    let usage = Some(Usage::default());
    Terminal { output: Some(output), usage, ..Terminal::bare(Status::Completed) }
}

fn closest(voice: Voice, passages: &[Passage]) -> String {
    let mut text = format!("\n\n{}", voice.closest());
    for passage in passages.iter().take(CLOSEST) {
        text.push_str("\n- ");
        text.push_str(&passage.document);
        let title = passage.title.split_whitespace().collect::<Vec<_>>().join(" ");
        if !title.is_empty() && title != passage.document {
            text.push_str(": ");
            text.push_str(&title);
        }
    }
    text
}

/// A citation of `span` in `passage`, which must be a span of its text.
pub(crate) fn citation(passage: &Passage, span: Span, answer_span: Span) -> Citation {
    Citation {
        answer_span,
        collection: passage.collection.clone(),
        document_id: passage.document_id,
        document: passage.document.clone(),
        passage_id: passage.passage_id,
        title: passage.title.clone(),
        span: span.shifted(passage.span.from),
        quote: span.of(&passage.text).unwrap_or_default().to_owned(),
    }
}
