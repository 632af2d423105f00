//! Taints of the lent Node: on in time, and never more than ours.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::harness::wait::asked_until;
use crate::harness::{Behaviour, eventually, gone};
use crate::world::{PATIENCE, World, condition, is_true, said};

const RECORD: &str = "5spot.finos.org/applied-taints";
const CONDITION: &str = "NodeTainted";

fn taint(text: &str) -> Value {
    let (rest, effect) = text.rsplit_once(':').unwrap();
    let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
    json!({"key": key, "value": value, "effect": effect})
}

fn taints(texts: &[&str]) -> Value {
    json!({"nodeTaints": texts.iter().map(|text| taint(text)).collect::<Vec<_>>()})
}

fn on(node: &Node) -> Vec<Taint> {
    node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default()
}

/// `key=value:effect`, without those of Kubernetes itself, in order.
fn shown(node: &Node) -> Vec<String> {
    let text = |taint: &Taint| match taint.value.as_deref().filter(|value| !value.is_empty()) {
        Some(value) => format!("{}={value}:{}", taint.key, taint.effect),
        None => format!("{}:{}", taint.key, taint.effect),
    };
    let mut shown: Vec<String> =
        on(node).iter().filter(|taint| !taint.key.contains("kubernetes.io/")).map(text).collect();
    shown.sort();
    shown
}

impl World {
    async fn until_tainted(&self, name: &str, with: &[&str]) -> Node {
        eventually(&self.nodes(), name, &format!("with {with:?}"), PATIENCE, |node| shown(node) == with).await
    }

    async fn until_told(&self, name: &str, status: &str, reason: &str) -> String {
        let sm = self
            .until(name, &format!("{CONDITION}={status}/{reason}"), |sm| {
                condition(sm, CONDITION).is_some_and(|c| c["status"] == status && c["reason"] == reason)
            })
            .await;
        said(&sm, CONDITION).1
    }

    /// As an admin, after a look: what was not meant stays as it is.
    async fn set_taints(&self, name: &str, change: impl Fn(&mut Vec<Taint>)) {
        // Others write to Nodes too: as long as they come between look and write, once more.
        asked_until("written", PATIENCE, async || {
            let node = self.nodes().get(name).await.unwrap();
            let mut taints = on(&node);
            change(&mut taints);
            let version = node.resource_version();
            let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints}});
            match self.nodes().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
                Err(kube::Error::Api(status)) if status.code == 409 => false,
                written => written.is_ok() || panic!("{written:?}"),
            }
        })
        .await;
    }

    async fn put_taint(&self, name: &str, text: &str) {
        let new: Taint = serde_json::from_value(taint(text)).unwrap();
        self.set_taints(name, |taints| taints.push(new.clone())).await;
    }

    async fn write_record(&self, name: &str, record: Option<&str>) {
        let patch = json!({"metadata": {"annotations": {RECORD: record}}});
        self.nodes().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Writes of the controller to the Node.
    fn node_writes(&self, name: &str) -> usize {
        self.workload_calls().on("nodes").writes().named(name).accepted().len()
    }
}

async fn lent(test: &str, over: Value) -> (World, String) {
    let world = World::start(test).await;
    let name = world.tenant.unique("ws");
    world.create(&name, over).await;
    world.until_settled(&name, "Active").await;
    (world, name)
}

