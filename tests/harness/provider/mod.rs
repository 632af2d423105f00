//! A stub Cluster API provider: real objects and finalizers in, real Nodes out, hosts imagined.
//!
//! One instance serves all namespaces. What a machine does is set by [`Provider::behave`] for a namespace, or
//! by `spec.stub` on the object itself, which goes before.

mod behaviour;
mod cluster;
mod machine;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, sync::Arc};

use futures::channel::mpsc;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::plane::{Plane, client_from};
use super::{Result, Trouble, manifests, runtime};

pub use behaviour::Behaviour;

/// User of the provider on both planes.
pub const USER: &str = "stub-provider";
/// Held by a `StubMachine` while its host exists.
pub const FINALIZER: &str = "stub.infrastructure.cluster.x-k8s.io";

/// The provider's CRDs.
pub fn crds() -> Result<Vec<Value>> {
    manifests::documents(include_str!("crds.yaml"))
}

/// One of the provider's kinds, or of Cluster API's.
pub fn kind(group: &str, version: &str, kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

/// `StubMachine`, `StubCluster`.
pub fn infrastructure(name: &str) -> ApiResource {
    kind("infrastructure.cluster.x-k8s.io", "v1", name)
}

/// `StubConfig`.
pub fn bootstrap() -> ApiResource {
    kind("bootstrap.cluster.x-k8s.io", "v1", "StubConfig")
}

/// `StubControlPlane`.
pub fn control_plane() -> ApiResource {
    kind("controlplane.cluster.x-k8s.io", "v1", "StubControlPlane")
}

/// Cluster API's `Machine`.
pub fn machine() -> ApiResource {
    machine_in("v1beta2")
}

/// The same in a version.
pub fn machine_in(version: &str) -> ApiResource {
    kind("cluster.x-k8s.io", version, "Machine")
}

/// The running provider.
#[derive(Debug)]
pub struct Provider {
    context: Arc<Context>,
    again: mpsc::UnboundedSender<()>,
    task: JoinHandle<()>,
}

struct Context {
    management: Client,
    workload: Client,
    machine: ApiResource,
    behaviours: Mutex<HashMap<String, Behaviour>>,
    /// Since when an object is where it is, by uid and by what it waits for.
    since: Mutex<HashMap<(String, &'static str), Instant>>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("behaviours", &self.behaviours).finish_non_exhaustive()
    }
}

/// A reconciler's error: anything, in words.
#[derive(Debug)]
struct Failed(Trouble);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl std::error::Error for Failed {}

impl Provider {
    /// Starts it for a pair of planes, with the version in which it reads Machines; it ends when dropped.
    pub async fn start(management: &Plane, workload: &Plane, version: &'static str) -> Result<Self> {
        let groups = &["system:masters"];
        let (management, workload) =
            (management.issue_kubeconfig(USER, groups), workload.issue_kubeconfig(USER, groups));
        // On the harness's runtime, clients included: a test's runtime ends with the test.
        runtime::spawn(async move { Self::serve(&management, &workload, version).await }).await?
    }

    /// Starts it on the current runtime with any two kubeconfigs: for a demonstration that goes on.
    pub async fn serve(management: &str, workload: &str, version: &str) -> Result<Self> {
        let context = Arc::new(Context {
            management: client_from(management).await?,
            workload: client_from(workload).await?,
            machine: machine_in(version),
            behaviours: Mutex::default(),
            since: Mutex::default(),
        });
        let (again, triggers) = mpsc::unbounded();
        let machines = machines(&context).reconcile_all_on(triggers);
        let machines = run(machines, &context, machine::reconcile);
        let configs = run(all(&context, bootstrap()), &context, cluster::reconcile_config);
        let clusters =
            run(all(&context, infrastructure("StubCluster")), &context, cluster::reconcile_cluster);
        let planes = run(all(&context, control_plane()), &context, cluster::reconcile_control_plane);
        let everything = futures::future::join4(machines, configs, clusters, planes);
        let task = tokio::runtime::Handle::current().spawn(async {
            everything.await;
        });
        Ok(Self { context, again, task })
    }

    /// From now on the machines of that namespace behave so, those that exist included.
    pub fn behave(&self, namespace: &str, behaviour: Behaviour) {
        lock(&self.context.behaviours).insert(namespace.to_owned(), behaviour);
        // The receiver is gone only when the provider has ended.
        let _ = self.again.unbounded_send(());
    }

    /// Runs until the process ends.
    pub async fn forever(mut self) {
        let _ = (&mut self.task).await;
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Context {
    fn behaviour(&self, object: &DynamicObject) -> Result<Behaviour> {
        let namespace = object.namespace().unwrap_or_default();
        let set = lock(&self.behaviours).get(&namespace).cloned().unwrap_or_default();
        set.with(&object.data["spec"]["stub"])
    }

    /// How much longer the object has to wait, counted from the first time this was asked.
    fn remaining(&self, object: &DynamicObject, what: &'static str, delay: Duration) -> Option<Duration> {
        let uid = object.uid().unwrap_or_default();
        let mut since = lock(&self.since);
        let began = *since.entry((uid, what)).or_insert_with(Instant::now);
        delay.checked_sub(began.elapsed()).filter(|left| !left.is_zero())
    }

    fn api(&self, object: &DynamicObject, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.management.clone(), &object.namespace().unwrap_or_default(), resource)
    }

    async fn set_status(&self, object: &DynamicObject, resource: &ApiResource, status: Value) -> Result<()> {
        // A write that changes nothing would still cost a call, and the log is an oracle.
        if contains(&object.data["status"], &status) {
            return Ok(());
        }
        let patch = Patch::Merge(serde_json::json!({"status": status}));
        self.api(object, resource).patch_status(&object.name_any(), &PatchParams::default(), &patch).await?;
        Ok(())
    }
}

/// Whether `whole` has all fields of `part` with the same values.
fn contains(whole: &Value, part: &Value) -> bool {
    match part {
        Value::Object(fields) => fields.iter().all(|(name, value)| contains(&whole[name], value)),
        _ => whole == part,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn all(context: &Context, resource: ApiResource) -> Controller<DynamicObject> {
    let api = Api::all_with(context.management.clone(), &resource);
    // The default grows to half a minute: too long for tests whose API server comes back.
    Controller::new_with(api, watcher::Config::default(), resource).trigger_backoff(Steady)
}

/// `StubMachine`s, and the Machines that tell when there is bootstrap data.
fn machines(context: &Context) -> Controller<DynamicObject> {
    let machines = Api::all_with(context.management.clone(), &context.machine);
    let stub = infrastructure("StubMachine");
    let to_stub = stub.clone();
    all(context, stub).watches_with(
        machines,
        context.machine.clone(),
        watcher::Config::default(),
        move |machine: DynamicObject| {
            let reference = &machine.data["spec"]["infrastructureRef"];
            let name = reference["name"].as_str().filter(|_| reference["kind"] == "StubMachine")?;
            let namespace = machine.namespace().unwrap_or_default();
            Some(ObjectRef::new_with(name, to_stub.clone()).within(&namespace))
        },
    )
}

fn run<F>(
    controller: Controller<DynamicObject>,
    context: &Arc<Context>,
    reconcile: impl Fn(Arc<DynamicObject>, Arc<Context>) -> F + Send + 'static,
) -> BoxFuture<'static, ()>
where
    F: Future<Output = Result<Action>> + Send + 'static,
{
    let reconcile = move |object, context| {
        let work = reconcile(object, context);
        async move { work.await.map_err(Failed) }
    };
    let on_error =
        |_: Arc<DynamicObject>, _: &Failed, _: Arc<Context>| Action::requeue(Duration::from_millis(250));
    controller.run(reconcile, on_error, context.clone()).for_each(|_| std::future::ready(())).boxed()
}

/// Waits the same short time before each new try.
#[derive(Debug)]
struct Steady;

impl Iterator for Steady {
    type Item = Duration;
    fn next(&mut self) -> Option<Duration> {
        Some(Duration::from_millis(250))
    }
}

impl kube::runtime::utils::Backoff for Steady {
    fn reset(&mut self) {}
}
