//! Plain data and its rules: no I/O, no async.
//!
//! Everything here that is stored or sent is read by the next version too: fields are only added,
//! with a default, and readers keep what they do not know.

mod agent;
mod call;
mod citation;
pub mod degraded;
mod document;
mod event;
mod filter;
mod fold;
mod hint;
mod id;
mod job;
mod key;
mod name;
mod share;
mod submit;
mod time;
mod usd;

pub use agent::{Agent, AgentKind, Sampling};
pub use call::{CallStarted, CallUsed, Certainty, LastHeard, Spent, Written};
pub use citation::{Citation, Passage, PassageRef, Span};
pub use document::{CanonicalText, Document, Heading, Origin, OriginPart, PassageSpan};
pub use event::{Event, EventBody, StepKind, TerminalData, WaitReason};
pub use filter::{Filter, FilterValue, Scalar};
pub use fold::{OutputFold, fold_output};
pub use hint::Hint;
pub use id::{ConversationId, DocumentId, IdError, JobId, PassageId, UploadId, WorkerId};
pub use job::{
    DocumentOutcome, IngestItem, Job, JobError, JobInput, JobKind, JobSpec, Lane, Message, Output, Role,
    Status, Terminal, Usage, Wait,
};
pub use key::{ApiKey, Scope};
pub use name::{AgentName, CollectionName, NameError, TenantId};
pub use share::{Share, Shares};
pub use submit::{OnBusy, OneOrMany};
pub use time::Timestamp;
pub use usd::Usd;
