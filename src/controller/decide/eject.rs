//! Out at once: the Node half and the management half, neither of which waits for the other.
//!
//! Cluster API is told to leave out its drain, and with it its cordon: so both are done here.

use k8s_openapi::api::core::v1::Taint;

use crate::api::names::TAINT_EJECTING;
use crate::api::status::LeavingStage;
use crate::capi::machine::Machine;
use crate::controller::build;
use crate::controller::decide::Plan;
use crate::controller::decide::drain::places;
use crate::controller::decide::leave::{Clock, Deleting, edit, going, leaving, reachable_node};
use crate::controller::decide::rule::Ruling;
use crate::controller::effect::{Effect, PodEdit, Wake};
use crate::controller::snapshot::pods::{Pod, Pods, Verb};
use crate::controller::snapshot::{Node, Snapshot};

/// What a pod gets; one that ends already with more is hurried.
const GRACE_SECONDS: i64 = 1;

pub(super) fn plan(snapshot: &Snapshot, ruling: &Ruling, machine: &Machine) -> Plan {
    let clock = Clock::read(snapshot, ruling);
    let is_going = machine.deleted_at.is_some();
    let said = Deleting::read(snapshot, machine);
    let standing = if is_going {
        going(said.reason, said.message, ruling)
    } else {
        going("WaitingForMachineDeletion", format!("{}: deleting the Machine", ruling.message), ruling)
    };
    let mut plan = Plan::new(standing, clock.timers(snapshot));
    // Of a Machine that Cluster API is draining it is noticed within its 20 s round.
    plan.effects.extend(build::machine_farewell(snapshot, machine, true, true));
    plan.effects.extend((!is_going).then(|| Effect::DeleteMachine { uid: machine.uid.clone() }));
    plan.leaving = Some(leaving(snapshot, &clock, LeavingStage::Eject, said.blockers));
    node_half(snapshot, &mut plan);
    plan
}

/// Cordon and taint, and the pods. Also under a pause of Cluster API, where it is all that can be done.
pub(super) fn node_half(snapshot: &Snapshot, plan: &mut Plan) {
    plan.pods_of = snapshot.own_machine().and_then(|machine| machine.node.clone());
    let Some(node) = reachable_node(snapshot) else { return };
    plan.effects.extend(eject_node(node));
    let Pods::Known(pods) = &snapshot.pods else { return };
    let is_to_go = |pod: &&Pod| !pod.stays() && pod.ending.is_none_or(|grace| grace > GRACE_SECONDS);
    let mut to_go: Vec<&Pod> = pods.iter().filter(is_to_go).collect();
    let again_at = to_go.iter().filter_map(|pod| pod.again_at(Verb::Delete, snapshot.now)).min();
    // Evictions that hang somewhere keep no place from those who are in a hurry.
    let free = places(pods, Verb::Delete);
    to_go.retain(|pod| pod.is_due(Verb::Delete, snapshot.now));
    to_go.truncate(free);
    plan.wake = if to_go.is_empty() { plan.wake.or(again_at) } else { Wake::at(snapshot.now) };
    plan.effects.extend(to_go.into_iter().map(|pod| Effect::DeletePod(pod_edit(pod))));
}

fn eject_node(node: &Node) -> Option<Effect> {
    let is_tainted = has_taint(node);
    if is_tainted && node.unschedulable {
        return None;
    }
    let ours = (!is_tainted).then(|| Taint {
        key: TAINT_EJECTING.to_owned(),
        effect: "NoExecute".to_owned(),
        ..Taint::default()
    });
    let taints = node.taints.iter().cloned().chain(ours).collect();
    Some(Effect::EjectNode { node: edit(node), cordons: !node.unschedulable, taints })
}

/// The Node's taints without ours, where it is among them.
pub(super) fn without_taint(node: &Node) -> Option<Vec<Taint>> {
    let others = || node.taints.iter().filter(|taint| !is_ours(taint)).cloned().collect();
    has_taint(node).then(others)
}

/// An eject has been here.
pub(super) fn has_taint(node: &Node) -> bool {
    node.taints.iter().any(is_ours)
}

fn is_ours(taint: &Taint) -> bool {
    taint.key == TAINT_EJECTING
}

pub(super) fn pod_edit(pod: &Pod) -> PodEdit {
    PodEdit { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: pod.uid.clone() }
}
