//! Taints: what is put on, changed and taken off, and what is left alone.

use k8s_openapi::api::core::v1::Taint;
use serde_json::{Value, json};

use super::given::{Given, NODE, given, perform};
use crate::api::condition::types;
use crate::api::taint::AppliedTaint;
use crate::controller::effect::{Effect, TaintEdit};
use crate::controller::report::{Failure, Report};
use crate::controller::status::derive;
use crate::workload::Reach;

/// `"lent=true"` or `"lent"`, all of them `NoSchedule`.
fn taint(text: &str) -> Taint {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    let value = (!value.is_empty()).then(|| value.to_owned());
    Taint { key: key.to_owned(), value, effect: "NoSchedule".to_owned(), time_added: None }
}

fn entry(text: &str) -> Value {
    let Taint { key, value, effect, .. } = taint(text);
    json!({"key": key, "value": value.unwrap_or_default(), "effect": effect})
}

fn entries(texts: &[&str]) -> Value {
    texts.iter().map(|text| entry(text)).collect()
}

/// A lent machine: the spec asks for `wanted`, the Node has `found`, its annotation says `said`, the status `recorded`
/// (`"lent=true?"`: written down ahead).
pub(super) fn lent(wanted: &[&str], found: &[&str], said: &[&str], recorded: &[&str]) -> Given {
    given().lent().set("/nodeTaints", entries(wanted)).with(|s| {
        let node = s.node.as_mut().unwrap();
        node.taints = found.iter().map(|text| taint(text)).collect();
        node.applied_taints = (!said.is_empty()).then(|| entries(said).to_string());
        node.has_annotations = !said.is_empty();
        s.status.applied_node_taints = recorded.iter().map(|text| record(text)).collect();
    })
}

fn record(text: &str) -> AppliedTaint {
    let (text, pending) = text.strip_suffix('?').map_or((text, false), |text| (text, true));
    AppliedTaint { pending, ..serde_json::from_value(entry(text)).unwrap() }
}

fn shown(record: &AppliedTaint) -> String {
    let value = record.value.as_deref().filter(|value| !value.is_empty());
    let value = value.map(|value| format!("={value}")).unwrap_or_default();
    format!("{}{value}{}", record.key, if record.pending { "?" } else { "" })
}

fn edit_of(given: &Given) -> Option<TaintEdit> {
    given.decide().effects.into_iter().find_map(|effect| match effect {
        Effect::Taint(edit) => Some(edit),
        _ => None,
    })
}

/// The Node's taints and what its annotation says, after the write.
fn after(given: &Given, edit: &TaintEdit) -> (Vec<String>, Vec<String>) {
    let mut taints = given.s.node.as_ref().unwrap().taints.clone();
    perform(edit, &mut taints);
    let text = |taint: &Taint| match taint.value.as_deref().unwrap_or_default() {
        "" => taint.key.clone(),
        value => format!("{}={value}", taint.key),
    };
    let said: Vec<Value> = serde_json::from_str(edit.record.as_deref().unwrap_or("[]")).unwrap();
    let told = said
        .iter()
        .map(|e| text(&taint(&format!("{}={}", e["key"].as_str().unwrap(), e["value"].as_str().unwrap()))));
    (taints.iter().map(text).collect(), told.collect())
}

/// What is on the Node after a write, and what its annotation says.
type Written = (Vec<String>, Vec<String>);

/// Name; wanted, found, said, recorded; recorded after it; found and said after its write.
type Row<'a> = (&'a str, [&'a [&'a str]; 4], &'a [&'a str], Option<(&'a [&'a str], &'a [&'a str])>);

/// What the pass does: the status it leaves, and, if it writes to the Node, what is on it and what it says then.
fn pass(given: &Given) -> (Vec<String>, Option<Written>) {
    let recorded = given.status().applied_node_taints.iter().map(shown).collect();
    (recorded, edit_of(given).map(|edit| after(given, &edit)))
}

