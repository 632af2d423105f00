//! Told to stop in the middle of a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Method;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::harness::proxy::Entry;
use crate::harness::wait::asked_until;
use crate::harness::{FaultProxy, gone};
use crate::world::{PATIENCE, World};

/// What is in flight may have five seconds; and a busy machine its own.
const SOON: Duration = Duration::from_secs(15);

/// A controller whose create of a Machine hangs in the network, for as long as that says.
async fn in_the_middle_of_a_call(test: &str) -> (World, String, FaultProxy, Arc<AtomicBool>) {
    let (world, proxy) = World::start_through(test).await;
    let (name, hangs) = (world.tenant.unique("ws"), Arc::new(AtomicBool::new(true)));
    let makes_a_machine = |entry: &Entry| entry.method == Method::POST && entry.path.contains("/machines?");
    let still = hangs.clone();
    proxy.delay(Duration::from_secs(600), move |entry| {
        makes_a_machine(entry) && still.load(Ordering::Relaxed)
    });
    world.create(&name, json!({})).await;
    let is_out = || proxy.journal().iter().any(makes_a_machine);
    asked_until("in the middle of a call", PATIENCE, async || is_out()).await;
    (world, name, proxy, hangs)
}

#[tokio::test]
async fn what_is_in_flight_is_abandoned_in_time_and_the_next_one_goes_on_from_there() {
    let (mut world, name, _proxy, hangs) = in_the_middle_of_a_call("stopped").await;
    let status = world.controller.terminate(SOON).await;
    let log = world.controller.log();
    assert_eq!(status.code(), Some(0), "{log}");
    let told = ["stopping: no new passes", "abandoned what was still in flight", "stopped"];
    assert!(told.iter().all(|words| log.contains(words)), "{log}");
    hangs.store(false, Ordering::Relaxed);
    world.controller = world.controller.again();
    world.until_settled(&name, "Active").await;
    assert_eq!(world.machines_created(&name), 1, "what was cut off was never made, or is found again");
    world.delete(&name).await;
    gone(&world.scheduled_machines(), &name, PATIENCE).await;
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (world, _name, _proxy, _hangs) = in_the_middle_of_a_call("stopped-twice").await;
    let pid = Pid::from_raw(i32::try_from(world.controller.pid()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    asked_until("told", PATIENCE, async || world.controller.log().contains("stopping: no new passes")).await;
    kill(pid, Signal::SIGINT).unwrap();
    asked_until("ended", PATIENCE, async || world.controller.ended().is_some()).await;
    let log = world.controller.log();
    assert_eq!(world.controller.ended().unwrap().code(), Some(1), "{log}");
    assert!(log.contains("stopped by a second signal") && !log.contains("abandoned"), "{log}");
}
