//! The owner takes her machine back: what an agent writes on the Node, from there to the DELETE, the hold, and the return.
//!
//! The annotations are written as an agent would, by the test itself.

mod agents;
mod clocks;
mod heirs;
mod in_the_way;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::json;

use crate::drain::yard::{Yard, is_cordoned, is_ejecting};
use crate::harness::audit::Calls;
use crate::harness::{eventually, gone, pass_until, refusal};
use crate::world::{PATIENCE, said, scheduled_machine, spec};

/// Promised of the DELETE, whatever stands in the way.
pub const AT_ONCE: SignedDuration = SignedDuration::from_secs(2);
const REQUESTED: &str = "5spot.finos.org/reclaim-requested";
const REASON: &str = "5spot.finos.org/reclaim-reason";
const REQUESTED_AT: &str = "5spot.finos.org/reclaim-requested-at";

impl Yard {
    /// The agent's write, whole; when it was asked for.
    pub async fn annotate(&self, requested: &str, program: &str, at: &str) -> Timestamp {
        let asked = Timestamp::now();
        let annotations =
            json!({REQUESTED: requested, REASON: format!("process-match: {program}"), REQUESTED_AT: at});
        self.patch_node(json!({"metadata": {"annotations": annotations}})).await;
        asked
    }

    /// The owner starts a program of hers.
    pub async fn reclaim(&self, program: &str) -> Timestamp {
        self.annotate("true", program, &Timestamp::now().to_string()).await
    }

    /// The one hold of a reclaim, once there is one.
    pub async fn reclaimed(&self) -> DynamicObject {
        let sm = self.until("held", |sm| decided_by(sm) == "MachineHold").await;
        let name = sm.data["status"]["decision"]["source"]["name"].as_str().unwrap().to_owned();
        self.holds().get(&name).await.unwrap()
    }

    /// The DELETE follows in time; when the annotation was written.
    pub async fn deleted_in_time(&self, asked: Timestamp) -> Calls {
        let deletion = self.deletion().await;
        let node = self.world.tenant.planes().workload().audit().after(self.world.workload_mark);
        let node = node.on("nodes").verb("patch").named(&self.name).accepted().since(asked);
        let written = node.only(|call| !call.user_agent.starts_with("5spot/")).iter().next().unwrap().ended;
        let after = deletion.received.duration_since(written);
        eprintln!("{}: DELETE {} ms after the annotation", self.world.tenant.namespace, after.as_millis());
        assert!(after < AT_ONCE, "{after}: {}", self.world.calls().writes());
        assert!(deletion.received >= asked, "before anybody asked for it: {deletion}");
        self.world.calls().writes().since(asked)
    }

    pub fn creates_of_holds(&self) -> Calls {
        self.world.calls().on("machineholds").verb("create")
    }

    /// No writes to what the user wrote.
    pub fn is_spec_untouched(&self) {
        let written = self.world.calls().only(|call| call.resource == "scheduledmachines").writes();
        let finalizer = written.only(|call| call.verb == "patch");
        assert_eq!((written.len(), finalizer.len()), (1, 1), "more than the finalizer: {written}");
    }

    pub async fn until_cleared(&self) {
        let carries = |node: &Node| {
            [REQUESTED, REASON, REQUESTED_AT].iter().any(|key| node.annotations().contains_key(*key))
        };
        eventually(&self.world.nodes(), &self.name, "cleared", PATIENCE, |node| !carries(node)).await;
    }

    async fn give_back(&self, hold: &DynamicObject) {
        self.holds().delete(&hold.name_any(), &DeleteParams::default()).await.unwrap();
    }
}

/// Kind of the object that the decision was read from.
fn decided_by(sm: &DynamicObject) -> String {
    sm.data["status"]["decision"]["source"]["kind"].as_str().unwrap_or_default().to_owned()
}

