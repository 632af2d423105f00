//! What the controller gives an agent, and what it says of one. The agent's part is played by the test.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::drain::yard::{Yard, slow};
use crate::harness::{eventually, gone, pass_until};
use crate::world::{PATIENCE, World, condition, is_true, said};

const LABEL: &str = "5spot.finos.org/reclaim-agent";

impl Yard {
    fn rules(&self) -> Api<ConfigMap> {
        Api::namespaced(self.world.tenant.workload.clone(), "5spot-system")
    }

    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.world.tenant.workload.clone(), "5spot-system")
    }

    fn agent(&self) -> String {
        format!("reclaim-agent-{}", self.name)
    }

    async fn until_rules(&self, what: &str, commands: &str) -> ConfigMap {
        let _log = self.world.log_on_panic();
        let text = |map: &ConfigMap| map.data.as_ref().and_then(|data| data.get("reclaim.toml")).cloned();
        let line = format!("match_commands = {commands}\n");
        eventually(&self.rules(), &self.agent(), what, PATIENCE, |map| {
            text(map).is_some_and(|text| text.contains(&line))
        })
        .await
    }

    async fn until_labelled(&self, value: Option<&str>) -> Node {
        let _log = self.world.log_on_panic();
        eventually(&self.world.nodes(), &self.name, "labelled", PATIENCE, |node| {
            node.labels().get(LABEL).map(String::as_str) == value
        })
        .await
    }

    async fn until_agent(&self, reason: &str) -> String {
        let sm = self.until(reason, |sm| said(sm, "AgentReady").0 == reason).await;
        let hears = matches!(reason, "Netlink" | "Polling");
        assert_eq!(is_true(&sm, "AgentReady"), hears, "{reason}");
        said(&sm, "AgentReady").1
    }

    /// As an agent renews it.
    async fn renew(&self, annotations: Value) {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": self.agent(), "annotations": annotations},
            "spec": {"holderIdentity": self.name, "renewTime": format!("{:.6}", Timestamp::now())},
        });
        let params = PatchParams::apply("an-agent").force();
        self.leases().patch(&self.agent(), &params, &Patch::Apply(&lease)).await.unwrap();
    }
}

fn says(detector: &str, fallback: Option<&str>) -> Value {
    let mut annotations =
        json!({"5spot.finos.org/agent-detector": detector, "5spot.finos.org/agent-rules": "ok"});
    if let Some(fallback) = fallback {
        annotations["5spot.finos.org/agent-fallback"] = json!(fallback);
    }
    annotations
}

