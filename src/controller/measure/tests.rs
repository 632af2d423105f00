use serde_json::{Value, json};

use super::*;

const NOW: &str = "2026-11-02T18:00:00.250Z";

fn status(value: Value) -> ScheduledMachineStatus {
    serde_json::from_value(value).unwrap()
}

fn told(before: Value, after: Value) -> Vec<Measure> {
    measures(&status(before), &status(after), NOW.parse().unwrap())
}

fn decision(state: &str, rule: &str, since: &str, manner: &str) -> Value {
    json!({"state": state, "rule": rule, "since": since, "ruleSince": since, "manner": manner})
}

fn active(since: &str) -> Value {
    decision("Active", "Window", since, "Graceful")
}

fn inactive(since: &str) -> Value {
    decision("Inactive", "OutsideWindows", since, "Graceful")
}

fn machine() -> Value {
    json!({"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Machine", "name": "ws", "uid": "u"})
}

#[test]
fn nothing_happened_where_nothing_changed() {
    let same = json!({
        "decision": decision("Inactive", "KillSwitch", "2026-11-02T17:00:00Z", "Eject"),
        "leaving": {"since": "2026-11-02T17:00:00Z", "stage": "Eject"},
        "reclaim": {"at": "2026-11-02T16:00:00Z", "recent": ["2026-11-02T16:00:00Z"]},
        "lastRun": {"openedAt": "2026-11-02T10:00:00Z", "readyAt": "2026-11-02T10:01:00Z"},
        "conditions": [{"type": "ReferencesValid", "status": "False", "reason": "SpecInvalid", "message": "",
                        "lastTransitionTime": "2026-11-02T17:00:00Z"}],
    });
    assert_eq!(told(same.clone(), same), []);
}

#[test]
fn a_kill_switch_counts_when_it_begins_to_rule() {
    let killed = json!({"decision": decision("Inactive", "KillSwitch", "2026-11-02T18:00:00Z", "Eject")});
    assert_eq!(told(json!({}), killed), [Measure::KillSwitch]);
}

#[test]
fn the_first_machine_of_an_opening_tells_how_late_it_was() {
    let since = "2026-11-02T18:00:00Z";
    let made = json!({"decision": active(since), "machineRef": machine()});
    assert_eq!(
        told(json!({"decision": inactive(since)}), made.clone()),
        [Measure::EdgeLag(Edge::Open, 0.25)]
    );
    let in_an_earlier_opening =
        json!({"lastRun": {"openedAt": "2026-11-01T18:00:00Z", "goneAt": "2026-11-02T07:00:00Z"}});
    assert_eq!(told(in_an_earlier_opening, made), [Measure::EdgeLag(Edge::Open, 0.25)]);
    let again = json!({"decision": active("2026-11-02T09:00:00Z"), "machineRef": machine()});
    let lost = json!({"lastRun": {"openedAt": "2026-11-02T09:00:00.1Z", "goneAt": "2026-11-02T12:00:00Z"}});
    assert_eq!(told(lost, again), [], "somebody deleted the one before");
}

#[test]
fn the_start_of_a_leaving_tells_how_late_it_was_unless_a_deletion_began_it() {
    let since = "2026-11-02T18:00:00Z";
    let leaving =
        |decision: Value| json!({"decision": decision, "leaving": {"since": since, "stage": "Grace"}});
    let was = json!({"decision": active("2026-11-02T09:00:00Z")});
    assert_eq!(told(was.clone(), leaving(inactive(since))), [Measure::EdgeLag(Edge::Close, 0.25)]);
    assert_eq!(told(was.clone(), leaving(decision("Inactive", "Deletion", since, "Graceful"))), []);
    assert_eq!(told(was, json!({"decision": inactive(since)})), [], "nothing was there to leave");
}

#[test]
fn ready_counts_from_the_edge_and_only_for_what_began_there() {
    let after = |opened: &str| {
        json!({"decision": active("2026-11-02T17:58:00Z"),
               "lastRun": {"openedAt": opened, "readyAt": "2026-11-02T18:00:00Z"}})
    };
    let before =
        |opened: &str| json!({"decision": active("2026-11-02T17:58:00Z"), "lastRun": {"openedAt": opened}});
    let prompt = "2026-11-02T17:58:00.02Z";
    assert_eq!(told(before(prompt), after(prompt)), [Measure::Ready(120.0)]);
    let late = "2026-11-02T18:20:00Z";
    assert_eq!(told(before(late), after(late)), []);
    let former = json!({"decision": active("2026-11-02T17:58:00Z"),
                        "lastRun": {"openedAt": "2026-11-01T09:00:00Z", "readyAt": "2026-11-01T09:01:00Z", "goneAt": "2026-11-01T10:00:00Z"}});
    assert_eq!(told(former, after(prompt)), [Measure::Ready(120.0)], "ready in the first status of its run");
}

#[test]
fn a_drain_ends_once_in_one_of_three_ways() {
    let draining = |end: &str| json!({"leaving": {"since": "2026-11-02T17:50:00Z", "stage": "Drain", "drainEndsAt": end}});
    let stage = |stage: &str| json!({"leaving": {"since": "2026-11-02T17:50:00Z", "stage": stage}});
    let (to_come, over) = ("2026-11-02T18:05:00Z", "2026-11-02T18:00:00Z");
    for (end, after, expected) in [
        (to_come, stage("Deletion"), Some(DrainEnd::Success)),
        (over, stage("Deletion"), Some(DrainEnd::Timeout)),
        (to_come, stage("Eject"), Some(DrainEnd::Ejected)),
        (to_come, stage("Drain"), None),
        (to_come, json!({}), None),
    ] {
        let drains: Vec<Measure> = expected.map(Measure::Drain).into_iter().collect();
        assert_eq!(told(draining(end), after.clone()), drains, "{end} {after}");
    }
}

