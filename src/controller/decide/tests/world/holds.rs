//! Holds that come and go in the simulated world.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::Act;
use super::model::World;
use crate::api::machine_hold::{HoldOrigin, HoldState};
use crate::controller::effect::Decision;
use crate::controller::hold::Hold;

/// A hold that somebody makes, or an edit of the one made last. Seconds from now; 0: no such end.
#[derive(Clone, Debug)]
pub(super) struct HowHeld {
    pub(super) state: HoldState,
    pub(super) reclaims: bool,
    pub(super) edits: bool,
    pub(super) from: i64,
    pub(super) until: i64,
}

pub(super) fn holds() -> impl Strategy<Value = Act> {
    let state = prop::sample::select(vec![
        HoldState::Active,
        HoldState::Inactive,
        HoldState::AsIs,
        HoldState::NoNew,
        HoldState::NoNew,
    ]);
    let from = prop_oneof![3 => Just(0), 1 => -9000..-1_i64, 2 => 1..90_000_i64];
    let until = prop_oneof![1 => Just(0), 3 => 1..90_000_i64];
    (state, prop::bool::weighted(0.15), prop::bool::weighted(0.2), from, until).prop_map(
        |(state, reclaims, edits, from, until)| Act::Hold(HowHeld { state, reclaims, edits, from, until }),
    )
}

/// Made now, for good.
pub(super) fn held(state: HoldState, reclaims: bool) -> Act {
    Act::Hold(HowHeld { state, reclaims, edits: false, from: 0, until: 0 })
}

impl World {
    /// Made now, or an edit of the one made last.
    pub(super) fn hold(&mut self, how: &HowHeld) {
        let from = (how.from != 0).then(|| self.after(how.from));
        let until =
            (how.until != 0).then(|| from.unwrap_or(self.real) + SignedDuration::from_secs(how.until));
        let last = self.live.holds.pop_if(|_| how.edits);
        let name = format!("hold-{}", self.uid());
        let origin = if how.reclaims { HoldOrigin::Reclaim } else { HoldOrigin::User };
        let fresh = Hold {
            namespace: "lab".to_owned(),
            uid: format!("uid-of-{name}"),
            name,
            // The server's clock, in whole seconds.
            created_at: Timestamp::from_second(self.real.as_second()).unwrap(),
            state: how.state,
            origin,
            from,
            until,
            reason: "a test".to_owned(),
            reclaim: None,
        };
        let made = match last {
            Some(last) => Hold { state: how.state, from, until, ..last },
            None => fresh,
        };
        self.live.holds.push(made);
    }
    /// The hold that decided is no more, and the cache does not know that yet.
    pub(super) fn is_lifted(&self, decision: &Decision) -> bool {
        let source = decision.ruling.source.as_ref();
        let hold = source.filter(|source| source.kind.as_deref() == Some("MachineHold"));
        let is_there = |uid: Option<&String>| self.live.holds.iter().any(|live| Some(&live.uid) == uid);
        hold.is_some_and(|hold| !is_there(hold.uid.as_ref()))
    }
}
