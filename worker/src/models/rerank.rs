//! Scores of passages over the protocol that Cohere, Jina, vLLM and llama.cpp share: `POST …/rerank`.

use std::time::Instant;

use async_trait::async_trait;
use millhand_common::model::{Timestamp, Usage};
use millhand_common::ports::{ModelError, Reading, Reranker};
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

const MAX_ANSWER_BYTES: usize = 4 << 20;

/// A [`Reranker`] on any server that has `/rerank` beside OpenAI's paths.
pub struct HttpReranker {
    client: Client,
    name: String,
}

impl HttpReranker {
    /// Builds the client; sends nothing.
    pub fn new(endpoint: &Endpoint) -> Result<Self, SetupError> {
        Ok(Self { client: Client::new(endpoint)?, name: endpoint.name.clone() })
    }

    async fn ask(&self, query: &str, texts: &[&str]) -> Result<Reading<Vec<f32>>, ModelError> {
        let body = Body { model: &self.name, query, documents: texts, top_n: texts.len() };
        let response = self.client.post("rerank", &body, trace::current().as_deref()).await?;
        let limits = limits(response.headers(), Timestamp::now());
        let bytes = read(response, MAX_ANSWER_BYTES).await?;
        if let Some(error) = ErrorObject::find(&bytes) {
            return Err(error_in_answer(&error));
        }
        let answer: Answer = serde_json::from_slice(&bytes)
            .map_err(|err| ModelError::Malformed(format!("no ranking ({:?})", err.classify())))?;
        if let Some(model) = &answer.model {
            answered_by(model);
        }
        Ok(Reading { value: scores(&answer.results, texts.len())?, usage: answer.usage(), limits })
    }
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    query: &'a str,
    documents: &'a [&'a str],
    top_n: usize,
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<Ranked>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    usage: Option<Tokens>,
}

impl Answer {
    fn usage(&self) -> Option<Usage> {
        let Tokens { total_tokens } = self.usage?;
        Some(Usage { input_tokens: total_tokens, output_tokens: 0, nano_usd: 0 })
    }
}

/// Jina's, vLLM's and llama.cpp's; Cohere counts searches, no tokens.
#[derive(Clone, Copy, Deserialize)]
struct Tokens {
    #[serde(default)]
    total_tokens: u64,
}

#[derive(Deserialize)]
struct Ranked {
    index: usize,
    /// Between 0 and 1 from most servers, any number from some.
    relevance_score: f32,
}

fn scores(results: &[Ranked], texts: usize) -> Result<Vec<f32>, ModelError> {
    let lowest = results.iter().map(|ranked| ranked.relevance_score).fold(f32::INFINITY, f32::min);
    if results.is_empty() || results.iter().any(|ranked| !ranked.relevance_score.is_finite()) {
        return Err(ModelError::Malformed("a ranking without scores".to_owned()));
    }
    let mut scores = vec![lowest; texts];
    for Ranked { index, relevance_score } in results {
        let Some(score) = scores.get_mut(*index) else {
            return Err(ModelError::Malformed(format!("a score for text {index} of {texts}")));
        };
        *score = *relevance_score;
    }
    Ok(scores)
}

#[async_trait]
impl Reranker for HttpReranker {
    fn name(&self) -> &str {
        &self.name
    }

    async fn rerank(
        &self,
        query: &str,
        texts: &[&str],
        deadline: Instant,
    ) -> Result<Reading<Vec<f32>>, ModelError> {
        if texts.is_empty() {
            return Ok(Reading::uncounted(Vec::new()));
        }
        let observed = Observed::rerank(&self.name, self.client.base());
        let call = timeout_at(deadline.into(), self.ask(query, texts).instrument(observed.span()));
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

    fn parsed(answer: &str, texts: usize) -> Result<Vec<f32>, ModelError> {
        scores(&serde_json::from_str::<Answer>(answer).unwrap().results, texts)
    }

    #[test]
    fn scores_come_in_the_order_of_the_texts() {
        let logits = r#"{"results":[{"index":2,"relevance_score":1.5},{"index":0,"relevance_score":-3.0}]}"#;
        assert_eq!(parsed(logits, 3).unwrap(), [-3.0, -3.0, 1.5], "what was left out is last");
    }

    #[test]
    fn a_ranking_of_other_texts_is_malformed() {
        for answer in [r#"{"results":[]}"#, r#"{"results":[{"index":3,"relevance_score":0.5}]}"#] {
            assert!(matches!(parsed(answer, 3), Err(ModelError::Malformed(_))), "{answer}");
        }
    }
}