#[tokio::test]
async fn taints_are_on_before_the_node_is_ready_and_before_it_is_matched() {
    let world = World::start("early").await;
    let name = world.tenant.unique("ws");
    world.tenant.behave(Behaviour { never_provisions: true, ..Behaviour::default() });
    world.create(&name, taints(&["lent=true:NoSchedule", "batch:NoExecute"])).await;
    let waiting = world.until_told(&name, "False", "NodeNotReady").await;
    assert!(waiting.contains("join"), "{waiting}");
    let stub = eventually(&world.tenant.stub_machines(), &name, "claimed", PATIENCE, |stub| {
        stub.data["spec"]["providerID"].is_string()
    })
    .await;
    // A host that is up and has not joined yet.
    let up = Patch::Merge(json!({"status": {"ready": true, "initialization": {"provisioned": true}}}));
    world.tenant.stub_machines().patch_status(&name, &PatchParams::default(), &up).await.unwrap();
    eventually(&world.tenant.machines(), &name, "with its provider id", PATIENCE, |machine| {
        machine.data["spec"]["providerID"] == stub.data["spec"]["providerID"]
    })
    .await;
    // From here on Cluster API looks away: it cannot be what helps us.
    let paused =
        |value: Value| Patch::Merge(json!({"metadata": {"annotations": {"cluster.x-k8s.io/paused": value}}}));
    let machines = world.tenant.machines();
    machines.patch(&name, &PatchParams::default(), &paused(json!(""))).await.unwrap();
    eventually(&machines, &name, "looked away from", PATIENCE, |machine| is_true(machine, "Paused")).await;
    let node = json!({"metadata": {"name": name}, "spec": {"providerID": stub.data["spec"]["providerID"]}});
    let node: Node = serde_json::from_value(node).unwrap();
    let joined = world.nodes().create(&PostParams::default(), &node).await.unwrap();

    world.until_tainted(&name, &["batch:NoExecute", "lent=true:NoSchedule"]).await;
    world.until_told(&name, "True", "Applied").await;
    let machine = machines.get(&name).await.unwrap();
    assert!(machine.data["status"].get("nodeRef").is_none(), "not matched: {}", machine.data["status"]);
    let sm = world.scheduled_machines().get(&name).await.unwrap();
    assert_eq!(sm.data["status"]["nodeRef"]["uid"], joined.uid().unwrap());
    assert!(!is_true(&sm, "Ready"), "nobody said that the Node is ready");
    assert_eq!(world.node_writes(&name), 1, "both in one write: {}", world.workload_calls());

    machines.patch(&name, &PatchParams::default(), &paused(Value::Null)).await.unwrap();
    eventually(&machines, &name, "matched", PATIENCE, |machine| {
        machine.data["status"]["nodeRef"]["name"] == name.as_str()
    })
    .await;
    world.until_tainted(&name, &["batch:NoExecute", "lent=true:NoSchedule"]).await;
    assert_eq!(world.node_writes(&name), 1, "{}", world.workload_calls());
}

#[tokio::test]
async fn edits_of_the_spec_change_ours_and_leave_a_strangers_taint_as_it_is() {
    let (world, name) = lent("edits", taints(&["a=1:NoSchedule"])).await;
    world.until_tainted(&name, &["a=1:NoSchedule"]).await;
    let since = Time("2026-01-02T03:04:05Z".parse::<Timestamp>().unwrap());
    let theirs = Taint {
        key: "theirs".to_owned(),
        value: Some("x".to_owned()),
        effect: "NoExecute".to_owned(),
        time_added: Some(since),
    };
    world.set_taints(&name, |taints| taints.insert(0, theirs.clone())).await;
    let steps: [(&[&str], &[&str]); 5] = [
        (&["a=2:NoSchedule"], &["a=2:NoSchedule", "theirs=x:NoExecute"]),
        (
            &["a=2:NoSchedule", "b:NoExecute", "c:PreferNoSchedule"],
            &["a=2:NoSchedule", "b:NoExecute", "c:PreferNoSchedule", "theirs=x:NoExecute"],
        ),
        (&["c:PreferNoSchedule"], &["c:PreferNoSchedule", "theirs=x:NoExecute"]),
        (&["c:NoSchedule"], &["c:NoSchedule", "theirs=x:NoExecute"]),
        (&[], &["theirs=x:NoExecute"]),
    ];
    for (wanted, expected) in steps {
        let before = world.node_writes(&name);
        world.edit(&name, taints(wanted)).await;
        let node = world.until_tainted(&name, expected).await;
        assert!(on(&node).contains(&theirs), "{:?}", on(&node));
        let sm = world
            .until(&name, "recorded", |sm| {
                let applied = sm.data["status"]["appliedNodeTaints"].as_array().map_or(0, Vec::len);
                let pending = sm.data["status"]["appliedNodeTaints"].to_string().contains("pending");
                applied == wanted.len()
                    && !pending
                    && sm.data["status"]["observedGeneration"] == sm.metadata.generation.unwrap()
            })
            .await;
        assert_eq!(condition(&sm, CONDITION).is_some(), !wanted.is_empty(), "{}", sm.data["status"]);
        assert_eq!(
            world.node_writes(&name),
            before + 1,
            "one write for each edit: {}",
            world.workload_calls()
        );
        assert_eq!(node.annotations().contains_key(RECORD), !wanted.is_empty());
    }
    let calls = world.workload_calls().on("nodes").writes();
    // Somebody else may have written in between.
    assert!(calls.iter().all(|call| call.verb == "patch" && [200, 409].contains(&call.code)), "{calls}");
}

