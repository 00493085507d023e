//! What an answer depends on.

use millhand_common::model::{Sampling, TenantId};
use millhand_common::ports::{AnswerKey, ChatMessage, ChatModel};
use serde::Serialize;

/// Grows whenever what is kept, or what it is kept under, is to be read in another way.
const VERSION: u32 = 1;

/// All that the model is told, in one order. Rules, instructions, history and passages stand in the messages as
/// they are sent, so a changed template, document or turn makes another key. Who asks, and by which agent,
/// does not change an answer.
#[derive(Serialize)]
struct Call<'a> {
    version: u32,
    origin: &'a str,
    model: &'a str,
    messages: &'a [ChatMessage],
    sampling: Sampling,
    /// As the job says it. The bound of a job that says none is left out: what is kept was not cut by it.
    max_output_tokens: Option<u32>,
}

/// The key of a call.
pub(crate) fn key(
    tenant: &TenantId,
    model: &dyn ChatModel,
    messages: &[ChatMessage],
    sampling: Sampling,
    max_output_tokens: Option<u32>,
) -> AnswerKey {
    let (origin, model) = (model.origin(), model.name());
    let call = Call { version: VERSION, origin, model, messages, sampling, max_output_tokens };
    AnswerKey::new(tenant.clone(), &call)
}
