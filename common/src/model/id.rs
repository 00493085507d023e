//! Identifiers. Each carries its prefix in text (`job_…`) and is a UUIDv7 inside, so that ids sort
//! by the time they were made.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The text is not an id of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id of the form {0}<uuid>")]
pub struct IdError(&'static str);

macro_rules! prefixed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Uuid);

        impl $name {
            /// What every id of this kind starts with.
            pub const PREFIX: &'static str = $prefix;

            /// A new id, later than every id this process made before.
            #[must_use]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The UUID without its prefix, as stores keep it.
            #[must_use]
            pub fn uuid(self) -> Uuid {
                self.0
            }

            /// Back from what [`Self::uuid`] gave.
            #[must_use]
            pub fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, self.0.as_hyphenated())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            /// Accepts exactly what `Display` writes: one id has one spelling.
            fn from_str(text: &str) -> Result<Self, IdError> {
                let id = text
                    .strip_prefix($prefix)
                    .filter(|rest| rest.len() == 36)
                    .and_then(|rest| Uuid::try_parse(rest).ok())
                    .map(Self)
                    .ok_or(IdError($prefix))?;
                if id.to_string() == text { Ok(id) } else { Err(IdError($prefix)) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    };
}

prefixed_id!(
    /// One question and everything done to answer it.
    JobId,
    "job_"
);
prefixed_id!(
    /// Ordered jobs that share history.
    ConversationId,
    "conv_"
);
prefixed_id!(
    /// One immutable version of a document.
    DocumentId,
    "doc_"
);
prefixed_id!(
    /// Bytes that wait to be ingested.
    UploadId,
    "upload_"
);
prefixed_id!(
    /// One start of one worker process; never used again after it ends.
    WorkerId,
    "worker_"
);

/// The n-th passage of a document, counted from 0; `doc_…#n` in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PassageId {
    pub document: DocumentId,
    pub ordinal: u32,
}

impl fmt::Display for PassageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.document, self.ordinal)
    }
}

impl FromStr for PassageId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (document, ordinal) = text.split_once('#').ok_or(IdError("doc_…#"))?;
        Ok(Self { document: document.parse()?, ordinal: ordinal.parse().map_err(|_| IdError("doc_…#"))? })
    }
}

impl TryFrom<String> for PassageId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<PassageId> for String {
    fn from(id: PassageId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text_and_only_its_own_spelling_is_taken() {
        let id = JobId::new();
        let text = id.to_string();
        assert_eq!(text.parse(), Ok(id));
        assert!(text.to_uppercase().parse::<JobId>().is_err());
        assert!(text.replace("job_", "conv_").parse::<JobId>().is_err());
        assert!(id.uuid().to_string().parse::<JobId>().is_err());
        let passage = PassageId { document: DocumentId::new(), ordinal: 7 };
        assert_eq!(passage.to_string().parse(), Ok(passage));
    }
}
