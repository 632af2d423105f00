//! Simulated weeks of one ScheduledMachine: the laws of the core, under random edits and faults.
//!
//! `model` is the API servers and Cluster API, `pods` what runs on the Node, `shell` is the pass with everything that can
//! go wrong in it, `sights` is what it is shown, `retries` what follows one that failed, `laws` says what must hold at every step, `holds` makes holds, `reclaims` owners, and this file deals the cards.

mod agents;
mod found;
mod holds;
mod hosts;
mod laws;
mod model;
mod pods;
mod progress;
mod reclaims;
mod retries;
mod rivals;
mod shell;
mod sides;
mod sights;
mod taints;
mod told;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::given::t;
use crate::api::machine_hold::HoldState;
use holds::{HowHeld, held, holds};
use shell::{Fault, How};
use sights::Speaks;
use taints::Stranger;

/// What happens to the world between two stretches of time.
#[derive(Clone, Debug)]
enum Act {
    Wait(i64),
    Edit(&'static str, Value),
    PauseCluster(bool),
    PauseObject(bool),
    DeleteCluster,
    DeleteObject,
    DeleteMachine,
    VanishMachine,
    StripMachine,
    Adopt,
    Foreign(bool),
    KeepNode,
    Refuse(bool),
    Reach(bool),
    Pods(usize),
    Budget(bool),
    Stuck(bool),
    Slow(bool),
    Label(bool),
    Served(bool),
    Speak(Speaks),
    /// The watch of Nodes stands still for so many seconds.
    Stick(i64),
    Fail(Fault),
    Lag,
    Hold(HowHeld),
    EndHold,
    Down(i64),
    Clock(i64),
    Stranger(Stranger),
    /// The owner starts one of her programs; whether the agent can tell the time.
    Ask(bool),
    Side(sides::Side),
    Rival(rivals::Rivalry),
    Agent(agents::Deed),
}

fn edits() -> impl Strategy<Value = Act> {
    let hours = |hours: &str| json!({"daysOfWeek": ["mon-fri"], "hoursOfDay": [hours]});
    let enabled = |schedule: Value, enabled: bool| {
        let mut schedule = schedule;
        schedule["enabled"] = json!(enabled);
        schedule
    };
    let batch = json!([{"from": "2026-11-05T03:00", "to": "2026-11-05T05:30", "state": "Active"},
                       {"date": "2026-11-10", "state": "Inactive", "reason": "holiday"}]);
    let mut with_batch = hours("9-17");
    with_batch["exceptions"] = batch;
    let kind = |kind: &str| json!({"apiVersion": "bootstrap.cluster.x-k8s.io/v1", "kind": kind, "spec": {}});
    prop::sample::select(vec![
        ("/schedule", hours("9-17")),
        ("/schedule", hours("0-23")),
        ("/schedule", hours("22-6")),
        ("/schedule", with_batch),
        ("/schedule", enabled(hours("9-17"), false)),
        ("/schedule", json!({"timezone": "Mars/Base"})),
        ("/killSwitch", json!(true)),
        ("/killSwitch", json!(false)),
        ("/killSwitch", json!(false)),
        ("/paused", json!(true)),
        ("/paused", json!(false)),
        ("/paused", json!(false)),
        ("/gracefulShutdownTimeout", json!("0s")),
        ("/gracefulShutdownTimeout", json!("1h")),
        ("/nodeDrainTimeout", json!("0s")),
        ("/nodeDrainTimeout", json!("10m")),
        ("/bootstrapSpec", kind("StubConfig")),
        ("/bootstrapSpec", kind("OtherConfig")),
        ("/bootstrapSpec", Value::Null),
        ("/machineTemplate", json!({"labels": {"team": "grid"}})),
        ("/nodeTaints", json!([{"key": "a", "value": "1", "effect": "NoSchedule"}])),
        ("/nodeTaints", json!([{"key": "a", "value": "2", "effect": "NoSchedule"}])),
        (
            "/nodeTaints",
            json!([{"key": "a", "value": "1", "effect": "NoSchedule"}, {"key": "b", "effect": "NoExecute"}]),
        ),
        ("/nodeTaints", json!([{"key": "b", "effect": "NoExecute"}])),
        ("/nodeTaints", json!([])),
        ("/killIfCommands", json!(["java"])),
        ("/killIfCommands", json!(["java"])),
        ("/killIfCommands", json!(["java", "idea"])),
        ("/killIfCommands", json!([])),
        ("/killIfCommands", json!([])),
    ])
    .prop_map(|(pointer, value)| Act::Edit(pointer, value))
}

fn faults() -> impl Strategy<Value = Act> {
    let how = prop::sample::select(vec![How::FailBefore, How::FailAfter, How::DieBefore, How::DieAfter]);
    let fault = (0..5_usize, how).prop_map(|(effect, how)| Act::Fail(Fault { effect, how }));
    prop_oneof![fault, Just(Act::Lag), (1..90_000_i64).prop_map(Act::Down)]
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (1..400_i64).prop_map(Act::Wait),
        4 => (400..90_000_i64).prop_map(Act::Wait),
        6 => edits(),
        6 => faults(),
        4 => holds(),
        2 => Just(Act::EndHold),
        1 => any::<bool>().prop_map(Act::PauseCluster),
        1 => any::<bool>().prop_map(Act::PauseObject),
        1 => Just(Act::DeleteCluster),
        1 => Just(Act::DeleteMachine),
        1 => Just(Act::VanishMachine),
        1 => Just(Act::StripMachine),
        1 => Just(Act::Adopt),
        1 => any::<bool>().prop_map(Act::Foreign),
        1 => Just(Act::KeepNode),
        1 => any::<bool>().prop_map(Act::Refuse),
        1 => any::<bool>().prop_map(Act::Reach),
        4 => (1..20_usize).prop_map(Act::Pods),
        1 => any::<bool>().prop_map(Act::Budget),
        1 => any::<bool>().prop_map(Act::Stuck),
        1 => any::<bool>().prop_map(Act::Slow),
        1 => prop::bool::weighted(0.2).prop_map(Act::Label),
        1 => any::<bool>().prop_map(Act::Served),
        1 => prop::sample::select(vec![Speaks::V1Beta2, Speaks::V1Beta2, Speaks::V1Beta1, Speaks::Another, Speaks::Nothing])
            .prop_map(Act::Speak),
        2 => (1..20_i64).prop_map(Act::Stick),
        1 => (-300..=0_i64).prop_map(Act::Clock),
        2 => taints::strangers().prop_map(Act::Stranger),
        2 => prop::bool::weighted(0.8).prop_map(Act::Ask),
        3 => sides::sides(),
        2 => rivals::rivals(),
        3 => agents::deeds(),
    ]
}

