//! One ScheduledMachine, its controller and everything around it, for one test.

use std::path::Path;
use std::time::Duration;

use fivespot::api::crd;
use futures::{StreamExt, pin_mut};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace, Node};
use k8s_openapi::api::events::v1::Event;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::harness::audit::{Call, Calls};
use crate::harness::controller::Setup;
use crate::harness::{
    self, ControlPlanes, Controller, FaultProxy, Mark, Tenant, eventually, gone, manifests, provider,
};

/// Longer than anything here takes on a loaded machine; a deadline, not a wait.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// Group of the controllers under test; it has the rights that are shipped and no others.
pub const GROUP: &str = "5spot-controllers";

/// Group of the same on the workload plane, likewise.
pub const WORKLOAD_GROUP: &str = "5spot-workload-controllers";

/// A namespace with a Cluster and a controller of its own.
pub struct World {
    pub tenant: Tenant,
    pub user: String,
    pub controller: Controller,
    pub mark: Mark,
    pub workload_mark: Mark,
}

/// The CRDs and the shipped role, once per pair of control planes.
pub async fn installed() {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    INSTALLED.get_or_init(|| async { install(harness::shared().await).await }).await;
}

/// The same on any pair.
pub async fn install(planes: &ControlPlanes) {
    let client = planes.management().client().await;
    let mut objects: Vec<Value> = crd::definitions().iter().map(|crd| json!(crd)).collect();
    for shipped in ["manifests/controller/role.yaml", "manifests/policy/requester.yaml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(shipped);
        objects.extend(manifests::documents(&std::fs::read_to_string(path).unwrap()).unwrap());
    }
    objects.push(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "5spot-controllers"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "5spot-controller"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": GROUP}],
    }));
    manifests::install(&client, objects).await.unwrap();
    // On both: a management cluster can be its own workload cluster.
    for plane in [planes.workload(), planes.management()] {
        manifests::install(&plane.client().await, workload_rights()).await.unwrap();
    }
}

fn workload_rights() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/workload/role.yaml");
    let mut objects = manifests::documents(&std::fs::read_to_string(path).unwrap()).unwrap();
    objects.push(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "5spot-workload-controllers"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "5spot-workload"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": WORKLOAD_GROUP}],
    }));
    objects.push(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "5spot-workload-controllers", "namespace": "5spot-system"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "5spot-workload-agents"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": WORKLOAD_GROUP}],
    }));
    objects
}

impl World {
    /// A namespace, a Cluster and a running controller.
    pub async fn start(name: &str) -> Self {
        let (tenant, user, setup) = Self::prepare(name).await;
        Self::with(tenant, user, setup.start())
    }

    /// The same, with a proxy between the controller and the management API server.
    pub async fn start_through(name: &str) -> (Self, FaultProxy) {
        let (tenant, user, proxy, setup) = Self::prepare_through(name).await;
        (Self::with(tenant, user, setup.start()), proxy)
    }

    /// One more controller, in another namespace of that name: where things are moved to.
    pub async fn start_in(tenant: Tenant) -> Self {
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": tenant.namespace}})).unwrap();
        let namespaces = Api::all(tenant.management.clone());
        namespaces.create(&PostParams::default(), &namespace).await.unwrap();
        let user = format!("controller-of-{}", tenant.namespace);
        let kubeconfig = tenant.management_plane().issue_kubeconfig(&user, &[GROUP]);
        let setup = Self::setup(&tenant, &kubeconfig);
        Self::with(tenant, user, setup.start())
    }

    /// Everything but the controller.
    pub async fn prepare(name: &str) -> (Tenant, String, Setup) {
        let (tenant, user) = Self::tenant(name).await;
        let setup = Self::prepare_for(&tenant, &user);
        (tenant, user, setup)
    }

    /// The controller of a tenant, on whatever pair it is.
    pub fn prepare_for(tenant: &Tenant, user: &str) -> Setup {
        Self::setup(tenant, &tenant.management_plane().issue_kubeconfig(user, &[GROUP]))
    }

    /// Everything but the controller, which is to go through a proxy.
    pub async fn prepare_through(name: &str) -> (Tenant, String, FaultProxy, Setup) {
        let (tenant, user) = Self::tenant(name).await;
        let proxy = FaultProxy::start(tenant.management_plane(), &user, &[GROUP]).await;
        let setup = Self::setup(&tenant, proxy.kubeconfig());
        (tenant, user, proxy, setup)
    }

    /// A namespace with a Cluster, and the user that its controller calls both clusters as.
    pub async fn tenant(name: &str) -> (Tenant, String) {
        let planes = harness::shared().await;
        installed().await;
        let tenant = planes.tenant(name).await;
        let user = format!("controller-of-{}", tenant.namespace);
        tenant.put_kubeconfig(&narrow_secret(&tenant), &narrow_kubeconfig(&tenant, &user)).await;
        (tenant, user)
    }

    /// A controller of a tenant that calls the management cluster so.
    pub fn setup(tenant: &Tenant, kubeconfig: &str) -> Setup {
        let setup = Controller::setup(tenant.planes(), kubeconfig).watch_namespace(&tenant.namespace);
        setup.env("RUST_LOG", "info,fivespot=debug")
    }

