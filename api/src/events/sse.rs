//! Server-sent events: `id:` seq, `event:` type, `data:` the whole event on one line.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use http::{HeaderName, HeaderValue, header};
use millhand_common::model::Event;
use tokio_util::sync::CancellationToken;

use super::Feed;
use crate::admission::Admission;

/// A comment is sent after this long without an event, so that proxies keep the connection.
const HEARTBEAT: Duration = Duration::from_secs(15);

struct Stream {
    feed: Feed,
    stopping: CancellationToken,
    admission: Arc<Admission>,
    begun: bool,
    ended: bool,
}

/// The stream of `feed` until its terminal event, or until `stopping`.
pub(super) fn respond(feed: Feed, stopping: CancellationToken, admission: Arc<Admission>) -> Response {
    let stream = Stream { feed, stopping, admission, begun: false, ended: false };
    let chunks = stream::unfold(stream, |mut stream| async move {
        let chunk = stream.chunk().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), stream))
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        // nginx would gather the answer otherwise.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, Body::from_stream(chunks)).into_response()
}

impl Stream {
    async fn chunk(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        if !std::mem::replace(&mut self.begun, true) {
            // At once: a process that dies says no goodbye.
            return Some(come_back(self.admission.is_overloaded()).into());
        }
        // Cancel-safe: `Feed::next` keeps an event that it does not hand out.
        let next = tokio::select! {
            biased;
            next = self.feed.next() => next,
            () = self.stopping.cancelled() => {
                self.ended = true;
                return Some(come_back(self.admission.is_overloaded()).into());
            }
            () = tokio::time::sleep(HEARTBEAT) => return Some(Bytes::from_static(b": heartbeat\n\n")),
        };
        let mut text = String::new();
        write_event(&mut text, &*next?);
        self.ended = !self.feed.drain_ready(|event| {
            write_event(&mut text, event);
            text.len()
        });
        Some(text.into())
    }
}

/// Asks for a reconnect, when it is needed, in 1-5 s, not all readers at once; in twice that while new jobs are
/// refused.
fn come_back(overloaded: bool) -> String {
    let (_, low) = uuid::Uuid::new_v4().as_u64_pair();
    let times = if overloaded { 2 } else { 1 };
    format!("retry: {}\n\n", (1000 + low % 4001) * times)
}

fn write_event(text: &mut String, event: &Event) {
    // Both are one line by their making; a writer of another version must not be able to forge a field.
    let kind = event.kind.replace(['\r', '\n'], " ");
    let data = event.to_json().replace(['\r', '\n'], " ");
    write!(text, "id: {}\nevent: {kind}\ndata: {data}\n\n", event.seq)
        .expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use millhand_common::model::{EventBody, JobId, Timestamp};

    use super::*;

    #[test]
    fn readers_come_back_at_different_times_and_later_under_load() {
        let millis = |overloaded| {
            come_back(overloaded).trim().strip_prefix("retry: ").unwrap().parse::<u64>().unwrap()
        };
        let (calm, busy): (Vec<u64>, Vec<u64>) = (0..64).map(|_| (millis(false), millis(true))).unzip();
        assert!(calm.iter().all(|wait| (1000..=5000).contains(wait)));
        assert!(busy.iter().all(|wait| (2000..=10_000).contains(wait)));
        assert!(calm.iter().collect::<std::collections::HashSet<_>>().len() > 32, "{calm:?}");
    }

    #[test]
    fn text_of_a_model_cannot_forge_a_field() {
        let body = EventBody::OutputTextDelta {
            text: "你好\n\nevent: job.completed\ndata: {}\r\n\u{2028}".to_owned(),
        };
        let event = Event::new(JobId::new(), 7, 1, Timestamp::from_millis(0), &body);
        let mut text = String::new();
        write_event(&mut text, &event);
        let lines: Vec<_> = text.split('\n').collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert_eq!((lines[0], lines[1], lines[3], lines[4]), ("id: 7", "event: output_text.delta", "", ""));
        let read: Event = serde_json::from_str(lines[2].strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(read.body(), Some(body));
    }
}
