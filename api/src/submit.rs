//! From the body of a submit to an accepted job: the one way in, for HTTP and WebSocket alike.

mod fields;

use millhand_common::model::{
    Agent, AgentName, CollectionName, ConversationId, Job, JobId, JobInput, JobSpec, Lane, Message, OnBusy,
    OneOrMany, TenantId,
};
use millhand_common::ports::{Accept, Accepted};
use millhand_common::{crash, telemetry};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::admission::Place;
use crate::brownout;
use crate::error::ApiError;
use crate::json;
use crate::state::{ApiInner, ask};
use fields::{collections, deadline, messages, moment};
pub(crate) use fields::{filter, is_blank};

pub(crate) const DEFAULT_DEADLINE_SECONDS: u64 = 120;

/// What is asked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Submit)]
pub(crate) struct SubmitBody {
    /// The question, or messages of which the last is the user's.
    #[schema(value_type = InputSchema)]
    input: Value,
    /// Default `rag`.
    agent: Option<String>,
    /// One is made when absent.
    conversation_id: Option<String>,
    /// A name or a list of names; absent means all.
    #[schema(value_type = Option<OneOrMany<String>>)]
    collection: Option<Value>,
    /// `name`, `source` or `metadata.KEY` to a value or a list of values; all must hold.
    #[schema(value_type = Option<Object>)]
    filter: Option<Value>,
    lane: Option<Lane>,
    on_busy: Option<OnBusy>,
    /// 1-86400, default 120; from accept or `not_before`.
    #[schema(minimum = 1, maximum = 86400)]
    deadline_seconds: Option<u64>,
    /// RFC 3339; the job starts no earlier.
    #[schema(format = DateTime)]
    not_before: Option<String>,
    #[schema(minimum = 1)]
    max_output_tokens: Option<u32>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<serde_json::Map<String, Value>>,
}

/// For the specification only.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes `input`, which is parsed by hand for better messages")]
#[schema(as = Input)]
pub(crate) enum InputSchema {
    #[schema(title = "text")]
    Text(String),
    #[schema(title = "messages")]
    Messages(Vec<Message>),
}

/// Who submits, and under which names.
pub(crate) struct Caller {
    pub(crate) tenant: TenantId,
    pub(crate) idempotency_key: Option<String>,
    /// Of this request, as it came.
    pub(crate) traceparent: Option<String>,
}

/// An accepted job.
pub(crate) struct Submitted {
    pub(crate) job: Job,
    /// An earlier request with the same key made it.
    pub(crate) replayed: bool,
}

impl ApiInner {
    /// Accepts a chat job.
    pub(crate) async fn submit(&self, caller: Caller, body: Value) -> Result<Submitted, ApiError> {
        let digest = json::digest("chat", &body);
        let body: SubmitBody = json::typed(body)?;
        let on_busy = body.on_busy.unwrap_or_default();
        let known_conversation = body.conversation_id.is_some();
        let spec = self.spec(&caller, body).await?;
        self.accept(caller, spec, known_conversation, on_busy, digest).await
    }

    /// Makes the job durable, then leaves its hint; a broker that is away delays nobody.
    pub(crate) async fn accept(
        &self,
        caller: Caller,
        spec: JobSpec,
        known_conversation: bool,
        on_busy: OnBusy,
        digest: [u8; 32],
    ) -> Result<Submitted, ApiError> {
        let _slot = self.submit_slot()?;
        let (kind, lane) = (spec.kind(), spec.lane);
        let idempotency = caller.idempotency_key.map(|key| (key, digest));
        let admitted =
            brownout::check(&self.ports.brownout, &spec).and_then(|()| self.admission.admit(&spec));
        let (place, refusal) = match admitted {
            Ok(place) => (Some(place), self.over_budget(&spec).await?),
            Err(refusal) => (None, Some(refusal)),
        };
        let replays_only = refusal.is_some();
        let expected = place.as_ref().map(Place::expected).unwrap_or_default();
        let accept = Accept { spec, known_conversation, on_busy, replays_only, idempotency, expected };
        match ask(self.ports.store.accept(accept)).await? {
            Accepted::Created(job) => {
                metrics::counter!(telemetry::JOBS_ACCEPTED,
                    "kind" => crate::jobs::kind_label(kind), "lane" => lane.as_str())
                .increment(1);
                tracing::debug!(job.id = %job.spec.id, job.lane = lane.as_str(),
                    trace.id = job.spec.traceparent.as_deref().and_then(telemetry::trace_id), "job accepted");
                if let Some(place) = place {
                    place.keep();
                }
                self.hints.offer(&job).await;
                crash::point("accept.before_reply");
                Ok(Submitted { job: *job, replayed: false })
            }
            Accepted::Existing(job) => Ok(Submitted { job: *job, replayed: true }),
            Accepted::KeyReused => Err(ApiError::new(
                http::StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_mismatch",
                "This Idempotency-Key was used with another request.",
            )),
            Accepted::ConversationBusy(job) => {
                let detail = format!("The conversation is busy with {job}: wait for it or cancel it.");
                Err(ApiError::conflict("conversation_busy", detail))
            }
            Accepted::NoConversation => Err(conversation_not_found()),
            Accepted::Refused => {
                Err(refusal.unwrap_or_else(|| ApiError::internal("a job was refused without a reason")))
            }
        }
    }