    pub fn with(tenant: Tenant, user: String, controller: Controller) -> Self {
        let planes = tenant.planes();
        let (mark, workload_mark) = (planes.management().audit().mark(), planes.workload().audit().mark());
        Self { tenant, user, controller, mark, workload_mark }
    }

    pub fn scheduled_machines(&self) -> Api<DynamicObject> {
        self.tenant.api(&scheduled_machine())
    }

    pub fn nodes(&self) -> Api<Node> {
        Api::all(self.tenant.workload.clone())
    }

    /// Creates a ScheduledMachine whose spec is [`spec`] with these fields put over it. Unless they say where its
    /// Nodes are, the controller works there with the rights that are shipped and no others.
    pub async fn create(&self, name: &str, over: Value) -> DynamicObject {
        let mut spec = spec(&self.tenant.cluster);
        if over.get("clusterName").is_none() && over.get("kubeconfigSecretRef").is_none() {
            spec["kubeconfigSecretRef"] = json!({"name": narrow_secret(&self.tenant)});
        }
        merge(&mut spec, over);
        self.tenant.create(&scheduled_machine(), json!({"metadata": {"name": name}, "spec": spec})).await
    }

    /// A merge patch of the spec.
    pub async fn edit(&self, name: &str, spec: Value) {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.scheduled_machines().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    pub async fn delete(&self, name: &str) {
        self.scheduled_machines().delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Waits for a ScheduledMachine; a failure shows the controller's log.
    pub async fn until(
        &self,
        name: &str,
        what: &str,
        found: impl FnMut(&DynamicObject) -> bool,
    ) -> DynamicObject {
        let _log = LogOnPanic(&self.controller);
        eventually(&self.scheduled_machines(), name, what, PATIENCE, found).await
    }

    /// While this lives, a failure shows the controller's log.
    pub fn log_on_panic(&self) -> impl Drop + '_ {
        LogOnPanic(&self.controller)
    }

    /// Waits for a phase with `Ready=True`.
    pub async fn until_settled(&self, name: &str, phase: &str) -> DynamicObject {
        self.until(name, &format!("settled in {phase}"), |sm| {
            sm.data["status"]["phase"] == phase && is_true(sm, "Ready")
        })
        .await
    }

    /// Waits for an Event about a ScheduledMachine whose note begins so.
    pub async fn until_event(&self, name: &str, note: &str) -> Event {
        let _log = LogOnPanic(&self.controller);
        let events: Api<Event> = Api::namespaced(self.tenant.management.clone(), &self.tenant.namespace);
        let search = async {
            let stream = watcher(events, watcher::Config::default()).default_backoff().applied_objects();
            pin_mut!(stream);
            loop {
                if let Some(Ok(event)) = stream.next().await
                    && event.regarding.as_ref().and_then(|about| about.name.as_deref()) == Some(name)
                    && event.note.as_deref().is_some_and(|text| text.starts_with(note))
                {
                    return event;
                }
            }
        };
        tokio::time::timeout(PATIENCE, search)
            .await
            .unwrap_or_else(|_| panic!("no Event {note:?} about {name}"))
    }

    /// Nothing of that name is left in either cluster.
    pub async fn until_nothing_left(&self, name: &str) {
        let _log = LogOnPanic(&self.controller);
        gone(&self.tenant.machines(), name, PATIENCE).await;
        gone(&self.tenant.stub_machines(), name, PATIENCE).await;
        gone(&self.tenant.stub_configs(), name, PATIENCE).await;
        gone(&self.nodes(), name, PATIENCE).await;
    }

    /// What the controller asked of the management cluster so far, watches included.
    pub fn calls(&self) -> Calls {
        self.tenant.planes().management().audit().after(self.mark).by(&self.user)
    }

    /// What the controller asked of the workload cluster so far. Where it has Cluster API's own kubeconfig, user agents
    /// tell them apart.
    pub fn workload_calls(&self) -> Calls {
        let calls = self.tenant.planes().workload().audit().after(self.workload_mark);
        self.of_the_controller(&calls)
    }

    /// Of calls to the workload cluster, those of the controller.
    pub fn of_the_controller(&self, calls: &Calls) -> Calls {
        let users = [&self.tenant.workload_user, &self.user];
        calls.only(|call| users.contains(&&call.user) && call.user_agent.starts_with("5spot/"))
    }

    /// The first DELETE of the only Machine of that name; each that anybody sent was the controller's.
    pub fn deletion(&self, name: &str) -> Call {
        let audit = self.tenant.planes().management().audit().after(self.mark);
        self.deletion_by(&self.user, &audit.within(&self.tenant.namespace).on("machines"), name)
    }

    /// The same, by that user, of these calls.
    pub fn deletion_by(&self, user: &str, calls: &Calls, name: &str) -> Call {
        let deletes = calls.verb("delete").named(name).accepted();
        assert_eq!(self.machines_created(name), 1, "only one could be deleted: {deletes}");
        assert!(deletes.iter().all(|call| call.user == user), "not all are the controller's: {deletes}");
        first_of_one(deletes)
    }

    /// How many Machines of that name were ever created by anybody.
    pub fn machines_created(&self, name: &str) -> usize {
        let audit = self.tenant.planes().management().audit();
        let calls =
            audit.after(self.mark).within(&self.tenant.namespace).on("machines").verb("create").accepted();
        calls.only(|call| call.name == name || call.name.is_empty()).len()
    }
}

/// Secret of the kubeconfig with the shipped rights.
pub fn narrow_secret(tenant: &Tenant) -> String {
    format!("{}-5spot", tenant.cluster)
}

/// A kubeconfig of the workload plane with the shipped rights.
pub fn narrow_kubeconfig(tenant: &Tenant, user: &str) -> String {
    tenant.planes().workload().issue_kubeconfig(user, &[WORKLOAD_GROUP])
}

/// The first of these DELETEs, which are of one Machine. While a watch stalls it is asked to go once more, and no sooner
/// than five seconds after.
pub fn first_of_one(deletes: Calls) -> Call {
    let mut deletes = deletes;
    deletes.0.sort_by_key(|call| call.received);
    for two in deletes.0.windows(2) {
        let apart = two[1].received.duration_since(two[0].received);
        assert!(apart >= SignedDuration::from_secs(4), "asked again {apart:#} after it was: {deletes}");
    }
    deletes.0.into_iter().next().expect("a DELETE")
}

struct LogOnPanic<'a>(&'a Controller);

