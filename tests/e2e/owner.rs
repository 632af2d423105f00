//! The owner takes her machine back, and nothing is played: her program runs on this kernel, the shipped agent sees it under
//! the shipped rights, the controller answers, Cluster API lets the machine go.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams};
use kube::{ResourceExt, api::Patch, api::PatchParams};
use serde_json::json;

use crate::agent::desk::{Desk, LogOnPanic, NAMESPACE, REQUESTED, USER, name, now};
use crate::drain::yard::Yard;
use crate::harness::audit::Calls;
use crate::harness::{Controller, eventually, gone, provider};
use crate::world::{PATIENCE, is_true, said};

/// Promised of the DELETE: a second after the program started. Twice that on a machine that runs a dozen other tests.
const AT_ONCE: SignedDuration = SignedDuration::from_secs(2);

fn holds(yard: &Yard) -> Api<DynamicObject> {
    yard.world.tenant.api(&provider::kind("5spot.finos.org", "v1alpha1", "MachineHold"))
}

/// The agent's pod comes where the controller has put the label, as a DaemonSet's would; until the controller says it hears.
async fn watched_over(yard: &Yard, desk: &Desk) -> Controller {
    let labelled = |node: &Node| {
        node.labels().get("5spot.finos.org/reclaim-agent").is_some_and(|value| value == "enabled")
    };
    eventually(&yard.world.nodes(), &yard.name, "meant for an agent", PATIENCE, labelled).await;
    let agent = desk.agent().start();
    {
        let _log = LogOnPanic(&agent);
        yard.until("heard", |sm| is_true(sm, "AgentReady")).await;
        desk.until_rules(&agent, "ok").await;
    }
    agent
}

/// When each step of it came.
struct Steps {
    started: Timestamp,
    asked: Timestamp,
    held: Timestamp,
    deleted: Timestamp,
}

impl Steps {
    fn of(yard: &Yard, started: Timestamp) -> Self {
        let first = |calls: &Calls, what: &str| {
            calls.iter().next().unwrap_or_else(|| panic!("no {what}: {}", yard.world.calls().writes())).ended
        };
        let workload = yard.world.tenant.planes().workload().audit().after(yard.world.workload_mark);
        let asked = workload.by(USER).on("nodes").named(&yard.name).accepted().writes().since(started);
        let calls = yard.world.calls().accepted().since(started);
        Self {
            started,
            asked: first(&asked, "request"),
            held: first(&calls.on("machineholds").verb("create"), "hold"),
            deleted: first(&calls.on("machines").verb("delete"), "DELETE"),
        }
    }

    fn tell(&self) {
        let millis = |at: Timestamp| at.duration_since(self.started).as_millis();
        eprintln!(
            "from exec: request acknowledged {} ms, hold {} ms, DELETE {} ms",
            millis(self.asked),
            millis(self.held),
            millis(self.deleted)
        );
    }
}

#[tokio::test]
async fn her_program_starts_and_she_has_her_machine_back_until_the_hold_ends() {
    let mut desk = Desk::empty().await;
    let program = desk.program();
    let over = json!({"killIfCommands": [name(&program)], "reclaim": {"returnAfter": "1h"}});
    let yard = Yard::lent("owner", over).await;
    desk.sit_at(&yard.name).await;
    let agent = watched_over(&yard, &desk).await;
    let _log = LogOnPanic(&agent);
    let maps: Api<ConfigMap> = Api::namespaced(desk.admin.clone(), NAMESPACE);
    let rules = maps.get(&desk.object()).await.unwrap().data.unwrap();
    assert!(rules["reclaim.toml"].contains(name(&program)), "{rules:?}");

    let started = now();
    desk.start(&program);
    yard.until_machine_gone().await;
    let steps = Steps::of(&yard, started);
    steps.tell();
    assert!(steps.deleted.duration_since(started) < AT_ONCE);
    assert!(steps.asked <= steps.held && steps.held <= steps.deleted, "in that order");

    let off = yard.world.until_settled(&yard.name, "Disabled").await;
    assert_eq!(said(&off, "Scheduled").0, "EmergencyReclaim");
    assert!(off.data["status"]["message"].as_str().unwrap().contains(name(&program)));
    let made = holds(&yard).list(&ListParams::default()).await.unwrap().items;
    assert_eq!(made.len(), 1, "one reclaim, one hold");
    gone(&maps, &desk.object(), PATIENCE).await;

    // She is done; whoever runs the platform gives the machine back to its schedule.
    agent.kill();
    holds(&yard).delete(&made[0].name_any(), &DeleteParams::default()).await.unwrap();
    yard.world.until_settled(&yard.name, "Active").await;
    let node = yard.world.nodes().get(&yard.name).await.unwrap();
    assert!(!node.annotations().contains_key(REQUESTED), "{:?}", node.annotations());
}

#[tokio::test]
async fn what_she_starts_that_is_not_on_the_list_takes_nothing() {
    let mut desk = Desk::empty().await;
    let (listed, other) = (desk.program(), desk.program());
    let yard = Yard::lent("owner-other", json!({"killIfCommands": [name(&listed)]})).await;
    desk.sit_at(&yard.name).await;
    let agent = watched_over(&yard, &desk).await;
    let _log = LogOnPanic(&agent);
    desk.start(&other);
    // The agent is at work: an edit of the list reaches it, and then that one counts at once, though it runs already.
    let before = now();
    assert!(desk.requests().is_empty(), "{}", desk.requests());
    yard.world.edit(&yard.name, json!({"killIfCommands": [name(&other)]})).await;
    yard.until_machine_gone().await;
    let asked = desk.requests().accepted();
    assert!(asked.iter().all(|call| call.received >= before) && asked.len() == 1, "{asked}");
}

impl Desk {
    /// For a Node that a controller has made: the agent's pod is put there, and the kubelet tells the host's machine-id.
    async fn sit_at(&mut self, node: &str) {
        node.clone_into(&mut self.node);
        std::fs::write(self.machine_id_path(), format!("{}\n", self.machine_id())).unwrap();
        let id = Patch::Merge(json!({"status": {"nodeInfo": {"machineID": self.machine_id()}}}));
        self.nodes().patch_status(node, &PatchParams::default(), &id).await.unwrap();
        self.token = self.make_token().await;
        self.until_confined().await;
    }
}
