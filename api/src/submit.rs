//! From the body of a submit to an accepted job: the one way in, for HTTP and WebSocket alike.

use std::time::{Duration, SystemTime};

use millhand_common::model::{
    Agent, AgentName, CollectionName, ConversationId, Filter, Job, JobId, JobInput, JobSpec, Lane, Message,
    OnBusy, OneOrMany, Role, TenantId, Timestamp,
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

pub(crate) const DEFAULT_DEADLINE_SECONDS: u64 = 120;
const MAX_DEADLINE_SECONDS: u64 = 86_400;
/// How far ahead a job may be scheduled.
const MAX_SCHEDULE: Duration = Duration::from_secs(366 * 86_400);
const MAX_COLLECTIONS: usize = 32;

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

fn messages(input: Value, most: usize, known_conversation: bool) -> Result<Vec<Message>, ApiError> {
    let messages: Vec<Message> = match input {
        Value::String(content) => vec![Message { role: Role::User, content }],
        input @ Value::Array(_) => json::typed(input)?,
        _ => {
            return Err(ApiError::invalid(
                "`input` is a text, or a list of messages with `role` and `content`.",
            ));
        }
    };
    let Some(last) = messages.last() else { return Err(ApiError::invalid("`input` holds no message.")) };
    if most < messages.len() {
        return Err(ApiError::invalid(format!("`input` holds more than {most} messages.")));
    }
    if messages.iter().any(|message| is_blank(&message.content)) {
        return Err(ApiError::invalid("`input` is blank."));
    }
    if last.role != Role::User {
        return Err(ApiError::invalid("The last message of `input` must be the user's."));
    }
    if known_conversation && messages.len() != 1 {
        return Err(ApiError::invalid("With `conversation_id`, `input` is one new message of the user."));
    }
    Ok(messages)
}

/// Nothing a person could read: white space, control and zero-width characters only.
pub(crate) fn is_blank(text: &str) -> bool {
    let invisible = |c: char| {
        c.is_whitespace() || c.is_control() || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2060}' | '\u{FEFF}')
    };
    text.chars().all(invisible)
}

fn deadline(seconds: Option<u64>) -> Result<Duration, ApiError> {
    match seconds.unwrap_or(DEFAULT_DEADLINE_SECONDS) {
        seconds @ 1..=MAX_DEADLINE_SECONDS => Ok(Duration::from_secs(seconds)),
        _ => Err(ApiError::invalid(format!("`deadline_seconds` is 1-{MAX_DEADLINE_SECONDS}."))),
    }
}

pub(crate) fn filter(value: Value) -> Result<Filter, ApiError> {
    serde_json::from_value(value).map_err(|error| {
        let rule = "a filter names `name`, `source` or `metadata.KEY` and for each a text, a number, a truth \
                    value or a list of these";
        // An untagged enum only says that nothing matched.
        let reason =
            if error.to_string().contains("untagged") { String::new() } else { format!(" ({error})") };
        ApiError::invalid(format!("`filter` is not one: {rule}{reason}."))
    })
}

fn collections(value: Value) -> Result<OneOrMany<CollectionName>, ApiError> {
    let one = |value: Value| match value {
        Value::String(name) if is_blank(&name) => Err(ApiError::invalid("`collection` is blank.")),
        // What cannot be a name is not the name of a collection.
        Value::String(name) => CollectionName::try_from(name).map_err(|_| collection_not_found()),
        _ => Err(ApiError::invalid("`collection` is a name or a list of names.")),
    };
    match value {
        Value::Array(names) if names.is_empty() || MAX_COLLECTIONS < names.len() => {
            Err(ApiError::invalid(format!("`collection` lists 1-{MAX_COLLECTIONS} names.")))
        }
        Value::Array(names) => names.into_iter().map(one).collect::<Result<_, _>>().map(OneOrMany::Many),
        value => one(value).map(OneOrMany::One),
    }
}

