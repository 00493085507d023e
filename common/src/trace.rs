//! Spans that leave the process: one trace per job, from the HTTP request across the queue to every model
//! call.
//!
//! They are of a target of their own, which nobody listens to unless traces are exported: then they cost
//! nothing, and logs never show them. Attributes are OpenTelemetry's names; never prompts, replies or keys.

use opentelemetry::trace::{SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry::{Array, Context, Key, Value};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

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
    fn what_is_not_exported_has_no_context() {
        assert_eq!(current(), None);
    }
}
