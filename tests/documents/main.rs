//! What is written for people: reference pages are what the code says, links lead somewhere, alerts speak of metrics that
//! there are. No control plane.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "these are tests, and so are the functions they share"
)]
#![allow(clippy::disallowed_methods, reason = "tests read the environment")]

mod commands;
mod generated;
mod links;
mod monitoring;
#[path = "../skips.rs"]
mod skips;

use std::fs;
use std::path::{Path, PathBuf};

fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn read(relative: &str) -> String {
    fs::read_to_string(path(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
}

/// The pages, by their path in the repository, sorted.
fn pages() -> Vec<String> {
    let (mut found, mut rest) = (vec!["README.md".to_owned()], vec!["docs".to_owned()]);
    while let Some(dir) = rest.pop() {
        for entry in fs::read_dir(path(&dir)).unwrap() {
            let name = format!("{dir}/{}", entry.unwrap().file_name().into_string().unwrap());
            if path(&name).is_dir() {
                rest.push(name);
            } else if Path::new(&name).extension().is_some_and(|extension| extension == "md") {
                found.push(name);
            }
        }
    }
    found.sort();
    found
}