/// The hold is there before the DELETE is sent; or, where the server was too slow for that, the status that stands in for it
/// was on its way.
pub fn is_remembered_before_the_delete(writes: &Calls) {
    let deleted = writes.on("machines").verb("delete").iter().map(|call| call.received).min().unwrap();
    let holds = writes.on("machineholds").verb("create").accepted();
    let latches = writes.only(|call| call.resource == "scheduledmachines/status");
    let is_held = holds.iter().any(|call| call.ended <= deleted);
    assert!(is_held || latches.iter().any(|call| call.received <= deleted), "neither before it: {writes}");
}

#[tokio::test]
async fn a_request_on_the_node_makes_one_hold_and_then_deletes_the_machine_and_a_second_one_another() {
    let yard = Yard::lent("reclaim", json!({"reclaim": {"returnAfter": "1h"}})).await;
    let asked = yard.reclaim("java").await;
    let writes = yard.deleted_in_time(asked).await;
    is_remembered_before_the_delete(&writes);

    let hold = yard.reclaimed().await;
    let spec = &hold.data["spec"];
    assert_eq!((&spec["origin"], &spec["state"]), (&json!("Reclaim"), &json!("Inactive")));
    assert_eq!((&spec["reclaim"]["matched"], &spec["reclaim"]["node"]), (&json!("java"), &json!(yard.name)));
    let at: Timestamp = spec["reclaim"]["requestedAt"].as_str().unwrap().parse().unwrap();
    let until: Timestamp = spec["until"].as_str().unwrap().parse().unwrap();
    assert_eq!(until.duration_since(at), SignedDuration::from_hours(1));
    let owner = &hold.owner_references()[0];
    assert_eq!(
        (owner.kind.as_str(), owner.name.as_str(), owner.controller),
        ("ScheduledMachine", &*yard.name, Some(true))
    );

    yard.until_machine_gone().await;
    let off = yard.world.until_settled(&yard.name, "Disabled").await;
    assert_eq!(
        (said(&off, "Ready").0, said(&off, "Scheduled").0),
        ("Reclaimed".into(), "EmergencyReclaim".into())
    );
    let message = off.data["status"]["message"].as_str().unwrap();
    let command =
        format!("kubectl delete machinehold -n {} {}", yard.world.tenant.namespace, hold.name_any());
    assert!(message.ends_with(&command) && message.contains("java"), "{message}");
    assert_eq!(off.data["status"]["reclaim"]["last24h"], 1);
    assert_eq!(off.data["status"]["lastRun"]["endedBy"], "Reclaim");
    yard.world.until_event(&yard.name, "its owner asked for it at ").await;

    yard.give_back(&hold).await;
    yard.world.until_settled(&yard.name, "Active").await;
    yard.until("on a Node", |sm| sm.data["status"]["nodeRef"]["uid"].is_string()).await;
    yard.reclaim("idea").await;
    let second = yard.reclaimed().await;
    assert_eq!(second.data["spec"]["reclaim"]["matched"], "idea");
    let off = yard.world.until_settled(&yard.name, "Disabled").await;
    assert_eq!(off.data["status"]["reclaim"]["last24h"], 2);
    assert_eq!((yard.creates_of_holds().accepted().len(), yard.world.machines_created(&yard.name)), (2, 2));
    yard.is_spec_untouched();

    // The hold goes with its object.
    yard.world.delete(&yard.name).await;
    gone(&yard.world.scheduled_machines(), &yard.name, PATIENCE).await;
    gone(&yard.holds(), &second.name_any(), PATIENCE).await;
}

