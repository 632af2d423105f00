//! The leader is killed, or told to stop, again and again, while machines come and go by edits and by the clock.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{DURATION, Replica, Rivals, SLACK, holder, leases, until_held};
use crate::harness::pass_until;
use crate::world::{World, civil, closed, minute_ahead, open};

/// Rollovers in `cargo test`; `ROLLOVERS=50` (`just rollovers`) has more, and minutes.
const SHARE: usize = 4;
/// Minutes for which the clock has edges.
const MINUTES: i64 = 60;

fn rollovers() -> usize {
    std::env::var("ROLLOVERS").map_or(SHARE, |count| count.parse().expect("a number of rollovers"))
}

/// Active in every second minute from a full one on.
fn every_second_minute(from: Timestamp) -> Value {
    let minute = |nth: i64| civil(from + SignedDuration::from_mins(nth));
    let windows = (0..MINUTES)
        .step_by(2)
        .map(|nth| json!({"from": minute(nth), "to": minute(nth + 1), "state": "Active"}));
    json!({"daysOfWeek": null, "hoursOfDay": null, "exceptions": windows.collect::<Vec<_>>()})
}

/// From the end of one leader to the first write of the Lease by the next.
#[derive(Default)]
struct Takeovers {
    crash: Vec<SignedDuration>,
    clean: Vec<SignedDuration>,
}

impl Takeovers {
    fn tell(&mut self) {
        for (how, spans) in [("crash", &mut self.crash), ("clean", &mut self.clean)] {
            spans.sort_unstable();
            let at = |share: usize| spans.get((spans.len() * share / 100).min(spans.len().saturating_sub(1)));
            if let (Some(half), Some(most)) = (at(50), at(99)) {
                eprintln!("takeover after {how}: p50 {half:#}, p99 {most:#}, of {}", spans.len());
            }
        }
    }
}

impl Rivals {
    /// Who leads, and who is to follow, with the pod of that.
    async fn roles(&mut self) -> (&mut Replica, &'static str) {
        let lease = leases(&self.world).get(super::LEASE).await.unwrap();
        if holder(&lease).is_some_and(|holder| holder.starts_with("a_")) {
            (&mut self.first, "b")
        } else {
            (&mut self.second, "a")
        }
    }

    /// One leader ends while it is at work, the other takes over, and one in the place of the first stands by.
    async fn roll_over(&mut self, is_crash: bool) -> SignedDuration {
        let (leader, heir) = self.roles().await;
        let began = Timestamp::now();
        if is_crash {
            leader.controller.kill();
        } else {
            let status = leader.controller.terminate(Duration::from_secs(10)).await;
            assert_eq!(status.code(), Some(0), "{}", leader.controller.log());
        }
        leader.controller = leader.controller.again();
        until_held(&self.world, heir).await;
        let (old, new) = if heir == "b" { (&self.first, &self.second) } else { (&self.second, &self.first) };
        old.until_it_stands_by().await;
        let won_at = self.renewals(new).since(began).iter().map(|call| call.received).min().unwrap();
        won_at.duration_since(began)
    }
}

#[tokio::test]
async fn rollovers_under_edges_miss_none_and_make_no_second_machine() {
    let mut rivals = Rivals::start("rollovers").await;
    let names = rivals.lent(2).await;
    let (clockwork, from) = (rivals.world.tenant.unique("ws"), minute_ahead(SignedDuration::from_secs(5)));
    rivals.world.create(&clockwork, json!({"schedule": every_second_minute(from)})).await;
    let (mut opened, mut is_open) = ([1, 1], [true, true]);
    let mut takeovers = Takeovers::default();
    for round in 0..rollovers() {
        let which = round % names.len();
        is_open[which] = !is_open[which];
        opened[which] += usize::from(is_open[which]);
        let schedule = if is_open[which] { open() } else { closed() };
        rivals.world.edit(&names[which], json!({ "schedule": schedule })).await;
        // Another moment of its answer in each round.
        tokio::time::sleep(Duration::from_millis(u64::try_from(round * 37 % 300).unwrap())).await;
        let is_crash = round / 2 % 2 == 0;
        let took = rivals.roll_over(is_crash).await;
        let of_kind = if is_crash { &mut takeovers.crash } else { &mut takeovers.clean };
        of_kind.push(took);
        let _logs = rivals.logs_on_panic();
        let phase = if is_open[which] { "Active" } else { "Inactive" };
        rivals.world.until_settled(&names[which], phase).await;
        assert_eq!(rivals.world.machines_created(&names[which]), opened[which], "in round {round}");
    }
    takeovers.tell();
    let longest = takeovers.crash.iter().max().unwrap();
    assert!(*longest <= DURATION + SLACK, "{longest:#} after a crash");
    // Four rounds may be over before the clock's first edge, and what it left to do before its bound.
    pass_until(from + DURATION + SLACK + SLACK).await;
    met_every_edge(&rivals.world, &clockwork, from);
}

/// Of the edges by the clock none was missed, none was met twice, and none waited for longer than a takeover.
fn met_every_edge(world: &World, name: &str, from: Timestamp) {
    let _log = world.log_on_panic();
    let bound = DURATION + SLACK;
    let now = Timestamp::now() - bound;
    let openings: Vec<Timestamp> = (0..MINUTES)
        .step_by(2)
        .map(|nth| from + SignedDuration::from_mins(nth))
        .filter(|edge| *edge <= now)
        .collect();
    assert!(!openings.is_empty(), "no edge by the clock was met");
    let audit = world.tenant.planes().management().audit().after(world.mark);
    let creates = audit.within(&world.tenant.namespace).on("machines").verb("create").accepted().named(name);
    for edge in &openings {
        let met = creates.only(|call| call.received >= *edge && call.received <= *edge + bound);
        assert_eq!(met.len(), 1, "the edge at {edge}: {creates}");
    }
    let late = creates.only(|call| call.received <= now);
    assert_eq!(late.len(), openings.len(), "{creates}");
    eprintln!("{} openings by the clock, each met once", openings.len());
}
