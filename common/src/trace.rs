//! Spans that leave the process: one trace per job, from the HTTP request across the queue to every model
//! call.
//!
//! They are of a target of their own, which nobody listens to unless traces are exported: then they cost
//! nothing, and logs never show them. Attributes are OpenTelemetry's names; never prompts, replies or keys.

use std::cell::Cell;

use opentelemetry::trace::{SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry::{Array, Context, Key, Value};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::model::JobId;
use crate::telemetry::trace_id;

/// The target of spans that are exported, as `info_span!` takes it.
pub const TARGET: &str = "millhand::trace";

/// Makes the sender's span the parent of a span that nobody has entered yet.
pub fn adopt(span: &Span, traceparent: Option<&str>) {
    if let Some(parent) = traceparent.filter(|_| !span.is_disabled()).and_then(parsed) {
        // It fails where nothing is exported, or for a span that runs; neither has a parent to lose.
        let _unheard = span.set_parent(Context::new().with_remote_span_context(parent));
    }
}

thread_local! {
    /// The id of the span that is started now.
    static CHOSEN: Cell<Option<SpanId>> = const { Cell::new(None) };
}

/// The id that a span which is started now shall have, for whoever makes ids; `None`: any.
pub fn chosen_id() -> Option<SpanId> {
    CHOSEN.take()
}

/// Starts the span of an attempt in the trace of its job, and links it to the attempt before. Nothing is kept
/// for that: an attempt's id follows from its job and its number. The span that is linked to is missing when
/// its worker died before it could export it.
pub fn begin_attempt(span: &Span, traceparent: Option<&str>, job: JobId, attempt: u32) {
    if span.is_disabled() {
        return;
    }
    adopt(span, traceparent);
    if attempt > 1
        && let Some(parent) = traceparent.and_then(parsed)
    {
        let (trace, flags) = (parent.trace_id(), parent.trace_flags());
        let former = SpanContext::new(trace, attempt_id(job, attempt - 1), flags, true, TraceState::NONE);
        span.add_link(former);
    }
    CHOSEN.set(Some(attempt_id(job, attempt)));
    // Asking for its context starts it, and so asks for its id.
    drop(span.context());
    CHOSEN.set(None);
}

/// Differs between attempts of a job, and between jobs by the 62 random bits of their ids.
fn attempt_id(job: JobId, attempt: u32) -> SpanId {
    /// Odd, and its bits are spread: 2^64 divided by the golden ratio.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let (_, random) = job.uuid().as_u64_pair();
    SpanId::from(random ^ u64::from(attempt).wrapping_mul(SPREAD))
}

/// W3C trace context of the span that runs; `None` when it is not exported.
#[must_use]
pub fn current() -> Option<String> {
    let context = Span::current().context();
    let span = context.span();
    let own = span.span_context();
    let flags = own.trace_flags().to_u8();
    own.is_valid().then(|| format!("00-{}-{}-{flags:02x}", own.trace_id(), own.span_id()))
}

/// Adds what is known late.
pub fn note(span: &Span, key: impl Into<Key>, value: impl Into<Value>) {
    span.set_attribute(key, value);
}

/// The same of an attribute that is a list, here of one word.
pub fn note_list(span: &Span, key: impl Into<Key>, word: &'static str) {
    span.set_attribute(key, Value::Array(Array::String(vec![word.into()])));
}

/// Says that it went wrong, and how: a word of a closed set.
pub fn failed(span: &Span, error: &str) {
    span.set_attribute("error.type", error.to_owned());
    span.set_status(Status::error(error.to_owned()));
}

fn parsed(traceparent: &str) -> Option<SpanContext> {
    let trace = TraceId::from_hex(trace_id(traceparent)?).ok()?;
    let mut rest = traceparent.split('-').skip(2);
    let (span, flags) = (rest.next()?, rest.next()?);
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    let span = SpanId::from_hex(span).ok()?;
    let context = SpanContext::new(trace, span, flags, true, TraceState::NONE);
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_s_context_is_read() {
        let context = parsed("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert!(context.is_remote() && context.is_sampled());
        assert_eq!(context.span_id().to_string(), "00f067aa0ba902b7");
        let silent = parsed("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00").unwrap();
        assert!(!silent.is_sampled());
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-zz",
        ] {
            assert!(parsed(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn attempts_have_ids_of_their_own() {
        let (one, other) = (JobId::new(), JobId::new());
        let ids = [(one, 1), (one, 2), (other, 1), (other, 2)].map(|(job, attempt)| attempt_id(job, attempt));
        for (at, id) in ids.iter().enumerate() {
            assert!(*id != SpanId::INVALID && !ids[..at].contains(id), "{ids:?}");
        }
        assert_eq!(attempt_id(one, 2), ids[1], "whoever asks");
        begin_attempt(&Span::none(), None, one, 2);
        assert_eq!(chosen_id(), None);
    }

    #[test]
    fn what_is_not_exported_has_no_context() {
        assert_eq!(current(), None);
    }
}