    async fn spec(&self, caller: &Caller, body: SubmitBody) -> Result<JobSpec, ApiError> {
        let known_conversation = body.conversation_id.is_some();
        let messages = messages(body.input, self.ports.config.limits.messages, known_conversation)?;
        let not_before = body.not_before.as_deref().map(moment).transpose()?;
        let deadline = deadline(body.deadline_seconds)?;
        if body.max_output_tokens == Some(0) {
            return Err(ApiError::invalid("`max_output_tokens` is at least 1."));
        }
        let filter = body.filter.map(filter).transpose()?;
        let collection = body.collection.map(collections).transpose()?;
        let agent = self.agent(body.agent.as_deref())?;
        if !agent.kind.reads_documents() && (collection.is_some() || filter.is_some()) {
            let detail =
                format!("Agent `{}` uses no documents: leave out `collection` and `filter`.", agent.name);
            return Err(ApiError::invalid(detail));
        }
        let id = JobId::new();
        let conversation_id = match body.conversation_id {
            Some(text) => text.parse().map_err(|_| conversation_not_found())?,
            // The same number: it tells that the job is the first.
            None => ConversationId::from_uuid(id.uuid()),
        };
        if let Some(names) = &collection {
            self.check_collections(&caller.tenant, names.as_slice()).await?;
        }
        Ok(JobSpec {
            id,
            tenant: caller.tenant.clone(),
            input: JobInput::Chat { messages },
            agent: agent.name.clone(),
            lane: body.lane.unwrap_or_default(),
            conversation_id: Some(conversation_id),
            collection,
            filter,
            deadline,
            not_before,
            max_output_tokens: body.max_output_tokens,
            metadata: body.metadata,
            replay_of: None,
            traceparent: Some(telemetry::child_traceparent(caller.traceparent.as_deref())),
        })
    }

    /// The agent of that name, ready to be asked.
    fn agent(&self, name: Option<&str>) -> Result<&Agent, ApiError> {
        let default = AgentName::rag();
        let name = name.unwrap_or(default.as_str());
        if name.trim().is_empty() {
            return Err(ApiError::invalid("`agent` is blank."));
        }
        let agent = self.ports.agents.iter().find(|agent| agent.name.as_str() == name);
        let agent = agent.ok_or_else(|| {
            ApiError::not_found("agent_not_found", "There is no such agent: see GET /v1/agents.")
        })?;
        if agent.kind.needs_model() && !self.ports.model_configured && agent.model.is_none() {
            return Err(ApiError::new(
                http::StatusCode::UNPROCESSABLE_ENTITY,
                "model_not_configured",
                "This agent needs a model: set [model] base_url and name.",
            ));
        }
        if agent.kind.reads_documents() {
            self.documents()?;
        }
        Ok(agent)
    }

    async fn check_collections(&self, tenant: &TenantId, names: &[CollectionName]) -> Result<(), ApiError> {
        let documents = self.documents()?;
        for name in names {
            if ask(documents.list(tenant, name, 1, None)).await?.is_none() {
                return Err(collection_not_found());
            }
        }
        Ok(())
    }
}

pub(crate) fn conversation_not_found() -> ApiError {
    ApiError::not_found("conversation_not_found", "There is no such conversation.")
}

pub(crate) fn collection_not_found() -> ApiError {
    ApiError::not_found("collection_not_found", "There is no such collection.")
}
