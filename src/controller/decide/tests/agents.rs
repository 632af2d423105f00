//! The agent on the Node: what it is given, in which order, and what is said of it.

use serde_json::json;

use super::given::{Given, NODE, SM, given, t};
use crate::api::condition::types;
use crate::api::names::{AGENT_RULES_OK, RECLAIM_AGENT_ENABLED, agent_object};
use crate::controller::agent::{Agents, RulesMap, Sign, rules};
use crate::controller::effect::Effect;
use crate::workload::Reach;

fn commands(list: &[&str]) -> Vec<String> {
    list.iter().map(|command| (*command).to_owned()).collect()
}

/// Lent, with an owner's program, and nothing of an agent there yet.
pub(super) fn wanted() -> Given {
    let given = given().lent().set("/killIfCommands", json!(["java"]));
    given.with(|s| {
        s.node.as_mut().unwrap().is_ready = true;
        s.agents = Some(Agents { rules: Some(vec![]), is_heard: true, ..Agents::default() });
    })
}

fn with_rules(given: Given, list: &[&str], uid: &str) -> Given {
    let map = RulesMap {
        name: agent_object("ws-1"),
        uid: "uid-of-the-rules".to_owned(),
        resource_version: "5".to_owned(),
        uid_label: Some(uid.to_owned()),
        text: Some(rules::text(&commands(list))),
    };
    given.with(|s| s.agents.as_mut().unwrap().rules = Some(vec![map]))
}

fn labelled(given: Given, value: &str) -> Given {
    given.with(|s| s.node.as_mut().unwrap().agent_label = Some(value.to_owned()))
}

fn set() -> Given {
    labelled(with_rules(wanted(), &["java"], SM), RECLAIM_AGENT_ENABLED)
}

fn heard(given: Given, detector: &str, fallback: Option<&str>, rules: &str) -> Given {
    let sign = Sign {
        detector: detector.to_owned(),
        fallback: fallback.map(str::to_owned),
        rules: rules.to_owned(),
        silent_at: t("10:01"),
        is_alive: true,
    };
    given.with(|s| s.agents.as_mut().unwrap().beat = Some(sign))
}

/// Each with whether a write to the Node's side has failed for the name.
pub(super) fn situations() -> Vec<(Given, bool)> {
    vec![
        (heard(set(), "netlink", None, AGENT_RULES_OK), false),
        (heard(set(), "poll", Some("no-capability"), AGENT_RULES_OK), false),
        (heard(set(), "none", Some("blind"), AGENT_RULES_OK), false),
        (heard(set(), "netlink", None, "line 1: no TOML"), false),
        (heard(set(), "netlink", None, AGENT_RULES_OK).at("10:01"), false),
        (set(), false),
        (wanted().with(|s| s.node.as_mut().unwrap().is_ready = false), false),
        (wanted().with(|s| s.agents.as_mut().unwrap().trouble = Some("forbidden".to_owned())), false),
        (wanted(), true),
        (labelled(with_rules(wanted(), &["java"], SM), "disabled"), false),
    ]
}

#[test]
fn rules_come_before_the_label_and_go_after_it() {
    assert_eq!(wanted().effects(), ["write_rules"]);
    let ruled = with_rules(wanted(), &["java"], SM);
    assert_eq!(ruled.effects(), ["label_node"]);
    assert!(set().effects().is_empty());
    let emptied = set().edit("/killIfCommands", json!([]));
    assert_eq!(emptied.effects(), ["label_node"]);
    assert!(matches!(emptied.decide().effects[..], [Effect::LabelNode { on: false, .. }]));
    assert!(emptied.decide().agent.asks, "until they are gone");
    let unlabelled = emptied.with(|s| s.node.as_mut().unwrap().agent_label = None);
    assert_eq!(unlabelled.effects(), ["delete_rules"]);
    let gone = unlabelled.with(|s| s.agents.as_mut().unwrap().rules = Some(vec![]));
    assert!(gone.effects().is_empty() && !gone.decide().agent.asks);
    assert_eq!(gone.condition(types::AGENT_READY), None);
}

