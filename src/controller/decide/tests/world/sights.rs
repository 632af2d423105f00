//! What the controller is shown of Cluster API and of the Node: another version, nothing at all, or an earlier Node.

use jiff::Timestamp;

use super::model::{Shown, World};
use crate::capi::version::{Capi, Version};
use crate::controller::effect::{Decision, Effect};
use crate::controller::snapshot::{Node, Snapshot};

/// Seconds for which a write of ours is waited for to be shown, and between two looks whether it is.
const PATIENCE: i64 = 5;
const NEXT_LOOK: i64 = 1;
/// What a list of Nodes takes a new process.
const LISTING: i64 = 1;

/// Which definitions of Cluster API there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    V1Beta2,
    V1Beta1,
    /// A version that nobody here speaks; its Machines stand.
    Another,
    /// No kind Machine any more, and with it no Machine.
    Nothing,
}

impl Speaks {
    pub(super) fn capi(self) -> Capi {
        match self {
            Self::V1Beta2 => Capi::Served(Version::V1Beta2),
            Self::V1Beta1 => Capi::Served(Version::V1Beta1),
            Self::Another => Capi::Unspoken("v1beta3 alone".to_owned()),
            Self::Nothing => Capi::NotServed("not installed".to_owned()),
        }
    }
}

/// The watch of Nodes, and what was written to the Node.
#[derive(Clone, Debug, Default)]
pub(super) struct NodeWatch {
    /// Stands still until then, and shows this.
    stuck: Option<(Timestamp, Node)>,
    /// The version of our last write, and until when it is waited for.
    written: Option<(u32, Timestamp)>,
    /// A new process has listed them only then; pods may come before.
    listed_at: Option<Timestamp>,
}

impl NodeWatch {
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck.is_some()
    }
}

fn version(node: &Node) -> u32 {
    node.resource_version.trim_start_matches("uid-").parse().unwrap()
}

impl World {
    pub(super) fn speak(&mut self, speaks: Speaks) {
        self.speaks = speaks;
        if speaks == Speaks::Nothing {
            self.vanish();
        }
    }

    pub(super) fn is_spoken(&self) -> bool {
        matches!(self.speaks, Speaks::V1Beta2 | Speaks::V1Beta1)
    }

    pub(super) fn stick(&mut self, seconds: i64) {
        self.node_watch.stuck = self.live.node.clone().map(|node| (self.after(seconds), node));
    }

    /// Whether it did just now.
    pub(super) fn catches_up(&mut self) -> bool {
        let (now, watch) = (self.real, &mut self.node_watch);
        let listed = watch.listed_at.take_if(|at| *at <= now).is_some();
        watch.stuck.take_if(|(until, _)| *until <= now).is_some() || listed
    }

    pub(super) fn catches_up_at(&self) -> Option<Timestamp> {
        let stuck = self.node_watch.stuck.as_ref().map(|(until, _)| *until);
        stuck.into_iter().chain(self.node_watch.listed_at).min()
    }

    /// A new process knows no Node, and none of what the former one wrote.
    pub(super) fn relists(&mut self) {
        self.node_watch = NodeWatch { listed_at: Some(self.after(LISTING)), ..NodeWatch::default() };
    }

    pub(super) fn has_listed(&self) -> bool {
        self.node_watch.listed_at.is_none()
    }

    /// Another Node, or none, is shown at once.
    pub(super) fn node_shown(&self, shown: &Shown) -> Option<Node> {
        let node = shown.node.as_ref().filter(|_| self.has_listed())?;
        let stuck = self.node_watch.stuck.as_ref().filter(|(_, stuck)| stuck.uid == node.uid);
        Some(stuck.map_or(node, |(_, stuck)| stuck).clone())
    }

    pub(super) fn wrote_node(&mut self) {
        let until = self.after(PATIENCE);
        self.node_watch.written = self.live.node.as_ref().map(|node| (version(node), until));
    }

    pub(super) fn is_behind(&self, node: Option<&Node>) -> bool {
        let awaited = self.node_watch.written.filter(|(_, until)| *until > self.real);
        awaited.is_some_and(|(written, _)| node.is_none_or(|node| version(node) < written))
    }

    /// Nothing can be done before the Node is shown as it was written.
    pub(super) fn awaits_its_node(&mut self, snapshot: &Snapshot, decision: &Decision) -> bool {
        let waits = snapshot.is_node_behind && decision.effects.is_empty();
        if waits {
            self.wake = Some(self.after(NEXT_LOOK));
        }
        waits
    }

    /// Of what cannot be read nothing is made or taken down, and what is not shown is not decided on.
    pub(super) fn obeys_its_eyes(snapshot: &Snapshot, decision: &Decision) {
        let is_blind = matches!(snapshot.capi, Capi::Unspoken(_));
        for effect in &decision.effects {
            // What an owner asked for is on record wherever it can be.
            let is_harmless = matches!(effect, Effect::AddFinalizer | Effect::WriteHold(_));
            assert!(!is_blind || is_harmless, "{effect:?} while Machines cannot be read");
            let hurries = matches!(effect, Effect::DeletePod(_));
            assert!(
                !snapshot.is_node_behind || !effect.is_on_node() || hurries,
                "{effect:?} on a Node that is shown as it was"
            );
        }
    }
}