#[tokio::test]
async fn whoever_applies_the_manifest_every_second_changes_nothing_and_is_not_fought() {
    let yard = Yard::lent("reclaim-flux", json!({"reclaim": {"returnAfter": "Never"}})).await;
    let live = yard.world.scheduled_machines().get(&yard.name).await.unwrap();
    let mut manifest = json!({
        "apiVersion": scheduled_machine().api_version, "kind": "ScheduledMachine",
        "metadata": {"name": yard.name}, "spec": spec(&yard.world.tenant.cluster),
    });
    manifest["spec"] = live.data["spec"].clone();
    let api = yard.world.scheduled_machines();
    let params = PatchParams::apply("flux").force();
    let flux = async {
        loop {
            api.patch(&yard.name, &params, &Patch::Apply(&manifest)).await.unwrap();
            pass_until(Timestamp::now() + SignedDuration::from_secs(1)).await;
        }
    };
    let meanwhile = async {
        yard.reclaim("java").await;
        yard.reclaimed().await;
        let off = yard.world.until_settled(&yard.name, "Disabled").await;
        pass_until(Timestamp::now() + SignedDuration::from_secs(5)).await;
        let later = yard.world.scheduled_machines().get(&yard.name).await.unwrap();
        assert_eq!(later.metadata.generation, off.metadata.generation);
        assert_eq!(later.data["status"], off.data["status"]);
    };
    tokio::select! {
        () = meanwhile => {}
        () = flux => unreachable!("it goes on for ever"),
    }
    yard.is_spec_untouched();
    assert_eq!((yard.creates_of_holds().accepted().len(), yard.world.machines_created(&yard.name)), (1, 1));
}

#[tokio::test]
async fn only_the_one_value_asks_and_only_on_the_node_of_the_machine() {
    let yard = Yard::lent("reclaim-not", json!({})).await;
    let other = yard.world.tenant.unique("bystander");
    let node = json!({"metadata": {"name": other, "annotations": {REQUESTED: "true", REASON: "x",
        "cluster.x-k8s.io/machine": yard.name, "cluster.x-k8s.io/cluster-namespace": yard.world.tenant.namespace}}});
    let node: Node = serde_json::from_value(node).unwrap();
    yard.world.nodes().create(&kube::api::PostParams::default(), &node).await.unwrap();
    for value in ["false", "True", "1", ""] {
        yard.annotate(value, "java", &Timestamp::now().to_string()).await;
    }
    pass_until(Timestamp::now() + SignedDuration::from_secs(3)).await;
    let touched = yard.world.calls().on("machines").writes().only(|call| call.verb != "create");
    assert!(touched.is_empty() && yard.creates_of_holds().is_empty(), "{touched}");
    assert!(yard.all_holds().await.is_empty());
    yard.world.nodes().delete(&other, &DeleteParams::default()).await.unwrap();
    // And the one that does.
    let asked = yard.reclaim("java").await;
    yard.deleted_in_time(asked).await;
}

#[tokio::test]
async fn a_machine_that_stays_on_its_node_has_the_request_cleared_and_hears_the_next_one() {
    let yard = Yard::lent("reclaim-stays", json!({"reclaim": {"returnAfter": "Never"}})).await;
    let tenant = &yard.world.tenant;
    let refused =
        refusal::refuse_deletes(tenant.management_plane(), &tenant.namespace, "machines", "not today").await;
    for round in 1..=3 {
        yard.reclaim("java").await;
        let hold = yard.reclaimed().await;
        eventually(&yard.world.nodes(), &yard.name, "ejected", PATIENCE, |node| {
            is_ejecting(node) && is_cordoned(node)
        })
        .await;
        yard.give_back(&hold).await;
        yard.until_cleared().await;
        eventually(&yard.world.nodes(), &yard.name, "free", PATIENCE, |node| {
            !is_ejecting(node) && !is_cordoned(node)
        })
        .await;
        let sm = yard.until("back", |sm| sm.data["status"]["decision"]["rule"] == "Window").await;
        assert_eq!(sm.data["status"]["reclaim"]["last24h"], round);
    }
    let often = yard.world.until_event(&yard.name, "its owner asked for it 3 times").await;
    assert_eq!(often.reason.as_deref(), Some("RapidReReclaim"));
    assert_eq!((yard.creates_of_holds().accepted().len(), yard.world.machines_created(&yard.name)), (3, 1));
    refused.lift().await;
    yard.world.until_settled(&yard.name, "Active").await;
}