#[tokio::test]
async fn a_strangers_taint_in_our_place_is_named_and_blocks_only_itself() {
    let (world, name) = lent("conflict", json!({})).await;
    world.put_taint(&name, "a=theirs:NoSchedule").await;
    world.put_taint(&name, "same=x:NoSchedule").await;
    world.edit(&name, taints(&["a=ours:NoSchedule", "b=ours:NoSchedule", "same=x:NoSchedule"])).await;
    let told = world.until_told(&name, "False", "TaintOwnershipConflict").await;
    assert!(told.contains("a=theirs:NoSchedule") && told.contains("a=ours:NoSchedule"), "{told}");
    world.until_tainted(&name, &["a=theirs:NoSchedule", "b=ours:NoSchedule", "same=x:NoSchedule"]).await;
    let sm = world.scheduled_machines().get(&name).await.unwrap();
    assert!(is_true(&sm, "Ready"), "lent all the same");

    world.set_taints(&name, |taints| taints.retain(|taint| taint.key != "a")).await;
    world.until_tainted(&name, &["a=ours:NoSchedule", "b=ours:NoSchedule", "same=x:NoSchedule"]).await;
    let told = world.until_told(&name, "True", "TaintOwnershipConflict").await;
    assert!(told.contains("same=x:NoSchedule") && !told.contains("a="), "{told}");
    world.edit(&name, taints(&["b=ours:NoSchedule"])).await;
    world.until_tainted(&name, &["b=ours:NoSchedule", "same=x:NoSchedule"]).await;
    world.until_told(&name, "True", "Applied").await;
}

#[tokio::test]
async fn what_somebody_takes_off_is_put_back_and_a_forged_record_takes_nothing_off() {
    let (world, name) = lent("torn", taints(&["a=1:NoSchedule"])).await;
    world.until_told(&name, "True", "Applied").await;
    world.set_taints(&name, Vec::clear).await;
    world.until_tainted(&name, &["a=1:NoSchedule"]).await;
    world.until_told(&name, "True", "Applied").await;

    world.put_taint(&name, "theirs=x:NoSchedule").await;
    let good = |node: &Node| {
        let record = node.annotations().get(RECORD).cloned().unwrap_or_default();
        record.contains("\"a\"") && !record.contains("theirs")
    };
    let forged = format!("[{}, {}]", taint("a=1:NoSchedule"), taint("theirs=x:NoSchedule"));
    for record in [None, Some("["), Some("[]"), Some(forged.as_str())] {
        world.write_record(&name, record).await;
        let node = eventually(&world.nodes(), &name, "with a true record", PATIENCE, good).await;
        assert_eq!(shown(&node), ["a=1:NoSchedule", "theirs=x:NoSchedule"], "{record:?}");
    }
    world.write_record(&name, Some(&forged)).await;
    world.edit(&name, taints(&[])).await;
    world.until_tainted(&name, &["theirs=x:NoSchedule"]).await;
    world.until(&name, "told nothing", |sm| condition(sm, CONDITION).is_none()).await;
}

