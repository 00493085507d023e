//! Language: how text becomes terms, words and sentences. Pure.
