//! What the agent knows of its rules: those in force, and what is to be said of them. Pure.
//!
//! Rules that cannot be read change nothing: those that held before go on holding, and the fault is told.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::agent::rules::{self, Flaw, Rules};
use crate::api::names::{AGENT_RULES_OK, RULES_KEY, agent_object};
use crate::watch::{Cause, Outage};

/// Of what is said, in characters: it stands in an annotation.
const LONGEST_WORD: usize = 1024;

/// The rules of one agent.
#[derive(Clone, Debug)]
pub struct Book {
    in_force: Option<Arc<Rules>>,
    /// As it was read last.
    read: Read,
    word: String,
    flaws: BTreeSet<Flaw>,
    /// Why it cannot be read anew.
    unread: Option<Outage>,
}

/// What was read last.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Read {
    Never,
    Nothing,
    Text(String),
}

/// What comes of the ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// What stands under its key; `None`: there is no such key, or no such ConfigMap.
    Text(Option<String>),
    /// It cannot be read. Told once per outage, and again when its cause becomes another one.
    Unreadable(Outage),
    /// It can be again.
    Readable,
}

/// What a reading has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The text is what it was.
    None,
    /// Other rules are in force, or none any more.
    InForce,
    /// The text is at fault; see [`Book::word`] and [`Book::flaws`].
    Fault,
    /// Nothing can be read; see [`Book::unread`].
    Unreadable,
}

impl Book {
    /// Before the first reading.
    pub fn new() -> Self {
        let word = "the ConfigMap has not been read yet".to_owned();
        Self { in_force: None, read: Read::Never, word, flaws: BTreeSet::new(), unread: None }
    }

    /// Takes in what comes of the ConfigMap of a Node's agent.
    pub fn hear(&mut self, node: &str, reading: Reading) -> Change {
        match reading {
            Reading::Text(text) => self.take(node, text.as_deref()),
            Reading::Unreadable(why) => {
                self.unread = Some(why);
                Change::Unreadable
            }
            Reading::Readable => {
                self.unread = None;
                Change::None
            }
        }
    }

    /// Takes in what stands under the rules' key in the ConfigMap of a Node's agent; `None`: there is no such key, or
    /// no such ConfigMap, which means that nothing is looked for.
    pub fn take(&mut self, node: &str, text: Option<&str>) -> Change {
        self.unread = None;
        let read = text.map_or(Read::Nothing, |text| Read::Text(text.to_owned()));
        if self.read == read {
            return Change::None;
        }
        self.read = read;
        self.flaws.clear();
        let Some(text) = text else {
            self.in_force = None;
            self.word = format!("there is no ConfigMap {} with a key {RULES_KEY}", agent_object(node));
            return Change::InForce;
        };
        match rules::parse(text) {
            Ok(rules) => {
                self.in_force = (!rules.is_inert()).then(|| Arc::new(rules));
                AGENT_RULES_OK.clone_into(&mut self.word);
                Change::InForce
            }
            Err(faults) => {
                self.word = self.beside(&faults.to_string());
                self.flaws = faults.0.iter().map(|fault| fault.flaw).collect();
                Change::Fault
            }
        }
    }

    /// What holds all the same, and what is wrong.
    fn beside(&self, fault: &str) -> String {
        let held = if self.in_force.is_some() { "those before hold" } else { "none are in force" };
        format!("{held}; {fault}").chars().take(LONGEST_WORD).collect()
    }

    /// What to look for; `None`: nothing.
    pub fn in_force(&self) -> Option<&Arc<Rules>> {
        self.in_force.as_ref()
    }

    /// [`AGENT_RULES_OK`], or why it is not.
    pub fn word(&self) -> String {
        self.forbidden().unwrap_or_else(|| self.word.clone())
    }

    /// The text was read and is at fault, in these ways.
    pub fn flaws(&self) -> impl Iterator<Item = Flaw> + '_ {
        self.flaws.iter().copied()
    }

    /// Why the ConfigMap cannot be read at the moment, if so.
    pub fn unread(&self) -> Option<&Outage> {
        self.unread.as_ref()
    }

    /// Somebody has to act: the text was read and is at fault, or the agent may not read it.
    pub fn is_faulty(&self) -> bool {
        !self.flaws.is_empty() || self.forbidden().is_some()
    }

    /// What a person has to put right before an edit of the rules is heard again. An API server that is away is none of
    /// this: it comes back by itself.
    fn forbidden(&self) -> Option<String> {
        let outage = self.unread.as_ref()?;
        match outage.cause {
            Cause::Unauthorized | Cause::Forbidden | Cause::Missing => {
                Some(self.beside(&format!("the ConfigMap cannot be read: {outage}")))
            }
            Cause::Unreachable | Cause::Refused => None,
        }
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

    fn outage(cause: Cause) -> Outage {
        Outage { cause, message: "so it is".to_owned() }
    }

    #[test]
    fn rules_that_may_not_be_read_are_at_fault_and_an_api_server_that_is_away_is_none_of_theirs() {
        let mut book = Book::new();
        book.take("ws-17", Some("match_commands = [\"idea\"]"));
        for (cause, is_faulty) in [
            (Cause::Unreachable, false),
            (Cause::Refused, false),
            (Cause::Unauthorized, true),
            (Cause::Forbidden, true),
            (Cause::Missing, true),
        ] {
            assert_eq!(book.hear("ws-17", Reading::Unreadable(outage(cause))), Change::Unreadable);
            assert_eq!((book.is_faulty(), book.unread()), (is_faulty, Some(&outage(cause))));
            let word = book.word();
            assert!(word == AGENT_RULES_OK || is_faulty, "{word}");
            assert_eq!(
                word.starts_with("those before hold; the ConfigMap cannot be read: so it is"),
                is_faulty
            );
            assert!(book.in_force().is_some());
        }
        assert_eq!(book.hear("ws-17", Reading::Readable), Change::None);
        assert!(!book.is_faulty() && book.unread().is_none() && book.word() == AGENT_RULES_OK);
        book.hear("ws-17", Reading::Unreadable(outage(Cause::Forbidden)));
        assert_eq!(book.hear("ws-17", Reading::Text(None)), Change::InForce);
        assert!(!book.is_faulty(), "what is read can be read");
    }

    #[test]
    fn what_is_said_of_faults_has_an_end() {
        let mut book = Book::new();
        let many: Vec<String> = (0..500).map(|n| format!("no{n} = 1")).collect();
        book.take("ws-17", Some(&many.join("\n")));
        assert!(book.word().chars().count() <= LONGEST_WORD);
    }
}