/// An RFC 3339 moment with any offset.
fn moment(text: &str) -> Result<Timestamp, ApiError> {
    let moment = parse_moment(text).ok_or_else(|| {
        ApiError::invalid(
            "`not_before` is a moment like `2027-01-31T08:00:00Z` or `2027-01-31T08:00:00+01:00`.",
        )
    })?;
    let latest = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() + MAX_SCHEDULE;
    if latest.as_millis() < u128::from(moment.as_millis()) {
        return Err(ApiError::invalid("`not_before` is more than 366 days ahead."));
    }
    Ok(moment)
}

fn parse_moment(text: &str) -> Option<Timestamp> {
    if let Ok(moment) = Timestamp::try_from(text.to_owned()) {
        return Some(moment);
    }
    let split = text.len().checked_sub(6)?;
    let (local, offset) = (text.get(..split)?, text.get(split..)?);
    let (sign, clock) = (offset.get(..1)?, offset.get(1..)?);
    let (hours, minutes) = clock.split_once(':')?;
    let number = |digits: &str, most: u64| {
        let valid = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        valid.then(|| digits.parse::<u64>().ok()).flatten().filter(|number| *number <= most)
    };
    let away = Duration::from_secs(number(hours, 23)? * 3600 + number(minutes, 59)? * 60);
    let local = Timestamp::try_from(format!("{local}Z")).ok()?;
    match sign {
        "+" => Some(local - away),
        "-" => Some(local + away),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_moment_may_have_any_offset() {
        let utc = parse_moment("2026-11-24T18:55:00Z").unwrap();
        assert_eq!(parse_moment("2026-11-24T19:55:00+01:00"), Some(utc));
        assert_eq!(parse_moment("2026-11-24T13:25:00-05:30"), Some(utc));
        for bad in [
            "",
            "tomorrow",
            "2026-11-24",
            "2026-11-24T18:55:00+1:00",
            "2026-11-24T18:55:00+24:00",
            "二〇二六",
        ] {
            assert_eq!(parse_moment(bad), None, "{bad}");
        }
        assert_eq!(moment("9999-12-31T23:59:59Z").unwrap_err().status, 422);
    }

    #[test]
    fn input_is_a_text_or_messages_that_end_with_the_user() {
        let check = |input: Value| messages(input, 3, false).map(|messages| messages.len());
        assert_eq!(check(json!("它什么时候出版？")).unwrap(), 1);
        let dialogue = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"}]);
        assert_eq!(check(dialogue.clone()).unwrap(), 3);
        assert!(messages(dialogue, 3, true).is_err());
        for bad in [
            json!(""),
            json!(" \u{3000}\n\u{200b}"),
            json!([]),
            json!(7),
            json!(null),
            json!([{"role": "system", "content": "obey"}]),
            json!([{"role": "assistant", "content": "last"}]),
            json!([{"role": "user", "content": "a", "name": "x"}]),
            json!([{"role": "user", "content": 1}]),
            json!(vec![json!({"role": "user", "content": "a"}); 4]),
        ] {
            assert_eq!(check(bad.clone()).unwrap_err().status, 422, "{bad}");
        }
    }

    #[test]
    fn filters_and_collections_are_checked() {
        assert!(filter(json!({"name": "a", "metadata.year": [2024, "甲", true]})).is_ok());
        for bad in [json!({"title": "a"}), json!({"name": {"gt": 1}}), json!({"metadata.": 1}), json!("a")] {
            assert_eq!(filter(bad).unwrap_err().status, 422);
        }
        assert!(collections(json!(["手册", "b"])).is_ok());
        assert_eq!(collections(json!("../etc")).unwrap_err().status, 404);
        for bad in [json!([]), json!(""), json!(1), json!([1]), json!(vec!["c"; 33])] {
            assert_eq!(collections(bad).unwrap_err().status, 422);
        }
    }
}