#[tokio::test]
async fn an_agent_gets_its_rules_and_then_its_label_and_what_it_reports_is_told() {
    let yard = Yard::lent("agent", json!({"killIfCommands": ["java", "say \"hi\""]})).await;
    let map = yard.until_rules("written", r#"["java", "say \"hi\""]"#).await;
    assert_eq!(map.labels()["app.kubernetes.io/component"], "reclaim-agent");
    assert_eq!(map.labels()["5spot.finos.org/scheduled-machine"], yard.name);
    yard.until_labelled(Some("enabled")).await;
    let told = yard.until_agent("NotInstalled").await;
    assert!(told.contains("manifests/agent"), "{told}");
    yard.renew(says("netlink", None)).await;
    yard.until_agent("Netlink").await;
    yard.until("at rest", |sm| is_true(sm, "Ready") && is_true(sm, "WorkloadReachable")).await;

    let quiet = Timestamp::now() + SignedDuration::from_secs(2);
    pass_until(quiet).await;
    for _ in 0..6 {
        yard.renew(says("netlink", None)).await;
        pass_until(Timestamp::now() + SignedDuration::from_millis(500)).await;
    }
    for calls in [yard.world.calls(), yard.world.workload_calls()] {
        let calls = calls.calls().since(quiet);
        assert!(calls.is_empty(), "a renewal is noted and costs nothing: {calls}");
    }

    yard.renew(says("poll", Some("no-capability"))).await;
    let told = yard.until_agent("Polling").await;
    assert!(told.contains("no-capability"), "{told}");
    yard.world.edit(&yard.name, json!({"killIfCommands": ["idea"]})).await;
    yard.until_rules("edited", r#"["idea"]"#).await;
    let writes = yard.world.workload_calls().on("configmaps").writes();
    assert_eq!(writes.accepted().len(), 2, "{writes}");

    yard.world.edit(&yard.name, json!({"killIfCommands": null})).await;
    yard.until_labelled(None).await;
    gone(&yard.rules(), &yard.agent(), PATIENCE).await;
    yard.until("told no more", |sm| condition(sm, "AgentReady").is_none()).await;
    let node = yard.world.workload_calls().on("nodes").writes();
    assert_eq!(node.accepted().len(), 2, "on and off: {node}");
}

#[tokio::test]
async fn what_an_agent_cannot_do_is_told_in_its_words_and_so_is_its_silence() {
    let yard = Yard::lent("agent-words", json!({"killIfCommands": ["java"]})).await;
    yard.until_labelled(Some("enabled")).await;
    yard.until_agent("NotInstalled").await;
    let mut faulty = says("netlink", None);
    faulty["5spot.finos.org/agent-rules"] = json!("line 3: unknown key");
    yard.renew(faulty).await;
    assert!(yard.until_agent("RulesNotInForce").await.contains("line 3: unknown key"));
    yard.renew(says("none", Some("proc is not mounted"))).await;
    assert!(yard.until_agent("NotWatching").await.contains("proc is not mounted"));
    yard.renew(says("netlink", None)).await;
    let heard = Timestamp::now();
    yard.until_agent("Netlink").await;
    // Nothing happens then, and that is what is told.
    assert!(yard.until_agent("NotReporting").await.contains("renews its Lease no more"));
    let silent = Timestamp::now().duration_since(heard);
    assert!(silent >= SignedDuration::from_secs(30), "a renewal that is late is no silence: {silent}");
    yard.renew(says("netlink", None)).await;
    yard.until_agent("Netlink").await;
}

#[tokio::test]
async fn what_is_listed_while_the_machine_leaves_counts_at_once() {
    let over = json!({
        "killIfCommands": ["java"], "gracefulShutdownTimeout": "10m", "nodeDrainTimeout": "10m",
        "reclaim": {"returnAfter": "Never"},
    });
    let yard = Yard::lent("agent-leaving", over).await;
    yard.until_labelled(Some("enabled")).await;
    yard.pod("kept", slow(600)).await;
    yard.budget("keep", "kept").await;
    yard.close().await;
    let list = async |commands: Value| {
        yard.world.edit(&yard.name, json!({"killIfCommands": commands})).await;
    };
    yard.until("in its grace", |sm| sm.data["status"]["leaving"]["stage"] == "Grace").await;
    list(json!(["java", "idea"])).await;
    yard.until_rules("one more in the grace", r#"["java", "idea"]"#).await;
    list(json!(["idea"])).await;
    yard.until_rules("one less in the grace", r#"["idea"]"#).await;

    yard.world.edit(&yard.name, json!({"gracefulShutdownTimeout": "0s"})).await;
    yard.until("in its drain", |sm| sm.data["status"]["leaving"]["stage"] == "Drain").await;
    list(Value::Null).await;
    yard.until_labelled(None).await;
    gone(&yard.rules(), &yard.agent(), PATIENCE).await;
    list(json!(["vim"])).await;
    yard.until_rules("anew in the drain", r#"["vim"]"#).await;
    yard.until_labelled(Some("enabled")).await;
    yard.until_refused_again().await;
    let writes = yard.world.workload_calls().on("configmaps").writes().accepted();
    assert_eq!(writes.len(), 5, "four texts and a deletion: {writes}");

    // She starts one of them.
    let asked = yard.reclaim("vim").await;
    yard.deleted_in_time(asked).await;
    yard.until_machine_gone().await;
    yard.release("keep").await;
    yard.world.until_settled(&yard.name, "Disabled").await;
    gone(&yard.rules(), &yard.agent(), PATIENCE).await;
}

#[tokio::test]
async fn nobody_is_fought_over_the_label_the_rules_or_the_name() {
    let yard = Yard::lent("agent-fought", json!({"killIfCommands": ["java"]})).await;
    yard.until_labelled(Some("enabled")).await;
    yard.until_agent("NotInstalled").await;
    yard.patch_node(json!({"metadata": {"labels": {LABEL: "disabled"}}})).await;
    let told = yard.until_agent("Undone").await;
    assert!(told.contains("disabled"), "{told}");
    let theirs = json!({"data": {"reclaim.toml": "match_commands = []"}});
    for _ in 0..5 {
        yard.rules().patch(&yard.agent(), &PatchParams::default(), &Patch::Merge(&theirs)).await.unwrap();
        yard.patch_node(json!({"metadata": {"labels": {LABEL: "disabled"}}})).await;
        pass_until(Timestamp::now() + SignedDuration::from_millis(500)).await;
    }
    yard.until("told", |sm| said(sm, "AgentReady").1.contains("ConfigMap")).await;
    let writes = yard.world.workload_calls().writes().accepted();
    assert_eq!((writes.on("configmaps").len(), writes.on("nodes").len()), (1, 1), "{writes}");
    yard.patch_node(json!({"metadata": {"labels": {LABEL: null}}})).await;
    yard.until_rules("put right in a minute", r#"["java"]"#).await;
    yard.until_labelled(Some("enabled")).await;

    // The rules go with the machine.
    yard.close().await;
    yard.world.until_settled(&yard.name, "Inactive").await;
    gone(&yard.rules(), &yard.agent(), PATIENCE).await;
}

#[tokio::test]
async fn a_config_map_of_somebody_else_is_told_of_and_left_alone() {
    let world = World::start("agent-taken").await;
    let name = world.tenant.unique("ws");
    let yard = Yard { world, name };
    let map = json!({"metadata": {"name": yard.agent()}, "data": {"reclaim.toml": "theirs"}});
    let made =
        yard.rules().create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await.unwrap();
    yard.world.create(&yard.name, json!({"killIfCommands": ["java"]})).await;
    yard.world.until_settled(&yard.name, "Active").await;
    let told = yard.until_agent("NameTaken").await;
    assert!(told.contains(&yard.agent()), "{told}");
    let live = yard.rules().get(&yard.agent()).await.unwrap();
    assert_eq!(live.resource_version(), made.resource_version());
    let label = yard.world.nodes().get(&yard.name).await.unwrap().labels().get(LABEL).cloned();
    assert_eq!(label, None, "an agent with another's rules");
    let tried = yard.world.workload_calls().on("configmaps").writes();
    assert!(tried.len() < 6, "patiently: {tried}");
    // An owner who wants it back does not wait for that.
    let asked = yard.reclaim("java").await;
    yard.deleted_in_time(asked).await;
    yard.rules().delete(&yard.agent(), &kube::api::DeleteParams::default()).await.unwrap();
}
