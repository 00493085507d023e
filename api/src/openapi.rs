//! The specification, made from the code that serves it.

use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(title = "Millhand", description = "Chat agents as queued jobs: submit, then poll or stream.", license(name = "Apache-2.0")),
    components(schemas(
        crate::error::Problem,
        crate::events::EventSchema,
        crate::submit::InputSchema,
        millhand_common::model::Message,
        millhand_common::model::TerminalData,
    )),
    tags((name = "jobs"), (name = "events"), (name = "conversations"), (name = "documents"), (name = "agents"), (name = "health"))
)]
pub(crate) struct Doc;
