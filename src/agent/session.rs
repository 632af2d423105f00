//! What the agent has to ask of the cluster, and when it has to look at everything again. Pure.
//!
//! One request at a time: the first program seen asks, all others join. What stands on the Node is the memory of it, so
//! that a new process of the agent asks nothing twice.

use std::fmt::Write;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use crate::agent::rules::Match;
use crate::api::names::{
    ANNOTATION_RECLAIM_REASON, ANNOTATION_RECLAIM_REQUESTED, ANNOTATION_RECLAIM_REQUESTED_AT,
    RECLAIM_REQUESTED,
};
use crate::detector::Sighting;

/// Characters of a reason: what a controller reads of it.
const LONGEST_REASON: usize = 200;

/// The owner wants her machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// When her program was seen.
    pub at: Timestamp,
    /// Which one.
    pub reason: String,
}

/// What is seen of our Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Its uid.
    pub uid: String,
    /// When it was made, by the API server's clock.
    pub created: Option<Timestamp>,
    /// A request stands on it.
    pub is_asked: bool,
    /// The machine-id that its kubelet has reported.
    pub machine_id: String,
}

/// What is heard of our Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It was looked at.
    Seen(Sight),
    /// This request stands on it, or an earlier one that was not answered yet.
    Stands(Request),
}

/// Where a request is on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Session {
    /// Nobody has been seen since the last answer.
    #[default]
    Quiet,
    /// Somebody has, and it is not known to stand on the Node.
    Asking(Request),
    /// It stands on the Node and has not been answered.
    Standing,
}

impl Request {
    /// Of a program that was seen at that instant. The command line stays here: programs are given passwords in it.
    pub fn new(at: Timestamp, seen: &Sighting<Match>) -> Self {
        let mut reason =
            format!("process-match: {} (by {}, pid {}", seen.found.rule, seen.found.by, seen.pid);
        if let Some(owner) = seen.owner {
            // A String takes everything.
            let _ = write!(reason, ", uid {owner}");
        }
        reason.push(')');
        let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
        Self { at, reason: reason.chars().take(LONGEST_REASON).map(plain).collect() }
    }

    /// The merge patch that puts it on a Node as it was seen.
    ///
    /// With the uid: it goes to that Node and to no later one of its name. Not with the resourceVersion: a kubelet that
    /// writes at the same time does not keep the owner waiting. A request older than the machine counts for nothing, so
    /// that a clock which is behind may not make it older than the Node.
    pub fn patch(&self, on: &Sight) -> Value {
        let at = match on.created {
            // Under a second of its own, lest two requests of a clock that is far behind pass for one.
            Some(created) if created > self.at => created + own_part_of_a_second(self.at),
            _ => self.at,
        };
        json!({"metadata": {"uid": on.uid, "annotations": {
            ANNOTATION_RECLAIM_REQUESTED: RECLAIM_REQUESTED,
            ANNOTATION_RECLAIM_REASON: self.reason,
            ANNOTATION_RECLAIM_REQUESTED_AT: format!("{at:.3}"),
        }}})
    }
}

fn own_part_of_a_second(at: Timestamp) -> SignedDuration {
    SignedDuration::from_millis(at.as_millisecond().rem_euclid(1000))
}

impl Sight {
    /// Of a Node.
    pub fn of(node: &Node) -> Self {
        let annotation = |name: &str| node.metadata.annotations.as_ref()?.get(name);
        let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
        Self {
            uid: node.metadata.uid.clone().unwrap_or_default(),
            created: node.metadata.creation_timestamp.as_ref().map(|time| time.0),
            is_asked: annotation(ANNOTATION_RECLAIM_REQUESTED).is_some_and(|asks| asks == RECLAIM_REQUESTED),
            machine_id: info.map(|info| info.machine_id.clone()).unwrap_or_default(),
        }
    }
}

impl Session {
    /// One of the owner's programs was seen. While a request stands it is asked for again all the same: it may have
    /// been answered since it was last looked at.
    pub fn seen(&mut self, request: impl FnOnce() -> Request) {
        match self {
            Self::Quiet | Self::Standing => *self = Self::Asking(request()),
            Self::Asking(_) => {}
        }
    }

    /// Nothing is looked for any more, so that nothing is asked.
    pub fn idle(&mut self) {
        if matches!(self, Self::Asking(_)) {
            *self = Self::Quiet;
        }
    }

    /// Our Node was seen. Whether everything is to be looked at again: the request was answered, by taking it away or
    /// by a new Node, and programs that go on running ask anew.
    ///
    /// A request that is on its way is not given up for one that stands: what was seen may be older than its answer,
    /// and who asks looks by himself.
    #[must_use]
    pub fn sighted(&mut self, node: &Sight) -> bool {
        match (&self, node.is_asked) {
            (Self::Quiet, true) => *self = Self::Standing,
            (Self::Standing, false) => {
                *self = Self::Quiet;
                return true;
            }
            (Self::Asking(_) | Self::Standing, true) | (Self::Quiet | Self::Asking(_), false) => {}
        }
        false
    }

