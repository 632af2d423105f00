//! The controller is killed between any two of its writes, in each of its scenarios, before a write arrives and after
//! it was done but not answered; a new one goes on from there.
//!
//! A scenario runs once without faults; its writes are the plans. Lanes run side by side, each with a namespace, a
//! proxy before either API server, and one controller at a time.

mod plan;
mod scenario;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Instant;

use plan::{Lane, Plan};
use scenario::Scenario;

/// Two cores carry no more.
const LANES: usize = 4;

#[tokio::test]
async fn a_controller_killed_at_any_write_is_taken_up_where_it_ended() {
    let began = Instant::now();
    let lanes: Vec<Lane> = futures::future::join_all((0..LANES).map(Lane::start)).await;
    let mut plans = VecDeque::new();
    // Lanes are fewer than scenarios, and each has one controller at a time.
    let references = lanes.iter().enumerate().map(|(at, lane)| async move {
        let mut found = Vec::new();
        for scenario in Scenario::ALL.into_iter().skip(at).step_by(LANES) {
            found.push((scenario, lane.reference(scenario).await));
        }
        found
    });
    let references = futures::future::join_all(references).await.concat();
    assert_eq!(references.len(), Scenario::ALL.len());
    for (scenario, writes) in references {
        writes.check(scenario);
        plans.extend(Plan::all(scenario, &writes));
    }
    let total = plans.len();
    let queue = Mutex::new(plans);
    let next = || queue.lock().unwrap().pop_front();
    let work = lanes.iter().map(|lane| async {
        let (mut run, mut struck) = (0, 0);
        while let Some(plan) = next() {
            struck += usize::from(lane.run(&plan).await);
            run += 1;
        }
        (run, struck)
    });
    let done: Vec<(usize, usize)> = futures::future::join_all(work).await;
    let (run, struck) = done.iter().fold((0, 0), |(run, struck), one| (run + one.0, struck + one.1));
    eprintln!("{run} crash plans, {struck} of them struck, in {:.0} s", began.elapsed().as_secs_f64());
    assert_eq!(run, total);
    // How often the status is written depends on how Cluster API's own steps fall together; the rest does not.
    assert!(struck * 10 >= run * 8, "only {struck} of {run} traps sprang");
}
