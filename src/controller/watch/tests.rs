//! Who wakes by what.

use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::capi::kinds::Role;

struct Woken {
    waker: Waker,
    keys: UnboundedReceiver<Key>,
}

fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).unwrap()
}

/// A waker over these ScheduledMachines of the namespace `lab`, by name and the rest.
fn over(objects: &[(&str, Value)]) -> Woken {
    let mut writer = Writer::new(scheduled_machine_resource());
    for (name, rest) in objects {
        let mut whole = rest.clone();
        whole["metadata"] = json!({"name": name, "namespace": "lab"});
        writer.apply_watcher_event(&Event::Apply(object(whole)));
    }
    let (keys, received) = unbounded_channel();
    let (hold_keys, _) = unbounded_channel();
    let waker = Waker::new(keys, hold_keys, writer.as_reader(), Holds::default());
    Woken { waker, keys: received }
}

impl Woken {
    fn names(&mut self) -> Vec<String> {
        let mut names: Vec<String> =
            std::iter::from_fn(|| self.keys.try_recv().ok()).map(|key| key.name).collect();
        names.sort();
        names
    }
}

#[test]
fn a_kind_wakes_whoever_names_it_or_was_made_of_it() {
    let part = |kind: &str| json!({"apiVersion": "infrastructure.cluster.x-k8s.io/v1", "kind": kind});
    let mut woken = over(&[
        ("spec", json!({"spec": {"infrastructureSpec": part("Old")}})),
        ("ref", json!({"status": {"infrastructureRef": part("Old")}})),
        (
            "noted",
            json!({"spec": {"infrastructureSpec": part("New")}, "status": {"partKinds": [part("New"), part("Old")]}}),
        ),
        (
            "other",
            json!({"spec": {"infrastructureSpec": part("New")}, "status": {"partKinds": [part("New")]}}),
        ),
    ]);
    woken.waker.kind(&KindNotice::Kind {
        role: Role::Infrastructure,
        api_version: "infrastructure.cluster.x-k8s.io/v1".to_owned(),
        kind: "Old".to_owned(),
    });
    assert_eq!(woken.names(), ["noted", "ref", "spec"]);
}

#[test]
fn a_node_wakes_the_machine_written_on_it_and_those_that_wait_for_its_host() {
    let mut woken = over(&[]);
    woken.waker.note_host(&object(json!({
        "metadata": {"name": "night", "namespace": "lab"}, "spec": {"providerID": "stub://host"},
    })));
    let connection = ConnectionKey { namespace: "lab".into(), secret: "grid".into(), key: "value".into() };
    let mut wakes = |machine: Option<&str>, id: Option<&str>| {
        woken.waker.workload(&WorkloadNotice::Node {
            connection: connection.clone(),
            name: "host".to_owned(),
            machine: machine.map(|name| ("lab".to_owned(), name.to_owned())),
            provider_id: id.map(str::to_owned),
        });
        woken.names()
    };
    assert_eq!(
        wakes(Some("day"), Some("stub://host")),
        ["day", "night"],
        "an earlier run's word is still on it"
    );
    assert_eq!(wakes(Some("night"), Some("stub://host")), ["night"], "once");
    assert_eq!(wakes(None, Some("stub://host")), ["night"]);
    assert_eq!(wakes(Some("day"), Some("stub://other")), ["day"]);
    assert!(wakes(None, None).is_empty());
}
