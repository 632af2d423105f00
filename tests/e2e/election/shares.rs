//! Shards with a Lease each: a replica has its own, and stands in for others that are gone.

use std::time::Duration;

use fivespot::leadership::shard::shard_of;
use http::Method;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::{Value, json};

use super::{DURATION, Replica, SLACK, allow_leases, holder, leases};
use crate::harness::audit::Calls;
use crate::harness::proxy::status_body;
use crate::harness::wait::asked_until;
use crate::harness::{Tenant, eventually};
use crate::world::{PATIENCE, World};

/// Objects of each shard.
const OBJECTS: usize = 2;

async fn replica(tenant: &Tenant, pod: &str, id: u16, count: u16) -> Replica {
    let (id, count) = (format!("--instance-id={id}"), format!("--instance-count={count}"));
    Replica::start_with(tenant, pod, &[&id, &count]).await
}

/// The shards that a replica says it acts on.
async fn acts_on(replica: &Replica) -> Vec<u64> {
    let Some((200, text)) = replica.controller.health("/health/status").await else { return Vec::new() };
    let status: Value = serde_json::from_str(&text).unwrap();
    let acts = status["leadership"]["actsOn"].as_array().unwrap();
    acts.iter().map(|shard| shard.as_u64().unwrap()).collect()
}

async fn until_it_acts_on(replica: &Replica, shards: &[u64]) {
    let what = format!("{} acting on {shards:?}", replica.user);
    asked_until(&what, PATIENCE, async || acts_on(replica).await == shards).await;
}

async fn until_has(world: &World, lease: &str, pod: &str) {
    let of_pod = format!("{pod}_");
    let is_held = |lease: &Lease| holder(lease).is_some_and(|holder| holder.starts_with(&of_pod));
    eventually(&leases(world), lease, &format!("held by {pod}"), PATIENCE, is_held).await;
}

/// Names of objects, so many of each shard.
fn of_each(world: &World, count: u16) -> Vec<String> {
    let named = |id: u16| {
        let all = std::iter::repeat_with(|| world.tenant.unique("ws"));
        all.filter(move |name| shard_of(&world.tenant.namespace, name, count) == id).take(OBJECTS)
    };
    (0..count).flat_map(named).collect()
}

fn work(world: &World, of: &Replica) -> Calls {
    let calls = world.tenant.planes().management().audit().after(world.mark).by(&of.user);
    calls.writes().only(|call| call.resource != "leases")
}

async fn edit_all(world: &World, names: &[String], spec: Value) {
    for name in names {
        world.edit(name, spec.clone()).await;
    }
}

async fn all_settled(world: &World, names: &[String], phase: &str) {
    for name in names {
        world.until_settled(name, phase).await;
    }
}

