//! Choices a caller makes when submitting.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What happens to a new job whose conversation has an open one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnBusy {
    /// It waits for its turn.
    #[default]
    Enqueue,
    /// It is refused: 409 `conversation_busy`.
    Reject,
    /// What runs and waits there is cancelled.
    Interrupt,
}

/// A value or a list of values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}
