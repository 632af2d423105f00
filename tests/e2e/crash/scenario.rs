use kube::ResourceExt;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use serde_json::json;

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
}

impl Scenario {
    pub const ALL: [Self; 5] = [Self::Open, Self::Close, Self::Cancel, Self::Delete, Self::Reclaim];

    /// Fewer writes than these and the scenario no longer shows what it is for. On the management side: finalizer,
    /// three objects, status and Event of the opening; limits or DELETE, status and Event of each step of a leaving, and of a
    /// reclaim its hold.
    pub fn least_writes(self) -> (usize, usize) {
        match self {
            Self::Open => (8, 0),
            Self::Close | Self::Reclaim => (5, 1),
            Self::Cancel => (3, 2),
            Self::Delete => (4, 1),
        }
    }

    /// What stands before the first write that counts.
    pub async fn prepare(self, world: &World, name: &str) {
        if self != Self::Open {
            world.create(name, self.spec(world)).await;
            world.until_settled(name, "Active").await;
            world.until_event(name, "Pending -> Active: ").await;
        }
    }

    /// The change that the writes answer.
    pub async fn begin(self, world: &World, name: &str) {
        match self {
            Self::Open => drop(world.create(name, self.spec(world)).await),
            Self::Close | Self::Cancel => world.edit(name, json!({"schedule": closed()})).await,
            Self::Delete => world.delete(name).await,
            Self::Reclaim => ask(world, name).await,
        }
    }

    fn spec(self, world: &World) -> serde_json::Value {
        let grace = match self {
            Self::Open | Self::Reclaim => "0s",
            Self::Close | Self::Delete => "2s",
            Self::Cancel => "10m",
        };
        // A kubeconfig of our own, whose server is the proxy: Cluster API keeps the direct way.
        let secret = format!("{}-through-proxy", world.tenant.cluster);
        json!({"gracefulShutdownTimeout": grace, "kubeconfigSecretRef": {"name": secret, "key": "value"},
               "reclaim": {"returnAfter": "Never"}})
    }

    /// Waits for the end, and checks it.
    pub async fn end(self, world: &World, name: &str) {
        match self {
            Self::Open => lent(world, name).await,
            Self::Close => {
                let off = world.until_settled(name, "Inactive").await;
                assert!(
                    world.tenant.machines().get_opt(name).await.unwrap().is_none(),
                    "told gone, and there"
                );
                world.until_nothing_left(name).await;
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
            Self::Delete => {
                gone(&world.scheduled_machines(), name, PATIENCE).await;
                // The finalizer outlives everything that it stands for.
                for api in
                    [world.tenant.machines(), world.tenant.stub_machines(), world.tenant.stub_configs()]
                {
                    assert!(api.get_opt(name).await.unwrap().is_none(), "{name} outlived its owner");
                }
                world.until_nothing_left(name).await;
            }
        }
    }
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
