use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::harness::refusal::{self, Refusal};
use crate::harness::{eventually, gone, provider};
use crate::world::{PATIENCE, World, closed, is_true, open, uid};

/// What is going on when the controller is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// A new object whose window is open.
    Open,
    /// The window of a lent machine closes: grace with cordon, deletion, all gone.
    Close,
    /// The window closes and comes back in the grace.
    Cancel,
    /// A lent object is deleted.
    Delete,
    /// The owner of a lent machine takes it back: one hold, deletion, all gone.
    Reclaim,
    /// The same where no hold can be written.
    Refused,
}

impl Scenario {
    pub const ALL: [Self; 6] =
        [Self::Open, Self::Close, Self::Cancel, Self::Delete, Self::Reclaim, Self::Refused];

    /// Fewer writes than these and the scenario no longer shows what it is for. On the management side: finalizer,
    /// three objects, status and Event of the opening; limits or DELETE, status and Event of each step of a leaving, and of a
    /// reclaim its hold, or the try and the latch. On the other: the agent's rules and label, cordons, rules deleted.
    pub fn least_writes(self) -> (usize, usize) {
        match self {
            Self::Open => (8, 2),
            Self::Close | Self::Reclaim => (5, 2),
            Self::Refused => (6, 2),
            Self::Cancel => (3, 2),
            Self::Delete => (4, 2),
        }
    }

    /// What stands before the first write that counts.
    pub async fn prepare(self, world: &World, name: &str) {
        if self != Self::Open {
            world.create(name, self.spec(world)).await;
            world.until_settled(name, "Active").await;
            world.until_event(name, "Pending -> Active: ").await;
            armed(world, name).await;
        }
    }

    /// The change that the writes answer.
    pub async fn begin(self, world: &World, name: &str) {
        match self {
            Self::Open => drop(world.create(name, self.spec(world)).await),
            Self::Close | Self::Cancel => world.edit(name, json!({"schedule": closed()})).await,
            Self::Delete => world.delete(name).await,
            Self::Reclaim | Self::Refused => ask(world, name).await,
        }
    }

    fn spec(self, world: &World) -> serde_json::Value {
        let grace = match self {
            Self::Open | Self::Reclaim | Self::Refused => "0s",
            Self::Close | Self::Delete => "2s",
            Self::Cancel => "10m",
        };
        // A kubeconfig of our own, whose server is the proxy: Cluster API keeps the direct way.
        let secret = format!("{}-through-proxy", world.tenant.cluster);
        json!({"gracefulShutdownTimeout": grace, "kubeconfigSecretRef": {"name": secret, "key": "value"},
               "killIfCommands": ["java"], "reclaim": {"returnAfter": "Never"}})
    }

    /// Waits for the end, and checks it.
    pub async fn end(self, world: &World, name: &str) {
        match self {
            Self::Open => {
                lent(world, name).await;
                armed(world, name).await;
            }
            Self::Close => {
                let off = world.until_settled(name, "Inactive").await;
                assert!(
                    world.tenant.machines().get_opt(name).await.unwrap().is_none(),
                    "told gone, and there"
                );
                world.until_nothing_left(name).await;
                disarmed(world, name).await;
                let status = &off.data["status"];
                assert!(
                    status["machineRef"].is_null() && status["lastRun"]["goneAt"].is_string(),
                    "{status}"
                );
            }
            Self::Cancel => {
                eventually(&world.nodes(), name, "cordoned", PATIENCE, |node| {
                    node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true))
                })
                .await;
                world.until(name, "in its grace", |sm| sm.data["status"]["phase"] == "ShuttingDown").await;
                world.edit(name, json!({"schedule": open()})).await;
                lent(world, name).await;
            }
            Self::Reclaim => reclaimed(world, name).await,
            Self::Refused => latched(world, name).await,
            Self::Delete => {
                gone(&world.scheduled_machines(), name, PATIENCE).await;
                // The finalizer outlives everything that it stands for.
                for api in
                    [world.tenant.machines(), world.tenant.stub_machines(), world.tenant.stub_configs()]
                {
                    assert!(api.get_opt(name).await.unwrap().is_none(), "{name} outlived its owner");
                }
                world.until_nothing_left(name).await;
                let left = rules(world).get_opt(&agent(name)).await.unwrap();
                assert!(
                    left.is_none(),
                    "rules of nobody: {left:?}\n{}\n{}",
                    world.calls().writes(),
                    world.workload_calls().writes()
                );
            }
        }
    }

    /// What the API server has to refuse meanwhile.
    pub async fn obstacle(self, world: &World) -> Option<Refusal> {
        let (plane, namespace) = (world.tenant.management_plane(), &world.tenant.namespace);
        match self {
            Self::Refused => {
                Some(refusal::refuse_creates(plane, namespace, "machineholds", "no holds today").await)
            }
            Self::Open | Self::Close | Self::Cancel | Self::Delete | Self::Reclaim => None,
        }
    }
}

