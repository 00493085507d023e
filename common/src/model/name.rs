//! Names that people choose, checked once at the edge.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a name is not taken; says what would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {what} is {rule}")]
pub struct NameError {
    what: &'static str,
    rule: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::try_from(text.to_owned())
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                let length = text.chars().count();
                let valid: fn(char) -> bool = $valid;
                if (1..=64).contains(&length) && text.chars().all(valid) {
                    Ok(Self(text))
                } else {
                    Err(NameError { what: $what, rule: $rule })
                }
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// Who owns jobs, conversations and documents; comes from the credential, never from a body.
    TenantId,
    "tenant",
    "1-64 ASCII letters, digits, `.`, `_` or `-`",
    |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
);

impl Default for TenantId {
    /// The only tenant while no credentials are configured.
    fn default() -> Self {
        Self("default".to_owned())
    }
}

name!(
    /// A set of documents one can ask.
    CollectionName,
    "collection name",
    "1-64 letters of any script, digits, `.`, `_` or `-`",
    |c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-')
);

impl CollectionName {
    /// The collection that `millhand up` fills with its sample documents.
    #[must_use]
    pub fn sample() -> Self {
        Self("sample".to_owned())
    }
}

name!(
    /// A named, configured pipeline.
    AgentName,
    "agent name",
    "1-64 ASCII letters, digits, `.`, `_` or `-`",
    |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
);

impl AgentName {
    /// Answers from documents; the default agent.
    #[must_use]
    pub fn rag() -> Self {
        Self("rag".to_owned())
    }

    /// History and model, no retrieval.
    #[must_use]
    pub fn chat() -> Self {
        Self("chat".to_owned())
    }

    /// Answers from documents that the model searches by itself.
    #[must_use]
    pub fn react() -> Self {
        Self("react".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_script_are_taken_and_paths_are_not() {
        assert!("手册-2026".parse::<CollectionName>().is_ok());
        assert!("Räder.v1_x".parse::<CollectionName>().is_ok());
        for bad in ["", "a/b", "a b", "\u{0}", &"x".repeat(65)] {
            assert!(bad.parse::<CollectionName>().is_err(), "{bad:?}");
        }
        assert!("手册".parse::<TenantId>().is_err());
    }
}