    /// Who asked says that it stands. Of a request that is wanted no more nothing follows.
    pub fn stands(&mut self, asked: &Request) {
        if self.wanted() == Some(asked) {
            *self = Self::Standing;
        }
    }

    /// What to ask for.
    pub fn wanted(&self) -> Option<&Request> {
        match self {
            Self::Asking(request) => Some(request),
            Self::Quiet | Self::Standing => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::rules::By;
    use crate::detector::Source;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn request(second: i64) -> Request {
        Request { at: at(second), reason: format!("r{second}") }
    }

    fn node(is_asked: bool) -> Sight {
        Sight { uid: "u".to_owned(), created: Some(at(100)), is_asked, machine_id: String::new() }
    }

    #[derive(Debug)]
    enum Step {
        Seen(i64),
        Idle,
        Node(bool),
        /// The one of that second, says who asked.
        Stands(i64),
    }
    use Step::{Idle, Node, Seen, Stands};

    #[test]
    fn each_step_asks_for_what_it_should() {
        // What happens; what is wanted after it; whether everything is looked at again.
        let story = [
            (Node(false), None, false),
            (Seen(1), Some(1), false),
            (Seen(2), Some(1), false),
            (Node(false), Some(1), false),
            (Stands(1), None, false),
            (Node(true), None, false),
            // It may have been answered meanwhile: the Node is asked, and what was seen before is no answer.
            (Seen(3), Some(3), false),
            (Node(true), Some(3), false),
            (Stands(1), Some(3), false),
            (Stands(3), None, false),
            (Node(false), None, true),
            (Node(false), None, false),
            (Seen(4), Some(4), false),
            (Idle, None, false),
            (Stands(4), None, false),
            (Node(false), None, false),
            (Seen(5), Some(5), false),
            (Stands(5), None, false),
            (Idle, None, false),
            (Node(false), None, true),
            // Somebody else's request, or that of an earlier process of ours.
            (Node(true), None, false),
            (Node(false), None, true),
        ];
        let mut session = Session::default();
        for (step, (what, wanted, again)) in story.into_iter().enumerate() {
            let looks_again = match what {
                Seen(second) => {
                    session.seen(|| request(second));
                    false
                }
                Idle => {
                    session.idle();
                    false
                }
                Node(is_asked) => session.sighted(&node(is_asked)),
                Stands(second) => {
                    session.stands(&request(second));
                    false
                }
            };
            assert_eq!(session.wanted().cloned(), wanted.map(request), "step {step}: {what:?}");
            assert_eq!(looks_again, again, "step {step}: {what:?}");
        }
    }

    #[test]
    fn the_patch_is_three_annotations_on_one_node() {
        let patch = request(200).patch(&node(false));
        let expected = json!({"metadata": {"uid": "u", "annotations": {
            "5spot.finos.org/reclaim-requested": "true",
            "5spot.finos.org/reclaim-reason": "r200",
            "5spot.finos.org/reclaim-requested-at": "1970-01-01T00:03:20.000Z",
        }}});
        assert_eq!(patch, expected);
    }

    #[test]
    fn a_clock_that_is_behind_makes_no_request_older_than_the_node_and_no_two_alike() {
        for (millis, expected) in
            [(50_000, "00:01:40.000Z"), (50_123, "00:01:40.123Z"), (99_999, "00:01:40.999Z")]
        {
            let request = Request { at: Timestamp::from_millisecond(millis).unwrap(), ..request(0) };
            let patch = request.patch(&node(false));
            let at = &patch["metadata"]["annotations"][ANNOTATION_RECLAIM_REQUESTED_AT];
            assert_eq!(at, &format!("1970-01-01T{expected}"));
        }
    }

    fn sighting(rule: &str) -> Sighting<Match> {
        Sighting {
            pid: 4711,
            found: Match { rule: rule.to_owned(), by: By::Name },
            name: "idea".to_owned(),
            command_line: "idea --password hunter2".to_owned(),
            owner: Some(1000),
            source: Source::Netlink,
            delay: None,
        }
    }

    #[test]
    fn a_reason_names_the_rule_and_the_process_and_keeps_the_command_line_to_itself() {
        let reason = Request::new(at(1), &sighting("idea")).reason;
        assert_eq!(reason, "process-match: idea (by name, pid 4711, uid 1000)");
        let odd = Request::new(at(1), &sighting(&"a\n".repeat(300))).reason;
        assert!(odd.chars().count() <= LONGEST_REASON && !odd.contains('\n'), "{odd}");
    }

    #[test]
    fn only_the_word_true_asks() {
        let with = |value: Option<&str>| {
            let annotations = value.map(|value| json!({ANNOTATION_RECLAIM_REQUESTED: value}));
            let node = json!({
                "metadata": {"uid": "u", "creationTimestamp": "1970-01-01T00:01:40Z", "annotations": annotations},
            });
            Sight::of(&serde_json::from_value(node).unwrap())
        };
        assert_eq!(with(Some("true")), node(true));
        for value in [None, Some("false"), Some("True"), Some("")] {
            assert_eq!(with(value), node(false), "{value:?}");
        }
    }
}
