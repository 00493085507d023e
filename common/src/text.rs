//! Language: how text becomes terms, words and sentences. Pure.

pub mod analyze;
pub mod sentence;
