//! One trait per outside system. Each method says what is true when it returns, and whether its
//! future may be dropped.

mod answers;
mod broker;
mod budget;
mod conversations;
mod documents;
mod index;
mod keys;
mod levels;
mod limiter;
mod load;
mod models;
mod reader;
mod store;

pub use answers::{AnswerCache, AnswerKey, Asked};
pub use broker::{AckAfter, Broker, BrokerError, Delivery, Destination, Settle};
pub use budget::{Budget, BudgetLimits, Held, Hold, Spending};
pub use conversations::{Conversation, Conversations, StoredMessage};
pub use documents::{DocumentLookup, Documents, DocumentsError, NewDocument, Write, Writer};
pub use index::{Index, IndexDocument, IndexError, IndexPassage, SearchQuery};
pub use keys::Keys;
pub use levels::{Level, Levels};
pub use limiter::{
    Amounts, Asking, Dimension, EXTEND_EVERY, Forecast, GATE_HORIZON, GRANT_TTL, LEASE_TTL, Limit,
    LimitPolicy, Quota, QuotaMode, RateLimiter, Reserved, Said, Used,
};
pub use load::{LaneDepth, TenantLoad, Totals};
pub use models::{
    ChatDelta, ChatMessage, ChatModel, ChatRequest, ChatRole, ChatStream, Embedder, FinishReason, LimitFact,
    LimitFacts, ModelError, Reading, Reranker, ToolCall, ToolSpec,
};
pub use reader::{JobFilter, JobReader, LogPage, Lookup, Page, Signal, Subscription, UsageBy, UsageRow};
pub use store::{
    Accept, Accepted, Appended, By, Cancelled, Claim, Claimed, Closed, DeadLetter, Expected, JobStore, Lease,
    Line, Released, Renewed, Replayed, Run, StoreError, SweepReport, WorkerInfo, WorkerOrders, WorkerSignal,
};