fn rules(world: &World) -> Api<ConfigMap> {
    Api::namespaced(world.tenant.workload.clone(), "5spot-system")
}

fn agent(node: &str) -> String {
    format!("reclaim-agent-{node}")
}

/// Its agent has rules, and is on its way.
async fn armed(world: &World, name: &str) {
    eventually(&rules(world), &agent(name), "written", PATIENCE, |map| {
        map.data.as_ref().is_some_and(|data| data["reclaim.toml"].contains("[\"java\"]"))
    })
    .await;
    let label = "5spot.finos.org/reclaim-agent";
    eventually(&world.nodes(), name, "labelled", PATIENCE, |node| {
        node.labels().get(label).is_some_and(|value| value == "enabled")
    })
    .await;
}

async fn disarmed(world: &World, name: &str) {
    gone(&rules(world), &agent(name), PATIENCE).await;
}

/// As an agent does.
async fn ask(world: &World, name: &str) {
    let at = jiff::Timestamp::now().to_string();
    let annotations = json!({
        "5spot.finos.org/reclaim-requested": "true",
        "5spot.finos.org/reclaim-reason": "process-match: java",
        "5spot.finos.org/reclaim-requested-at": at,
    });
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    world.nodes().patch(name, &PatchParams::default(), &patch).await.unwrap();
}

async fn reclaimed(world: &World, name: &str) {
    let off = world.until_settled(name, "Disabled").await;
    world.until_nothing_left(name).await;
    let by = &off.data["status"]["decision"]["source"]["kind"];
    let off = if by == "MachineHold" {
        off
    } else {
        world.until(name, "held", |sm| sm.data["status"]["decision"]["source"]["kind"] == "MachineHold").await
    };
    assert_eq!(off.data["status"]["reclaim"]["last24h"], 1, "{}", off.data["status"]);
    let holds = world.tenant.api(&provider::kind("5spot.finos.org", "v1alpha1", "MachineHold"));
    let ours = holds.list(&ListParams::default()).await.unwrap().items;
    let ours: Vec<_> = ours.iter().filter(|hold| hold.data["spec"]["scheduledMachine"] == name).collect();
    assert_eq!(ours.len(), 1, "{ours:?}");
}

async fn latched(world: &World, name: &str) {
    let off = world.until_settled(name, "Disabled").await;
    world.until_nothing_left(name).await;
    disarmed(world, name).await;
    let status = &off.data["status"];
    assert!(status["timers"]["reclaimedAt"].is_string(), "{status}");
    assert_eq!((&status["reclaim"]["last24h"], &status["reclaim"]["matched"]), (&json!(1), &json!("java")));
    let events: Api<Event> = Api::namespaced(world.tenant.management.clone(), &world.tenant.namespace);
    let told = events.list(&ListParams::default()).await.unwrap().items;
    let told = told.iter().filter(|event| {
        let about = event.regarding.as_ref().and_then(|about| about.name.as_deref());
        about == Some(name)
            && event.reason.as_deref() == Some("EmergencyReclaim")
            && event.action.as_deref() == Some("Reclaim")
    });
    assert!(told.count() <= 1, "told twice");
}

async fn lent(world: &World, name: &str) {
    // The Node's uid comes by the workload connection, which a new controller opens last.
    let is_known = |sm: &DynamicObject| {
        let status = &sm.data["status"];
        status["phase"] == "Active" && is_true(sm, "Ready") && status["nodeRef"]["uid"].is_string()
    };
    let sm = world.until(name, "lent", is_known).await;
    let machine = world.tenant.machines().get(name).await.unwrap();
    let node = eventually(&world.nodes(), name, "free", PATIENCE, |node| {
        node.spec.as_ref().is_none_or(|spec| spec.unschedulable != Some(true))
            && !node.annotations().contains_key("5spot.finos.org/cordoned-by")
    })
    .await;
    let status = &sm.data["status"];
    assert_eq!(status["machineRef"]["uid"], uid(&machine), "{status}");
    assert_eq!(status["nodeRef"]["uid"], node.uid().unwrap(), "{status}");
    for kind in ["Scheduled", "ReferencesValid", "MachineReady", "TemplateCurrent"] {
        assert!(is_true(&sm, kind), "{kind}: {status}");
    }
    assert!(
        status["leaving"].is_null() && !is_true(&sm, "Reconciling") && !is_true(&sm, "Stalled"),
        "{status}"
    );
}
