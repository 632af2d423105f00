//! `conditions.rs`: every reason of every condition.

use serde_json::json;

use super::given::{Given, given, says, t};
use crate::api::condition::{Phase, types};
use crate::api::status::{DesiredState, Rule};
use crate::controller::error::Class;
use crate::controller::report::{Failure, Report};
use crate::controller::snapshot::Service;
use crate::controller::status::derive;
use crate::workload::Reach;

fn reasons(kind: &str, rows: Vec<(Given, &str, &str)>) {
    for (given, status, reason) in rows {
        let said = given.condition(kind).unwrap_or_else(|| panic!("{kind} {reason} is not said"));
        assert_eq!(said, (status.to_owned(), reason.to_owned()), "{kind}");
    }
}

fn absent(kind: &str, given: &Given) {
    assert_eq!(given.condition(kind), None, "{kind}");
}

fn exception(state: &str) -> Given {
    given().set("/schedule/exceptions", json!([{"date": "2026-11-02", "state": state}]))
}

#[test]
fn scheduled_says_which_rule_won() {
    reasons(
        types::SCHEDULED,
        vec![
            (given(), "True", "ScheduleActive"),
            (given().at("20:00"), "False", "ScheduleInactive"),
            (exception("Active"), "True", "ExceptionActive"),
            (exception("Inactive"), "False", "ExceptionInactive"),
            (given().set("/schedule/enabled", json!(false)), "False", "ScheduleDisabled"),
            (given().set("/killSwitch", json!(true)), "False", "KillSwitchActivated"),
            (given().set("/paused", json!(true)), "Unknown", "Paused"),
            (given().set("/schedule", json!({})), "False", "SpecInvalid"),
            (given().with(|s| s.object.deleted_at = Some(t("10:00"))), "False", "ScheduleInactive"),
            (given().with(|s| s.cluster.as_mut().unwrap().deleting = true), "False", "ScheduleInactive"),
        ],
    );
}

#[test]
fn references_valid_is_kept_true_while_off_and_says_what_is_wrong() {
    let service = |service: Service| given().with(|s| s.children[0].service = service);
    let text = || "x".to_owned();
    let kept = service(Service::Resolving)
        .with(|s| s.status.conditions = vec![says(types::REFERENCES_VALID, "True", "Valid", "")]);
    let foreign = given().machine().with(|s| {
        let machine = s.machine.as_mut().unwrap();
        (machine.labels, machine.owners, machine.uid) =
            (std::collections::BTreeMap::default(), vec![], "foreign".into());
    });
    reasons(
        types::REFERENCES_VALID,
        vec![
            (given(), "True", "Valid"),
            (given().at("20:00"), "True", "Valid"),
            (given().set("/nodeDrainTimeout", json!("soon")), "False", "SpecInvalid"),
            (given().set("/bootstrapSpec", json!(null)), "False", "SpecInvalid"),
            (given().with(|s| s.cluster = None), "False", "ClusterNotFound"),
            (service(Service::NotServed(text())), "False", "KindNotServed"),
            (service(Service::NotAllowed(text())), "False", "KindNotAllowed"),
            (service(Service::Resolving), "Unknown", "Resolving"),
            (service(Service::Unreachable(text())), "Unknown", "Resolving"),
            (kept, "True", "Valid"),
            (foreign, "False", "NameTaken"),
        ],
    );
}

#[test]
fn workload_reachable_follows_the_connection_and_forgets_a_cluster_that_is_gone() {
    let reach = |reach: Reach| given().with(|s| s.reach = reach);
    let before = |given: Given| {
        given.with(|s| s.status.conditions = vec![says(types::WORKLOAD_REACHABLE, "True", "Connected", "")])
    };
    reasons(
        types::WORKLOAD_REACHABLE,
        vec![
            (given(), "True", "Connected"),
            (reach(Reach::Connecting), "Unknown", "Connecting"),
            (before(reach(Reach::Connecting)), "True", "Connected"),
            (before(reach(Reach::Connecting)).with(|s| s.cluster = None), "Unknown", "ClusterNotFound"),
            (reach(Reach::KubeconfigMissing("x".into())), "False", "KubeconfigMissing"),
            (reach(Reach::KubeconfigInvalid("x".into())), "False", "KubeconfigInvalid"),
            (reach(Reach::Unreachable("x".into())), "False", "Unreachable"),
            (reach(Reach::Unauthorized("x".into())), "False", "Unauthorized"),
        ],
    );
}

