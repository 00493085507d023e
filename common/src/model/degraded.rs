//! What an answer may have gone without for the load, as its `degraded` says it.

/// Its text came in pieces of a tenth of a second.
pub const COALESCED_TOKENS: &str = "coalesced_tokens";
/// It rests on fewer passages than were found.
pub const FEWER_PASSAGES: &str = "fewer_passages";
/// No reranker ordered what was found.
pub const NO_RERANKER: &str = "no_reranker";
/// The smaller model of its class wrote it.
pub const SMALLER_MODEL: &str = "smaller_model";
/// It was cut where answers are shorter under load.
pub const SHORTER_ANSWER: &str = "shorter_answer";