#[tokio::test]
async fn a_replica_has_its_own_shard_stands_in_for_one_that_is_gone_and_gives_back() {
    let (tenant, user) = World::tenant("shares").await;
    allow_leases(&tenant).await;
    let first = replica(&tenant, "a", 0, 2).await;
    let world = World::with(tenant, user, first.controller.clone());
    let _log = world.log_on_panic();
    until_it_acts_on(&first, &[0, 1]).await;
    let names = of_each(&world, 2);
    for name in &names {
        world.create(name, json!({})).await;
    }
    all_settled(&world, &names, "Active").await;

    let mut second = replica(&world.tenant, "b", 1, 2).await;
    until_has(&world, "5spot-leader-1-of-2", "b").await;
    until_it_acts_on(&second, &[1]).await;
    until_it_acts_on(&first, &[0]).await;
    let apart = Timestamp::now();
    edit_all(&world, &names, json!({"schedule": {"enabled": false}})).await;
    all_settled(&world, &names, "Disabled").await;
    let of_another = |of: &Replica, id: u16| {
        let is_others = |name: &str| shard_of(&world.tenant.namespace, name, 2) != id;
        let by_name = |call: &crate::harness::Call| names.contains(&call.name) && is_others(&call.name);
        work(&world, of).since(apart).only(by_name)
    };
    assert!(of_another(&first, 0).is_empty(), "{}", of_another(&first, 0));
    assert!(of_another(&second, 1).is_empty(), "{}", of_another(&second, 1));
    assert!(!work(&world, &first).since(apart).is_empty() && !work(&world, &second).since(apart).is_empty());

    second.controller.kill();
    until_it_acts_on(&first, &[0, 1]).await;
    // Of what it stands in for the Lease cannot be renewed: that ends, and nothing else.
    let server_error = status_body(500, "InternalError", "not this one");
    first.proxy.answer(usize::MAX, 500, server_error, |entry| {
        entry.method == Method::PUT && entry.path.contains("-1-of-2")
    });
    until_it_acts_on(&first, &[0]).await;
    let without = Timestamp::now();
    edit_all(&world, &names, json!({"schedule": {"enabled": true}})).await;
    all_settled(&world, &names[..OBJECTS], "Active").await;
    let strays = work(&world, &first).since(without).only(|call| names[OBJECTS..].contains(&call.name));
    assert!(strays.is_empty(), "without the Lease: {strays}");
    second.controller = second.controller.again();
    all_settled(&world, &names, "Active").await;
    for name in &names {
        assert_eq!(world.machines_created(name), 2, "once in each of its openings");
    }
}

/// A rolling update from two to three, of which the old ones end one after the other.
#[tokio::test]
async fn another_count_takes_over_when_the_last_replica_of_the_old_one_is_gone_and_not_before() {
    let (tenant, user) = World::tenant("counts").await;
    allow_leases(&tenant).await;
    let old = [replica(&tenant, "a", 0, 2).await, replica(&tenant, "b", 1, 2).await];
    let world = World::with(tenant, user, old[0].controller.clone());
    let _log = world.log_on_panic();
    until_has(&world, "5spot-leader-0-of-2", "a").await;
    until_has(&world, "5spot-leader-1-of-2", "b").await;
    let names = of_each(&world, 3);
    for name in &names {
        world.create(name, json!({})).await;
    }
    all_settled(&world, &names, "Active").await;
    let new = [replica(&world.tenant, "c", 0, 3).await, replica(&world.tenant, "d", 1, 3).await];
    for replica in &new {
        replica.until_it_stands_by().await;
    }

    let status = old[1].controller.terminate(Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(0));
    until_it_acts_on(&old[0], &[0, 1]).await;
    edit_all(&world, &names, json!({"schedule": {"enabled": false}})).await;
    old[0].controller.kill();
    let killed_at = Timestamp::now();
    all_settled(&world, &names, "Disabled").await;
    edit_all(&world, &names, json!({"schedule": {"enabled": true}})).await;
    all_settled(&world, &names, "Active").await;
    for name in &names {
        assert_eq!(world.machines_created(name), 2);
    }

    let last_of = |replicas: &[Replica]| {
        replicas.iter().flat_map(|r| work(&world, r).0).map(|call| call.received).max().unwrap()
    };
    let first_by_new = new.iter().flat_map(|r| work(&world, r).0).map(|call| call.received).min().unwrap();
    assert!(last_of(&old) < first_by_new, "two counts at one time");
    let audit = world.tenant.planes().management().audit().after(world.mark);
    let written = audit.within(&world.tenant.namespace).on("leases").writes().accepted().since(killed_at);
    for shard in 0..3 {
        let lease = format!("5spot-leader-{shard}-of-3");
        // What is made has its name in the body alone.
        let wins = written.only(|call| call.name == lease || call.verb == "create");
        let won_at = wins.iter().map(|call| call.received).min().unwrap();
        let unowned = won_at.duration_since(killed_at);
        assert!(unowned <= DURATION + SLACK, "shard {shard}: {unowned:#}");
    }
}
