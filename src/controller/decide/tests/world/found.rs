//! What the dice found, kept: each was a life that ended otherwise than it should, or a law that asked too much.

use serde_json::json;

use super::Act;
use super::holds::{HowHeld, held};
use super::model::World;
use super::sides::{Ruled, Side};
use super::sights::Speaks;
use super::taints::Stranger;
use crate::api::machine_hold::HoldState;
use crate::api::names;
use crate::controller::decide::tests::given::t;

/// From 08:00 on; the window opens at 09:00.
fn lived(acts: Vec<Act>) -> World {
    let mut world = World::new(t("08:00"));
    for act in acts {
        world.act(act);
    }
    world
}

fn unreadable() -> Act {
    Act::Edit("/schedule", json!({"timezone": "Mars/Base"}))
}

fn is_deleted(world: &World) -> bool {
    world.live.host.as_ref().is_none_or(|host| host.machine.deleted_at.is_some())
}

/// Its DELETE is sent, and nothing says that its drain be left out.
fn is_left_to_cluster_api(world: &World) -> bool {
    let machine = &world.live.host.as_ref().unwrap().machine;
    machine.deleted_at.is_some() && !machine.annotations.contains_key(names::ANNOTATION_EXCLUDE_DRAIN)
}

/// The promise was made to the Machine that stood. The law took it for one to whatever stands.
#[test]
fn under_an_unreadable_schedule_a_machine_that_a_hold_made_leaves_with_the_hold() {
    for between in [vec![], vec![held(HoldState::AsIs, false), Act::Wait(1)]] {
        let mut acts = vec![Act::Wait(3660), unreadable()];
        acts.extend(between);
        acts.extend([held(HoldState::Active, false), Act::DeleteMachine, Act::Wait(400)]);
        let mut world = lived(acts);
        assert!(!is_deleted(&world), "made anew by the hold: {:#}", world.status);
        world.live.holds.clear();
        // Looks again.
        world.act(Act::Reach(true));
        assert_eq!(world.status["decision"]["state"], "Inactive");
        assert!(!is_deleted(&world), "gracefully");
        world.act(Act::Wait(301));
        assert!(is_deleted(&world), "{:#}", world.status);
        world.calm();
    }
}

/// What could not be read counted as not lent, and the end that had been promised was forgotten.
#[test]
fn a_promised_end_stands_while_machines_cannot_be_read() {
    let mut world = lived(vec![Act::Wait(3660), Act::Speak(Speaks::Another), Act::Wait(60), unreadable()]);
    let until_end = t("18:00").as_second() - world.real.as_second();
    assert_eq!(world.status["nextCleanup"], json!(t("18:00")), "{:#}", world.status);
    world.act(Act::Wait(3600));
    world.act(Act::Speak(Speaks::V1Beta2));
    assert_eq!((&world.status["phase"], is_deleted(&world)), (&json!("Active"), false), "{:#}", world.status);
    world.act(Act::Wait(until_end - 3600 + 301));
    assert!(is_deleted(&world), "{:#}", world.status);
    world.calm();
}

#[test]
fn a_freeze_lets_stay_what_is_in_and_cannot_be_read() {
    let mut world = lived(vec![Act::Wait(3660), Act::Speak(Speaks::Another), held(HoldState::NoNew, false)]);
    assert_eq!(world.status["decision"]["state"], "Active", "{:#}", world.status);
    world.act(Act::Wait(600));
    world.act(Act::Speak(Speaks::V1Beta1));
    assert!(!is_deleted(&world));
    world.calm();
}

/// It had been on its way out before.
#[test]
fn a_promise_that_was_renewed_while_machines_cannot_be_read_stands() {
    let hours =
        |hours: &str| Act::Edit("/schedule", json!({"daysOfWeek": ["mon-fri"], "hoursOfDay": [hours]}));
    let mut world = lived(vec![
        Act::Wait(3660),
        hours("22-6"),
        Act::Speak(Speaks::Another),
        Act::Wait(5),
        hours("0-23"),
        unreadable(),
        Act::Wait(600),
    ]);
    assert_eq!(world.status["decision"]["state"], "Active", "{:#}", world.status);
    world.act(Act::Speak(Speaks::V1Beta2));
    world.act(Act::Wait(600));
    assert!(!is_deleted(&world), "{:#}", world.status);
    world.calm();
}

/// Its Node was forgotten with it, and joined the next Machine with a taint of ours that nobody knew any more.
#[test]
fn a_node_that_outlives_cluster_api_itself_goes_before_the_next_machine_comes() {
    let taint =
        |value: &str| Act::Edit("/nodeTaints", json!([{"key": "a", "value": value, "effect": "NoSchedule"}]));
    let mut world = lived(vec![taint("1"), Act::Wait(3660), Act::Speak(Speaks::Nothing), Act::Wait(60)]);
    let former = world.live.node.as_ref().unwrap().uid.clone();
    world.act(taint("2"));
    world.act(Act::Speak(Speaks::V1Beta2));
    world.act(Act::Wait(120));
    let node = world.live.node.as_ref().unwrap();
    assert_ne!(node.uid, former);
    assert_eq!(node.taints[0].value.as_deref(), Some("2"), "{node:?}");
    world.calm();
}