#[test]
fn nothing_is_written_before_the_node_is_ready_ours_in_reach_and_known() {
    let unready = wanted().with(|s| s.node.as_mut().unwrap().is_ready = false);
    assert!(unready.effects().is_empty() && unready.decide().agent.asks);
    let unknown = wanted().with(|s| s.agents = None);
    assert!(unknown.effects().is_empty() && unknown.decide().agent.asks);
    assert!(wanted().with(|s| s.reach = Reach::Unreachable("x".to_owned())).effects().is_empty());
    let foreign = wanted().with(|s| {
        let node = s.node.as_mut().unwrap();
        (node.uid, node.provider_id) = ("another".to_owned(), None);
    });
    assert!(foreign.effects().is_empty(), "{:?}", foreign.effects());
}

#[test]
fn an_edit_is_written_at_once_and_what_somebody_undoes_once_a_minute() {
    let edited = with_rules(labelled(wanted(), RECLAIM_AGENT_ENABLED), &["idea"], SM);
    let written = |list: &[&str]| Some((agent_object("ws-1"), rules::text(&commands(list)), t("10:00")));
    let at_once = edited.clone().with(|s| s.agent_written.rules = written(&["idea"]));
    assert_eq!(at_once.effects(), ["write_rules"]);
    let undone = edited.with(|s| s.agent_written.rules = written(&["java"]));
    assert!(undone.effects().is_empty());
    assert_eq!(undone.condition(types::AGENT_READY), Some(("False".to_owned(), "Undone".to_owned())));
    assert_eq!(undone.decide().wake.after(t("10:00")).unwrap().as_secs(), 60);
    assert_eq!(undone.at("10:01").effects(), ["write_rules"]);
    let taken_off = with_rules(wanted(), &["java"], SM);
    let taken_off = taken_off.with(|s| s.agent_written.label = Some((NODE.to_owned(), t("10:00"))));
    assert!(taken_off.effects().is_empty());
    assert_eq!(taken_off.at("10:01").effects(), ["label_node"]);
    assert!(labelled(with_rules(wanted(), &["java"], SM), "disabled").effects().is_empty(), "never over his");
}

#[test]
fn rules_of_an_object_that_was_moved_are_taken_over_and_what_is_left_goes_with_the_machine() {
    let moved = labelled(with_rules(wanted(), &["java"], "uid-before-a-move"), RECLAIM_AGENT_ENABLED);
    assert_eq!(moved.effects(), ["write_rules"]);
    let left = set().at("18:06").gone();
    assert_eq!(left.effects(), ["delete_rules"]);
    let others = with_rules(wanted(), &["java"], "another").at("18:06").gone();
    assert!(others.effects().is_empty(), "not ours");
    let deleted = left.with(|s| s.object.deleted_at = Some(t("18:06")));
    assert_eq!(deleted.effects(), ["delete_rules"], "before the finalizer goes");
    let late = deleted.at("20:00");
    assert!(late.effects().contains(&"remove_finalizer"), "and no longer than was promised");
}

/// In its grace, and cordoned.
fn leaving() -> Given {
    let grace = set().at("18:01").passed();
    grace.with(|s| {
        let node = s.node.as_mut().unwrap();
        (node.unschedulable, node.cordoned_by) = (true, Some(SM.to_owned()));
    })
}

