//! The layout is the architecture: who may name whom.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// The workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All Rust files of a folder, with their text.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let (mut folders, mut files) = (vec![root().join(folder)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|err| panic!("{}: {err}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path, text));
            }
        }
    }
    assert!(!files.is_empty(), "{folder} holds no source");
    files
}

#[track_caller]
fn never_names(folders: &[&str], forbidden: &[&str], instead: &str) {
    for (file, text) in folders.iter().flat_map(|folder| sources(folder)) {
        for (at, line) in text.lines().enumerate() {
            let named = forbidden.iter().find(|name| line.contains(**name));
            assert!(named.is_none(), "{}:{} names {named:?}: {instead}", file.display(), at + 1);
        }
    }
}

#[test]
fn only_the_binary_and_tests_name_adapters() {
    never_names(
        &["api/src", "worker/src"],
        &["common::adapters", "adapters::", "adapters}"],
        "take the port",
    );
}

#[test]
fn api_and_worker_never_import_each_other() {
    for (folder, other) in [("api", "millhand_worker"), ("worker", "millhand_api")] {
        never_names(&[&format!("{folder}/src")], &[other], "they meet in common::model");
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        let dependencies = manifest.split("[dev-dependencies]").next().unwrap();
        assert!(!dependencies.contains(&other.replace('_', "-")), "{folder}/Cargo.toml depends on {other}");
    }
}

#[test]
fn inside_common_adapters_know_ports_and_ports_know_the_model() {
    let inner = ["common/src/model", "common/src/text"];
    never_names(&inner, &["crate::ports", "crate::adapters", "tokio::"], "the model has no I/O");
    never_names(&["common/src/ports"], &["crate::adapters"], "a port knows no technology");
    never_names(&["common/src/conformance"], &["crate::adapters"], "a suite is for every adapter");
}

#[test]
fn common_knows_neither_side() {
    never_names(&["common/src"], &["millhand_api::", "millhand_worker::", "axum::"], "both sides use it");
}