#[expect(clippy::print_stderr, reason = "what a failed test leaves to read")]
impl Drop for LogOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.0.log();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            eprintln!("--- the controller's last lines");
            for line in tail.iter().rev() {
                eprintln!("{line}");
            }
        }
    }
}

pub fn scheduled_machine() -> ApiResource {
    provider::kind("5spot.finos.org", "v1alpha1", "ScheduledMachine")
}

/// Open at all times, quick to leave.
pub fn spec(cluster: &str) -> Value {
    json!({
        "clusterName": cluster,
        "schedule": {"timezone": "UTC", "daysOfWeek": ["mon-sun"], "hoursOfDay": ["0-23"]},
        "gracefulShutdownTimeout": "0s",
        "nodeDrainTimeout": "10s",
        "bootstrapSpec": {"apiVersion": provider::bootstrap().api_version, "kind": "StubConfig", "spec": {}},
        "infrastructureSpec": {
            "apiVersion": provider::infrastructure("StubMachine").api_version, "kind": "StubMachine", "spec": {},
        },
    })
}

/// Open at all times: puts right what [`closed`] or a bad schedule made of [`spec`].
pub fn open() -> Value {
    json!({"timezone": "UTC", "daysOfWeek": ["mon-sun"], "hoursOfDay": ["0-23"], "exceptions": null})
}

/// Open from one full minute to another.
pub fn between(from: Timestamp, to: Timestamp) -> Value {
    let window = json!([{"from": civil(from), "to": civil(to), "state": "Active", "reason": "a test"}]);
    json!({"daysOfWeek": null, "hoursOfDay": null, "exceptions": window})
}

/// Open at no time that a test lives to see.
pub fn closed() -> Value {
    json!({"daysOfWeek": null, "hoursOfDay": null, "exceptions": [{"date": "2099-01-01", "state": "Active"}]})
}

/// A merge patch, as the API server does it.
pub fn merge(into: &mut Value, over: Value) {
    match (into, over) {
        (Value::Object(into), Value::Object(over)) => {
            for (key, value) in over {
                if value.is_null() {
                    into.remove(&key);
                } else {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (into, over) => *into = over,
    }
}

/// The full minute at least `ahead` from now.
pub fn minute_ahead(ahead: SignedDuration) -> Timestamp {
    let earliest = Timestamp::now().checked_add(ahead).unwrap().as_second();
    Timestamp::from_second((earliest + 59) / 60 * 60).unwrap()
}

/// `2026-12-24T18:00`, UTC.
pub fn civil(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M").to_string()
}

pub fn condition<'a>(object: &'a DynamicObject, kind: &str) -> Option<&'a Value> {
    object.data["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

pub fn is_true(object: &DynamicObject, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition["status"] == "True")
}

/// Reason and message of a condition.
pub fn said(object: &DynamicObject, kind: &str) -> (String, String) {
    let text =
        |field: &str| condition(object, kind).and_then(|c| c[field].as_str()).unwrap_or_default().to_owned();
    (text("reason"), text("message"))
}

/// Whether a condition is False or Unknown, or not there, for that reason.
pub fn is_refused(object: &DynamicObject, kind: &str, reason: &str) -> bool {
    !is_true(object, kind) && said(object, kind).0 == reason
}

pub fn instant(object: &DynamicObject, pointer: &str) -> Option<Timestamp> {
    object.data.pointer(pointer)?.as_str()?.parse().ok()
}

pub fn uid(object: &DynamicObject) -> String {
    object.uid().unwrap()
}
