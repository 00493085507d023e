//! The commands that talk to a running server, over its public HTTP contract only.

pub(crate) mod ask;
pub(crate) mod dead_letters;
pub(crate) mod ingest;
pub(crate) mod jobs;
pub(crate) mod operate;
pub(crate) mod search;
pub(crate) mod top;

mod files;
mod follow;
mod http;

pub(crate) use http::{Client, RequestError};
