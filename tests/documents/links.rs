//! No page leads nowhere, and none is lost.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::{pages, path, read};

/// Targets of the links of a page, without those in code.
fn links(text: &str) -> Vec<String> {
    let mut in_code = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for rest in line.split("](").skip(1) {
            found.push(rest.split(')').next().unwrap().to_owned());
        }
    }
    found
}

/// As GitHub and most renderers make it of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

/// `docs/runbooks/../status.md` is `docs/status.md`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            plain.pop();
        } else {
            plain.push(part);
        }
    }
    plain
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_of_ours() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for page in pages() {
        let text = read(&page);
        for link in links(&text).iter().filter(|link| !link.starts_with("http")) {
            seen += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => PathBuf::from(&page),
                file => plain(&Path::new(&page).parent().unwrap().join(file)),
            };
            let target = target.to_str().unwrap();
            if !path(target).exists() {
                wrong.push(format!("{page}: {link} is not there"));
            } else if !heading.is_empty() && !anchors(&read(target)).contains(&heading.to_owned()) {
                wrong.push(format!("{page}: {link} has no such heading"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen > 60, "only {seen} links found: the look for them is broken");
}

#[test]
fn every_page_can_be_reached_from_the_readme() {
    let (mut reached, mut rest) = (BTreeSet::new(), vec!["README.md".to_owned()]);
    while let Some(page) = rest.pop() {
        if !reached.insert(page.clone()) {
            continue;
        }
        for link in links(&read(&page)) {
            let file = link.split('#').next().unwrap();
            let target = plain(&Path::new(&page).parent().unwrap().join(file));
            if target.extension().is_some_and(|extension| extension == "md")
                && path(target.to_str().unwrap()).exists()
            {
                rest.push(target.to_str().unwrap().to_owned());
            }
        }
    }
    let lost: Vec<String> = pages().into_iter().filter(|page| !reached.contains(page)).collect();
    assert!(lost.is_empty(), "nobody finds {lost:?}");
}
