//! How text becomes terms.
