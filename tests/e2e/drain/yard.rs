//! A machine that is lent, with pods on its Node, for the tests of its leaving.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::harness::audit::{Call, Calls};
use crate::harness::{FaultProxy, eventually, gone, provider};
use crate::world::{PATIENCE, World, closed, first_of_one, merge, said};

/// CAPI looks at a drain no more often than this, in seconds: what is done before was not waited for by it.
pub const ROUND: SignedDuration = SignedDuration::from_secs(20);

pub struct Yard {
    pub world: World,
    pub name: String,
}

impl Yard {
    /// A machine on a Node that the controller knows, with these fields over the spec.
    pub async fn lent(test: &str, over: Value) -> Self {
        let world = World::start(test).await;
        let name = world.tenant.unique("ws");
        world.create(&name, over).await;
        Self::on(world, name).await
    }

    /// The same, with a proxy between the controller (alone) and the workload API server.
    pub async fn lent_through(test: &str, over: Value) -> (Self, FaultProxy) {
        let world = World::start(test).await;
        let name = world.tenant.unique("ws");
        let tenant = &world.tenant;
        let proxy =
            FaultProxy::start(tenant.planes().workload(), &tenant.workload_user, &["system:masters"]).await;
        let secret =
            json!({"metadata": {"name": "through-proxy"}, "stringData": {"value": proxy.kubeconfig()}});
        let secret = serde_json::from_value(secret).unwrap();
        let secrets: Api<k8s_openapi::api::core::v1::Secret> =
            Api::namespaced(tenant.management.clone(), &tenant.namespace);
        secrets.create(&PostParams::default(), &secret).await.unwrap();
        let mut spec = json!({"kubeconfigSecretRef": {"name": "through-proxy", "key": "value"}});
        merge(&mut spec, over);
        world.create(&name, spec).await;
        (Self::on(world, name).await, proxy)
    }