#[test]
fn every_state_of_a_taint_has_its_step() {
    let none: &[&str] = &[];
    #[rustfmt::skip]
    let rows: &[Row<'_>] = &[
        // what, [wanted, found, said, recorded], recorded after, (found, said) after
        ("nothing asked for", [none, &["foreign"], none, none], none, None),
        ("written down ahead", [&["a=1"], &["foreign"], none, none], &["a=1?"], None),
        ("put on", [&["a=1"], &["foreign=x"], none, &["a=1?"]], &["a=1?"], Some((&["foreign=x", "a=1"], &["a=1"]))),
        ("confirmed", [&["a=1"], &["foreign", "a=1"], &["a=1"], &["a=1?"]], &["a=1"], None),
        ("at rest", [&["a=1"], &["a=1", "foreign"], &["a=1"], &["a=1"]], &["a=1"], None),
        ("a second one", [&["a=1", "b"], &["a=1"], &["a=1"], &["a=1"]], &["a=1", "b?"], None),
        ("a second one put on", [&["a=1", "b"], &["a=1"], &["a=1"], &["a=1", "b?"]], &["a=1", "b?"],
            Some((&["a=1", "b"], &["a=1", "b"]))),
        ("a value edited", [&["a=2"], &["x", "a=1"], &["a=1"], &["a=1"]], &["a=2?"], None),
        ("the value changed", [&["a=2"], &["x", "a=1"], &["a=1"], &["a=2?"]], &["a=2?"], Some((&["x", "a=2"], &["a=2"]))),
        ("edited again before it was seen", [&["a=3"], &["a=2"], &["a=2"], &["a=2?"]], &["a=3?"], None),
        ("a value taken off", [&["a"], &["a=1"], &["a=1"], &["a?"]], &["a?"], Some((&["a"], &["a"]))),
        ("taken off", [none, &["a=1", "x"], &["a=1"], &["a=1"]], &["a=1"], Some((&["x"], none))),
        ("one of two taken off", [&["b"], &["a=1", "x", "b"], &["a=1", "b"], &["a=1", "b"]], &["a=1", "b"],
            Some((&["x", "b"], &["b"]))),
        ("off", [none, &["x"], none, &["a=1"]], none, None),
        ("taken off by somebody", [&["a=1"], &["x"], &["a=1"], &["a=1"]], &["a=1?"], None),
        ("put back", [&["a=1"], &["x"], &["a=1"], &["a=1?"]], &["a=1?"], Some((&["x", "a=1"], &["a=1"]))),
        ("one goes and one comes, in one write", [&["b"], &["a=1"], &["a=1"], &["a=1"]], &["a=1", "b?"], None),
        ("in one write", [&["b"], &["a=1"], &["a=1"], &["a=1", "b?"]], &["a=1", "b?"], Some((&["b"], &["b"]))),
        ("somebody else's value", [&["a=1", "b"], &["a=9"], none, none], &["b?"], None),
        ("blocks no other", [&["a=1", "b"], &["a=9"], none, &["b?"]], &["b?"], Some((&["a=9", "b"], &["b"]))),
        ("somebody else's, the same", [&["a=1"], &["a=1"], none, none], none, None),
        ("somebody was faster", [&["a=1"], &["a=1"], none, &["a=1?"]], none, None),
        ("ours until somebody changed it", [none, &["a=9"], &["a=1"], &["a=1"]], none, Some((&["a=9"], none))),
        ("ours until somebody changed it, and wanted", [&["a=1"], &["a=9"], &["a=1"], &["a=1"]], none,
            Some((&["a=9"], none))),
        ("an edit whose answer was lost, and then off the spec", [none, none, none, &["a=1?"]], &["a=1?"], None),
        ("and then it shows", [none, &["a=1"], &["a=1"], &["a=1?"]], &["a=1?"], Some((none, none))),
        ("an edit of the value whose answer was lost", [none, &["a=2"], &["a=2"], &["a=2?"]], &["a=2?"], Some((none, none))),
        ("the annotation is gone", [&["a=1"], &["a=1", "x"], none, &["a=1"]], &["a=1"], Some((&["a=1", "x"], &["a=1"]))),
        ("the annotation is gone, and an edit", [&["a=2"], &["a=1"], none, &["a=1"]], &["a=1"], Some((&["a=1"], &["a=1"]))),
        ("the annotation is gone, and taken off", [none, &["a=1", "x"], none, &["a=1"]], &["a=1"], Some((&["x"], none))),
        ("the annotation names a stranger's", [&["a=1"], &["x=1", "a=1"], &["a=1", "x=1"], &["a=1"]], &["a=1"],
            Some((&["x=1", "a=1"], &["a=1"]))),
        ("and nothing is wanted any more", [none, &["x=1"], &["x=1"], none], none, None),
        ("it names what is wanted, as if it were ours", [&["x=1"], &["x=1"], &["x=1"], none], none, Some((&["x=1"], none))),
    ];
    for (what, [wanted, found, said, recorded], records, written) in rows {
        let given = lent(wanted, found, said, recorded);
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let expected = (owned(records), written.map(|(found, said)| (owned(found), owned(said))));
        assert_eq!(pass(&given), expected, "{what}");
    }
}

