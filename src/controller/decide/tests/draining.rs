//! `drain.rs` and `held_up.rs`: who goes, when, and what is said meanwhile.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::given::{Given, given, t};
use crate::api::status::{DesiredState, LeavingStage, MOST_BLOCKERS};
use crate::capi::drain_rules::DrainRule;
use crate::controller::effect::Effect;
use crate::controller::snapshot::pods::{Attempt, Outcome, Pod, Pods, Verb};
use crate::workload::Reach;

pub(super) fn pod(name: &str) -> Pod {
    Pod {
        uid: format!("uid-of-{name}"),
        namespace: "web".to_owned(),
        name: name.to_owned(),
        ..Pod::default()
    }
}

pub(super) fn ending(name: &str, grace: i64) -> Pod {
    Pod { ending: Some(grace), ..pod(name) }
}

pub(super) fn refused(name: &str, again_at: &str) -> Pod {
    let outcome = Outcome::Refused { budgets: vec!["keep".to_owned()] };
    Pod { tried: Some(Attempt { verb: Verb::Evict, outcome, tries: 1, again_at: t(again_at) }), ..pod(name) }
}

/// At 18:06, in the middle of its drain: cordoned, and on record that eviction has begun.
pub(super) fn draining(pods: Vec<Pod>) -> Given {
    given()
        .lent()
        .at("18:00")
        .passed()
        .at("18:06")
        .with(|s| {
            s.node.as_mut().unwrap().unschedulable = true;
            s.pods = Pods::Known(vec![pod("first")]);
        })
        .passed()
        .with(|s| s.pods = Pods::Known(pods))
}

pub(super) fn asked(given: &Given) -> Vec<String> {
    let effects = given.decide().effects;
    let name = |effect: &Effect| match effect {
        Effect::Evict(pod) => Some(format!("evict {}", pod.name)),
        Effect::DeletePod(pod) => Some(format!("delete {}", pod.name)),
        _ => None,
    };
    effects.iter().filter_map(name).collect()
}

fn stage(given: &Given) -> Option<LeavingStage> {
    given.decide().leaving.map(|leaving| leaving.stage)
}

