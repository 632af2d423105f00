//! A lent machine with an agent on it and its owner at the desk, and what her program sets off, step by step.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::agent::desk::{Desk, LogOnPanic, USER};
use crate::drain::yard::Yard;
use crate::harness::audit::Calls;
use crate::harness::{Controller, eventually};
use crate::world::{PATIENCE, is_true};

/// The agent's pod comes where the controller has put the label, as a DaemonSet's would; until the controller says it hears.
pub async fn watched_over(yard: &Yard, desk: &Desk) -> Controller {
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
pub struct Steps {
    pub started: Timestamp,
    pub asked: Timestamp,
    pub held: Timestamp,
    pub deleted: Timestamp,
}

impl Steps {
    pub fn of(yard: &Yard, started: Timestamp) -> Self {
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

    pub fn tell(&self) {
        let millis = |at: Timestamp| at.duration_since(self.started).as_millis();
        eprintln!(
            "from exec: request acknowledged {} ms, hold {} ms, DELETE {} ms",
            millis(self.asked),
            millis(self.held),
            millis(self.deleted)
        );
    }
}

impl Desk {
    /// For a Node that a controller has made: the agent's pod is put there, and the kubelet tells the host's machine-id.
    pub async fn sit_at(&mut self, node: &str) {
        node.clone_into(&mut self.node);
        std::fs::write(self.machine_id_path(), format!("{}\n", self.machine_id())).unwrap();
        let id = Patch::Merge(json!({"status": {"nodeInfo": {"machineID": self.machine_id()}}}));
        self.nodes().patch_status(node, &PatchParams::default(), &id).await.unwrap();
        self.token = self.make_token().await;
        self.until_confined().await;
    }
}