#[test]
fn what_is_listed_while_the_machine_leaves_counts_at_once() {
    let draining = leaving().at("18:06").passed();
    let deleting = draining.clone().deleting("DeletingNode", "");
    for (stage, given) in [("grace", leaving()), ("drain", draining), ("deletion", deleting)] {
        let added = given.clone().edit("/killIfCommands", json!(["java", "idea"]));
        assert!(added.effects().contains(&"write_rules"), "{stage}: {:?}", added.effects());
        assert!(!given.effects().contains(&"write_rules"), "{stage}: at rest");
        let emptied = given.edit("/killIfCommands", json!([]));
        assert!(emptied.effects().contains(&"label_node"), "{stage}: {:?}", emptied.effects());
        let unlabelled = emptied.with(|s| s.node.as_mut().unwrap().agent_label = None);
        assert!(unlabelled.effects().contains(&"delete_rules"), "{stage}: {:?}", unlabelled.effects());
    }
}

#[test]
fn a_node_is_written_once_in_a_pass_and_an_eject_has_no_time_for_rules() {
    let uncordoned = leaving().with(|s| s.node.as_mut().unwrap().unschedulable = false);
    let emptied = uncordoned.edit("/killIfCommands", json!([]));
    assert!(emptied.effects().contains(&"cordon") && !emptied.effects().contains(&"label_node"));
    let killed = set().edit("/killSwitch", json!(true)).edit("/killIfCommands", json!(["idea"]));
    assert!(!killed.effects().contains(&"write_rules"), "{:?}", killed.effects());
}

#[test]
fn whoever_has_just_begun_looks_for_rules_before_the_finalizer_goes() {
    let deleted = set().at("18:06").gone().with(|s| s.object.deleted_at = Some(t("18:06"))).passed();
    let begun = deleted.with(|s| s.agents = None);
    let removes = |given: &Given| given.effects().contains(&"remove_finalizer");
    for reach in [Reach::Connecting, Reach::Connected] {
        let begun = begun.clone().with(|s| s.reach = reach);
        assert!(!removes(&begun) && begun.decide().agent.asks, "{:?}", begun.effects());
        assert!(removes(&begun.at("20:00")), "no longer than was promised");
    }
    let listed_first = with_rules(begun.clone().with(|s| s.agents = Some(Agents::default())), &["java"], SM);
    let listed_first = listed_first.with(|s| s.reach = Reach::Connecting);
    assert!(!removes(&listed_first), "{:?}", listed_first.effects());
    let connected = listed_first.with(|s| s.reach = Reach::Connected);
    assert!(!removes(&connected) && connected.effects().contains(&"delete_rules"));
    let dead = begun.clone().with(|s| s.reach = Reach::Unreachable("x".to_owned()));
    assert!(removes(&dead));
    let agents = |change: fn(&mut Agents)| {
        let mut agents = Agents { is_heard: true, ..Agents::default() };
        change(&mut agents);
        begun.clone().with(|s| s.agents = Some(agents))
    };
    assert!(removes(&agents(|agents| agents.trouble = Some("forbidden".to_owned()))));
    assert!(removes(&agents(|agents| agents.rules = Some(vec![]))));
    let never_in = begun.clone().with(|s| s.status.node_ref = None);
    assert!(removes(&never_in), "no Node, no rules");
    let unwanted = begun.edit("/killIfCommands", json!([]));
    assert!(removes(&unwanted), "{:?}", unwanted.effects());
}

#[test]
fn an_agent_that_was_silent_is_believed_again_when_it_is_heard() {
    let silent = heard(set(), "netlink", None, AGENT_RULES_OK).at("10:01").passed();
    let found = |given: &Given| given.condition(types::AGENT_READY).unwrap().1;
    assert_eq!(found(&silent), "NotReporting");
    let restarted = silent.clone().with(|s| {
        let beat = s.agents.as_mut().unwrap().beat.as_mut().unwrap();
        (beat.silent_at, beat.is_alive) = (t("10:02"), false);
    });
    assert_eq!(found(&restarted), "NotReporting", "a new process has only found the old Lease");
    let renewed = restarted.with(|s| s.agents.as_mut().unwrap().beat.as_mut().unwrap().is_alive = true);
    assert_eq!(found(&renewed), "Netlink");
}