#[tokio::test]
async fn a_status_write_that_is_lost_with_the_controller_loses_no_taint() {
    let (mut world, proxy) = World::start_through("lost-taint").await;
    let name = world.tenant.unique("ws");
    world.create(&name, taints(&["a=1:NoSchedule"])).await;
    world.until_told(&name, "True", "Applied").await;
    world.put_taint(&name, "theirs=x:NoSchedule").await;
    world.until_settled(&name, "Active").await;
    world.until_event(&name, "Pending -> Active: ").await;
    // The first write announces the new value, the second one would say that it is there.
    let controller = world.controller.clone();
    let struck = proxy.kill_before_write(2, move || controller.kill());
    world.edit(&name, taints(&["a=2:NoSchedule"])).await;
    let entry = struck.within(PATIENCE).await;
    assert!(entry.path.contains("/status"), "{entry}");
    world.until_tainted(&name, &["a=2:NoSchedule", "theirs=x:NoSchedule"]).await;
    let sm = world.scheduled_machines().get(&name).await.unwrap();
    assert_eq!(sm.data["status"]["appliedNodeTaints"][0]["pending"], true, "{}", sm.data["status"]);
    // While nobody looks it leaves the spec: only the two records know whose it is.
    world.edit(&name, taints(&[])).await;
    world.controller = world.controller.again();
    let node = world.until_tainted(&name, &["theirs=x:NoSchedule"]).await;
    assert!(!node.annotations().contains_key(RECORD));
    world.until_settled(&name, "Active").await;
}

#[tokio::test]
async fn of_a_node_that_comes_anew_under_its_name_nothing_is_ours() {
    let (world, name) = lent("anew", taints(&["a=1:NoSchedule", "b:NoSchedule"])).await;
    world.until_told(&name, "True", "Applied").await;
    let old = world.nodes().get(&name).await.unwrap();
    world.nodes().delete(&name, &DeleteParams::default()).await.unwrap();
    gone(&world.nodes(), &name, PATIENCE).await;
    let anew = json!({
        "metadata": {"name": name, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "spec": {"providerID": old.spec.unwrap().provider_id, "taints": [taint("a=1:NoSchedule")]},
    });
    let anew: Node = serde_json::from_value(anew).unwrap();
    let anew = world.nodes().create(&PostParams::default(), &anew).await.unwrap();
    world.until_tainted(&name, &["a=1:NoSchedule", "b:NoSchedule"]).await;
    let told = world.until_told(&name, "True", "TaintOwnershipConflict").await;
    assert!(told.contains("a=1:NoSchedule"), "{told}");
    let sm = world.until_settled(&name, "Active").await;
    assert_eq!(sm.data["status"]["nodeRef"]["uid"], anew.uid().unwrap());
    world.edit(&name, taints(&[])).await;
    world.until_tainted(&name, &["a=1:NoSchedule"]).await;
}

#[tokio::test]
async fn taints_stay_while_it_leaves_and_are_forgotten_when_it_is_gone() {
    let (world, name) = lent("leaves", taints(&["a=1:NoSchedule"])).await;
    world.until_told(&name, "True", "Applied").await;
    world.edit(&name, json!({"gracefulShutdownTimeout": "30s", "schedule": {"enabled": false}})).await;
    let leaving = world.until(&name, "in its grace", |sm| said(sm, "Ready").0 == "GracePeriodActive").await;
    assert!(condition(&leaving, CONDITION).is_none(), "no machine is wanted");
    assert_eq!(shown(&world.nodes().get(&name).await.unwrap()), ["a=1:NoSchedule"]);
    let off = world.until_settled(&name, "Disabled").await;
    assert!(off.data["status"].get("appliedNodeTaints").is_none(), "{}", off.data["status"]);
    world.edit(&name, json!({"schedule": {"enabled": true}})).await;
    world.until_settled(&name, "Active").await;
    world.until_tainted(&name, &["a=1:NoSchedule"]).await;
    world.until_told(&name, "True", "Applied").await;
}