#[test]
fn garbage_in_the_annotation_is_put_right_and_nothing_is_taken_off_for_it() {
    for garbage in ["", "{", "null", "7", r#"[{"key": "x"}]"#, r#"[{"key":"x","effect":"Never"}]"#] {
        let tampered = |wanted: &[&str], found: &[&str], recorded: &[&str]| {
            lent(wanted, found, &[], recorded).with(|s| {
                let node = s.node.as_mut().unwrap();
                (node.applied_taints, node.has_annotations) = (Some(garbage.to_owned()), true);
            })
        };
        let (recorded, written) = pass(&tampered(&["a=1"], &["x", "a=1"], &["a=1"]));
        assert_eq!(recorded, ["a=1"], "{garbage}");
        assert_eq!(
            written,
            Some((vec!["x".to_owned(), "a=1".to_owned()], vec!["a=1".to_owned()])),
            "{garbage}"
        );
        assert_eq!(
            pass(&tampered(&[], &["x"], &[])),
            (vec![], None),
            "nothing of ours, nothing to do: {garbage}"
        );
    }
}

#[test]
fn the_predecessors_record_is_read_and_gets_its_values() {
    let old = lent(&["a=1"], &["a=1"], &[], &["a=1"]).with(|s| {
        let node = s.node.as_mut().unwrap();
        (node.applied_taints, node.has_annotations) =
            (Some(r#"[{"key":"a","effect":"NoSchedule"}]"#.to_owned()), true);
    });
    let (recorded, written) = pass(&old);
    assert_eq!(recorded, ["a=1"]);
    assert_eq!(written, Some((vec!["a=1".to_owned()], vec!["a=1".to_owned()])));
}

#[test]
fn a_node_that_came_anew_under_its_name_makes_the_record_void() {
    let anew =
        lent(&["b"], &["a=1"], &[], &["a=1"]).with(|s| s.node.as_mut().unwrap().uid = "new".to_owned());
    assert_eq!(pass(&anew), (vec!["b?".to_owned()], None));
    let seen = anew.passed();
    assert_eq!(seen.s.status.node_ref.as_ref().unwrap().uid.as_deref(), Some("new"));
    assert_eq!(pass(&seen).1, Some((vec!["a=1".to_owned(), "b".to_owned()], vec!["b".to_owned()])));
}

#[test]
fn after_a_move_what_is_asked_for_is_taken_over_and_nothing_else() {
    let moved = lent(&["a=1", "b=2"], &["a=1", "b=1", "c"], &["a=1", "b=1", "c"], &[]).with(|s| {
        s.status.node_ref = None;
    });
    let (recorded, written) = pass(&moved);
    assert_eq!(recorded, ["a=1"]);
    let (found, said) = written.unwrap();
    assert_eq!(
        (found, said),
        (vec!["a=1".to_owned(), "b=1".to_owned(), "c".to_owned()], vec!["a=1".to_owned()])
    );
    assert_eq!(moved.condition(types::NODE_TAINTED).unwrap().1, "TaintOwnershipConflict");
    // On its way out nothing is written to the Node's taints, and what was ours is ours all the same once it stays.
    let leaving = moved.at("18:01");
    assert!(leaving.decide().taints.is_none());
    let keys = |given: Given| -> Vec<String> {
        given.s.status.applied_node_taints.into_iter().map(|taint| taint.key).collect()
    };
    assert_eq!(keys(leaving.passed()), ["a"]);
}

#[test]
fn nothing_is_written_to_a_node_that_is_not_provably_ours_or_cannot_be_reached() {
    let due = || lent(&["a=1"], &[], &[], &["a=1?"]);
    assert!(edit_of(&due()).is_some());
    for (what, given) in [
        ("unreachable", due().with(|s| s.reach = Reach::Unreachable("dark".to_owned()))),
        ("going", due().with(|s| s.node.as_mut().unwrap().deleting = true)),
        (
            "another host",
            due().with(|s| {
                s.status.node_ref = None;
                s.node.as_mut().unwrap().provider_id = Some("stub://elsewhere".to_owned());
            }),
        ),
        ("leaving", due().at("18:00")),
        ("paused", due().set("/paused", json!(true))),
        ("paused by Cluster API", due().with(|s| s.object.is_paused = true)),
    ] {
        assert_eq!(edit_of(&given), None, "{what}");
        assert_eq!(given.status().applied_node_taints, given.s.status.applied_node_taints, "{what}");
    }
    let waiting = lent(&["a=1"], &[], &[], &[]).with(|s| s.reach = Reach::Unreachable("dark".to_owned()));
    assert_eq!(pass(&waiting), (vec![], None), "nothing is announced that cannot be done");
}

#[test]
fn a_node_is_tainted_before_cluster_api_has_matched_it() {
    let early = lent(&["a=1"], &[], &[], &[]).with(|s| {
        let machine = s.machine.as_mut().unwrap();
        (machine.node, machine.conditions) = (None, vec![]);
        (s.status.node_ref, s.status.provider_id) = (None, None);
    });
    let early = early.passed();
    assert_eq!(early.s.status.node_ref.as_ref().unwrap().uid.as_deref(), Some(NODE));
    assert_eq!(pass(&early).1, Some((vec!["a=1".to_owned()], vec!["a=1".to_owned()])));
}

#[test]
fn one_write_in_a_pass_and_the_cordon_goes_first() {
    let both = lent(&["a=1"], &[], &[], &["a=1?"]).with(|s| {
        let uid = s.object.uid.clone();
        let node = s.node.as_mut().unwrap();
        (node.unschedulable, node.cordoned_by) = (true, Some(uid));
    });
    assert_eq!(both.effects(), ["uncordon"]);
}

#[test]
fn more_than_fits_is_taken_off_before_the_rest_is_put_on() {
    let names = |prefix: &str| (0..64).map(|n| format!("{prefix}{n:02}")).collect::<Vec<String>>();
    let (old, new) = (names("old"), names("new"));
    let refs = |names: &'static [String]| names.iter().map(String::as_str).collect::<Vec<_>>();
    let (old, new) = (refs(old.leak()), refs(new.leak()));
    let given = lent(&new, &old, &old, &old);
    let (recorded, written) = pass(&given);
    assert_eq!(recorded, old, "all of those that go, first");
    assert_eq!(written, Some((vec![], vec![])));
    let off = lent(&new, &[], &[], &old);
    assert_eq!(pass(&off).0.len(), 64);
}

#[test]
fn the_patch_keeps_its_hands_off_everything_else() {
    let given = lent(&["b=2", "c"], &["x", "a=1", "y", "b=1"], &["a=1", "b=1"], &["a=1", "b=2?", "c?"]);
    let patch = edit_of(&given).unwrap().patch();
    let record = json!([entry("b=2"), entry("c")]).to_string();
    assert_eq!(
        patch,
        json!([
            {"op": "replace", "path": "/metadata/resourceVersion", "value": "3"},
            {"op": "add", "path": "/spec/taints/3/value", "value": "2"},
            {"op": "remove", "path": "/spec/taints/1"},
            {"op": "add", "path": "/spec/taints/-", "value": {"key": "c", "value": "", "effect": "NoSchedule"}},
            {"op": "add", "path": "/metadata/annotations/5spot.finos.org~1applied-taints",
             "value": serde_json::to_string(&serde_json::from_str::<Value>(&record).unwrap()).unwrap()},
        ])
    );
    let bare = edit_of(&lent(&["a"], &[], &[], &["a?"])).unwrap().patch();
    assert_eq!(bare[1], json!({"op": "add", "path": "/spec/taints", "value": []}));
    assert!(bare[3]["value"]["5spot.finos.org/applied-taints"].is_string(), "{bare}");
}

fn said(given: &Given) -> Option<(String, String)> {
    given.condition(types::NODE_TAINTED)
}

fn says(given: &Given, status: &str, reason: &str) -> bool {
    said(given) == Some((status.to_owned(), reason.to_owned()))
}

#[test]
fn the_condition_says_whether_the_taints_are_on() {
    assert_eq!(said(&given().lent()), None, "none are asked for");
    assert!(says(&lent(&["a"], &["a"], &["a"], &["a"]), "True", "Applied"));
    assert!(says(&lent(&["a"], &[], &[], &["a?"]), "False", "NodeNotReady"));
    assert!(says(&lent(&["a=1"], &["a=2"], &[], &[]), "False", "TaintOwnershipConflict"));
    assert!(says(&lent(&["a=1"], &["a=1"], &[], &[]), "True", "TaintOwnershipConflict"));
    assert!(says(&lent(&[], &["a"], &["a"], &["a"]), "False", "NodeNotReady"), "to be taken off");
    assert_eq!(said(&lent(&[], &[], &[], &["a"])), None);
    let wants = || given().set("/nodeTaints", entries(&["a"]));
    assert!(says(&wants(), "False", "NodeNotReady"), "about to be made");
    assert!(says(&wants().machine(), "False", "NodeNotReady"));
    assert_eq!(said(&wants().at("19:00")), None, "no machine is wanted");
    assert_eq!(said(&lent(&["a"], &["a"], &["a"], &["a"]).at("18:00")), None, "leaving");
    let tainted = lent(&["a"], &["a"], &["a"], &["a"]).passed();
    assert!(says(&tainted.clone().set("/paused", json!(true)), "True", "Applied"), "as it was");
    assert!(says(&tainted.with(|s| s.reach = Reach::Unreachable(String::new())), "True", "Applied"));
}

#[test]
fn a_conflict_names_both_and_a_refused_write_is_told() {
    let conflict = lent(&["a=1"], &["a=2"], &[], &[]).status();
    let told = conflict.conditions.iter().find(|c| c.type_ == types::NODE_TAINTED).unwrap();
    assert!(
        told.message.contains("a=2:NoSchedule") && told.message.contains("a=1:NoSchedule"),
        "{}",
        told.message
    );
    let due = lent(&["a=1"], &[], &[], &["a=1?"]);
    let failure = Failure {
        reason: "UpdateFailed",
        message: "nodes \"ws-1\" is forbidden".to_owned(),
        class: crate::controller::error::Class::Permanent,
    };
    let report = Report { node_failure: Some(failure), ..Report::default() };
    let status = derive(&due.s, &due.decide(), &report);
    let told = status.conditions.iter().find(|c| c.type_ == types::NODE_TAINTED).unwrap();
    assert_eq!((told.status.as_str(), told.reason.as_str()), ("False", "PatchFailed"));
    assert!(told.message.contains("forbidden"), "{}", told.message);
    let ready = status.conditions.iter().find(|c| c.type_ == types::READY).unwrap();
    assert_eq!(ready.status, "True", "the machine is lent all the same");
}

#[test]
fn taints_that_the_server_would_refuse_are_faults_and_keep_no_other_off() {
    let bad = given().set(
        "/nodeTaints",
        json!([entry("a"), entry("5spot.finos.org/x"), {"key": "b", "effect": "Sometimes"}, entry("a=2"), entry("c=-")]),
    );
    let kept: Vec<&str> = bad.s.target.taints.iter().map(|taint| taint.key.as_str()).collect();
    assert_eq!(kept, ["a"]);
    let paths: Vec<String> = bad.s.target.other_faults.iter().map(|fault| fault.path.clone()).collect();
    assert_eq!(
        paths,
        ["spec.nodeTaints[1]", "spec.nodeTaints[2]", "spec.nodeTaints[3]", "spec.nodeTaints[4]"]
    );
}