    async fn on(world: World, name: String) -> Self {
        world.until_settled(&name, "Active").await;
        world.until(&name, "on a Node", |sm| sm.data["status"]["nodeRef"]["uid"].is_string()).await;
        Self { world, name }
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.world.tenant.workload.clone(), &self.world.tenant.namespace)
    }

    /// A pod on the Node, ready.
    pub async fn pod(&self, name: &str, over: Value) -> Pod {
        let mut pod = json!({
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"nodeName": self.name, "containers": [{"name": "c", "image": "none"}]},
        });
        merge(&mut pod, over);
        let pod = serde_json::from_value(pod).unwrap();
        Box::pin(self.pods().create(&PostParams::default(), &pod)).await.unwrap();
        self.until_pod(name, "ready", is_ready).await
    }

    /// Waits for a pod.
    pub async fn until_pod(&self, name: &str, what: &str, found: impl FnMut(&Pod) -> bool) -> Pod {
        let pods = self.pods();
        // Pods are large, and so is what waits for one.
        Box::pin(eventually(&pods, name, what, PATIENCE, found)).await
    }

    /// A budget that lets no pod of that app go.
    pub async fn budget(&self, name: &str, app: &str) {
        let budgets = self.budgets();
        let budget = json!({"metadata": {"name": name}, "spec": {
            "minAvailable": 1, "selector": {"matchLabels": {"app": app}},
        }});
        budgets.create(&PostParams::default(), &serde_json::from_value(budget).unwrap()).await.unwrap();
        eventually(&budgets, name, "counted", PATIENCE, |budget| {
            budget.status.as_ref().is_some_and(|status| status.current_healthy >= 1)
        })
        .await;
    }

    pub async fn release(&self, budget: &str) {
        self.budgets().delete(budget, &DeleteParams::default()).await.unwrap();
    }

    fn budgets(&self) -> Api<PodDisruptionBudget> {
        Api::namespaced(self.world.tenant.workload.clone(), &self.world.tenant.namespace)
    }

    pub fn holds(&self) -> Api<DynamicObject> {
        self.world.tenant.api(&provider::kind("5spot.finos.org", "v1alpha1", "MachineHold"))
    }

    pub async fn all_holds(&self) -> Vec<DynamicObject> {
        self.holds().list(&ListParams::default()).await.unwrap().items
    }

    /// The window ends; when that was written.
    pub async fn close(&self) -> Timestamp {
        let at = Timestamp::now();
        self.world.edit(&self.name, json!({"schedule": closed()})).await;
        at
    }

    /// The kill switch goes on; when that was written.
    pub async fn kill(&self) -> Timestamp {
        let at = Timestamp::now();
        self.world.edit(&self.name, json!({"killSwitch": true})).await;
        at
    }

    /// When the server had answered the last edit: from then on a promise counts, and not from when a busy test asked.
    pub fn edited(&self) -> Timestamp {
        let planes = self.world.tenant.planes();
        let edits = planes.management().audit().after(self.world.mark).on("scheduledmachines").verb("patch");
        let edits = edits.named(&self.name).accepted().only(|call| call.user != self.world.user);
        edits.iter().map(|call| call.ended).max().expect("an edit")
    }

    pub async fn until_draining(&self) -> DynamicObject {
        self.until("being emptied", |sm| said(sm, "Ready").0 == "NodeDraining").await
    }

    pub async fn until(&self, what: &str, found: impl FnMut(&DynamicObject) -> bool) -> DynamicObject {
        self.world.until(&self.name, what, found).await
    }

    pub async fn until_machine_gone(&self) {
        gone(&self.world.tenant.machines(), &self.name, PATIENCE).await;
    }

    pub async fn machine(&self) -> DynamicObject {
        self.world.tenant.machines().get(&self.name).await.unwrap()
    }

    /// What the controller asked of the pods of this test, watches not.
    pub fn pod_calls(&self) -> Calls {
        let calls = self.world.workload_calls().within(&self.world.tenant.namespace).calls();
        calls.only(|call| call.resource == "pods" || call.resource == "pods/eviction")
    }

    /// The controller's evictions.
    pub fn evictions(&self) -> Calls {
        self.pod_calls().only(|call| call.resource == "pods/eviction")
    }

    /// Waits for so many tries of the controller to evict a pod.
    pub async fn until_evicted(&self, pod: &str, tries: usize) {
        let has_so_many =
            move |calls: &Calls| calls.only(|call| call.resource == "pods/eviction").len() >= tries;
        self.until_asked(pod, "evicted", has_so_many).await;
    }

    /// Waits for the controller's DELETE of a pod.
    pub async fn until_pod_is_deleted(&self, pod: &str) -> Call {
        let deleted = |calls: &Calls| calls.on("pods").verb("delete").accepted();
        let calls = self.until_asked(pod, "deleted", move |calls| !deleted(calls).is_empty()).await;
        deleted(&calls).iter().next().unwrap().clone()
    }

    /// Until the controller's calls for that pod are so.
    async fn until_asked(&self, pod: &str, what: &str, so: impl Fn(&Calls) -> bool) -> Calls {
        let audit = self.world.tenant.planes().workload().audit();
        let (namespace, pod) = (self.world.tenant.namespace.clone(), pod.to_owned());
        let ours = move |calls: &Calls| {
            let calls = calls.within(&namespace).named(&pod);
            calls.only(|call| call.user_agent.starts_with("5spot/"))
        };
        let told = ours.clone();
        let calls = audit.until(self.world.workload_mark, what, PATIENCE, move |calls| so(&told(calls)));
        ours(&calls.await)
    }

    /// Cluster API's: it has the same kubeconfig, and another user agent.
    pub fn evictions_by_capi(&self) -> Calls {
        let audit = self.world.tenant.planes().workload().audit();
        let calls = audit.after(self.world.workload_mark).within(&self.world.tenant.namespace);
        calls.only(|call| call.resource == "pods/eviction" && !call.user_agent.starts_with("5spot/"))
    }

    /// The DELETE of the Machine, by the controller.
    pub async fn deletion(&self) -> Call {
        let audit = self.world.tenant.planes().management().audit();
        let (user, name) = (self.world.user.clone(), self.name.clone());
        let is_it =
            move |calls: &Calls| calls.by(&user).on("machines").verb("delete").named(&name).accepted();
        let told = is_it.clone();
        let calls = audit.until(self.world.mark, "deleted", PATIENCE, move |calls| !told(calls).is_empty());
        first_of_one(is_it(&calls.await))
    }

    pub fn is_deleted(&self) -> bool {
        !self.world.calls().on("machines").verb("delete").is_empty()
    }

    /// Waits for one more eviction that the budget refuses: nothing has come to an end by then.
    pub async fn until_refused_again(&self) {
        let refused = |calls: &Calls| {
            let ours = self.world.of_the_controller(calls).within(&self.world.tenant.namespace);
            ours.only(|call| call.resource == "pods/eviction" && call.code == 429).len()
        };
        let audit = self.world.tenant.planes().workload().audit();
        let before = refused(&audit.after(self.world.workload_mark));
        let mark = self.world.workload_mark;
        audit.until(mark, "refused again", PATIENCE, |calls| refused(calls) > before).await;
    }

    /// How often the controller has written the status.
    pub fn status_writes(&self) -> usize {
        self.world.calls().only(|call| call.resource == "scheduledmachines/status").writes().len()
    }

    /// Waits for the Node half of an eject of a Node that is free: one write of the controller, accepted since then, that
    /// taints and cordons.
    pub async fn until_node_is_ejected(&self, since: Timestamp) -> Call {
        let ejects = |calls: &Calls| {
            let ours = self.world.of_the_controller(calls).on("nodes").named(&self.name).accepted();
            ours.since(since).only(|call| {
                let spec = &call.body["spec"];
                let mut taints = spec["taints"].as_array().into_iter().flatten();
                let ejects = json!({"key": "5spot.finos.org/ejecting", "effect": "NoExecute"});
                spec["unschedulable"] == true && taints.any(|taint| *taint == ejects)
            })
        };
        let audit = self.world.tenant.planes().workload().audit();
        let (mark, what) = (self.world.workload_mark, "tainted and cordoned");
        let calls = audit.until(mark, what, PATIENCE, |calls| !ejects(calls).is_empty()).await;
        ejects(&calls).iter().next().unwrap().clone()
    }

    /// The controller's patches of the Machine that tell Cluster API to leave these out, all in one.
    pub fn excluding(&self, calls: &Calls, steps: &[&str]) -> Calls {
        let patches = calls.by(&self.world.user).on("machines").verb("patch").named(&self.name);
        patches.only(|call| {
            let annotations = &call.body["metadata"]["annotations"];
            steps.iter().all(|step| annotations[format!("machine.cluster.x-k8s.io/{step}")].is_string())
        })
    }

    pub async fn patch_node(&self, patch: Value) {
        let nodes = self.world.nodes();
        nodes.patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }
}

pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|said| said.type_ == "Ready" && said.status == "True")
}

pub fn is_cordoned(node: &Node) -> bool {
    node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true))
}

pub fn is_ejecting(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    taints.into_iter().flatten().any(|t| t.key == "5spot.finos.org/ejecting" && t.effect == "NoExecute")
}

/// Ends by itself, that long after it was asked to.
pub fn slow(seconds: u32) -> Value {
    json!({"metadata": {"annotations": {"harness/delete-delay": format!("{seconds}s")}}})
}

/// Never ends.
pub fn stuck() -> Value {
    json!({"metadata": {"finalizers": ["harness.test/stuck"]}})
}

/// Takes the finalizers off again, so that the namespace is left clean.
pub async fn unstick(yard: &Yard, name: &str) {
    let bare = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    match yard.pods().patch(name, &PatchParams::default(), &bare).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        other => drop(other.unwrap().name_any()),
    }
}
