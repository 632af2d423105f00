//! Commands of ours that pages name are there: tests, recipes, calls of the program, directories of the manifests.

use std::ffi::OsString;

use fivespot::cli;

use crate::{pages, path, read};

/// What of a page is code: the lines of its blocks without prompt and comment, and the spans in its text.
fn code(text: &str) -> Vec<String> {
    let (mut found, mut in_block) = (Vec::new(), false);
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            let line = line.trim().trim_start_matches("$ ");
            found.extend(line.split("&&").map(|part| part.split(" # ").next().unwrap().trim().to_owned()));
        } else {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

fn commands() -> Vec<(String, String)> {
    let of = |page: String| code(&read(&page)).into_iter().map(move |line| (page.clone(), line));
    pages().into_iter().flat_map(of).collect()
}

#[test]
fn calls_of_the_program_are_understood() {
    let mut seen = 0;
    for (page, line) in commands() {
        let line = line.strip_prefix("cargo run -- ").map_or(line.clone(), |rest| format!("5spot {rest}"));
        let Some(first) = line.split_whitespace().next() else { continue };
        let is_ours = ["5spot", "5spot-controller", "5spot-reclaim-agent"].contains(&first);
        // A name alone is a name, and dots stand for what is left out.
        if !is_ours || line == first || line.contains('…') || line.contains('|') {
            continue;
        }
        seen += 1;
        let call = cli::read(line.split_whitespace().map(OsString::from));
        let is_help = |error: &clap::Error| error.exit_code() == 0;
        assert!(call.as_ref().err().is_none_or(is_help), "{page}: {line}: {call:?}");
    }
    assert!(seen >= 8, "only {seen} calls found: the look for them is broken");
}

#[test]
fn tests_recipes_and_directories_that_are_named_are_there() {
    let (cargo, just) = (read("Cargo.toml"), read("justfile"));
    let mut seen = 0;
    for (page, line) in commands() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["cargo", "test", "--test", name, ..] => {
                assert!(cargo.contains(&format!("name = \"{name}\"\npath")), "{page}: {line}");
            }
            ["just", recipe, ..] => {
                let is_there = just.lines().any(|line| {
                    line.split([':', ' ']).next() == Some(recipe)
                        && line.contains(':')
                        && !line.starts_with(' ')
                });
                assert!(is_there, "{page}: {line}");
            }
            ["kubectl", "apply" | "delete", "-k", base, ..] => {
                assert!(path(base).join("kustomization.yaml").exists(), "{page}: {line}");
            }
            _ => continue,
        }
        seen += 1;
    }
    assert!(seen > 20, "only {seen} found: the look for them is broken");
}
