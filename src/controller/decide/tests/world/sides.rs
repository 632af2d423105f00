//! What else stands around one object: holds that nobody can list, others whose turn it is, and MachineDrainRules.

use proptest::prelude::*;
use serde_json::json;

use super::Act;
use super::model::World;
use crate::api::names;
use crate::api::status::{DesiredState, Rule};
use crate::capi::drain_rules::DrainRule;
use crate::controller::decide::decide;
use crate::controller::effect::{Decision, Effect};
use crate::controller::hold::Hold;
use crate::controller::snapshot::Snapshot;
use crate::controller::turn::Opening;

/// As they are now.
#[derive(Clone, Debug, Default)]
pub(super) struct Sides {
    /// Nobody has listed the holds since the process started.
    hides_holds: bool,
    /// As many machines as may be made at one time are being made.
    is_crowded: bool,
    ruled: Ruled,
}

/// Which MachineDrainRules there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Ruled {
    #[default]
    Not,
    /// For other Machines, and for other pods.
    Elsewhere,
    Here,
    /// There may be some.
    Unknown,
}

/// What becomes of them.
#[derive(Clone, Debug)]
pub(super) enum Side {
    /// Whether the right to list holds was taken away before the process started anew.
    HideHolds(bool),
    Crowd(bool),
    Rule(Ruled),
}

pub(super) fn sides() -> impl Strategy<Value = Act> {
    let ruled =
        prop::sample::select(vec![Ruled::Not, Ruled::Not, Ruled::Elsewhere, Ruled::Here, Ruled::Unknown]);
    prop_oneof![
        prop::bool::weighted(0.4).prop_map(Side::HideHolds),
        any::<bool>().prop_map(Side::Crowd),
        ruled.prop_map(Side::Rule),
    ]
    .prop_map(Act::Side)
}

impl World {
    pub(super) fn side(&mut self, side: &Side) {
        match side {
            Side::HideHolds(hides) => {
                if *hides {
                    self.died();
                }
                self.sides.hides_holds = *hides;
            }
            Side::Crowd(is_crowded) => self.sides.is_crowded = *is_crowded,
            Side::Rule(ruled) => self.sides.ruled = *ruled,
        }
    }

    pub(super) fn hides_holds(&self) -> bool {
        self.sides.hides_holds
    }

    pub(super) fn holds_unread(&self) -> Option<String> {
        self.sides.hides_holds.then(|| "forbidden".to_owned())
    }

    /// What was never listed is not known, not even in part.
    pub(super) fn holds_seen(&self, holds: &[Hold]) -> Vec<Hold> {
        if self.sides.hides_holds { Vec::new() } else { holds.to_vec() }
    }

    pub(super) fn drain_rules(&self) -> Option<Vec<DrainRule>> {
        let rule = |spec: serde_json::Value| {
            let rule = json!({"metadata": {"name": "rule"}, "spec": spec});
            DrainRule::decode(&serde_json::from_value(rule).unwrap())
        };
        let others = || {
            let elses = json!({"matchLabels": {"team": "nobody's"}});
            let machines = rule(json!({"machines": [{"selector": elses}], "drain": {"behavior": "Skip"}}));
            vec![machines, rule(json!({"pods": [{"selector": elses}], "drain": {"behavior": "Skip"}}))]
        };
        match self.sides.ruled {
            Ruled::Not => Some(Vec::new()),
            Ruled::Elsewhere => Some(others()),
            Ruled::Here => Some(others().into_iter().chain([rule(json!({"drain": {"order": 5}}))]).collect()),
            Ruled::Unknown => None,
        }
    }

    /// The order in which pods go is Cluster API's.
    pub(super) fn is_ordered_by_capi(&self) -> bool {
        self.pods.labelled || matches!(self.sides.ruled, Ruled::Here | Ruled::Unknown)
    }

    /// What `turn` does: who would make a machine and must wait says so, and does nothing else.
    pub(super) fn takes_its_turn(&self, snapshot: &mut Snapshot, decision: Decision) -> Decision {
        if !self.sides.is_crowded || Opening::of(snapshot, &decision) != Opening::Now {
            return decision;
        }
        snapshot.waits_for_turn = true;
        let decision = decide(snapshot);
        let makes = |effect: &Effect| matches!(effect, Effect::CreateChild { .. } | Effect::CreateMachine(_));
        assert!(!decision.effects.iter().any(makes), "out of turn: {decision:#?}");
        Decision { effects: Vec::new(), ..decision }
    }

    /// A freeze that nobody has seen binds all that holds bind; what somebody's rules order is left to Cluster API.
    pub(super) fn obeys_its_sides(&self, snapshot: &Snapshot, decision: &Decision) {
        let ruling = &decision.ruling;
        if self.sides.hides_holds {
            let is_above = matches!(
                ruling.rule,
                Rule::Deletion | Rule::ClusterDeleting | Rule::KillSwitch | Rule::Reclaim
            );
            let is_frozen = ruling.state == DesiredState::AsIs;
            assert!(is_above || is_frozen, "decided on holds that nobody has read: {ruling:#?}");
        }
        let evicts = |effect: &Effect| matches!(effect, Effect::Evict(_));
        let is_ordered = self.is_ordered_by_capi();
        let evicted = decision.effects.iter().any(evicts);
        assert!(!is_ordered || !evicted, "evicted past somebody's order: {decision:#?}");
        let cuts_short = |effect: &Effect| match effect {
            Effect::PatchMachine { patch, .. } => {
                !patch["metadata"]["annotations"][names::ANNOTATION_EXCLUDE_DRAIN].is_null()
            }
            _ => false,
        };
        // Finished pods, and a DaemonSet's, go in no order.
        let has_pods = self.pods.live.iter().any(|live| !live.pod.stays());
        if is_ordered && has_pods && ruling.state == DesiredState::Inactive {
            let limit = snapshot.target.drain.as_signed();
            if decision.effects.iter().any(cuts_short) {
                self.grace_is_over(snapshot, decision, limit);
            }
        }
    }
}
