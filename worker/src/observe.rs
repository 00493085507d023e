//! A call of a model as OpenTelemetry's conventions for generative AI name it: its span and its metrics.
//! Never prompts, replies or keys.

use std::time::Instant;

use metrics::{Histogram, Label, histogram};
use millhand_common::model::Usage;
use millhand_common::ports::FinishReason;
use millhand_common::{telemetry, trace};
use reqwest::Url;
use tracing::Span;

/// One call that is under way.
pub(crate) struct Observed {
    operation: &'static str,
    provider: &'static str,
    model: String,
    /// Without its path, which may hold a key.
    server: String,
    started: Instant,
    /// When text came last, and where the time to the next is written.
    chunks: Option<(Instant, Histogram)>,
    span: Span,
}

impl Observed {
    /// A call of a chat model, about to be sent.
    pub(crate) fn chat(model: &str, origin: &str, max_output_tokens: Option<u32>) -> Self {
        let span = tracing::info_span!(
            target: trace::TARGET,
            "chat",
            otel.name = format!("chat {model}"),
            otel.kind = "client"
        );
        if let Some(most) = max_output_tokens {
            trace::note(&span, "gen_ai.request.max_tokens", i64::from(most));
        }
        Self::of("chat", model, origin, span)
    }

    /// A call of an embedder, about to be sent.
    pub(crate) fn embeddings(model: &str, origin: &str) -> Self {
        let span = tracing::info_span!(
            target: trace::TARGET,
            "embeddings",
            otel.name = format!("embeddings {model}"),
            otel.kind = "client"
        );
        Self::of("embeddings", model, origin, span)
    }

    /// A call of a reranker, about to be sent. OpenTelemetry has no name for it.
    pub(crate) fn rerank(model: &str, origin: &str) -> Self {
        let span = tracing::info_span!(
            target: trace::TARGET,
            "rerank",
            otel.name = format!("rerank {model}"),
            otel.kind = "client"
        );
        Self::of("rerank", model, origin, span)
    }

    fn of(operation: &'static str, model: &str, origin: &str, span: Span) -> Self {
        let url = Url::parse(origin).ok();
        let server = url.as_ref().and_then(Url::host_str).unwrap_or_default().to_owned();
        let provider = provider(&server);
        if !span.is_disabled() {
            trace::note(&span, "gen_ai.operation.name", operation);
            trace::note(&span, "gen_ai.provider.name", provider);
            trace::note(&span, "gen_ai.request.model", model.to_owned());
            trace::note(&span, "server.address", server.clone());
            if let Some(port) = url.as_ref().and_then(Url::port_or_known_default) {
                trace::note(&span, "server.port", i64::from(port));
            }
        }
        let model = model.to_owned();
        Self { operation, provider, model, server, started: Instant::now(), chunks: None, span }
    }

    /// The call's span: run the call in it.
    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    /// Text came.
    pub(crate) fn heard(&mut self) {
        let now = Instant::now();
        if let Some((last, pace)) = &mut self.chunks {
            pace.record(now.duration_since(*last).as_secs_f64());
            *last = now;
            return;
        }
        let waited = now.duration_since(self.started).as_secs_f64();
        histogram!(telemetry::CLIENT_FIRST_CHUNK, self.labels()).record(waited);
        self.chunks = Some((now, histogram!(telemetry::CLIENT_OUTPUT_CHUNK, self.labels())));
    }

    /// It ended as it should.
    pub(crate) fn ended(&self, reason: Option<FinishReason>, usage: Option<Usage>) {
        if let Some(reason) = reason {
            let word = match reason {
                FinishReason::Stop => "stop",
                FinishReason::Length => "length",
                FinishReason::ContentFilter => "content_filter",
                FinishReason::ToolCalls => "tool_calls",
            };
            trace::note_list(&self.span, "gen_ai.response.finish_reasons", word);
        }
        if let Some(usage) = usage {
            for (kind, attribute, tokens) in [
                ("input", "gen_ai.usage.input_tokens", usage.input_tokens),
                ("output", "gen_ai.usage.output_tokens", usage.output_tokens),
            ] {
                if kind == "output" && self.operation != "chat" {
                    continue;
                }
                trace::note(&self.span, attribute, i64::try_from(tokens).unwrap_or(i64::MAX));
                let mut labels = self.labels();
                labels.push(Label::new("gen_ai_token_type", kind));
                histogram!(telemetry::CLIENT_TOKENS, labels).record(tokens as f64);
            }
        }
        histogram!(telemetry::CLIENT_DURATION, self.labels()).record(self.started.elapsed().as_secs_f64());
    }

    /// It went wrong, or nobody wanted it any more: `error` is a word of a closed set.
    pub(crate) fn failed(&self, error: &'static str) {
        trace::failed(&self.span, error);
        let mut labels = self.labels();
        labels.push(Label::new("error_type", error));
        histogram!(telemetry::CLIENT_DURATION, labels).record(self.started.elapsed().as_secs_f64());
    }

    fn labels(&self) -> Vec<Label> {
        vec![
            Label::new("gen_ai_operation_name", self.operation),
            Label::new("gen_ai_provider_name", self.provider),
            Label::new("gen_ai_request_model", self.model.clone()),
            Label::new("server_address", self.server.clone()),
        ]
    }
}

/// The model that answered, as it calls itself; told by the call's own code, inside its span.
pub(crate) fn answered_by(model: &str) {
    trace::note(&Span::current(), "gen_ai.response.model", model.to_owned());
}

/// Whose protocol is spoken, as far as the address tells: all of them speak OpenAI's.
fn provider(server: &str) -> &'static str {
    if server.ends_with(".openai.azure.com") { "azure.ai.openai" } else { "openai" }
}
