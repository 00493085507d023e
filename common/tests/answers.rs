//! The answer cache in memory is held to the suite.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use millhand_common::adapters::local::LocalAnswers;
use millhand_common::ports::AnswerCache;

async fn open() -> Arc<dyn AnswerCache> {
    Arc::new(LocalAnswers::new(1 << 20))
}

millhand_common::answers_conformance!(open);
