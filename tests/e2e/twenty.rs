//! Twenty workload clusters, one of them dead: what the others notice of it.

use std::collections::BTreeMap;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use crate::harness::{Tunnel, eventually, pass_until};
use crate::world::{PATIENCE, WORKLOAD_GROUP, World, between, condition, minute_ahead, open};

const CLUSTERS: usize = 20;
/// Of the dead one, as many as may have calls out at a time, and as many again that would have to wait for them.
const OF_THE_DEAD: usize = 16;
/// What opens at the same edge.
const OPENING: usize = 4;

struct Fleet {
    world: World,
    tunnel: Tunnel,
    /// Names of ScheduledMachines by the user that the controller is in their cluster; the dead one's is the first.
    lent: BTreeMap<String, Vec<String>>,
}

impl Fleet {
    async fn start() -> Self {
        let world = World::start("twenty").await;
        let tenant = world.tenant.clone();
        let plane = tenant.planes().workload();
        let tunnel = Tunnel::start(plane.port()).await;
        let mut lent = BTreeMap::new();
        let clusters: Vec<String> = (0..CLUSTERS).map(|n| format!("{}-{n:02}", tenant.namespace)).collect();
        join_all(clusters.iter().map(|cluster| {
            let tenant = tenant.clone();
            async move { tenant.make_cluster(cluster, &tenant.workload_kubeconfig()).await }
        }))
        .await;
        for (number, cluster) in clusters.iter().enumerate() {
            let user = format!("{cluster}-controller");
            let mut kubeconfig = plane.issue_kubeconfig(&user, &[WORKLOAD_GROUP]);
            if number == 0 {
                kubeconfig = kubeconfig.replace(plane.server(), &tunnel.server());
            }
            let secret = format!("{cluster}-5spot");
            tenant.put_kubeconfig(&secret, &kubeconfig).await;
            let count = if number == 0 { OF_THE_DEAD } else { 1 };
            let names: Vec<String> = (0..count).map(|_| tenant.unique("ws")).collect();
            for name in &names {
                let over = json!({"clusterName": cluster, "kubeconfigSecretRef": {"name": secret},
                                  "gracefulShutdownTimeout": "30m"});
                world.create(name, over).await;
            }
            lent.insert(user, names);
        }
        let fleet = Self { world, tunnel, lent };
        fleet.until_lent().await;
        fleet
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        self.lent.values().flatten()
    }

    async fn until_lent(&self) {
        for name in self.names() {
            self.world.until_settled(name, "Active").await;
            self.until_reach(name, "Connected").await;
        }
    }

    async fn until_reach(&self, name: &str, reason: &str) {
        self.world
            .until(name, reason, |sm| {
                condition(sm, "WorkloadReachable").is_some_and(|c| c["reason"] == reason)
            })
            .await;
    }

    /// All close at one edge, while some others open; how long after the edge the healthy clusters' cordons and the
    /// Machines' creates were received.
    async fn edge(&self, is_dead: bool) -> [Vec<SignedDuration>; 2] {
        // Room for the edits on a machine that has other work.
        let edge = minute_ahead(SignedDuration::from_secs(120));
        let closing = json!({"schedule": between(edge - SignedDuration::from_hours(1), edge)});
        join_all(self.names().map(|name| self.world.edit(name, closing.clone()))).await;
        let opening: Vec<String> = (0..OPENING).map(|_| self.world.tenant.unique("op")).collect();
        let schedule = json!({"schedule": between(edge, edge + SignedDuration::from_hours(1))});
        join_all(opening.iter().map(|name| {
            let schedule = schedule.clone();
            async move {
                self.world.create(name, schedule).await;
                self.world.until_settled(name, "Inactive").await;
            }
        }))
        .await;
        assert!(Timestamp::now() < edge, "the edits took longer than was left until the edge");
        pass_until(edge - SignedDuration::from_millis(500)).await;
        if is_dead {
            self.tunnel.go_dark();
        }
        for (_, names) in self.lent.iter().skip(1) {
            for name in names {
                eventually(&self.world.nodes(), name, "cordoned", PATIENCE, is_cordoned).await;
            }
        }
        for name in &opening {
            eventually(&self.world.tenant.machines(), name, "made", PATIENCE, |_| true).await;
        }
        let planes = self.world.tenant.planes();
        let nodes = planes.workload().audit().after(self.world.workload_mark).since(edge).on("nodes");
        let cordons = self.lent.iter().skip(1).map(|(user, names)| {
            let calls = nodes.by(user).verb("patch").named(&names[0]).accepted();
            calls.iter().next().unwrap_or_else(|| panic!("no cordon by {user}: {nodes}")).received
        });
        let machines = planes.management().audit().after(self.world.mark).since(edge).on("machines");
        let creates = opening.iter().map(|name| {
            let calls = machines.verb("create").named(name);
            calls.iter().next().unwrap_or_else(|| panic!("no create of {name}: {machines}")).received
        });
        let lag = |at: Timestamp| at.duration_since(edge);
        [cordons.map(lag).collect(), creates.map(lag).collect()].map(|mut lags: Vec<SignedDuration>| {
            lags.sort();
            lags
        })
    }
}

fn is_cordoned(node: &Node) -> bool {
    node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true))
}

/// Median and worst.
fn told(what: &str, lags: &[SignedDuration]) -> [SignedDuration; 2] {
    let (median, worst) = (lags[lags.len() / 2], *lags.last().unwrap());
    eprintln!("{what}: median {median:#}, worst {worst:#} of {}", lags.len());
    [median, worst]
}

#[tokio::test]
async fn one_dead_workload_cluster_of_twenty_slows_no_other() {
    let fleet = Fleet::start().await;
    let [cordons, creates] = fleet.edge(false).await;
    let well = [told("all well, cordons", &cordons), told("all well, creates", &creates)];
    let again = json!({"schedule": open()});
    join_all(fleet.names().map(|name| fleet.world.edit(name, again.clone()))).await;
    for name in fleet.names() {
        eventually(&fleet.world.nodes(), name, "free again", PATIENCE, |node| !is_cordoned(node)).await;
    }
    fleet.until_lent().await;

    let [cordons, creates] = fleet.edge(true).await;
    let dead = [told("one dead, cordons", &cordons), told("one dead, creates", &creates)];
    // The worst of a few on a machine that has other work says less than the one in the middle.
    let more = [SignedDuration::from_secs(2), SignedDuration::from_secs(6)];
    for (dead, well) in dead.into_iter().zip(well) {
        for ((dead, well), more) in dead.into_iter().zip(well).zip(more) {
            assert!(dead - well < more, "slower by {:#}: {dead:#} against {well:#}", dead - well);
        }
    }
    let dark = fleet.lent.values().next().unwrap().clone();
    for name in &dark {
        fleet.until_reach(name, "Unreachable").await;
    }
    let mended = Timestamp::now();
    fleet.tunnel.mend();
    for name in &dark {
        eventually(&fleet.world.nodes(), name, "cordoned late", PATIENCE, is_cordoned).await;
    }
    eprintln!("mended: all cordoned after {:#}", Timestamp::now().duration_since(mended));
}