/// A few weeks; in some of them the ScheduledMachine is deleted at the end, or in the middle.
fn weeks() -> impl Strategy<Value = Vec<Act>> {
    let delete = prop::option::weighted(0.3, Just(Act::DeleteObject));
    (prop::collection::vec(acts(), 1..40), delete, prop::collection::vec(acts(), 0..10)).prop_map(
        |(mut before, delete, after)| {
            before.extend(delete);
            before.extend(after);
            before
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_laws_hold_and_in_the_end_reality_matches_the_decision(acts in weeks()) {
        let mut world = model::World::new(t("08:00"));
        for act in acts {
            world.act(act);
            world.keeps_its_promise();
        }
        world.calm();
    }
}

/// Each effect of a whole life, killed before and after, one at a time.
#[test]
fn a_life_killed_at_any_one_step_ends_like_one_that_was_not() {
    for effect in 0..5 {
        for how in [How::FailBefore, How::FailAfter, How::DieBefore, How::DieAfter] {
            for minutes in [0, 60, 599, 600, 604, 605, 610, 700] {
                let mut world = model::World::new(t("08:00"));
                world.act(Act::Wait(minutes * 60));
                world.act(Act::Fail(Fault { effect, how }));
                world.act(Act::Wait(13 * 3600));
                world.act(Act::DeleteObject);
                world.calm();
            }
        }
    }
}

#[test]
fn a_settled_world_is_left_alone() {
    for (at, acts) in [
        ("10:00", vec![]),
        ("19:00", vec![]),
        ("10:00", vec![Act::Edit("/killSwitch", json!(true))]),
        ("10:00", vec![Act::Edit("/paused", json!(true))]),
        ("10:00", vec![Act::PauseCluster(true)]),
        ("10:00", vec![Act::Edit("/schedule", json!({}))]),
        ("10:00", vec![Act::Edit("/bootstrapSpec", Value::Null)]),
        ("19:00", vec![Act::Edit("/schedule", json!({}))]),
        ("10:00", vec![Act::Foreign(true), Act::VanishMachine, Act::Wait(60), Act::Foreign(true)]),
        ("18:06", vec![Act::PauseCluster(true)]),
        ("10:00", vec![held(HoldState::Inactive, false)]),
        ("10:00", vec![held(HoldState::Inactive, true)]),
        ("10:00", vec![held(HoldState::AsIs, false)]),
        ("10:00", vec![held(HoldState::NoNew, false)]),
        ("10:00", vec![held(HoldState::NoNew, false), Act::DeleteMachine]),
        ("19:00", vec![held(HoldState::NoNew, false)]),
        ("19:00", vec![held(HoldState::Active, false)]),
        ("18:02", vec![held(HoldState::AsIs, false)]),
        ("10:00", vec![Act::Ask(true)]),
        ("10:00", vec![Act::Ask(false)]),
        ("10:00", vec![Act::PauseCluster(true), Act::Ask(true)]),
        ("10:00", vec![Act::PauseCluster(true), Act::Ask(false)]),
        ("18:02", vec![Act::Ask(true)]),
    ] {
        let mut world = model::World::new(t("08:00"));
        world.act(Act::Wait(t(at).as_second() - t("08:00").as_second()));
        for act in acts {
            world.act(act);
        }
        world.act(Act::Wait(1800));
        world.rests(100);
    }
}

/// At the end of a drain, in one that was cut short, and in an eject.
#[test]
fn a_refused_deletion_is_tried_at_intervals_whatever_was_seen_before_it() {
    for (pods, limit, kill) in [(0, 0, false), (1, 0, false), (3, 0, false), (3, 600, false), (3, 0, true)] {
        let mut world = model::World::new(t("08:00"));
        world.act(Act::Wait(2 * 3600));
        world.act(Act::Pods(pods));
        world.act(Act::Refuse(true));
        world.act(Act::Budget(limit > 0));
        world.act(Act::Edit("/killSwitch", json!(kill)));
        world.act(Act::Edit("/schedule/enabled", json!(false)));
        world.act(Act::Wait(3000));
        assert!(world.live.host.is_some(), "refused");
        world.calm();
    }
}

/// What is handed to Cluster API late gets what is left of the limit, not all of it once more.
#[test]
fn a_limit_is_not_paid_twice_after_a_late_hand_over() {
    // Also where the window re-opens before the old Machine has gone.
    for reopens in [false, true] {
        let mut world = model::World::new(t("08:00"));
        world.act(Act::Wait(2 * 3600));
        world.act(Act::Pods(2));
        world.act(Act::Budget(true));
        world.act(Act::Edit("/schedule/enabled", json!(false)));
        // Five minutes of grace, and all but half a minute of the drain.
        world.act(Act::Wait(570));
        let uid = world.live.host.as_ref().unwrap().machine.uid.clone();
        assert!(world.live.host.as_ref().is_some_and(|host| host.machine.deleted_at.is_none()));
        world.act(Act::Label(true));
        assert!(world.live.host.as_ref().is_some_and(|host| host.machine.deleted_at.is_some()));
        world.act(Act::Edit("/schedule/enabled", json!(reopens)));
        world.act(Act::Wait(40));
        let is_there = world.live.host.as_ref().is_some_and(|host| host.machine.uid == uid);
        assert!(!is_there, "{:#}", world.status);
    }
}

#[test]
fn a_cancelled_leaving_leaves_no_trace() {
    for act in [
        Act::Edit("/schedule", json!({"windows": [{"from": "sun 01:00", "to": "sun 02:00"}]})),
        Act::PauseCluster(true),
        Act::Edit("/paused", json!(true)),
    ] {
        let mut world = model::World::new(t("08:00"));
        world.act(Act::Wait(2 * 3600));
        world.act(Act::Edit("/schedule/enabled", json!(false)));
        world.act(Act::Wait(60));
        world.act(act);
        world.act(Act::Edit("/schedule", json!({"daysOfWeek": ["mon-fri"], "hoursOfDay": ["9-17"]})));
        for thaw in [Act::PauseCluster(false), Act::Edit("/paused", json!(false)), Act::Wait(600)] {
            world.act(thaw);
        }
        world.rests(10);
        assert!(world.live.node.as_ref().is_some_and(|node| !node.unschedulable));
    }
}

/// Seconds after 18:00 at which the Machine is deleted, with pods on its Node and a grace of 5 minutes.
fn deleted_after(acts: Vec<Act>) -> i64 {
    let mut world = model::World::new(t("08:00"));
    world.act(Act::Wait(2 * 3600));
    world.act(Act::Pods(10));
    for act in acts {
        world.act(act);
    }
    assert_eq!(world.pods.live.len(), 10);
    world.act(Act::Wait(t("18:00").as_second() - world.real.as_second()));
    for second in 1..=3600 {
        world.act(Act::Wait(1));
        if world.live.host.as_ref().is_none_or(|host| host.machine.deleted_at.is_some()) {
            return second;
        }
    }
    panic!("never deleted: {:#}", world.status)
}

#[test]
fn pods_are_asked_after_the_grace_and_hold_the_machine_until_they_end_or_the_time_is_over() {
    let (grace, pods_end, limit) = (300, 30, 300);
    assert_eq!(deleted_after(vec![]), grace + pods_end);
    assert_eq!(deleted_after(vec![Act::Budget(true)]), grace + limit);
    assert_eq!(deleted_after(vec![Act::Stuck(true)]), grace + limit);
    assert_eq!(deleted_after(vec![Act::Label(true)]), grace);
    let unreachable = deleted_after(vec![Act::Reach(false)]);
    assert!((grace..=grace + 15).contains(&unreachable), "{unreachable}");
    assert_eq!(deleted_after(vec![Act::Edit("/nodeDrainTimeout", json!("0s"))]), grace);
    assert_eq!(deleted_after(vec![Act::Down(9 * 3600), Act::Budget(true)]), 3600, "an outage took all of it");
}
