//! What stands on a Node for a reclaim, and which of it is news.
//!
//! Whoever may write the Node may write this, a tenant's kubelet among them. So it is believed of one Node only, that of
//! our Machine, its words are made safe before anybody reads them, and it can make one hold at a time and no more.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::api::names;
use crate::api::status::{DecisionStatus, Rule};
use crate::capi::machine::Machine;
use crate::controller::hold::Hold;
use crate::controller::snapshot::{Node, Snapshot};

use super::{latch, return_at};
use crate::controller::decide::rule::schedule_instant;

/// How much of an annotation is kept.
const LONGEST_WORDS: usize = 200;
/// A clock on the Node that is further ahead than this does not even tell two requests apart.
const CLOCK_AHEAD: SignedDuration = SignedDuration::from_mins(5);
/// What the agent writes before the rule that matched.
const MATCHED: &str = "process-match:";

/// The annotations as they stand on a Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// Which program was seen; made safe, and empty where it was not said.
    pub reason: String,
    /// When, as it was written; made safe.
    pub requested_at: String,
}

/// An owner's wish to have her machine back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// When: as it was written, to the millisecond. The moment at which it was first seen stands in for a time that
    /// cannot be read, that was yet to come then, or that is so long ago that the machine would be back already, or was not
    /// there, or was reclaimed again since.
    pub at: Timestamp,
    /// What tells it from every other: the Node's uid and the time as it was written.
    pub request: String,
    /// Name of the Node.
    pub node: String,
    /// What the agent saw.
    pub matched: Option<String>,
    /// When the machine may come back; `None`: when somebody says so, or (see [`Asked::is_late`]) later than that.
    pub until: Option<Timestamp>,
    /// Even from when it was first seen the time is over; the machine is there all the same, so it counts from when its
    /// hold is written.
    pub is_late: bool,
    /// Its time can be read, and so tells it from a later one for good.
    is_timed: bool,
}

impl Note {
    /// Reads a Node's annotations. Only the one value asks.
    pub fn read(annotations: &BTreeMap<String, String>) -> Option<Self> {
        let asks = annotations.get(names::ANNOTATION_RECLAIM_REQUESTED).map(String::as_str)
            == Some(names::RECLAIM_REQUESTED);
        let words =
            |key: &str| annotations.get(key).map(|text| one_line(text, LONGEST_WORDS)).unwrap_or_default();
        asks.then(|| Self {
            reason: words(names::ANNOTATION_RECLAIM_REASON),
            requested_at: words(names::ANNOTATION_RECLAIM_REQUESTED_AT),
        })
    }

    fn time(&self, now: Timestamp) -> Option<Timestamp> {
        let at: Timestamp = self.requested_at.parse().ok()?;
        let at = Timestamp::from_millisecond(at.as_millisecond()).ok()?;
        (at.duration_since(now) <= CLOCK_AHEAD).then_some(at)
    }

    fn key(&self, node: &Node) -> String {
        let time = if self.requested_at.is_empty() { "no-time" } else { &self.requested_at };
        format!("{}/{time}", node.uid)
    }
}

impl Asked {
    /// Why, on one line of at most 512 characters, for the hold.
    pub fn reason(&self) -> String {
        let what = self.matched.as_deref().unwrap_or("it is not said why");
        one_line(&format!("asked for on Node {}: {what}", self.node), 512)
    }

    /// The hold was written for this.
    fn is_answered_by(&self, hold: &Hold, now: Timestamp) -> bool {
        let is_same = hold.reclaim.as_ref().and_then(|made| made.request.as_ref()) == Some(&self.request);
        // Of two without a time nobody can tell which of them an old hold was for.
        is_same && (self.is_timed || hold.is_in_force(now))
    }
}

/// Text from elsewhere, for people: no line breaks, nothing that changes how a terminal or a browser shows it, and not
/// for ever.
pub fn one_line(text: &str, longest: usize) -> String {
    let shown: String = text.chars().take(longest * 4).map(|c| if is_unseen(c) { ' ' } else { c }).collect();
    let line = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(longest).collect()
}

/// Control characters, and those of Unicode that turn the direction of a text or stand for nothing at all.
fn is_unseen(c: char) -> bool {
    let turns =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    c.is_control() || turns
}

/// What stands on the Node of our Machine, be it news or not.
fn standing(snapshot: &Snapshot) -> Option<(&Machine, &Node, &Note)> {
    let (machine, node) = snapshot.own_machine().zip(snapshot.own_node())?;
    Some((machine, node, node.reclaim.as_ref()?))
}

