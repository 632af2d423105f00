//! Somebody else at our names and at our host: objects that are not ours, and Nodes with our provider id.

use proptest::prelude::*;

use super::Act;
use super::model::{Host, Part, World};
use crate::controller::decide::tests::given::{HOST, says};
use crate::controller::effect::NodeEdit;
use crate::controller::snapshot::{ChildObject, Rival, Snapshot};

/// Uid of what somebody else made.
const ELSES: &str = "uid-of-somebody-else's";

/// A Node that carries our host's provider id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kin {
    /// Of an earlier run of ours, its host long silent.
    Stale,
    /// As silent, and nobody knows whose.
    Elses,
    /// Somebody's kubelet answers.
    Living,
}

#[derive(Clone, Debug)]
pub(super) enum Rivalry {
    /// A Node appears.
    Joins(Kin),
    /// Whoever has Nodes there that are not ours deletes them.
    Leaves,
    /// A part of our name, where there is none: the bootstrap's or the infrastructure's. Or it goes again.
    Part(bool, bool),
    /// Our Machine's finalizers are taken off, and its name is taken, at once.
    Usurps,
}

pub(super) fn rivals() -> impl Strategy<Value = Act> {
    let kin = prop::sample::select(vec![Kin::Stale, Kin::Stale, Kin::Elses, Kin::Living]);
    prop_oneof![
        3 => kin.prop_map(Rivalry::Joins),
        2 => Just(Rivalry::Leaves),
        2 => (any::<bool>(), any::<bool>()).prop_map(|(bootstrap, there)| Rivalry::Part(bootstrap, there)),
        1 => Just(Rivalry::Usurps),
    ]
    .prop_map(Act::Rival)
}

impl World {
    pub(super) fn rivalry(&mut self, rivalry: &Rivalry) {
        match rivalry {
            Rivalry::Joins(kin) => self.rival_joins(*kin),
            Rivalry::Leaves => self.rivals.retain(|rival| self.ours.contains(&rival.uid)),
            Rivalry::Part(bootstrap, true) => {
                let kind = if *bootstrap { "StubConfig" } else { "StubMachine" };
                let object = ChildObject { uid: ELSES.to_owned(), ..ChildObject::default() };
                let part = Part { object, gone_at: None };
                // Cluster API would give it to our Machine.
                if self.live.host.is_none() {
                    self.live.parts.entry((*bootstrap, kind.to_owned())).or_insert(part);
                }
            }
            Rivalry::Part(bootstrap, false) => {
                self.live.parts.retain(|(is, _), part| is != bootstrap || part.object.uid != ELSES);
            }
            Rivalry::Usurps => {
                self.vanish();
                self.act(Act::Foreign(true));
            }
        }
    }

    fn rival_joins(&mut self, kin: Kin) {
        if self.rivals.len() > 1 {
            return;
        }
        let uid = self.uid();
        if kin == Kin::Stale {
            self.ours.insert(uid.clone());
        }
        self.rivals.push(Rival {
            name: format!("node-{uid}"),
            resource_version: uid.clone(),
            uid,
            is_older: true,
            is_silent: kin != Kin::Living,
            carries_our_mark: kin != Kin::Elses,
            deleting: false,
        });
    }

    /// Looked for only while our Machine waits for its Node.
    pub(super) fn rivals_seen(&self, snapshot: &Snapshot) -> Vec<Rival> {
        let waits = |m: &crate::capi::machine::Machine| m.provider_id.is_some() && !m.is_ready();
        let looks = self.has_listed() && snapshot.cluster.is_some();
        let is_asked = snapshot.machine.as_ref().is_some_and(waits);
        if looks && is_asked { self.rivals.clone() } else { Vec::new() }
    }

    /// Cluster API takes none of several Nodes for a Machine's. True if so.
    pub(super) fn is_contested(&self, host: &mut Host) -> bool {
        if self.rivals.is_empty() {
            return false;
        }
        host.machine.provider_id = Some(HOST.to_owned());
        host.machine.conditions = vec![
            says("NodeHealthy", "Unknown", "InspectionFailed", "several nodes"),
            says("Ready", "False", "NotReady", ""),
        ];
        true
    }

    /// Somebody's Node, or one that still answers, is not ours to delete.
    pub(super) fn is_no_rivals(&self, node: &NodeEdit) {
        let stays = |rival: &&Rival| rival.uid == node.uid && !(rival.is_silent && rival.carries_our_mark);
        let deleted = self.rivals.iter().find(stays);
        assert!(deleted.is_none(), "somebody else's Node: {deleted:?}");
    }

    /// Of our name, and not ours.
    pub(super) fn is_taken(part: &Part) -> bool {
        part.object.uid == ELSES
    }
}
