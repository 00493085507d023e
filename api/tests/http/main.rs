//! The HTTP contract over a real listener.

#![allow(clippy::unwrap_used, reason = "clippy knows unit tests only: this whole crate is a test")]

mod access;
mod admin;
mod bad_input;
mod budgets;
mod documents;
mod events;
mod jobs;
mod overload;
mod shutdown;
mod sockets;
mod spec;
mod support;
