//! Which documents a search or a job may use.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A value of a document's flat metadata.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
}

impl Scalar {
    /// One spelling per value, tagged by type, as indexes store it.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Bool(value) => format!("b:{value}"),
            // 1 and 1.0 are the same number to the person who writes a filter.
            Self::Number(value) => match value.as_f64() {
                Some(float) => format!("n:{float}"),
                None => format!("n:{value}"),
            },
            Self::Text(value) => format!("s:{value}"),
        }
    }
}

/// One value, or several of which one must match.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FilterValue {
    One(Scalar),
    Any(Vec<Scalar>),
}

impl FilterValue {
    #[must_use]
    pub fn values(&self) -> &[Scalar] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Any(values) => values,
        }
    }
}

/// Conditions by `name`, `source` or `metadata.KEY`, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, FilterValue>", into = "BTreeMap<String, FilterValue>")]
pub struct Filter(BTreeMap<String, FilterValue>);

/// A filter names a field that documents do not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("filter field `{0}` is not one of `name`, `source`, `metadata.KEY`")]
pub struct FilterError(String);

impl Filter {
    /// Field and the values of which one must match.
    pub fn conditions(&self) -> impl Iterator<Item = (&str, &FilterValue)> {
        self.0.iter().map(|(field, value)| (field.as_str(), value))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<BTreeMap<String, FilterValue>> for Filter {
    type Error = FilterError;

    fn try_from(conditions: BTreeMap<String, FilterValue>) -> Result<Self, FilterError> {
        let known = |field: &str| {
            matches!(field, "name" | "source")
                || field.strip_prefix("metadata.").is_some_and(|key| !key.is_empty())
        };
        match conditions.keys().find(|field| !known(field)) {
            Some(field) => Err(FilterError(field.clone())),
            None => Ok(Self(conditions)),
        }
    }
}

impl From<Filter> for BTreeMap<String, FilterValue> {
    fn from(filter: Filter) -> Self {
        filter.0
    }
}
