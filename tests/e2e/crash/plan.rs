use std::cell::OnceCell;
use std::fmt;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::scenario::Scenario;
use crate::harness::controller::Setup;
use crate::harness::refusal::Refusal;
use crate::harness::{Controller, FaultProxy, Tenant, gone};
use crate::world::{PATIENCE, WORKLOAD_GROUP, World};

/// When the controller dies.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// The write never arrives.
    Before,
    /// The write is done, its answer is lost.
    After,
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Management,
    Workload,
}

/// One death.
#[derive(Debug)]
pub struct Plan {
    scenario: Scenario,
    side: Side,
    nth: usize,
    blow: Blow,
    /// The write of that number in the run without faults.
    like: String,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, side, nth, blow, like } = self;
        write!(f, "{scenario:?}: killed {blow:?} {side:?} write {nth} (like {like})")
    }
}

impl Plan {
    /// Two for each write.
    pub fn all(scenario: Scenario, writes: &Writes) -> Vec<Self> {
        let sides = [(Side::Management, &writes.management), (Side::Workload, &writes.workload)];
        let mut plans = Vec::new();
        for (side, list) in sides {
            for (at, like) in list.iter().enumerate() {
                for blow in [Blow::Before, Blow::After] {
                    plans.push(Self { scenario, side, nth: at + 1, blow, like: like.clone() });
                }
            }
        }
        plans
    }
}

/// What a scenario writes when nothing goes wrong.
#[derive(Clone, Debug)]
pub struct Writes {
    management: Vec<String>,
    workload: Vec<String>,
}

impl Writes {
    /// A scenario that suddenly has fewer proves less.
    pub fn check(&self, scenario: Scenario) {
        eprintln!("{scenario:?}: {self:#?}");
        let (management, workload) = scenario.least_writes();
        assert!(
            self.management.len() >= management && self.workload.len() >= workload,
            "{scenario:?} has fewer writes than it had: {self:#?}"
        );
    }
}

/// A place where plans run, one after the other.
pub struct Lane {
    tenant: Tenant,
    user: String,
    management: FaultProxy,
    workload: FaultProxy,
    setup: Setup,
}

impl Lane {
    pub async fn start(number: usize) -> Self {
        let (tenant, user, management, setup) = World::prepare_through(&format!("crash-{number}")).await;
        let planes = tenant.planes();
        let workload = FaultProxy::start(planes.workload(), &user, &[WORKLOAD_GROUP]).await;
        let secret: Secret = serde_json::from_value(json!({
            "metadata": {"name": format!("{}-through-proxy", tenant.cluster)},
            "stringData": {"value": workload.kubeconfig()},
        }))
        .unwrap();
        let secrets: Api<Secret> = Api::namespaced(tenant.management.clone(), &tenant.namespace);
        secrets.create(&PostParams::default(), &secret).await.unwrap();
        Self { tenant, user, management, workload, setup }
    }

    fn world(&self) -> World {
        World::with(self.tenant.clone(), self.user.clone(), self.setup.clone().start())
    }

    /// The writes of a run without faults.
    pub async fn reference(&self, scenario: Scenario) -> Writes {
        let (world, name) = (self.world(), self.tenant.unique("ref"));
        scenario.prepare(&world, &name).await;
        let obstacle = scenario.obstacle(&world).await;
        let before = (self.management.writes().len(), self.workload.writes().len());
        scenario.begin(&world, &name).await;
        scenario.end(&world, &name).await;
        let shown = |proxy: &FaultProxy, skip: usize| {
            let writes = proxy.writes().into_iter().skip(skip);
            writes.map(|entry| format!("{} {}", entry.method, entry.path)).collect()
        };
        let writes = Writes {
            management: shown(&self.management, before.0),
            workload: shown(&self.workload, before.1),
        };
        lift(obstacle).await;
        clean(&world, &name).await;
        writes
    }

    /// Runs a plan; whether its trap sprang.
    pub async fn run(&self, plan: &Plan) -> bool {
        let (world, name) = (self.world(), self.tenant.unique("ws"));
        let heir = Heir { plan, controller: OnceCell::new() };
        plan.scenario.prepare(&world, &name).await;
        let obstacle = plan.scenario.obstacle(&world).await;
        let proxy = match plan.side {
            Side::Management => &self.management,
            Side::Workload => &self.workload,
        };
        let victim = world.controller.clone();
        let strike = move || victim.kill();
        let struck = match plan.blow {
            Blow::Before => proxy.kill_before_write(plan.nth, strike),
            Blow::After => proxy.kill_after_write(plan.nth, strike),
        };
        let succession = async {
            struck.sprung().await;
            heir.controller.set(world.controller.again()).expect("one death");
            std::future::pending::<()>().await;
        };
        let life = async {
            plan.scenario.begin(&world, &name).await;
            plan.scenario.end(&world, &name).await;
            let sprang = heir.controller.get().is_some();
            assert_eq!(world.machines_created(&name), 1, "{}", self.management.shown());
            guarded_first(&world, &name);
            lift(obstacle).await;
            clean(&world, &name).await;
            sprang
        };
        let sprang = tokio::select! {
            sprang = life => sprang,
            () = succession => unreachable!("it waits for ever"),
        };
        world.controller.kill();
        sprang
    }
}

/// Who comes after the controller that is killed; tells, if the plan fails, what it was and what the heir said.
struct Heir<'a> {
    plan: &'a Plan,
    controller: OnceCell<Controller>,
}

impl Drop for Heir<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.plan);
            let log = self.controller.get().map(Controller::log).unwrap_or_default();
            eprintln!("--- its heir:\n{log}");
        }
    }
}

async fn lift(obstacle: Option<Refusal>) {
    if let Some(refusal) = obstacle {
        refusal.lift().await;
    }
}

/// The finalizer stood before the first object was made.
fn guarded_first(world: &World, name: &str) {
    let writes = world.calls().writes();
    let made = ["stubconfigs", "stubmachines", "machines"];
    // Also one whose answer its caller did not live to hear: whatever the log says of it, it may have been done.
    let creates = writes.only(|call| call.verb == "create" && made.contains(&call.resource.as_str()));
    let first = creates.iter().map(|call| call.received).min();
    let finalizer =
        writes.accepted().verb("patch").named(name).only(|call| call.resource == "scheduledmachines");
    let finalizer = finalizer.iter().map(|call| call.ended).min();
    assert!(finalizer.is_some() && first.is_some() && finalizer < first, "{writes}");
}

/// Ends it all, and looks that nothing is left.
async fn clean(world: &World, name: &str) {
    match world.scheduled_machines().delete(name, &DeleteParams::default()).await {
        // What was deleted as part of the scenario.
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        other => drop(other.unwrap()),
    }
    // A grace of minutes was another one's matter.
    let hurry = Patch::Merge(json!({"spec": {"gracefulShutdownTimeout": "0s"}}));
    match world.scheduled_machines().patch(name, &PatchParams::default(), &hurry).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        other => drop(other.unwrap()),
    }
    gone(&world.scheduled_machines(), name, PATIENCE).await;
    let mine = ListParams::default().labels(&format!("5spot.finos.org/scheduled-machine={name}"));
    for api in [world.tenant.machines(), world.tenant.stub_machines(), world.tenant.stub_configs()] {
        let left = api.list(&mine).await.unwrap().items;
        assert!(
            left.is_empty(),
            "left of {name}: {:?}",
            left.iter().map(ResourceExt::name_any).collect::<Vec<_>>()
        );
    }
    world.until_nothing_left(name).await;
}