fn gone(manner: &str, rule: &str, late: i64, reachable: &str) -> Vec<Measure> {
    let closed = "2026-11-02T17:59:00Z";
    let before = json!({"timers": {"ejectStartedAt": "2026-11-02T17:59:30Z"}, "lastRun": {"openedAt": "2026-11-02T09:00:00Z"},
                        "decision": decision("Inactive", rule, closed, manner), "reclaim": {"at": "2026-11-02T17:59:58Z"}});
    let after = json!({"decision": decision("Inactive", rule, closed, manner), "reclaim": {"at": "2026-11-02T17:59:58Z"},
                       "lastRun": {"openedAt": "2026-11-02T09:00:00Z", "closedAt": closed, "goneAt": "2026-11-02T18:00:00Z",
                                   "endedBy": rule, "lateBySeconds": late},
                       "conditions": [{"type": "WorkloadReachable", "status": reachable, "reason": "Connected", "message": "",
                                       "lastTransitionTime": closed}]});
    told(before, after)
}

#[test]
fn what_is_gone_tells_how_long_it_took_and_by_which_path() {
    assert_eq!(gone("Graceful", "OutsideWindows", 0, "True"), [Measure::HandBack(Path::Graceful, 60.0)]);
    for (late, reachable, end) in
        [(0, "True", EjectEnd::Success), (3, "True", EjectEnd::Timeout), (0, "Unknown", EjectEnd::Error)]
    {
        let expected = [Measure::HandBack(Path::Eject, 60.0), Measure::Eject(end, 30.0)];
        assert_eq!(gone("Eject", "KillSwitch", late, reachable), expected);
    }
    assert_eq!(gone("Eject", "Reclaim", 0, "True").last(), Some(&Measure::ReclaimStage(Stage::Gone, 2.0)));
}

#[test]
fn what_somebody_else_deleted_was_not_handed_back() {
    let before = json!({"lastRun": {"openedAt": "2026-11-02T09:00:00Z"}});
    let after = json!({"lastRun": {"openedAt": "2026-11-02T09:00:00Z", "closedAt": "2026-11-02T17:00:00Z",
                                   "goneAt": "2026-11-02T18:00:00Z"}});
    assert_eq!(told(before, after), []);
}

#[test]
fn a_reclaim_counts_once_and_the_third_within_ten_minutes_is_rapid() {
    let reclaim = |recent: &[&str]| json!({"reclaim": {"at": recent.last(), "recent": recent}});
    let heard = [Measure::Reclaim, Measure::ReclaimStage(Stage::Observe, 0.25)];
    let (first, second, third) = ("2026-11-02T17:49:00Z", "2026-11-02T17:55:00Z", "2026-11-02T18:00:00Z");
    assert_eq!(told(json!({}), reclaim(&[third])), heard);
    assert_eq!(told(reclaim(&[first, second]), reclaim(&[first, second, third])), heard);
    let rapid =
        told(reclaim(&["2026-11-02T17:51:00Z", second]), reclaim(&["2026-11-02T17:51:00Z", second, third]));
    assert_eq!(rapid, [heard[0], heard[1], Measure::RapidReclaim]);
    assert_eq!(told(reclaim(&[third]), reclaim(&[third])), []);
}

#[test]
fn a_deletion_that_is_later_than_promised_counts_once() {
    let status = |rule: &str, is_late: bool| {
        let late = json!([{"type": "HandBackOverdue", "status": "True", "reason": "HandBackOverdue", "message": "",
                           "lastTransitionTime": "2026-11-02T18:00:00Z"}]);
        json!({"decision": decision("Inactive", rule, "2026-11-02T17:00:00Z", "Graceful"),
               "conditions": if is_late { late } else { json!([]) }})
    };
    assert_eq!(told(status("Deletion", false), status("Deletion", true)), [Measure::FinalizerTimeout]);
    assert_eq!(told(status("Deletion", true), status("Deletion", true)), []);
    assert_eq!(told(status("OutsideWindows", false), status("OutsideWindows", true)), []);
}

#[test]
fn faults_are_told_by_what_is_wrong_and_outages_are_none() {
    let said = |kind: &str, status: &str, reason: &str| {
        json!({"conditions": [{"type": kind, "status": status, "reason": reason, "message": "",
                               "lastTransitionTime": "2026-11-02T18:00:00Z"}]})
    };
    for (kind, reason, fault) in [
        ("ReferencesValid", "SpecInvalid", Some(Fault::Validation)),
        ("ReferencesValid", "KindNotServed", Some(Fault::ReferenceValidation)),
        ("ReferencesValid", "ClusterNotFound", Some(Fault::ReferenceValidation)),
        ("WorkloadReachable", "KubeconfigInvalid", Some(Fault::InvalidConfig)),
        ("WorkloadReachable", "KubeconfigMissing", Some(Fault::InvalidConfig)),
        ("WorkloadReachable", "Unreachable", None),
    ] {
        let faults: Vec<Measure> = fault.map(Measure::Fault).into_iter().collect();
        assert_eq!(told(said(kind, "True", "Fine"), said(kind, "False", reason)), faults, "{reason}");
        assert_eq!(told(said(kind, "False", reason), said(kind, "False", reason)), [], "{reason}");
    }
}
