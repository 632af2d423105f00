//! It ends, whatever went first: the Cluster, the provider's definition, the workload cluster.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::ResourceExt;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::{eventually, gone, manifests, provider};
use crate::world::{PATIENCE, World, first_of_one, instant, is_true, said};

#[tokio::test]
async fn a_cluster_that_is_deleted_goes_and_no_machine_comes_back_before_it_does() {
    let world = World::start("cluster-first").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({"gracefulShutdownTimeout": "10m", "nodeDrainTimeout": "10m"})).await;
    world.until_settled(&name, "Active").await;
    let (clusters, cluster) = (world.tenant.clusters(), world.tenant.cluster.clone());
    clusters.delete(&cluster, &DeleteParams::default()).await.unwrap();
    // Neither grace nor drain: the cluster that they would be for is going.
    world.until(&name, "off", |sm| sm.data["status"]["decision"]["rule"] == "ClusterDeleting").await;
    gone(&world.tenant.machines(), &name, PATIENCE).await;
    gone(&clusters, &cluster, PATIENCE).await;
    let waits = world.until(&name, "told", |sm| said(sm, "Ready").0 == "WaitingForCluster").await;
    assert_eq!(said(&waits, "ReferencesValid").0, "ClusterNotFound");
    assert_eq!(world.machines_created(&name), 1, "in the middle of its window");
    // Cluster API takes out what its Cluster owns, and may be faster.
    let deletes = world.calls().on("machines").verb("delete");
    if !deletes.is_empty() {
        first_of_one(deletes);
    }

    let secrets: Api<Secret> = Api::namespaced(world.tenant.management.clone(), &world.tenant.namespace);
    let _ = secrets.delete(&format!("{cluster}-kubeconfig"), &DeleteParams::default()).await;
    gone(&world.tenant.api(&provider::infrastructure("StubCluster")), &cluster, PATIENCE).await;
    gone(&world.tenant.api(&provider::control_plane()), &cluster, PATIENCE).await;
    world.tenant.make_cluster(&cluster, &world.tenant.workload_kubeconfig()).await;
    world.until_settled(&name, "Active").await;
    assert_eq!(world.machines_created(&name), 2, "and with its Cluster it is back");
    world.edit(&name, json!({"gracefulShutdownTimeout": "0s", "nodeDrainTimeout": "5s"})).await;
    world.delete(&name).await;
    gone(&world.scheduled_machines(), &name, PATIENCE).await;
    world.until_nothing_left(&name).await;
}

#[tokio::test]
async fn a_deletion_ends_when_the_cluster_is_deleted_with_it() {
    let world = World::start("both").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({"gracefulShutdownTimeout": "10m"})).await;
    world.until_settled(&name, "Active").await;
    world.delete(&name).await;
    world.until(&name, "in its grace", |sm| said(sm, "Ready").0 == "GracePeriodActive").await;
    world.tenant.clusters().delete(&world.tenant.cluster, &DeleteParams::default()).await.unwrap();
    gone(&world.scheduled_machines(), &name, PATIENCE).await;
    gone(&world.tenant.clusters(), &world.tenant.cluster, PATIENCE).await;
    gone(&world.tenant.machines(), &name, PATIENCE).await;
    gone(&world.tenant.stub_machines(), &name, PATIENCE).await;
}

