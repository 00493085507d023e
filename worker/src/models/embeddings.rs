//! Vectors over OpenAI's protocol.

use std::time::Instant;

use async_trait::async_trait;
use millhand_common::model::{Timestamp, Usage};
use millhand_common::ports::{Embedder, ModelError, Reading};
use millhand_common::trace;
use serde::{Deserialize, Serialize};
use tokio::time::timeout_at;
use tracing::Instrument;

use super::client::{Client, read};
use super::limits::limits;
use super::refusal::{ErrorObject, error_in_answer};
use super::{Endpoint, SetupError};
use crate::observe::{Observed, answered_by};
use crate::pipeline::outcome;

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

    async fn ask(&self, texts: &[String]) -> Result<Reading<Vec<Vec<f32>>>, ModelError> {
        // Servers refuse empty texts: a blank stands for them.
        let input = texts.iter().map(|text| if text.is_empty() { " " } else { text.as_str() }).collect();
        let body = Body { model: &self.name, input, encoding_format: "float" };
        let response = self.client.post("embeddings", &body, trace::current().as_deref()).await?;
        let limits = limits(response.headers(), Timestamp::now());
        let bytes = read(response, MAX_ANSWER_BYTES).await?;
        if let Some(error) = ErrorObject::find(&bytes) {
            return Err(error_in_answer(&error));
        }
        let answer: Answer = serde_json::from_slice(&bytes)
            .map_err(|err| ModelError::Malformed(format!("no embeddings ({:?})", err.classify())))?;
        if let Some(model) = &answer.model {
            answered_by(model);
        }
        let usage = answer.usage();
        Ok(Reading { value: vectors(answer.data, texts.len())?, usage, limits })
    }
}

/// The vectors in the order of their texts, all of one length.
fn vectors(mut rows: Vec<Row>, texts: usize) -> Result<Vec<Vec<f32>>, ModelError> {
    rows.sort_by_key(|row| row.index);
    if rows.len() != texts || rows.iter().enumerate().any(|(at, row)| row.index != at) {
        return Err(ModelError::Malformed(format!("{} embeddings for {texts} texts", rows.len())));
    }
    let dimensions = rows.first().map_or(0, |row| row.embedding.len());
    let is_odd =
        |row: &Row| row.embedding.len() != dimensions || row.embedding.iter().any(|x| !x.is_finite());
    if rows.iter().any(is_odd) {
        return Err(ModelError::Malformed("embeddings differ in length or are not numbers".to_owned()));
    }
    Ok(rows.into_iter().map(|row| row.embedding).collect())
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    input: Vec<&'a str>,
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

    async fn embed(&self, texts: &[String], deadline: Instant) -> Result<Reading<Vec<Vec<f32>>>, ModelError> {
        if texts.is_empty() {
            return Ok(Reading::uncounted(Vec::new()));
        }
        let observed = Observed::embeddings(&self.name, self.client.base());
        let call = timeout_at(deadline.into(), self.ask(texts).instrument(observed.span()));
        let read = call.await.map_err(|_| ModelError::TimedOut).flatten();
        match &read {
            Ok(read) => observed.ended(None, read.usage),
            Err(err) => observed.failed(outcome(err)),
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_come_in_the_order_of_the_texts_or_not_at_all() {
        let row = |index, embedding: &[f32]| Row { index, embedding: embedding.to_vec() };
        assert_eq!(vectors(vec![row(1, &[2.0]), row(0, &[1.0])], 2).unwrap(), [[1.0], [2.0]]);
        for odd in [
            vec![row(0, &[1.0])],
            vec![row(0, &[1.0]), row(2, &[2.0])],
            vec![row(0, &[1.0]), row(1, &[2.0, 3.0])],
            vec![row(0, &[1.0]), row(1, &[f32::NAN])],
        ] {
            assert!(matches!(vectors(odd, 2), Err(ModelError::Malformed(_))));
        }
    }
}