#[test]
fn the_machines_own_words_are_mirrored_while_one_is_wanted() {
    let ready = |status: &str, reason: &str| {
        let said = says("Ready", status, reason, "");
        given().lent().with(|s| s.machine.as_mut().unwrap().conditions = vec![said])
    };
    reasons(
        types::MACHINE_READY,
        vec![
            (ready("True", "Ready"), "True", "Ready"),
            (ready("False", "NotReady"), "False", "NotReady"),
            (ready("Odd", "ReadyUnknown"), "Unknown", "ReadyUnknown"),
            (ready("True", ""), "True", "NotReported"),
            (given().machine(), "Unknown", "NotReported"),
        ],
    );
    absent(types::MACHINE_READY, &given());
    absent(types::MACHINE_READY, &given().lent().at("18:00"));
}

#[test]
fn template_current_is_said_of_a_machine_that_is_there() {
    let edited = given().lent().edit("/infrastructureSpec/spec", json!({"b": 3}));
    reasons(
        types::TEMPLATE_CURRENT,
        vec![(given().lent(), "True", "Current"), (edited, "False", "PendingNextMachine")],
    );
    absent(types::TEMPLATE_CURRENT, &given());
    absent(
        types::TEMPLATE_CURRENT,
        &given().lent().with(|s| {
            s.machine.as_mut().unwrap().annotations.clear();
        }),
    );
}

#[test]
fn reconciling_and_stalled_stand_only_while_they_are_true_and_never_together() {
    let stalled = given().set("/bootstrapSpec", json!(null));
    reasons(types::STALLED, vec![(stalled.clone(), "True", "SpecInvalid")]);
    reasons(types::RECONCILING, vec![(given(), "True", "WaitingForBootstrap")]);
    absent(types::RECONCILING, &stalled);
    for rest in [given().lent(), given().at("20:00"), given().set("/paused", json!(true))] {
        absent(types::STALLED, &rest);
        absent(types::RECONCILING, &rest);
    }
    let lent = given().lent().passed().edit("/schedule", json!({}));
    reasons(types::STALLED, vec![(lent.clone(), "True", "SpecInvalid")]);
    assert_eq!(lent.condition(types::READY).unwrap().0, "True", "it is in, as promised");
}

#[test]
fn a_hand_back_is_overdue_from_the_promised_instant_on() {
    let going = |now: &str| given().lent().at(now).deleting("DrainingNode", "");
    absent(types::HAND_BACK_OVERDUE, &going("18:10"));
    reasons(types::HAND_BACK_OVERDUE, vec![(going("2026-11-02T18:11:30Z"), "True", "NodeDraining")]);
}

fn failed(given: &Given, reason: &'static str, on_node: bool) -> crate::api::status::ScheduledMachineStatus {
    let failure = Failure { reason, message: "refused".to_owned(), class: Class::Transient };
    let (failure, node_failure) = if on_node { (None, Some(failure)) } else { (Some(failure), None) };
    let report = Report { failure, node_failure, ..Report::default() };
    derive(&given.s, &given.decide(), &report)
}

#[test]
fn a_failure_of_an_effect_is_what_ready_says_and_takes_nothing_for_gone() {
    let status = failed(&given(), "CreateFailed", false);
    let ready = status.conditions.iter().find(|c| c.type_ == types::READY).unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "CreateFailed"));
    assert_eq!((status.phase, status.message.as_deref()), (Some(Phase::Pending), Some("refused")));

    let taken = failed(&given(), "NameTaken", false);
    assert_eq!(taken.phase, Some(Phase::Error));
    assert!(taken.conditions.iter().any(|c| c.type_ == types::STALLED && c.reason == "NameTaken"));

    let node = failed(&given().lent().at("18:00"), "NotConnected", true);
    let ready = node.conditions.iter().find(|c| c.type_ == types::READY).unwrap();
    assert_eq!(ready.reason, "GracePeriodActive");
    assert!(node.message.unwrap().ends_with("(refused)"));

    let last = given().lent().gone().with(|s| s.object.deleted_at = Some(t("09:00")));
    let kept = failed(&last, "WaitingForMachineDeletion", false);
    assert!(kept.machine_ref.is_some() && kept.last_run.unwrap().gone_at.is_none());
}

#[test]
fn a_time_changes_only_with_the_status_and_generations_are_todays() {
    let first = given().lent().passed();
    let edited = first.at("11:00").edit("/infrastructureSpec/spec", json!({"b": 3})).passed();
    let said = |kind: &str| {
        edited.s.status.conditions.iter().find(|condition| condition.type_ == kind).unwrap().clone()
    };
    assert_eq!(said(types::READY).last_transition_time.0, t("10:00"));
    assert_eq!(said(types::TEMPLATE_CURRENT).last_transition_time.0, t("11:00"));
    let conditions = &edited.s.status.conditions;
    assert!(conditions.iter().all(|condition| condition.observed_generation == Some(2)));
    assert!(conditions.is_sorted_by_key(|condition| condition.type_.clone()));
    assert_eq!(edited.s.status.decision.as_ref().unwrap().rule, Rule::Window);
    assert_eq!(edited.s.status.decision.as_ref().unwrap().state, DesiredState::Active);
}