/// Name, pods, whether the Node is not heard of, who is asked, whether the Machine is deleted.
type Row = (&'static str, Vec<Pod>, bool, &'static [&'static str], bool);

#[test]
fn who_is_asked_to_go_and_who_is_waited_for() {
    let of = |kind: &str| Pod { controller: Some(kind.to_owned()), ..pod("a") };
    let rows: [Row; 9] = [
        ("nobody there", vec![], false, &[], true),
        ("a pod of nobody", vec![pod("a")], false, &["evict a"], false),
        ("of a ReplicaSet", vec![of("ReplicaSet")], false, &["evict a"], false),
        ("of a DaemonSet", vec![of("DaemonSet")], false, &[], true),
        ("a mirror pod", vec![Pod { is_mirror: true, ..pod("a") }], false, &[], true),
        ("a finished one", vec![Pod { is_finished: true, ..pod("a") }], false, &[], true),
        ("one that is ending", vec![ending("a", 30)], false, &[], false),
        ("the same, on a Node not heard of", vec![ending("a", 30)], true, &[], true),
        ("not ending, on a Node not heard of", vec![pod("a")], true, &["evict a"], false),
    ];
    for (name, pods, unheard, calls, deletes) in rows {
        let given = draining(pods).with(|s| s.node.as_mut().unwrap().is_unreachable = unheard);
        assert_eq!(asked(&given), calls, "{name}");
        assert_eq!(given.effects().contains(&"delete_machine"), deletes, "{name}");
        assert_eq!(
            stage(&given),
            Some(if deletes { LeavingStage::Deletion } else { LeavingStage::Drain }),
            "{name}"
        );
    }
}

/// A new process had listed the pods and not the Nodes, and left the drain to Cluster API.
#[test]
fn pods_that_are_listed_before_their_node_are_waited_with_and_not_for_long() {
    let early = draining(vec![pod("a")]).with(|s| {
        (s.reach, s.node, s.pods_asked_at) = (Reach::Connecting, None, Some(t("18:06")));
    });
    assert!(early.effects().is_empty(), "{:?}", early.effects());
    assert_eq!(early.decide().pods_of.as_deref(), Some("ws-1"));
    assert_eq!(early.decide().wake.after(t("18:06")).unwrap().as_secs(), 10);
    assert!(early.at("2026-11-02T18:06:10Z").effects().contains(&"delete_machine"));
}

#[test]
fn who_was_asked_and_not_answered_is_not_asked_again_and_keeps_a_place() {
    let out = |name: &str| Pod { underway: Some(Verb::Evict), ..pod(name) };
    assert_eq!(asked(&draining(vec![out("a"), pod("b")])), ["evict b"]);
    let waits = draining(vec![out("a")]);
    assert!(asked(&waits).is_empty() && stage(&waits) == Some(LeavingStage::Drain));
    let sixteen: Vec<Pod> = (0..16).map(|n| out(&format!("p{n}"))).collect();
    let full = draining(sixteen.iter().cloned().chain([pod("last")]).collect());
    assert!(asked(&full).is_empty(), "as many as may be are out");
    assert!(full.decide().wake.after(full.s.now).is_some_and(|left| !left.is_zero()), "and nobody spins");
    let one_back = draining(sixteen.into_iter().skip(1).chain([pod("last")]).collect());
    assert_eq!(asked(&one_back), ["evict last"]);
    let tried_before = Pod { underway: Some(Verb::Evict), ..refused("a", "18:05") };
    assert!(asked(&draining(vec![tried_before])).is_empty());
}

#[test]
fn cluster_apis_drain_is_left_out_where_it_would_wait_for_what_is_left() {
    let excluded = |given: &Given| {
        given.decide().effects.iter().any(|effect| match effect {
            Effect::PatchMachine { patch, .. } => {
                let annotations = &patch["metadata"]["annotations"];
                annotations.get("machine.cluster.x-k8s.io/exclude-wait-for-node-volume-detach").is_none()
                    && annotations.get("machine.cluster.x-k8s.io/exclude-node-draining").is_some()
            }
            _ => false,
        })
    };
    assert!(!excluded(&draining(vec![])), "the backstop stays");
    assert!(excluded(&draining(vec![Pod { is_finished: true, ..pod("a") }])));
    assert!(excluded(&draining(vec![pod("a")]).at("18:10")), "the time is over: not paid twice");
    assert!(excluded(&draining(vec![pod("a")]).edit("/nodeDrainTimeout", json!("0s"))));
    assert!(excluded(&draining(vec![pod("a")]).edit("/nodeDrainTimeout", json!("30s"))), "shortened");
}

/// A DELETE that is refused is tried again on the same sight of the Node, or each try would look like a first one.
#[test]
fn the_pods_stay_in_sight_until_the_machine_is_being_deleted() {
    let sees = |given: &Given| given.decide().pods_of.is_some();
    for (name, given) in [
        ("empty", draining(vec![])),
        ("a finished one is left", draining(vec![Pod { is_finished: true, ..pod("a") }])),
        ("the time is over", draining(vec![pod("a")]).at("18:10")),
        ("left to Cluster API", draining(vec![pod("a")]).with(|s| s.drain_rules = None)),
    ] {
        assert!(given.effects().contains(&"delete_machine") && sees(&given), "{name}");
        assert!(!sees(&given.deleting("DeletingNode", "")), "{name}");
    }
    let unasked = draining(vec![]).at("18:10").with(|s| s.pods = Pods::Unasked);
    assert!(unasked.effects().contains(&"delete_machine") && !sees(&unasked), "not for a DELETE alone");
}

#[test]
fn eviction_begins_on_record_and_on_a_node_that_takes_no_new_pods() {
    let first =
        given().lent().at("18:00").passed().at("18:05").with(|s| s.pods = Pods::Known(vec![pod("a")]));
    assert_eq!(first.effects(), ["cordon"]);
    let cordoned = first.passed().with(|s| s.node.as_mut().unwrap().unschedulable = true);
    assert!(cordoned.s.status.timers.as_ref().unwrap().drain_started_at.is_none());
    assert!(cordoned.effects().is_empty(), "not on record yet");
    assert_eq!(cordoned.decide().timers.drain_started_at, Some(t("18:05")), "counted from the edge");
    let begun = cordoned.passed();
    assert_eq!(asked(&begun), ["evict a"]);
    let uncordoned = begun.clone().with(|s| s.node.as_mut().unwrap().unschedulable = false);
    assert_eq!(uncordoned.effects(), ["cordon"], "by an admin, in the middle");
    let away = begun.with(|s| s.reach = Reach::Unreachable("away".to_owned()));
    assert!(away.effects().is_empty());
    assert_eq!(stage(&away), Some(LeavingStage::Drain), "until the time is over");
}

#[test]
fn a_pass_asks_a_few_at_a_time_the_least_important_first() {
    let pods = (0..40).map(|nth| Pod { priority: nth % 3, ..pod(&format!("p{nth:02}")) }).collect();
    let calls = asked(&draining(pods));
    assert_eq!(calls.len(), 16);
    assert_eq!(calls[..3], ["evict p00", "evict p03", "evict p06"]);
    assert_eq!(calls[14..], ["evict p01", "evict p04"]);
}

#[test]
fn a_refusal_is_waited_out_and_wakes_the_next_try() {
    let waits = draining(vec![refused("a", "2026-11-02T18:06:03Z"), pod("b")]);
    assert_eq!(asked(&waits), ["evict b"]);
    let alone = draining(vec![refused("a", "2026-11-02T18:06:03Z")]);
    assert!(alone.effects().is_empty());
    assert_eq!(alone.decide().wake.after(alone.s.now).unwrap().as_secs(), 3);
    assert_eq!(asked(&alone.clone().at("2026-11-02T18:06:03Z")), ["evict a"]);
    assert_eq!(asked(&alone.at("18:00")).len(), 0, "a clock put back a little");
    let ahead = draining(vec![refused("a", "2026-11-03T18:06:03Z")]);
    assert_eq!(asked(&ahead), ["evict a"], "a clock put back by a day");
}

#[test]
fn a_leaving_is_called_off_until_eviction_has_begun_and_completes_after_that() {
    let open = json!(["0-23"]);
    let daily =
        |given: Given| given.edit("/schedule", json!({"daysOfWeek": ["mon-sun"], "hoursOfDay": open}));
    let waiting = given().lent().at("18:00").passed().at("18:06").with(|s| {
        s.node.as_mut().unwrap().unschedulable = true;
        s.node.as_mut().unwrap().cordoned_by = Some(super::given::SM.to_owned());
        s.pods = Pods::Unasked;
    });
    let called_off = daily(waiting.passed());
    assert_eq!(called_off.effects(), ["uncordon"]);
    assert_eq!(called_off.passed().s.status.timers.unwrap().shutdown_started_at, None);

    let begun = daily(draining(vec![pod("a")]));
    let decision = begun.decide();
    assert_eq!(decision.ruling.state, DesiredState::Active);
    assert_eq!(asked(&begun), ["evict a"]);
    assert!(decision.standing.message.contains("a new Machine follows"), "{}", decision.standing.message);
    assert!(begun.passed().s.status.last_run.unwrap().closed_at.is_some());
    let empty = daily(draining(vec![]));
    assert_eq!(empty.effects(), ["delete_machine"]);
    let frozen = draining(vec![pod("a")]).edit("/paused", json!(true));
    assert!(frozen.effects().is_empty());
    let thawed = daily(frozen.passed()).edit("/paused", json!(false));
    assert!(!thawed.effects().contains(&"evict"), "what was frozen begins anew, and is called off");
}

#[test]
fn limits_count_from_the_edge_and_follow_every_edit() {
    let ends = |given: &Given| given.decide().leaving.unwrap().drain_ends_at.unwrap();
    let late = given().lent().at("18:07").with(|s| s.pods = Pods::Known(vec![pod("a")]));
    assert_eq!(ends(&late), t("18:10"), "after an outage of seven minutes");
    let missed = late.at("18:11");
    assert!(missed.effects().contains(&"delete_machine"), "an outage took all of it");
    let begun = draining(vec![pod("a")]);
    assert_eq!(ends(&begun), t("18:10"));
    assert_eq!(ends(&begun.clone().edit("/nodeDrainTimeout", json!("1h"))), t("19:05"));
    let regraced = begun.edit("/gracefulShutdownTimeout", json!("2h"));
    assert_eq!(stage(&regraced), Some(LeavingStage::Drain), "what has begun is not undone");
    assert_eq!(ends(&regraced), t("18:10"));
}

#[test]
fn the_order_of_pods_is_cluster_apis_business_where_it_has_a_word_in_it() {
    let label = |value: &str| {
        let mut pod = pod("a");
        pod.labels.insert("cluster.x-k8s.io/drain".to_owned(), value.to_owned());
        pod
    };
    let rule = |spec: serde_json::Value| {
        let object = json!({"metadata": {"name": "r"}, "spec": spec});
        DrainRule::decode(&serde_json::from_value(object).unwrap())
    };
    let of = |app: &str| rule(json!({"pods": [{"selector": {"matchLabels": {"app": app}}}]}));
    let ruled = |rules: Option<Vec<DrainRule>>| {
        let mut db = pod("db");
        db.labels.insert("app".to_owned(), "db".to_owned());
        draining(vec![db]).with(|s| s.drain_rules = rules)
    };
    let elsewhere = rule(json!({"machines": [{"selector": {"matchLabels": {"team": "other"}}}]}));
    let rows = [
        ("a label", draining(vec![label("skip")]), true),
        (
            "a label on one that is left alone",
            draining(vec![Pod { is_mirror: true, ..label("skip") }, pod("b")]),
            false,
        ),
        ("a rule for it", ruled(Some(vec![of("db")])), true),
        ("a rule for another", ruled(Some(vec![of("web")])), false),
        ("a rule for other machines", ruled(Some(vec![elsewhere])), false),
        ("rules that cannot be read", ruled(None), true),
        ("none", ruled(Some(vec![])), false),
    ];
    for (name, given, left_to_capi) in rows {
        let effects = given.effects();
        assert_eq!(effects == ["delete_machine"], left_to_capi, "{name}: {effects:?}");
        assert_eq!(effects == ["evict"], !left_to_capi, "{name}: {effects:?}");
    }
}

#[test]
fn pods_that_cannot_be_seen_are_waited_for_a_while_and_then_left_to_cluster_api() {
    let trouble = Some("forbidden".to_owned());
    let awaited = |since: &str| {
        draining(vec![]).with(|s| s.pods = Pods::Awaited { since: t(since), trouble: trouble.clone() })
    };
    assert!(awaited("2026-11-02T18:05:51Z").effects().is_empty());
    assert_eq!(awaited("2026-11-02T18:05:50Z").effects(), ["delete_machine"]);
    assert_eq!(awaited("18:07").effects(), ["delete_machine"], "a clock that was put back waits no longer");
    let unasked = draining(vec![]).with(|s| s.pods = Pods::Unasked);
    assert_eq!(unasked.decide().pods_of.as_deref(), Some("ws-1"));
    assert!(
        unasked.effects().is_empty() && unasked.decide().wake.after(unasked.s.now).unwrap().as_secs() <= 1
    );
    let stranger = draining(vec![pod("a")]).with(|s| {
        let node = s.node.as_mut().unwrap();
        (node.uid, node.provider_id) = ("other".to_owned(), Some("stub://other".to_owned()));
    });
    assert_eq!(stranger.effects(), ["delete_machine"], "nobody's pods are evicted there by us");
    let no_node = draining(vec![pod("a")]).with(|s| s.node = None);
    assert_eq!(no_node.effects(), ["delete_machine"]);
}

#[test]
fn what_can_be_seen_and_not_changed_is_left_to_cluster_api_after_a_while() {
    let forbidden = |name: &str| {
        let outcome = Outcome::Forbidden { message: "no".to_owned() };
        Pod {
            tried: Some(Attempt { verb: Verb::Evict, outcome, tries: 3, again_at: t("18:09") }),
            ..pod(name)
        }
    };
    let away = |s: &mut crate::controller::snapshot::Snapshot| s.reach = Reach::Unreachable("x".to_owned());
    let uncordoned = given().lent().at("18:00").passed().at("18:06").with(|s| {
        s.pods = Pods::Known(vec![pod("a")]);
    });
    let rows = [
        ("out of reach", draining(vec![pod("a")]).with(away), true),
        ("not cordoned so far", uncordoned, true),
        (
            "uncordoned in the middle",
            draining(vec![pod("a")]).with(|s| s.node.as_mut().unwrap().unschedulable = false),
            false,
        ),
        ("all forbidden", draining(vec![forbidden("a"), ending("b", 30)]), true),
        ("one forbidden", draining(vec![forbidden("a"), pod("b")]), false),
        ("refused by a budget", draining(vec![refused("a", "18:09")]), false),
        ("all of them ending", draining(vec![ending("a", 30)]), false),
    ];
    for (name, given, left_to_capi) in rows {
        let since = |given: &Given, at: &str| given.clone().with(|s| s.pods_asked_at = Some(t(at)));
        let late = since(&given, "2026-11-02T18:05:50Z");
        assert_eq!(late.effects() == ["delete_machine"], left_to_capi, "{name}: {:?}", late.effects());
        let early = since(&given, "2026-11-02T18:05:51Z");
        assert!(!early.effects().contains(&"delete_machine"), "{name}: not yet");
        assert!(early.decide().wake.after(early.s.now).unwrap().as_secs() <= 9, "{name}");
    }
}

#[test]
fn what_holds_it_up_is_told_in_few_lines_and_seldom() {
    let kept =
        |count: usize| (0..count).map(|nth| refused(&format!("p{nth:02}"), "18:09")).collect::<Vec<_>>();
    let told = |given: &Given| given.decide().leaving.unwrap();
    let young = draining(kept(2));
    assert!(told(&young).blocked_by.is_empty(), "the report is young");
    let as_of = told(&young).as_of.unwrap();
    let due = as_of + SignedDuration::from_secs(5);
    assert!(young.decide().wake.after(young.s.now).unwrap() <= std::time::Duration::from_secs(5));
    let at = |given: Given, now: Timestamp| given.with(|s| s.now = now);
    let report = at(young, due).passed();
    let lines = report.s.status.leaving.clone().unwrap().blocked_by;
    let words: Vec<String> =
        lines.iter().map(|line| format!("{} {} {}", line.kind, line.name, line.reason)).collect();
    assert_eq!(
        words,
        [
            "PodDisruptionBudget keep allows no eviction of p00, p01",
            "Pod p00 kept by PodDisruptionBudget keep",
            "Pod p01 kept by PodDisruptionBudget keep",
        ]
    );
    let message = report.s.status.message.clone().unwrap();
    assert!(message.contains("PodDisruptionBudget web/keep") && message.contains("until"), "{message}");
    let before = report.s.status.clone();
    let same = at(report.clone(), due + SignedDuration::from_secs(60)).passed();
    assert_eq!(same.s.status, before, "nothing new");
    let many = at(report, due + SignedDuration::from_secs(60)).with(|s| s.pods = Pods::Known(kept(80)));
    let lines = told(&many).blocked_by;
    assert_eq!(lines.len(), MOST_BLOCKERS);
    assert_eq!(lines.last().unwrap().name, "and 50 more");
    assert!(lines[0].reason.ends_with("and 75 more"), "{}", lines[0].reason);
}
