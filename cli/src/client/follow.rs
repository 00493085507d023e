//! Follows a job's events to its end, over any number of lost connections.

use std::time::Duration;

use anyhow::bail;
use futures::{Stream, StreamExt};
use millhand_common::model::{Event, JobId};
use reqwest::{Method, StatusCode};
use sse_stream::{Sse, SseByteStream};

use super::{Client, RequestError};

/// Waits between attempts to reach the server again; the last one repeats.
const BACK_OFF: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
/// Attempts in a row without one new event. With [`BACK_OFF`] about two minutes: a restart fits.
const MAX_FAILURES: usize = 60;

/// Calls `on_event` with every event of the job once, in order, and returns after the terminal one.
pub(crate) async fn follow(
    client: &Client,
    job: JobId,
    mut on_event: impl FnMut(&Event) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (mut seen, mut failures) = (0, 0);
    loop {
        let before = seen;
        let lost = match connect(client, job, seen).await {
            // The log ended at `seen`: the terminal event was the last one read.
            Ok(None) => return Ok(()),
            Ok(Some(mut events)) => loop {
                match events.next().await {
                    Some(Ok(event)) if event.seq <= seen => {}
                    Some(Ok(event)) if event.seq > seen + 1 => break None,
                    Some(Ok(event)) => {
                        seen = event.seq;
                        on_event(&event)?;
                        if event.is_terminal() {
                            return Ok(());
                        }
                    }
                    Some(Err(err)) => break Some(err),
                    None => break None,
                }
            },
            Err(err) if err.retry_after().is_some() => Some(err.into()),
            Err(err) => return Err(err.into()),
        };
        failures = if seen > before { 0 } else { failures + 1 };
        if failures > MAX_FAILURES {
            match lost {
                Some(err) => return Err(err),
                None => bail!("the server keeps closing the stream of job {job}"),
            }
        }
        tokio::time::sleep(BACK_OFF[failures.min(BACK_OFF.len() - 1)]).await;
    }
}

async fn connect(
    client: &Client,
    job: JobId,
    seen: u64,
) -> Result<Option<impl Stream<Item = anyhow::Result<Event>> + Unpin + use<>>, RequestError> {
    let id = job.to_string();
    let request = client
        .request(Method::GET, client.url(["v1", "jobs", &id, "events"]))
        .header("accept", "text/event-stream")
        .header("last-event-id", seen);
    let response = client.send(request).await?;
    if response.status() == StatusCode::NO_CONTENT {
        return Ok(None);
    }
    let events = SseByteStream::new(response.bytes_stream().boxed());
    Ok(Some(events.filter_map(|block| std::future::ready(event(block))).boxed()))
}

/// The event of one block; blocks without data are heartbeats.
fn event<E>(block: Result<Sse, E>) -> Option<anyhow::Result<Event>>
where
    E: std::error::Error + Send + Sync + 'static,
{
    match block {
        Ok(block) => block.data.map(|data| Ok(serde_json::from_str(&data)?)),
        Err(err) => Some(Err(err.into())),
    }
}
