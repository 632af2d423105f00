//! `docs/status.md` lists every reason that is written, and every reason that it lists can be written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::given::{Given, given, hold, reclaim_hold, says, t};
use super::{agents, taints};
use crate::api::condition::types;
use crate::api::machine_hold::HoldState;
use crate::api::status::ScheduledMachineStatus;
use crate::capi::version::Capi;
use crate::controller::error::{Class, EffectError, PassError};
use crate::controller::report::{Failure, Report};
use crate::controller::snapshot::{ChildObject, Service};
use crate::controller::status::derive;
use crate::workload::Reach;

/// By condition, as the document has them.
static DOCUMENTED: LazyLock<BTreeMap<&str, BTreeSet<&str>>> = LazyLock::new(|| {
    let document = include_str!("../../../../docs/status.md");
    let conditions = document.split("\n## ").find(|part| part.starts_with("Conditions")).unwrap();
    let sections = conditions.split("\n### `").skip(1).map(|section| {
        let (kind, text) = section.split_once('`').unwrap();
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        (kind, rows.collect())
    });
    sections.collect()
});

/// Whether the document lists the reasons of all these conditions. Those of some are others', or repeat `Ready`'s.
pub(super) fn are_documented(status: &ScheduledMachineStatus) {
    for condition in &status.conditions {
        let list = match condition.type_.as_str() {
            types::MACHINE_READY => continue,
            types::RECONCILING | types::STALLED | types::HAND_BACK_OVERDUE => types::READY,
            other => other,
        };
        let documented = DOCUMENTED.get(list).is_some_and(|reasons| reasons.contains(&*condition.reason));
        assert!(documented, "docs/status.md does not list {} of {}", condition.reason, condition.type_);
    }
}

/// Every way to a reason that there is, as far as each adds one.
fn situations() -> Vec<Given> {
    let service = |service: Service| given().with(|s| s.children[0].service = service);
    let reach = |reach: Reach| given().with(|s| s.reach = reach);
    let joining = |kind: &str| {
        let said = says(kind, "False", "NotReady", "");
        given().machine().with(|s| s.machine.as_mut().unwrap().conditions = vec![said])
    };
    let foreign = ChildObject { uid: "foreign".to_owned(), ..ChildObject::default() };
    let exception =
        |state: &str| given().set("/schedule/exceptions", json!([{"date": "2026-11-02", "state": state}]));
    let text = || "x".to_owned();
    vec![
        given().lent(),
        given().at("20:00"),
        given().set("/schedule/enabled", json!(false)),
        given().set("/killSwitch", json!(true)),
        given().set("/paused", json!(true)),
        given().with(|s| s.holds.push(hold("h", HoldState::Inactive, "09:00", None, None))),
        given().with(|s| s.holds.push(reclaim_hold("r", "09:00", None))),
        given().with(|s| s.cluster.as_mut().unwrap().paused = true),
        given().with(|s| s.object.has_finalizer = false),
        given().with(|s| s.waits_for_turn = true),
        given().with(|s| s.cluster = None),
        joining("BootstrapConfigReady"),
        joining("InfrastructureReady"),
        joining("NodeHealthy"),
        given().lent().passed().with(|s| s.children[1].object = None),
        given().lent().at("18:01"),
        given().lent().at("18:06"),
        given().lent().at("18:06").deleting("DrainingNode", ""),
        given().set("/schedule", Value::Null),
        given().with(|s| s.capi = Capi::NotServed("x".to_owned())),
        service(Service::Resolving),
        service(Service::NotServed(text())),
        service(Service::NotAllowed(text())),
        given().with(|s| s.children[0].object = Some(foreign)),
        exception("Active"),
        exception("Inactive"),
        given().lent().edit("/infrastructureSpec/spec", json!({"b": 3})),
        reach(Reach::Connecting),
        reach(Reach::KubeconfigMissing(text())),
        reach(Reach::KubeconfigInvalid(text())),
        reach(Reach::Unreachable(text())),
        reach(Reach::Unauthorized(text())),
        given().with(|s| s.object.deleted_at = Some(t("10:00"))),
        taints::lent(&["a"], &["a"], &["a"], &["a"]),
        taints::lent(&["a"], &[], &[], &["a?"]),
        taints::lent(&["a=1"], &["a=2"], &[], &[]),
    ]
}

/// A failure of each step.
fn failures() -> Vec<Failure> {
    let source = || {
        Box::new(kube::Error::Api(Box::new(
            kube::core::Status::failure("refused", "Forbidden").with_code(403),
        )))
    };
    let what = || "Machine lab/ws-1".to_owned();
    let effects = [
        EffectError::Create { what: what(), source: source() },
        EffectError::NameTaken { what: what() },
        EffectError::Patch { what: what(), source: source() },
        EffectError::Delete { what: what(), source: source() },
        EffectError::Look { what: what(), source: source() },
        EffectError::Left { what: what() },
        EffectError::Unserved { what: what(), definition: what() },
        EffectError::Timeout { what: "create", seconds: 35 },
    ];
    let looks = [PassError::Confirm(source()), PassError::Look(source())];
    effects.iter().map(Failure::from).chain(looks.iter().map(Failure::from)).collect()
}

#[test]
fn every_reason_is_documented_and_every_documented_reason_can_come_about() {
    let mut reached: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut note = |status: &ScheduledMachineStatus| {
        are_documented(status);
        for condition in &status.conditions {
            let kind = DOCUMENTED.keys().find(|kind| **kind == condition.type_);
            let kind = kind.unwrap_or_else(|| panic!("{} has no section", condition.type_));
            reached.entry(kind).or_default().insert(condition.reason.clone());
        }
    };
    for given in situations() {
        note(&given.status());
    }
    for failure in failures() {
        assert_ne!(failure.class, Class::Conflict);
        let given = given();
        note(&derive(&given.s, &given.decide(), &Report { failure: Some(failure), ..Report::default() }));
    }
    let due = taints::lent(&["a"], &[], &[], &["a?"]);
    let node_failure = failures().into_iter().next();
    note(&derive(&due.s, &due.decide(), &Report { node_failure, ..Report::default() }));
    for (given, failure) in agents::situations() {
        let node_failure = failure.then(|| failures().into_iter().nth(1).unwrap());
        let report = Report { node_failure, ..Report::default() };
        note(&derive(&given.s, &given.decide(), &report));
    }
    let node_failure = failures().into_iter().next();
    let unwritten = agents::wanted();
    note(&derive(&unwritten.s, &unwritten.decide(), &Report { node_failure, ..Report::default() }));
    note(&given().lent().at("19:00").deleting("DrainingNode", "").status());
    for (kind, reasons) in DOCUMENTED.iter() {
        let reached = reached.get(kind).unwrap_or_else(|| panic!("{kind} is never said"));
        let never: Vec<_> = reasons.iter().filter(|reason| !reached.contains(**reason)).collect();
        assert!(never.is_empty(), "{kind}: nothing leads to {never:?}");
    }
}