/// The cordon is written and never shown: after ten seconds Cluster API is asked to drain, and may.
#[test]
fn a_watch_that_stands_still_leaves_the_drain_to_cluster_api() {
    let mut world = lived(vec![
        Act::Edit("/gracefulShutdownTimeout", json!("0s")),
        Act::Wait(3660),
        Act::Pods(1),
        Act::Stick(30),
        Act::DeleteObject,
        Act::Wait(9),
    ]);
    assert!(!is_deleted(&world));
    world.act(Act::Wait(3));
    assert!(is_left_to_cluster_api(&world));
    world.calm();
}

/// It could not be cordoned in time, and its DELETE is refused; that it can be reached again changes nothing.
#[test]
fn what_was_left_to_cluster_api_stays_so_when_the_node_comes_back() {
    let mut world = lived(vec![
        held(HoldState::Active, false),
        Act::Wait(60),
        Act::Pods(1),
        Act::Refuse(true),
        Act::Reach(false),
        held(HoldState::Inactive, false),
        Act::Wait(320),
        Act::Reach(true),
        Act::Wait(10),
    ]);
    assert!(!is_deleted(&world), "refused");
    world.act(Act::Refuse(false));
    world.act(Act::Wait(10));
    assert!(is_left_to_cluster_api(&world));
    world.calm();
}

/// A reclaim that returns with the next window is held until one that another schedule had: its end is a change in the calm.
/// The law took the schedule's own edges for all that can come.
#[test]
fn a_hold_of_a_reclaim_that_ends_at_the_edge_of_an_older_schedule_disturbs_no_rest() {
    lived(vec![
        Act::Wait(13),
        Act::Wait(10_574),
        Act::Edit("/bootstrapSpec", serde_json::Value::Null),
        Act::Edit("/schedule", json!({"daysOfWeek": ["mon-fri"], "hoursOfDay": ["22-6"]})),
        held(HoldState::Active, true),
        Act::Ask(false),
    ])
    .calm();
}

/// Nothing is in whose order the finished could go. The law asked for the whole limit wherever a rule speaks.
#[test]
fn a_drain_rule_holds_up_nothing_where_only_finished_pods_are_left() {
    let mut world = lived(vec![
        held(HoldState::Active, false),
        Act::Refuse(true),
        Act::Wait(60),
        Act::Pods(4),
        Act::Ask(false),
        Act::Wait(1),
        // The reclaim's own hold, put off.
        Act::Hold(HowHeld { edits: true, from: 301, ..later() }),
        Act::Side(Side::Rule(Ruled::Here)),
        Act::DeleteObject,
        Act::Wait(300),
    ]);
    assert!(!is_deleted(&world), "refused");
    world.act(Act::Refuse(false));
    world.act(Act::Wait(10));
    assert!(is_deleted(&world), "{:#}", world.status);
    world.calm();
}

fn later() -> HowHeld {
    HowHeld { state: HoldState::Active, reclaims: false, edits: false, from: 0, until: 0 }
}

/// Whoever writes down all but what we announce takes our word off, and we cannot see it. The law took that for a claim alone.
#[test]
fn a_claim_that_leaves_out_what_is_announced_is_believed_while_the_watch_stands_still() {
    let taint =
        |value: &str| Act::Edit("/nodeTaints", json!([{"key": "a", "value": value, "effect": "NoSchedule"}]));
    lived(vec![
        Act::Wait(3660),
        Act::Stick(1),
        taint("1"),
        taint("2"),
        Act::Clock(-1),
        Act::Stranger(Stranger::ClaimsAll),
    ])
    .calm();
}

/// Its rules were looked for in a cluster that is no more; the model had kept them.
#[test]
fn the_rules_of_an_agent_go_with_the_workload_cluster() {
    lived(vec![
        Act::Edit("/killIfCommands", json!(["java"])),
        Act::Wait(3660),
        Act::DeleteCluster,
        Act::Edit("/killIfCommands", json!([])),
    ])
    .calm();
}

/// Cluster API drained, and went on draining: no Node of a Cluster that goes is drained.
#[test]
fn a_drain_of_cluster_api_ends_with_its_cluster() {
    let mut world = lived(vec![Act::Wait(3660), Act::Pods(1), Act::DeleteMachine, Act::DeleteCluster]);
    world.keeps_its_promise();
    world.calm();
}

/// The latch went for a hold that was yet to begin, and with it what had been asked for; so it was asked for anew, latched
/// anew, and so on, a status written each time.
#[test]
fn a_hold_that_is_yet_to_begin_does_not_take_the_place_of_a_latch() {
    let mut world = lived(vec![
        Act::Wait(3660),
        Act::Side(Side::HideHolds(true)),
        Act::Ask(false),
        Act::Hold(HowHeld { reclaims: true, from: 3600, ..later() }),
        Act::Side(Side::HideHolds(false)),
        Act::Wait(60),
    ]);
    assert_eq!(world.status["decision"]["rule"], "Reclaim", "{:#}", world.status);
    assert!(is_deleted(&world));
    world.calm();
}

/// A latch was tried again. The law took every write for one on what cannot be read.
#[test]
fn the_hold_of_a_reclaim_is_written_also_while_machines_cannot_be_read() {
    let mut world = lived(vec![
        Act::Wait(3660),
        Act::Side(Side::HideHolds(true)),
        Act::Ask(false),
        Act::Wait(1),
        Act::Speak(Speaks::Another),
        Act::Side(Side::HideHolds(false)),
        Act::Wait(36),
    ]);
    assert_eq!(world.live.holds.len(), 1, "{:#}", world.status);
    world.calm();
}
