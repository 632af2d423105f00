//! Once faults end, every leaving ends: by its `handBackBy`, whatever stands on the Node.
//!
//! What the law concedes. A promise that faults have broken already, or all but: the machine is back half a minute after
//! they end, which is what the deletion itself is given. An opening, a pause or a hold that comes in between: then nobody
//! waits for the machine. Budgets, pods that never end and somebody's drain rules are conceded nothing.

use jiff::SignedDuration;
use serde_json::json;

use super::Act;
use super::agents::Deed;
use super::model::World;
use super::sides::Side;
use super::sights::{NodeWatch, Speaks};

/// What a deletion may take.
const DELETION: SignedDuration = SignedDuration::from_secs(30);

impl World {
    /// Seen in a world of its own: this one goes on as it is.
    pub(super) fn keeps_its_promise(&self) {
        let is_here = self.live.host.as_ref().is_some_and(|host| self.ours.contains(&host.machine.uid));
        if !is_here || !self.exists {
            return;
        }
        let mut world = self.clone();
        world.faults_end();
        let promise = |world: &Self| {
            let is_off = world.status["decision"]["state"] == "Inactive";
            let leaving = &world.status["leaving"];
            let by = leaving["goneBy"].as_str().filter(|_| is_off)?;
            Some(by.parse::<jiff::Timestamp>().unwrap())
        };
        let Some(by) = promise(&world) else { return };
        assert_eq!(world.status["handBackBy"], json!(by));
        let decision = world.status["decision"].clone();
        let end = by.max(world.real + DELETION);
        let left = end.duration_since(world.real).as_secs() + 1;
        world.act(Act::Wait(left));
        if world.status["decision"]["since"] != decision["since"] || !world.exists {
            return;
        }
        assert!(
            world.status["leaving"].is_null(),
            "promised by {by}, now {}: {:#}",
            world.real,
            world.status
        );
        world.nothing_is_left();
    }

    /// Not pauses, nor what people want.
    fn faults_end(&mut self) {
        (self.fault, self.lags, self.stale, self.keeps_node) = (None, false, None, false);
        self.node_watch = NodeWatch::default();
        self.down_until = self.real;
        for act in [
            Act::Clock(0),
            Act::Reach(true),
            Act::Refuse(false),
            Act::Slow(false),
            Act::Served(true),
            Act::Speak(Speaks::V1Beta2),
            Act::Side(Side::HideHolds(false)),
            Act::Agent(Deed::Unread(false)),
            Act::Agent(Deed::Refuse(false)),
        ] {
            self.act(act);
        }
    }
}