#[tokio::test]
async fn an_unreachable_workload_cluster_holds_no_deletion_up() {
    let world = World::start("no-workload").await;
    let name = world.tenant.unique("ws");
    // By the default Secret, which is the one that is changed below.
    let over =
        json!({"gracefulShutdownTimeout": "2s", "nodeDrainTimeout": "5s", "kubeconfigSecretRef": null});
    world.create(&name, over).await;
    world.until_settled(&name, "Active").await;
    let secrets: Api<Secret> = Api::namespaced(world.tenant.management.clone(), &world.tenant.namespace);
    let secret = format!("{}-kubeconfig", world.tenant.cluster);
    let elsewhere = world.tenant.workload_kubeconfig().replace(
        &format!("127.0.0.1:{}", world.tenant.planes().workload().port()),
        // Nobody listens on the discard port.
        "127.0.0.1:9",
    );
    let patch = Patch::Merge(json!({"stringData": {"value": elsewhere}}));
    secrets.patch(&secret, &PatchParams::default(), &patch).await.unwrap();
    world.until(&name, "cut off", |sm| said(sm, "WorkloadReachable").0 == "Unreachable").await;
    world.delete(&name).await;
    gone(&world.scheduled_machines(), &name, PATIENCE).await;
    for left in [world.tenant.machines(), world.tenant.stub_machines(), world.tenant.stub_configs()] {
        assert!(left.get_opt(&name).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_node_that_its_cluster_does_not_let_go_holds_a_deletion_up_no_longer_than_promised() {
    let world = World::start("held-node").await;
    let name = world.tenant.unique("ws");
    let limits = json!({"spec": {"nodeVolumeDetachTimeout": "1s", "nodeDeletionTimeout": "1s"}});
    world.create(&name, json!({"nodeDrainTimeout": "0s", "machineTemplate": limits})).await;
    world.until_settled(&name, "Active").await;
    let held = |finalizers: Value| Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
    let keep = held(json!(["example.com/keep"]));
    world.nodes().patch(&name, &PatchParams::default(), &keep).await.unwrap();
    world.delete(&name).await;
    let waits = world
        .until(&name, "waiting for the Node", |sm| said(sm, "Ready").1.contains(&format!("Node {name}")))
        .await;
    let promised = instant(&waits, "/status/leaving/goneBy").unwrap();
    assert!(world.tenant.machines().get_opt(&name).await.unwrap().is_none());
    gone(&world.scheduled_machines(), &name, PATIENCE).await;
    let released = world.calls().on("scheduledmachines").verb("patch").named(&name).accepted();
    let last = released.only(|call| call.resource == "scheduledmachines");
    let last = last.iter().next_back().unwrap();
    assert!(last.received >= promised, "not before the promise of {promised}: {last}");
    let left = world.nodes().get(&name).await.unwrap();
    assert!(left.metadata.deletion_timestamp.is_some(), "told to go, and held by somebody else");
    world.nodes().patch(&name, &PatchParams::default(), &held(json!([]))).await.unwrap();
    world.until_nothing_left(&name).await;
}

/// A kind like `StubMachine` that goes away again.
fn passing_kind() -> (Value, String) {
    let all = provider::crds().unwrap();
    let stub = all.iter().find(|crd| crd["spec"]["names"]["kind"] == "StubMachine").unwrap();
    let text =
        stub.to_string().replace("StubMachine", "PassingMachine").replace("stubmachine", "passingmachine");
    (serde_json::from_str(&text).unwrap(), "passingmachines.infrastructure.cluster.x-k8s.io".to_owned())
}

fn definitions(world: &World) -> Api<DynamicObject> {
    Api::all_with(
        world.tenant.management.clone(),
        &provider::kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
    )
}

#[tokio::test]
async fn with_the_providers_definition_gone_it_waits_in_words_and_ends_when_it_is_back() {
    let world = World::start("no-provider").await;
    let (crd, crd_name) = passing_kind();
    manifests::install(&world.tenant.management, vec![crd.clone()]).await.unwrap();
    let (name, never) = (world.tenant.unique("ws"), world.tenant.unique("ws"));
    // The promise is far away.
    let kind = json!({"infrastructureSpec": {"kind": "PassingMachine"}, "nodeDrainTimeout": "10m"});
    world.create(&name, kind.clone()).await;
    let made = world.until(&name, "made", |sm| sm.data["status"]["machineRef"].is_object()).await;
    assert!(is_true(&made, "ReferencesValid"));

    definitions(&world).delete(&crd_name, &DeleteParams::default()).await.unwrap();
    gone(&definitions(&world), &crd_name, PATIENCE).await;
    world.until(&name, "told", |sm| said(sm, "ReferencesValid").0 == "KindNotServed").await;
    // Nothing was made of it, so nothing is to be looked for.
    world.create(&never, kind).await;
    world.until(&never, "told", |sm| said(sm, "Ready").0 == "KindNotServed").await;
    world.delete(&never).await;
    gone(&world.scheduled_machines(), &never, PATIENCE).await;

    world.delete(&name).await;
    let waits = world
        .until(&name, "waiting in words", |sm| {
            let (reason, message) = said(sm, "Ready");
            reason == "WaitingForMachineDeletion"
                && message.contains("PassingMachine")
                && message.contains("Cluster API cannot see it")
                && message.contains("install its provider")
                && message.contains("the Machine is let go at")
        })
        .await;
    assert!(!waits.finalizers().is_empty());
    // Cluster API cannot finish a Machine whose infrastructure kind it cannot find; the provider's return mends it.
    manifests::install(&world.tenant.management, vec![crd]).await.unwrap();
    gone(&world.scheduled_machines(), &name, PATIENCE).await;
    assert!(world.tenant.machines().get_opt(&name).await.unwrap().is_none());
    assert!(world.tenant.stub_configs().get_opt(&name).await.unwrap().is_none());
}

#[tokio::test]
async fn with_the_providers_definition_gone_for_good_a_deletion_ends_at_its_promise() {
    let world = World::start("provider-gone").await;
    let (crd, _) = passing_kind();
    let text =
        crd.to_string().replace("PassingMachine", "LostMachine").replace("passingmachine", "lostmachine");
    let crd_name = "lostmachines.infrastructure.cluster.x-k8s.io";
    manifests::install(&world.tenant.management, vec![serde_json::from_str(&text).unwrap()]).await.unwrap();
    let name = world.tenant.unique("ws");
    let kind = json!({"infrastructureSpec": {"kind": "LostMachine"}, "nodeDrainTimeout": "1s",
                      "gracefulShutdownTimeout": "0s"});
    world.create(&name, kind).await;
    world.until(&name, "made", |sm| sm.data["status"]["machineRef"].is_object()).await;
    let foreign = Patch::Merge(json!({"metadata": {"annotations": {"example.com/kept": ""}}}));
    world.tenant.machines().patch(&name, &PatchParams::default(), &foreign).await.unwrap();
    definitions(&world).delete(crd_name, &DeleteParams::default()).await.unwrap();
    gone(&definitions(&world), crd_name, PATIENCE).await;
    world.until(&name, "told", |sm| said(sm, "ReferencesValid").0 == "KindNotServed").await;

    world.delete(&name).await;
    let waits = world.until(&name, "promised", |sm| instant(sm, "/status/leaving/goneBy").is_some()).await;
    let promised = instant(&waits, "/status/leaving/goneBy").unwrap();
    gone(&world.scheduled_machines(), &name, PATIENCE).await;
    for left in [world.tenant.machines(), world.tenant.stub_configs()] {
        assert!(left.get_opt(&name).await.unwrap().is_none());
    }
    let let_go = world.calls().on("machines").verb("patch").named(&name).accepted();
    let last = let_go.iter().next_back().unwrap();
    assert!(last.received >= promised, "a provider that comes back in time does its work: {last}");
}

#[tokio::test]
async fn a_cluster_that_is_removed_by_force_keeps_no_host_beyond_the_promise() {
    let world = World::start("torn-cluster").await;
    let name = world.tenant.unique("ws");
    let short = json!({"gracefulShutdownTimeout": "0s", "nodeDrainTimeout": "1s",
                       "machineTemplate": {"spec": {"deletion": {"nodeVolumeDetachTimeoutSeconds": 1}}}});
    world.create(&name, short).await;
    world.until_settled(&name, "Active").await;
    // Somebody's hook: Cluster API has begun, and has not touched the host yet.
    let hook = json!({"pre-terminate.delete.hook.machine.cluster.x-k8s.io/backup": "a backup"});
    let patch = Patch::Merge(json!({"metadata": {"annotations": hook}}));
    world.tenant.machines().patch(&name, &PatchParams::default(), &patch).await.unwrap();
    let (clusters, cluster) = (world.tenant.clusters(), world.tenant.cluster.clone());
    clusters.delete(&cluster, &DeleteParams::default()).await.unwrap();
    eventually(&world.tenant.machines(), &name, "going", PATIENCE, |machine| {
        machine.metadata.deletion_timestamp.is_some()
    })
    .await;
    let torn = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    clusters.patch(&cluster, &PatchParams::default(), &torn).await.unwrap();
    gone(&clusters, &cluster, PATIENCE).await;

    let waits = world
        .until(&name, "told", |sm| said(sm, "Ready").1.contains("ends no Machine without its Cluster"))
        .await;
    let promised = instant(&waits, "/status/leaving/goneBy").unwrap();
    gone(&world.tenant.machines(), &name, PATIENCE).await;
    gone(&world.tenant.stub_machines(), &name, PATIENCE).await;
    gone(&world.tenant.stub_configs(), &name, PATIENCE).await;
    let host = world.calls().on("stubmachines").verb("delete").named(&name).accepted();
    let first = host.iter().next().expect("the host is given back by us: Cluster API does nothing any more");
    assert!(
        first.received >= promised,
        "a Cluster that is made again in time leaves it to Cluster API: {first}"
    );
    let let_go = world.calls().on("machines").verb("patch").named(&name).accepted();
    let last = let_go.iter().next_back().unwrap();
    assert!(last.received > first.received, "the host first: {last}");
    world.until(&name, "settled", |sm| said(sm, "Ready").0 == "WaitingForCluster").await;
    world.delete(&name).await;
    gone(&world.scheduled_machines(), &name, PATIENCE).await;
}

#[tokio::test]
async fn a_kind_that_is_defined_and_not_served_is_not_taken_for_empty() {
    let world = World::start("hidden").await;
    let (mut crd, _) = passing_kind();
    let text =
        crd.to_string().replace("PassingMachine", "HiddenMachine").replace("passingmachine", "hiddenmachine");
    crd = serde_json::from_str(&text).unwrap();
    let crd_name = "hiddenmachines.infrastructure.cluster.x-k8s.io";
    manifests::install(&world.tenant.management, vec![crd.clone()]).await.unwrap();
    let name = world.tenant.unique("ws");
    world.create(&name, json!({"infrastructureSpec": {"kind": "HiddenMachine"}})).await;
    world.until(&name, "made", |sm| sm.data["status"]["machineRef"].is_object()).await;
    // Cluster API takes the Machine out with its parts; then a part of ours comes to light again that nobody deleted.
    world.edit(&name, json!({"schedule": {"enabled": false}})).await;
    world.until_settled(&name, "Disabled").await;
    let hidden = provider::infrastructure("HiddenMachine");
    let sm = world.scheduled_machines().get(&name).await.unwrap();
    let labels = json!({"5spot.finos.org/scheduled-machine-uid": sm.uid()});
    let left = format!("{name}-left");
    world.tenant.create(&hidden, json!({"metadata": {"name": left, "labels": labels}, "spec": {}})).await;
    let crds = definitions(&world);
    let serve = async |served: bool| {
        let mut versions = crds.get(crd_name).await.unwrap().data["spec"]["versions"].clone();
        versions[0]["served"] = json!(served);
        let patch = Patch::Merge(json!({"spec": {"versions": versions}}));
        crds.patch(crd_name, &PatchParams::default(), &patch).await.unwrap();
    };
    serve(false).await;
    world.until(&name, "told", |sm| said(sm, "ReferencesValid").0 == "KindNotServed").await;
    world.delete(&name).await;
    let waits =
        world.until(&name, "waiting in words", |sm| said(sm, "Ready").1.contains("cannot be seen")).await;
    assert!(said(&waits, "Ready").1.contains(crd_name), "{:?}", said(&waits, "Ready"));

    serve(true).await;
    let found = world.until(&name, "found", |sm| said(sm, "Ready").1.contains(&left)).await;
    assert!(said(&found, "Ready").1.contains("still exists"), "{:?}", said(&found, "Ready"));
    world.tenant.api(&hidden).delete(&left, &DeleteParams::default()).await.unwrap();
    gone(&world.scheduled_machines(), &name, PATIENCE).await;
}

#[tokio::test]
async fn a_host_that_does_not_end_is_waited_for_and_named() {
    let world = World::start("stuck").await;
    let name = world.tenant.unique("ws");
    world.create(&name, json!({})).await;
    world.until_settled(&name, "Active").await;
    world.tenant.behave(crate::harness::Behaviour { hold_finalizer: true, ..Default::default() });
    world.delete(&name).await;
    eventually(&world.tenant.stub_machines(), &name, "going", PATIENCE, |stub| {
        stub.metadata.deletion_timestamp.is_some()
    })
    .await;
    let waits =
        world.until(&name, "waiting in words", |sm| said(sm, "Ready").1.contains("StubMachine")).await;
    assert!(!waits.finalizers().is_empty(), "the finalizer outlives what it guards");
    assert_eq!(said(&waits, "Ready").0, "WaitingForMachineDeletion");
    world.tenant.behave(crate::harness::Behaviour::default());
    gone(&world.scheduled_machines(), &name, PATIENCE).await;
    world.until_nothing_left(&name).await;
}
