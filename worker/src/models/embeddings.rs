//! Vectors over OpenAI's protocol, in batches.

use std::time::Instant;

use async_trait::async_trait;
use millhand_common::model::Usage;
use millhand_common::ports::{Embedder, ModelError};
use millhand_common::trace;
use serde::{Deserialize, Serialize};
use tokio::time::timeout_at;
use tracing::Instrument;

use super::client::{Client, read};
use super::refusal::{ErrorObject, error_in_answer};
use super::{Endpoint, SetupError};
use crate::observe::{Observed, answered_by};
use crate::pipeline::outcome;

/// Texts and bytes of one request: far below what servers take, so that one call is short.
const BATCH_TEXTS: usize = 64;
const BATCH_BYTES: usize = 128 * 1024;
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// An [`Embedder`] on any server that speaks OpenAI's protocol.
pub struct OpenAiEmbedder {
    client: Client,
    name: String,
}

impl OpenAiEmbedder {
    /// Builds the client; sends nothing.
    pub fn new(endpoint: &Endpoint) -> Result<Self, SetupError> {
        Ok(Self { client: Client::new(endpoint)?, name: endpoint.name.clone() })
    }

    async fn batch(&self, texts: &[&str], deadline: Instant) -> Result<Vec<Vec<f32>>, ModelError> {
        let observed = Observed::embeddings(&self.name, self.client.base());
        let call = timeout_at(deadline.into(), self.ask(texts).instrument(observed.span()));
        let answer = call.await.map_err(|_| ModelError::TimedOut).flatten();
        match &answer {
            Ok(answer) => observed.ended(None, answer.usage()),
            Err(err) => observed.failed(outcome(err)),
        }
        Ok(answer?.data.into_iter().map(|row| row.embedding).collect())
    }

    async fn ask(&self, texts: &[&str]) -> Result<Answer, ModelError> {
        let body = Body { model: &self.name, input: texts, encoding_format: "float" };
        let response = self.client.post("embeddings", &body, trace::current().as_deref()).await?;
        let bytes = read(response, MAX_ANSWER_BYTES).await?;
        if let Some(error) = ErrorObject::find(&bytes) {
            return Err(error_in_answer(&error));
        }
        let mut answer: Answer = serde_json::from_slice(&bytes)
            .map_err(|err| ModelError::Malformed(format!("no embeddings ({:?})", err.classify())))?;
        let rows = &mut answer.data;
        rows.sort_by_key(|row| row.index);
        if rows.len() != texts.len() || rows.iter().enumerate().any(|(at, row)| row.index != at) {
            return Err(ModelError::Malformed(format!(
                "{} embeddings for {} texts",
                rows.len(),
                texts.len()
            )));
        }
        if let Some(model) = &answer.model {
            answered_by(model);
        }
        Ok(answer)
    }
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    input: &'a [&'a str],
    encoding_format: &'a str,
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Row>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    usage: Option<Tokens>,
}

impl Answer {
    fn usage(&self) -> Option<Usage> {
        let Tokens { prompt_tokens } = self.usage?;
        Some(Usage { input_tokens: prompt_tokens, output_tokens: 0, nano_usd: 0 })
    }
}

#[derive(Clone, Copy, Deserialize)]
struct Tokens {
    #[serde(default)]
    prompt_tokens: u64,
}

#[derive(Deserialize)]
struct Row {
    index: usize,
    embedding: Vec<f32>,
}

#[async_trait]
impl Embedder for OpenAiEmbedder {
    fn name(&self) -> &str {
        &self.name
    }

    async fn embed(&self, texts: &[String], deadline: Instant) -> Result<Vec<Vec<f32>>, ModelError> {
        let mut vectors: Vec<Vec<f32>> = Vec::with_capacity(texts.len());
        while vectors.len() < texts.len() {
            let batch = next_batch(&texts[vectors.len()..]);
            vectors.extend(self.batch(&batch, deadline).await?);
        }
        let dimensions = vectors.first().map_or(0, Vec::len);
        if vectors.iter().any(|vector| vector.len() != dimensions || vector.iter().any(|x| !x.is_finite())) {
            return Err(ModelError::Malformed("embeddings differ in length or are not numbers".to_owned()));
        }
        Ok(vectors)
    }
}

/// As many texts as fit one request, at least one. Servers refuse empty texts: a blank stands for them.
fn next_batch(texts: &[String]) -> Vec<&str> {
    let mut bytes = 0;
    let mut batch = Vec::new();
    for text in texts.iter().take(BATCH_TEXTS) {
        bytes += text.len();
        if bytes > BATCH_BYTES && !batch.is_empty() {
            break;
        }
        batch.push(if text.is_empty() { " " } else { text.as_str() });
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_every_text_once() {
        let texts: Vec<String> = (0..200).map(|n| "x".repeat(n * 37)).collect();
        let mut sent = 0;
        while sent < texts.len() {
            let batch = next_batch(&texts[sent..]);
            assert!((1..=BATCH_TEXTS).contains(&batch.len()));
            assert!(batch.len() == 1 || batch.iter().map(|text| text.len()).sum::<usize>() <= BATCH_BYTES);
            sent += batch.len();
        }
        assert_eq!(sent, texts.len());
    }
}
