//! Objects shared out among instances, each with its part for good.

use std::collections::BTreeSet;

use fivespot::leadership::shard::shard_of;
use jiff::Timestamp;
use serde_json::json;

use crate::harness::Controller;
use crate::harness::audit::Calls;
use crate::world::{GROUP, PATIENCE, World};

/// Of each instance.
const OBJECTS: usize = 3;

/// One of two instances, as its own user.
fn instance(world: &World, id: u16) -> (String, Controller) {
    let user = format!("shard-{id}-of-{}", world.tenant.namespace);
    let kubeconfig = world.tenant.management_plane().issue_kubeconfig(&user, &[GROUP]);
    let setup = World::setup(&world.tenant, &kubeconfig).env("OPERATOR_INSTANCE_ID", &id.to_string());
    (user, setup.arg("--instance-count").arg("2").start())
}

#[tokio::test]
async fn each_instance_acts_on_its_part_and_on_no_other_whatever_becomes_of_that() {
    let (tenant, user, setup) = World::prepare("shards").await;
    let mut world = World::with(tenant, user, setup.start());
    // Only its connection to the workload cluster and its name are needed.
    world.controller.kill();
    let (first, mut second) = (instance(&world, 0), instance(&world, 1));
    world.controller = first.1.clone();
    let shard = |name: &str| shard_of(&world.tenant.namespace, name, 2);
    let of_shard = |id: u16| {
        let all = std::iter::repeat_with(|| world.tenant.unique("ws"));
        all.filter(move |name| shard(name) == id).take(OBJECTS)
    };
    let names: Vec<String> = of_shard(0).chain(of_shard(1)).collect();
    for name in &names {
        world.create(name, json!({})).await;
    }
    for name in &names {
        world.until_settled(name, "Active").await;
    }
    let audit = world.tenant.planes().management().audit();
    let of_others = |user: &str, id: u16| {
        let about_other = |name: &String| shard(name) != id;
        let others: Vec<&String> = names.iter().filter(|name| about_other(name)).collect();
        audit.after(world.mark).by(user).writes().only(|call| others.contains(&&call.name))
    };
    for (id, user) in [(0, &first.0), (1, &second.0)] {
        assert!(of_others(user, id).is_empty(), "{}", of_others(user, id));
        let own = audit.after(world.mark).by(user).verb("create").on("machines").accepted().len();
        assert_eq!(own, OBJECTS, "machines made by {id}");
    }

    second.1.kill();
    let killed_at = Timestamp::now();
    for name in &names {
        world.edit(name, json!({"schedule": {"enabled": false}})).await;
    }
    for name in &names[..OBJECTS] {
        world.until_settled(name, "Disabled").await;
    }
    // A watch that stalls lets one be asked for twice.
    let deletes = |calls: &Calls| {
        let calls = calls.verb("delete").on("machines").accepted();
        calls.iter().map(|call| call.name.clone()).collect::<BTreeSet<_>>().len()
    };
    assert_eq!(deletes(&audit.after(world.mark).since(killed_at).by(&first.0)), OBJECTS);
    assert!(of_others(&first.0, 0).is_empty(), "{}", of_others(&first.0, 0));
    second.1 = second.1.again();
    for name in &names {
        world.until_settled(name, "Disabled").await;
        world.until_nothing_left(name).await;
        assert_eq!(world.machines_created(name), 1);
    }
    let by_second = audit.until(world.mark, "by the second", PATIENCE, |calls| {
        deletes(&calls.since(killed_at).by(&second.0)) == OBJECTS
    });
    by_second.await;
}
