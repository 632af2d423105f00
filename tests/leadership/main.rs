//! The election, model-checked: every order of sending, storing, answering, losing, giving up and ticking, up to a horizon.
//! No control plane.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "these are tests, and so are the functions they share"
)]
#![expect(clippy::print_stderr, reason = "a proof says how much it has explored")]

mod world;

use std::time::Duration;

use stateright::{Checker, Model};

use world::{Bounds, Election};

/// Two thirds of a Lease's time are the leader's, as with the defaults of 15 and 10 s.
fn bounds(speeds: &[u64]) -> Bounds {
    Bounds {
        speeds: speeds.iter().map(|millis| Duration::from_millis(*millis)).collect(),
        ticks: 4,
        faults: if is_whole() { 2 } else { 1 },
    }
}

/// `ELECTION_PROOF=whole` goes further, in minutes.
fn is_whole() -> bool {
    std::env::var_os("ELECTION_PROOF").is_some_and(|share| share == "whole")
}

/// Explores everything within the bounds. The number of states is printed, so that a model that has lost its teeth is seen.
fn explored(bounds: Bounds) -> impl Checker<Election> {
    let name = format!("{bounds:?}");
    let checker = Election::new(bounds).checker().threads(2).spawn_bfs().join();
    eprintln!("{name}: {} states, {} of them different", checker.state_count(), checker.unique_state_count());
    checker
}

#[test]
fn two_candidates_never_lead_at_once_and_somebody_leads_in_the_end() {
    explored(bounds(&[1000, 1000])).assert_properties();
}

#[test]
fn clocks_may_differ_in_speed_by_a_sixth() {
    explored(bounds(&[1000, 1160])).assert_properties();
    explored(bounds(&[1160, 1000])).assert_properties();
}

/// What can happen to two is found with two; the third is there to get in the way. `ELECTION_PROOF=whole`: fifty million
/// states, four minutes.
#[test]
fn three_candidates_are_no_worse() {
    let ticks = if is_whole() { 3 } else { 2 };
    let checker = explored(Bounds { ticks, faults: 1, ..bounds(&[1000, 1000, 1160]) });
    checker.assert_no_discovery(world::ONE_WRITER);
    checker.assert_no_discovery(world::IN_THE_END);
}

/// The proof can fail: with clocks that differ by more than the terms allow, it does.
#[test]
fn clocks_that_differ_by_more_than_the_terms_allow_are_found_out() {
    let checker = explored(bounds(&[1000, 1700]));
    assert!(checker.discovery(world::ONE_WRITER).is_some(), "the model does not see two leaders");
}
