//! What was said before in this conversation, as far as it fits.

use millhand_common::model::{JobError, JobId, JobInput, Message, Output, Role};
use millhand_common::ports::{Lookup, StoreError};

use super::AnswerDeps;
use crate::attempt::{Attempt, Failure};

/// Messages looked at.
const MAX_MESSAGES: usize = 40;
/// Text of them that is kept, newest first: about 4,000 tokens.
const MAX_BYTES: usize = 16 * 1024;

/// The conversation before this job's question.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// In order, oldest first; begins with a user's message.
    pub(crate) messages: Vec<Message>,
    /// Titles that the previous answer cited.
    pub(crate) cited: Vec<String>,
}

/// Reads the history. Turns of a conversation run one after the other, so it does not change while
/// this job runs.
pub(crate) async fn history(attempt: &Attempt, deps: &AnswerDeps) -> Result<History, Failure> {
    let spec = &attempt.job().spec;
    let mut messages = Vec::new();
    let mut previous = None;
    if let Some(conversation) = spec.conversation_id
        && !spec.opens_conversation()
    {
        let stored = deps.conversations.history(&spec.tenant, conversation, MAX_MESSAGES).await;
        for stored in stored.map_err(unavailable)? {
            if stored.job_id != spec.id {
                previous = Some(stored.job_id);
                messages.push(stored.message);
            }
        }
    }
    if let JobInput::Chat { messages: submitted } = &spec.input
        && let Some((_, earlier)) = submitted.split_last()
    {
        messages.extend_from_slice(earlier);
    }
    let cited = match previous {
        Some(job) => cited_titles(attempt, deps, job).await?,
        None => Vec::new(),
    };
    Ok(History { messages: window(messages), cited })
}

async fn cited_titles(attempt: &Attempt, deps: &AnswerDeps, job: JobId) -> Result<Vec<String>, Failure> {
    let Some(jobs) = &deps.jobs else { return Ok(Vec::new()) };
    let found = jobs.get(&attempt.job().spec.tenant, job).await.map_err(unavailable)?;
    let Lookup::Found(job) = found else { return Ok(Vec::new()) };
    let Some(Output::Answer { citations, .. }) = job.output else { return Ok(Vec::new()) };
    let mut titles: Vec<String> = Vec::new();
    for citation in citations {
        if !titles.contains(&citation.title) {
            titles.push(citation.title);
        }
    }
    Ok(titles)
}

fn unavailable(err: StoreError) -> Failure {
    Failure::Retry { error: JobError::new("store_unavailable", err.to_string(), true), after: None }
}

/// The newest messages that fit, whole, beginning with a user's.
fn window(messages: Vec<Message>) -> Vec<Message> {
    let mut bytes = 0;
    let fit = messages.iter().rev().take_while(|message| {
        bytes += message.content.len();
        bytes <= MAX_BYTES
    });
    let skip = messages.len() - fit.count();
    messages.into_iter().skip(skip).skip_while(|message| message.role != Role::User).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_keeps_the_newest_turns_whole() {
        let message = |role, size: usize| Message { role, content: "x".repeat(size) };
        let messages = vec![
            message(Role::User, 10),
            message(Role::Assistant, MAX_BYTES - 100),
            message(Role::User, 50),
            message(Role::Assistant, 60),
        ];
        assert_eq!(window(messages.clone()), messages[2..]);
        assert_eq!(window(vec![message(Role::User, MAX_BYTES + 1)]), []);
    }
}
