//! What the agent knows of its rules: those in force, and what is to be said of them. Pure.
//!
//! Rules that cannot be read change nothing: those that held before go on holding, and the fault is told.

use std::sync::Arc;

use crate::agent::rules::{self, Rules};
use crate::api::names::{AGENT_RULES_OK, RULES_KEY, agent_object};

/// Of what is said, in characters: it stands in an annotation.
const LONGEST_WORD: usize = 1024;

/// The rules of one agent.
#[derive(Clone, Debug)]
pub struct Book {
    in_force: Option<Arc<Rules>>,
    /// As it was read last.
    read: Read,
    word: String,
    is_faulty: bool,
}

/// What was read last.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Read {
    Never,
    Nothing,
    Text(String),
}

/// What a reading has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The text is what it was.
    None,
    /// Other rules are in force, or none any more.
    InForce,
    /// The text is at fault; see [`Book::word`].
    Fault,
}

impl Book {
    /// Before the first reading.
    pub fn new() -> Self {
        let word = "the ConfigMap has not been read yet".to_owned();
        Self { in_force: None, read: Read::Never, word, is_faulty: false }
    }

    /// Takes in what stands under the rules' key in the ConfigMap of a Node's agent; `None`: there is no such key, or
    /// no such ConfigMap, which means that nothing is looked for.
    pub fn take(&mut self, node: &str, text: Option<&str>) -> Change {
        let read = text.map_or(Read::Nothing, |text| Read::Text(text.to_owned()));
        if self.read == read {
            return Change::None;
        }
        self.read = read;
        let Some(text) = text else {
            self.in_force = None;
            self.is_faulty = false;
            self.word = format!("there is no ConfigMap {} with a key {RULES_KEY}", agent_object(node));
            return Change::InForce;
        };
        match rules::parse(text) {
            Ok(rules) => {
                self.in_force = (!rules.is_inert()).then(|| Arc::new(rules));
                self.is_faulty = false;
                AGENT_RULES_OK.clone_into(&mut self.word);
                Change::InForce
            }
            Err(faults) => {
                let held = if self.in_force.is_some() { "those before hold" } else { "none are in force" };
                self.word = format!("{held}; {faults}").chars().take(LONGEST_WORD).collect();
                self.is_faulty = true;
                Change::Fault
            }
        }
    }

    /// What to look for; `None`: nothing.
    pub fn in_force(&self) -> Option<&Arc<Rules>> {
        self.in_force.as_ref()
    }

    /// [`AGENT_RULES_OK`], or why it is not.
    pub fn word(&self) -> &str {
        &self.word
    }

    /// The text was read and is at fault.
    pub fn is_faulty(&self) -> bool {
        self.is_faulty
    }
}

impl Default for Book {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_at_fault_leave_those_before_in_force_and_are_told_once() {
        let good = "match_commands = [\"idea\"]";
        let bad = "match_comands = [\"java\"]";
        let mut book = Book::new();
        assert!(book.in_force().is_none() && book.word() != AGENT_RULES_OK);
        for (text, change, looks, says) in [
            (None, Change::InForce, false, "no ConfigMap reclaim-agent-ws-17 with a key reclaim.toml"),
            (None, Change::None, false, "no ConfigMap"),
            (Some(bad), Change::Fault, false, "none are in force; line 1: match_comands"),
            (Some(good), Change::InForce, true, "ok"),
            (Some(good), Change::None, true, "ok"),
            (Some(bad), Change::Fault, true, "those before hold; line 1: match_comands"),
            (Some(bad), Change::None, true, "those before hold"),
            (Some(good), Change::InForce, true, "ok"),
            (Some("match_commands = []"), Change::InForce, false, "ok"),
            (Some(good), Change::InForce, true, "ok"),
            (None, Change::InForce, false, "no ConfigMap"),
        ] {
            assert_eq!(book.take("ws-17", text), change, "{text:?}");
            assert_eq!(book.in_force().is_some(), looks, "{text:?}");
            assert!(book.word().contains(says), "{text:?}: {}", book.word());
            assert_eq!(book.is_faulty(), text == Some(bad), "{text:?}");
        }
    }

    #[test]
    fn what_is_said_of_faults_has_an_end() {
        let mut book = Book::new();
        let many: Vec<String> = (0..500).map(|n| format!("no{n} = 1")).collect();
        book.take("ws-17", Some(&many.join("\n")));
        assert!(book.word().chars().count() <= LONGEST_WORD);
    }
}