/// Written for an earlier Machine on this Node. On a Node that came after the Machine nothing is; so a slow clock there
/// keeps no owner waiting.
/// Beside the marks of an eject it is one that we began to answer, for a Machine that `clusterctl move` has made anew.
fn is_older(machine: &Machine, node: &Node, at: Option<Timestamp>) -> bool {
    let is_marked = node.unschedulable && node.taints.iter().any(|taint| taint.key == names::TAINT_EJECTING);
    let before_it = |at: Option<Timestamp>| at.zip(machine.created_at).is_some_and(|(at, made)| at < made);
    let is_node_older = node.created_at.is_none() || before_it(node.created_at);
    is_node_older && before_it(at) && !is_marked
}

/// As long as nothing more lasting says so it is the decision that remembers: under a pause of Cluster API, say.
fn first_seen(snapshot: &Snapshot, node: &Node) -> Timestamp {
    let of_node = |decision: &&DecisionStatus| {
        let source = decision.source.as_ref();
        let source = source.filter(|source| source.kind.as_deref() == Some("Node"));
        decision.rule == Rule::Reclaim && source.and_then(|source| source.uid.as_ref()) == Some(&node.uid)
    };
    let since = snapshot.status.decision.as_ref().filter(of_node).map(|decision| decision.rule_since);
    since.map_or(snapshot.now, |since| since.min(snapshot.now))
}

/// A request that nobody has answered. While a reclaim is in force the machine is on its way out, or out: then there is
/// nothing to answer, whatever is written on the Node.
pub fn news(snapshot: &Snapshot) -> Option<Asked> {
    let (machine, node, written) = standing(snapshot)?;
    let now = schedule_instant(snapshot);
    let is_in_force = |hold: &Hold| hold.reclaimed_at().is_some() && hold.is_in_force(now);
    if latch(snapshot).is_some() || snapshot.holds.iter().any(is_in_force) {
        return None;
    }
    let time = written.time(snapshot.now);
    let until = |at: Timestamp| return_at(&snapshot.target, at);
    let known = snapshot.status.reclaim.as_ref();
    let is_before_all = |at: Timestamp| {
        machine.created_at.is_some_and(|made| at < made) || known.is_some_and(|known| at <= known.at)
    };
    // One that is ahead would outlast what comes after it: every later request would look like an earlier one.
    let seen = first_seen(snapshot, node);
    let at = time
        .filter(|at| *at <= seen && until(*at).is_none_or(|until| until > now) && !is_before_all(*at))
        .unwrap_or(seen);
    let matched = written.reason.strip_prefix(MATCHED).unwrap_or(&written.reason).trim();
    let asked = Asked {
        at,
        request: written.key(node),
        node: node.name.clone(),
        matched: (!matched.is_empty()).then(|| matched.to_owned()),
        until: until(at).filter(|until| *until > now),
        is_late: until(at).is_some_and(|until| until <= now),
        is_timed: time.is_some(),
    };
    let is_remembered = known.is_some_and(|known| {
        known.request.as_ref() == Some(&asked.request) || time.is_some_and(|at| known.recent.contains(&at))
    });
    let is_answered = snapshot.holds.iter().any(|hold| asked.is_answered_by(hold, now));
    (!is_older(machine, node, time) && !is_remembered && !is_answered).then_some(asked)
}

/// The request of a latch whose hold is still to be written.
pub fn latched(snapshot: &Snapshot) -> Option<Asked> {
    let latch = latch(snapshot)?;
    let known = snapshot.status.reclaim.as_ref().filter(|known| known.at == latch.at)?;
    Some(Asked {
        at: latch.at,
        request: known.request.clone()?,
        node: known.node.clone()?,
        matched: known.matched.clone(),
        until: latch.until,
        is_late: false,
        is_timed: true,
    })
}

/// Whether a request may be forgotten: nothing on the Node says it any more. (Without a time it would be taken for the
/// next one.)
pub fn is_over(snapshot: &Snapshot, request: &str) -> bool {
    let Some(node) = snapshot.own_node() else { return false };
    node.reclaim.as_ref().is_none_or(|note| note.key(node) != request) && latch(snapshot).is_none()
}

/// The machine is in again, or still, and its Node carries a request that needs no answer any more: the agent waits for
/// it to be cleared.
pub fn is_to_be_cleared(snapshot: &Snapshot) -> bool {
    standing(snapshot).is_some() && news(snapshot).is_none()
}
