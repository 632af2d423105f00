//! Reading holds, whom they cover, and what their status says.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::index::Holds;
use super::said::{Seen, is_disposable, next_look, status};
use super::{Entry, Hold};
use crate::api::machine_hold::MachineHoldStatus;

fn t(text: &str) -> Timestamp {
    format!("2026-11-02T{text}:00Z").parse().unwrap()
}

fn stored(name: &str, spec: &Value) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "5spot.finos.org/v1alpha1", "kind": "MachineHold",
        "metadata": {"namespace": "lab", "name": name, "uid": format!("uid-of-{name}"), "generation": 3,
                     "creationTimestamp": "2026-11-02T08:00:00Z"},
        "spec": spec,
    }))
    .unwrap()
}

fn over(over: &Value) -> Value {
    let mut spec = json!({"state": "Inactive", "reason": "working\n late"});
    for (key, value) in over.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

fn entry(change: &Value) -> Entry {
    Entry::read(&stored("h", &over(change)))
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn selects(selector: &Value, pairs: &[(&str, &str)]) -> bool {
    entry(&json!({ "selector": selector })).over("any", &labels(pairs)).is_some()
}

#[test]
fn a_name_covers_that_one_alone() {
    let one = entry(&json!({"scheduledMachine": "ws-17"}));
    assert!(one.over("ws-17", &labels(&[])).is_some());
    assert!(one.over("ws-1", &labels(&[])).is_none());
    assert_eq!(one.over("ws-17", &labels(&[])).unwrap().reason, "working late");
}

#[test]
fn selectors_mean_what_they_mean_everywhere() {
    let expression = |operator: &str, values: Value| json!({"matchExpressions": [{"key": "team", "operator": operator, "values": values}]});
    let risk: &[(&str, &str)] = &[("team", "risk")];
    let none: &[(&str, &str)] = &[("rack", "1")];
    let rows = [
        (json!({}), risk, true),
        (json!({}), none, true),
        (json!({"matchLabels": {"team": "risk"}}), risk, true),
        (json!({"matchLabels": {"team": "risk"}}), none, false),
        (json!({"matchLabels": {"team": "risk", "rack": "1"}}), risk, false),
        (expression("In", json!(["risk", "grid"])), risk, true),
        (expression("In", json!(["grid"])), risk, false),
        (expression("In", json!(["grid"])), none, false),
        (expression("NotIn", json!(["grid"])), risk, true),
        (expression("NotIn", json!(["risk"])), risk, false),
        // As everywhere in Kubernetes: who has no such label is not in.
        (expression("NotIn", json!(["risk"])), none, true),
        (expression("Exists", Value::Null), risk, true),
        (expression("Exists", Value::Null), none, false),
        (expression("DoesNotExist", Value::Null), none, true),
        (expression("DoesNotExist", Value::Null), risk, false),
        (
            json!({"matchLabels": {"team": "risk"},
                   "matchExpressions": [{"key": "rack", "operator": "DoesNotExist"}]}),
            &[("team", "risk"), ("rack", "1")],
            false,
        ),
    ];
    for (selector, pairs, wanted) in rows {
        assert_eq!(selects(&selector, pairs), wanted, "{selector} {pairs:?}");
    }
}

fn seen(matches: usize, now: &str, before: &MachineHoldStatus) -> MachineHoldStatus {
    said(&entry(&json!({"scheduledMachine": "ws-17"})), matches, now, before)
}

fn said(entry: &Entry, matches: usize, now: &str, before: &MachineHoldStatus) -> MachineHoldStatus {
    let (namespace, name, generation) = ("lab", "h", Some(3));
    status(entry, &Seen { namespace, name, generation, matches, before, now: t(now) })
}

/// Status, reason and message of a condition.
fn condition(status: &MachineHoldStatus, kind: &str) -> (String, String, String) {
    let found = status.conditions.iter().find(|condition| condition.type_ == kind).unwrap();
    (found.status.clone(), found.reason.clone(), found.message.clone())
}

#[test]
fn what_nobody_can_read_holds_nothing_and_says_what_to_do() {
    let both = over(&json!({"scheduledMachine": "ws-17", "selector": {}}));
    let operator = json!({"matchExpressions": [{"key": "a", "operator": "Gt"}]});
    for (spec, words) in [
        (both, "both set"),
        (over(&json!({})), "neither scheduledMachine nor selector"),
        (over(&json!({ "selector": operator })), "spec.selector"),
        (over(&json!({"selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}})), "spec.selector"),
        (over(&json!({"scheduledMachine": "ws-17", "state": "Off"})), "unknown variant `Off`"),
        (over(&json!({"scheduledMachine": "ws-17", "until": "tomorrow"})), "spec"),
        (json!("text"), "spec"),
    ] {
        let entry = Entry::read(&stored("h", &spec));
        assert!(entry.over("ws-17", &labels(&[])).is_none(), "{spec}");
        let status = said(&entry, 0, "10:00", &MachineHoldStatus::default());
        for kind in ["InForce", "Expired"] {
            let (status, reason, message) = condition(&status, kind);
            assert_eq!((status.as_str(), reason.as_str()), ("False", "Invalid"));
            assert!(
                message.contains(words) && message.contains("kubectl delete machinehold -n lab h"),
                "{message}"
            );
        }
    }
}

#[test]
fn one_that_cannot_be_read_hides_no_other() {
    let holds = Holds::default();
    holds.put(&stored("bad", &json!({"state": 7})));
    holds.put(&stored("good", &over(&json!({"selector": {}}))));
    let names: Vec<String> =
        holds.over("lab", "ws", &labels(&[])).into_iter().map(|hold| hold.name).collect();
    assert_eq!(names, ["good"]);
}

#[test]
fn a_hold_says_whether_it_counts_and_whom_it_covers() {
    let none = MachineHoldStatus::default();
    let window = json!({"selector": {}, "from": "2026-11-02T09:00:00Z", "until": "2026-11-02T12:00:00Z"});
    let window = entry(&window);
    let rows = [
        (said(&window, 2, "08:59", &none), ("False", "NotYet"), ("False", "NotExpired")),
        (said(&window, 2, "09:00", &none), ("True", "InForce"), ("False", "NotExpired")),
        (said(&window, 2, "12:00", &none), ("False", "Expired"), ("True", "Expired")),
        (said(&window, 0, "09:00", &none), ("False", "MatchesNothing"), ("False", "NotExpired")),
        (seen(1, "09:00", &none), ("True", "InForce"), ("False", "NotExpired")),
    ];
    for (status, in_force, expired) in rows {
        let (first, second) = (condition(&status, "InForce"), condition(&status, "Expired"));
        assert_eq!((first.0.as_str(), first.1.as_str()), in_force);
        assert_eq!((second.0.as_str(), second.1.as_str()), expired);
        assert_eq!(status.observed_generation, Some(3));
    }
    assert_eq!(said(&window, 2, "09:00", &none).matches, Some(2));
    let message = condition(&seen(0, "09:00", &none), "InForce").2;
    assert!(message.contains("no ScheduledMachine ws-17 in namespace lab"), "{message}");
    assert!(message.contains("kubectl get scheduledmachines -n lab"), "{message}");
}

#[test]
fn a_time_changes_only_with_its_status() {
    let first = seen(1, "09:00", &MachineHoldStatus::default());
    assert_eq!(first, seen(1, "10:00", &first), "nothing to write");
    let lost = seen(0, "10:00", &first);
    let since = |status: &MachineHoldStatus, kind: &str| {
        status.conditions.iter().find(|c| c.type_ == kind).unwrap().last_transition_time.0
    };
    assert_eq!((since(&lost, "InForce"), since(&lost, "Expired")), (t("10:00"), t("09:00")));
}

#[test]
fn one_that_is_being_deleted_holds_nothing_any_more() {
    let mut raw = stored("h", &over(&json!({"selector": {}})));
    raw.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(t("09:00")));
    let entry = Entry::read(&raw);
    assert!(entry.over("ws", &labels(&[])).is_none());
    let said = said(&entry, 1, "10:00", &MachineHoldStatus::default());
    assert_eq!(condition(&said, "InForce").1, "Deleting");
}

fn hold(change: &Value) -> Hold {
    entry(change).content.unwrap().1
}

#[test]
fn our_own_go_an_hour_after_their_end_and_those_of_people_stay() {
    let until = "2026-11-02T12:00:00Z";
    let reclaim = json!({"scheduledMachine": "ws", "origin": "Reclaim", "reclaim": {}, "until": until});
    let (ours, theirs) = (hold(&reclaim), hold(&json!({"scheduledMachine": "ws", "until": until})));
    assert!(!is_disposable(&ours, t("12:59")) && is_disposable(&ours, t("13:00")));
    assert!(!is_disposable(&theirs, t("23:00")));
    assert_eq!(next_look(&ours, t("11:00")), Some(t("12:00")));
    assert_eq!(next_look(&ours, t("12:00")), Some(t("13:00")));
    assert_eq!(next_look(&theirs, t("12:00")), None);
    let endless = hold(&json!({"scheduledMachine": "ws", "origin": "Reclaim", "reclaim": {}}));
    assert!(!is_disposable(&endless, t("23:00")));
}

#[test]
fn the_index_tells_which_holds_begin_or_cease_to_cover_an_object() {
    let holds = Holds::default();
    holds.put(&stored("risk", &over(&json!({"selector": {"matchLabels": {"team": "risk"}}}))));
    holds.put(&stored("one", &over(&json!({"scheduledMachine": "ws-1"}))));
    let moved = |name: &str, labels: Option<&BTreeMap<String, String>>| -> Vec<String> {
        holds.moved("lab", name, labels).into_iter().collect()
    };
    let (risk, none) = (labels(&[("team", "risk")]), labels(&[]));
    assert_eq!(moved("ws-1", Some(&risk)), ["one", "risk"]);
    assert_eq!(moved("ws-1", Some(&risk)), Vec::<String>::new());
    assert_eq!(moved("ws-1", Some(&none)), ["risk"]);
    assert_eq!(moved("ws-1", None), ["one"]);
    assert_eq!(moved("ws-1", None), Vec::<String>::new());
    assert_eq!(holds.over("other", "ws-1", &risk), vec![]);
}

#[test]
fn a_later_hold_of_the_same_name_outlives_the_end_of_the_one_before() {
    let holds = Holds::default();
    let first = stored("h", &over(&json!({"selector": {}})));
    let mut second = first.clone();
    second.metadata.uid = Some("another".to_owned());
    holds.put(&first);
    holds.put(&second);
    assert!(holds.remove(&first).is_none());
    assert_eq!(holds.over("lab", "ws", &labels(&[])).len(), 1);
    assert!(holds.remove(&second).is_some());
    assert_eq!(holds.over("lab", "ws", &labels(&[])).len(), 0);
}

#[test]
fn a_hold_hears_of_a_label_that_was_there_before_it_knew_the_object() {
    let holds = Holds::default();
    let lab = labels(&[("lab", "a")]);
    holds.put(&stored("h", &over(&json!({"selector": {"matchLabels": {"lab": "a"}}}))));
    holds.moved("lab", "ws-1", Some(&lab));
    let names = |set: std::collections::BTreeSet<String>| set.into_iter().collect::<Vec<_>>();
    assert_eq!(names(holds.moved("lab", "ws-1", Some(&labels(&[])))), ["h"]);
}

#[test]
fn holds_are_unread_only_until_they_were_read_once() {
    let holds = Holds::default();
    assert_eq!(holds.unread(), None);
    holds.set_unreadable("forbidden".to_owned());
    assert_eq!(holds.unread().as_deref(), Some("forbidden"));
    holds.set_complete();
    holds.set_unreadable("forbidden".to_owned());
    assert_eq!(holds.unread(), None, "those known are still known");
}
