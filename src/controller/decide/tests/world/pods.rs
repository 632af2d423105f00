//! Pods on the Node, budgets, and what the controller sees and remembers of them.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::model::World;
use super::shell::refused;
use crate::controller::effect::{Decision, PodEdit};
use crate::controller::report::Failure;
use crate::controller::snapshot::pods::{Attempt, Outcome, Pod, Pods, Verb};

/// Seconds that an evicted pod takes to end, and that an answer takes where somebody is slow.
const GRACE: i64 = 30;
const ANSWER: i64 = 3;

/// On the Node and in the controller's memory.
#[expect(clippy::struct_excessive_bools, reason = "much may go wrong")]
#[derive(Clone, Debug, Default)]
pub(super) struct PodWorld {
    pub(super) live: Vec<LivePod>,
    /// No eviction is allowed.
    pub(super) budget: bool,
    /// Pods do not end.
    pub(super) stuck: bool,
    /// They carry Cluster API's label.
    pub(super) labelled: bool,
    /// Nobody answers at once whether a pod may go.
    pub(super) slow: bool,
    tried: HashMap<String, Attempt>,
    /// Not answered yet, by the pod's uid.
    underway: HashMap<String, Asked>,
    /// Since when the controller asks, and whether the list has come.
    asked: Option<(Timestamp, bool)>,
}

#[derive(Clone, Debug)]
struct Asked {
    edit: PodEdit,
    verb: Verb,
    answered_at: Timestamp,
}

#[derive(Clone, Debug)]
pub(super) struct LivePod {
    pub(super) pod: Pod,
    pub(super) ends_at: Option<Timestamp>,
}

impl PodWorld {
    /// The controller was restarted.
    pub(super) fn forget(&mut self) {
        self.tried.clear();
        self.underway.clear();
        self.asked = None;
    }
}

impl World {
    /// Somebody's pods land on the Node, if it takes any.
    pub(super) fn schedule_pods(&mut self, count: usize) {
        let takes = self.live.node.as_ref().is_some_and(|node| !node.unschedulable && !node.deleting);
        for nth in (0..count).filter(|_| takes) {
            let uid = self.uid();
            let mut pod = Pod { name: uid.clone(), uid, namespace: "web".to_owned(), ..Pod::default() };
            pod.is_finished = nth == 3;
            pod.controller = (nth == 2).then(|| "DaemonSet".to_owned());
            self.pods.live.push(LivePod { pod, ends_at: None });
        }
    }

    pub(super) fn pods_seen(&self) -> Pods {
        match self.pods.asked {
            None => Pods::Unasked,
            Some((since, false)) => Pods::Awaited { since, trouble: None },
            Some((_, true)) => {
                let pods = self.pods.live.iter().map(|live| {
                    let mut pod = live.pod.clone();
                    pod.tried = self.pods.tried.get(&pod.uid).cloned();
                    pod.underway = self.pods.underway.get(&pod.uid).map(|asked| asked.verb);
                    if self.pods.labelled {
                        pod.labels.insert(crate::api::names::LABEL_POD_DRAIN.to_owned(), "skip".to_owned());
                    }
                    pod
                });
                Pods::Known(pods.collect())
            }
        }
    }

    pub(super) fn pods_asked_at(&self) -> Option<Timestamp> {
        self.pods.asked.map(|(since, _)| since)
    }

    pub(super) fn ask_for_pods(&mut self, decision: &Decision) {
        if decision.pods_of.is_none() {
            self.pods.forget();
        } else if self.pods.asked.is_none() {
            self.pods.asked = Some((self.wall(), false));
        }
    }

    /// The list comes as soon as the cluster answers; true when it just did.
    pub(super) fn lists_pods(&mut self) -> bool {
        match &mut self.pods.asked {
            Some((_, listed @ false)) if self.is_reachable => {
                *listed = true;
                true
            }
            _ => false,
        }
    }

    pub(super) fn make_go(&mut self, edit: &PodEdit, verb: Verb) -> Result<(), Failure> {
        if !self.is_reachable {
            return Err(refused("NotConnected"));
        }
        let out = self.pods.underway.get(&edit.uid).map(|asked| asked.verb);
        let is_hurried = out == Some(Verb::Evict) && verb == Verb::Delete;
        assert!(out.is_none() || is_hurried, "{verb:?} of {edit:?} while {out:?} is out");
        self.pods.underway.remove(&edit.uid);
        if self.pods.slow {
            let asked = Asked { edit: edit.clone(), verb, answered_at: self.after(ANSWER) };
            self.pods.underway.insert(edit.uid.clone(), asked);
        } else {
            self.answer(edit, verb);
        }
        Ok(())
    }

    /// True if an answer has come that took its time.
    fn answers_come(&mut self) -> bool {
        let now = self.real;
        let due: Vec<Asked> = self
            .pods
            .underway
            .extract_if(|_, asked| asked.answered_at <= now)
            .map(|(_, asked)| asked)
            .collect();
        for asked in &due {
            self.answer(&asked.edit, asked.verb);
        }
        !due.is_empty()
    }

    pub(super) fn next_pod_event(&self) -> Option<Timestamp> {
        let ends = self.pods.live.iter().filter_map(|live| live.ends_at);
        ends.chain(self.pods.underway.values().map(|asked| asked.answered_at)).min()
    }

    fn answer(&mut self, edit: &PodEdit, verb: Verb) {
        let outcome = match verb {
            _ if !self.is_reachable => Outcome::Failed { message: "no answer".to_owned() },
            Verb::Evict if self.pods.budget => Outcome::Refused { budgets: vec!["web".to_owned()] },
            Verb::Evict => {
                self.end(edit, GRACE);
                Outcome::Accepted
            }
            Verb::Delete => {
                self.end(edit, 1);
                Outcome::Accepted
            }
        };
        self.tried(edit, verb, outcome);
    }

    fn end(&mut self, edit: &PodEdit, grace: i64) {
        let (ends_at, stuck) = (self.after(grace), self.pods.stuck);
        for live in self.pods.live.iter_mut().filter(|live| live.pod.uid == edit.uid) {
            assert!(!live.pod.stays(), "left alone: {live:?}");
            assert!(live.pod.ending.is_none_or(|had| had > grace), "asked twice: {live:?}");
            live.pod.ending = Some(grace);
            live.ends_at = (!stuck).then(|| live.ends_at.map_or(ends_at, |at| at.min(ends_at)));
        }
    }

    fn tried(&mut self, edit: &PodEdit, verb: Verb, outcome: Outcome) {
        let again_at = self.wall() + SignedDuration::from_secs(5);
        self.pods.tried.insert(edit.uid.clone(), Attempt { verb, outcome, tries: 1, again_at });
    }

    /// Pods end, and go with their Node; true if any did.
    pub(super) fn pods_happen(&mut self) -> bool {
        let answered = self.answers_come();
        let (now, count) = (self.real, self.pods.live.len());
        if self.live.node.is_none() {
            self.pods.live.clear();
        }
        self.pods.live.retain(|live| live.ends_at.is_none_or(|at| at > now));
        answered || self.pods.live.len() != count
    }
}
