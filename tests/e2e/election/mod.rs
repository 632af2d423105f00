//! Two replicas of one controller, of which one acts at a time, whatever becomes of the other.

mod rollovers;
mod shards;
mod shares;

use std::path::Path;
use std::time::Duration;

use http::Method;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::{Value, json};

use crate::harness::audit::{Call, Calls};
use crate::harness::wait::asked_until;
use crate::harness::{Controller, FaultProxy, Tenant, eventually, manifests, pass_until};
use crate::world::{GROUP, PATIENCE, World, closed, open};

const LEASE: &str = "5spot-leader";
/// Of the Lease; short, so that tests are.
const DURATION: SignedDuration = SignedDuration::from_secs(3);
/// Which of the audit log's two clocks is meant, when a timer fires, and a machine that also builds.
const SLACK: SignedDuration = SignedDuration::from_secs(2);

/// From a release to the next leader: milliseconds, as long as nothing has gone wrong before.
const AT_ONCE: SignedDuration = SignedDuration::from_secs(1);

/// One replica, with a user of its own: the audit log tells who did what.
struct Replica {
    user: String,
    proxy: FaultProxy,
    controller: Controller,
}

/// Two replicas over the objects of one tenant.
struct Rivals {
    world: World,
    first: Replica,
    second: Replica,
}

impl Replica {
    async fn start(tenant: &Tenant, pod: &str) -> Self {
        Self::start_with(tenant, pod, &[]).await
    }

    async fn start_with(tenant: &Tenant, pod: &str, args: &[&str]) -> Self {
        let user = format!("{pod}-of-{}", tenant.namespace);
        let proxy = FaultProxy::start(tenant.management_plane(), &user, &[GROUP]).await;
        let setup = World::setup(tenant, proxy.kubeconfig()).env("POD_NAME", pod);
        let setup = setup.arg("--enable-leader-election").arg("--lease-namespace").arg(&tenant.namespace);
        let terms =
            ["--lease-duration-secs=3", "--lease-renew-deadline-secs=2", "--lease-retry-period-secs=1"];
        let setup = terms.iter().chain(args).fold(setup, |setup, term| setup.arg(term));
        let controller = setup.start();
        Self { user, proxy, controller }
    }

    /// Whether it says of itself that it leads.
    async fn leads(&self) -> bool {
        let Some((200, text)) = self.controller.health("/health/status").await else { return false };
        let status: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&status["leadership"]["elected"], &status["leadership"]["shards"]),
            (&json!(true), &json!(1))
        );
        let acts = status["leadership"]["actsOn"] == json!([0]);
        let metrics = self.controller.scrape().await.expect("somebody answers");
        // Between two looks it may have changed.
        acts && metrics.contains("\nfivespot_is_leader 1\n")
    }

    async fn until_it_stands_by(&self) {
        asked_until("standing by, ready", PATIENCE, async || {
            let is_ready = matches!(self.controller.health("/readyz").await, Some((200, _)));
            let metrics = self.controller.scrape().await.unwrap_or_default();
            is_ready && metrics.contains("\nfivespot_is_leader 0\n")
        })
        .await;
    }
}

impl Rivals {
    /// The first leads, the second stands by with warm caches.
    async fn start(name: &str) -> Self {
        let (tenant, user) = World::tenant(name).await;
        allow_leases(&tenant).await;
        let first = Replica::start(&tenant, "a").await;
        let world = World::with(tenant, user, first.controller.clone());
        until_held(&world, "a").await;
        let second = Replica::start(&world.tenant, "b").await;
        second.until_it_stands_by().await;
        Self { world, first, second }
    }

    /// What a replica asked of the management cluster.
    fn calls(&self, of: &Replica) -> Calls {
        let calls = self.world.tenant.planes().management().audit().after(self.world.mark);
        calls.by(&of.user)
    }

    /// What it changed there, but for Leases.
    fn work(&self, of: &Replica) -> Calls {
        self.calls(of).writes().only(|call| call.resource != "leases")
    }

    /// Its writes of the Lease that went through.
    fn renewals(&self, of: &Replica) -> Calls {
        self.calls(of).writes().on("leases").accepted()
    }

    /// When the one wrote the Lease for the last time, and the other after it for the first.
    fn handed_over(&self, from: &Replica, to: &Replica) -> (Timestamp, Timestamp) {
        let last = self.renewals(from).iter().map(|call| call.received).max().unwrap();
        let next = self.renewals(to).since(last).iter().map(|call| call.received).min().unwrap();
        (last, next)
    }

    /// The DELETE of a Machine, which was this replica's and no other's.
    fn deletion(&self, by: &Replica, name: &str) -> Call {
        let audit = self.world.tenant.planes().management().audit().after(self.world.mark);
        let calls = audit.within(&self.world.tenant.namespace).on("machines");
        self.world.deletion_by(&by.user, &calls, name)
    }

    /// So many machines, lent.
    async fn lent(&self, count: usize) -> Vec<String> {
        let names: Vec<String> = (0..count).map(|_| self.world.tenant.unique("ws")).collect();
        for name in &names {
            self.world.create(name, json!({})).await;
        }
        for name in &names {
            self.world.until_settled(name, "Active").await;
        }
        names
    }

    /// While this lives, a failure shows what both said.
    fn logs_on_panic(&self) -> Logs<'_> {
        Logs([&self.first.controller, &self.second.controller])
    }
}

struct Logs<'a>([&'a Controller; 2]);

impl Drop for Logs<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for controller in self.0 {
                let log = controller.log();
                let tail: Vec<&str> = log.lines().rev().take(40).collect();
                eprintln!("--- a replica's last lines");
                tail.iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
    }
}

/// The shipped rights, in the namespace of the test's Lease.
async fn allow_leases(tenant: &Tenant) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/controller/leases.yaml");
    let mut objects = manifests::documents(&std::fs::read_to_string(path).unwrap()).unwrap();
    objects.retain(|object| object["kind"] == "Role");
    assert_eq!(objects.len(), 1);
    objects[0]["metadata"]["namespace"] = json!(tenant.namespace);
    objects.push(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "5spot-leader-election", "namespace": tenant.namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": objects[0]["metadata"]["name"]},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": GROUP}],
    }));
    manifests::install(&tenant.management, objects).await.unwrap();
}

fn leases(world: &World) -> Api<Lease> {
    Api::namespaced(world.tenant.management.clone(), &world.tenant.namespace)
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}

/// Waits until a replica of that pod has the Lease; who it is.
async fn until_held(world: &World, pod: &str) -> String {
    let of_pod = format!("{pod}_");
    let is_held = |lease: &Lease| holder(lease).is_some_and(|holder| holder.starts_with(&of_pod));
    let lease = eventually(&leases(world), LEASE, &format!("held by {pod}"), PATIENCE, is_held).await;
    holder(&lease).unwrap().to_owned()
}

#[tokio::test]
async fn a_leader_that_is_killed_is_followed_within_one_lease_duration() {
    let rivals = Rivals::start("killed").await;
    let _logs = rivals.logs_on_panic();
    let Rivals { world, first, second } = &rivals;
    let names = rivals.lent(2).await;
    assert!(first.leads().await && !second.leads().await);

    first.controller.kill();
    let killed_at = Timestamp::now();
    for name in &names {
        world.edit(name, json!({"schedule": {"enabled": false}})).await;
    }
    for name in &names {
        world.until_settled(name, "Disabled").await;
        world.until_nothing_left(name).await;
        assert_eq!(world.machines_created(name), 1);
        rivals.deletion(second, name);
    }
    assert!(second.leads().await);
    let (renewed_at, won_at) = rivals.handed_over(first, second);
    let (left_alone, took) = (won_at.duration_since(renewed_at), won_at.duration_since(killed_at));
    assert!(left_alone >= DURATION, "taken {left_alone:#} after its last renewal");
    assert!(took <= DURATION + SLACK, "{took:#} after the kill");
    let early = rivals.work(second).only(|call| call.received < won_at);
    assert!(early.is_empty(), "before it led: {early}");
}

#[tokio::test]
async fn a_leader_that_is_told_to_stop_hands_over_at_once_and_one_that_is_cut_off_stops_by_itself() {
    let rivals = Rivals::start("handed").await;
    let _logs = rivals.logs_on_panic();
    let Rivals { world, first, second } = &rivals;
    let name = rivals.lent(1).await.remove(0);

    first.proxy.cut();
    until_held(world, "b").await;
    let led_until = rivals.renewals(first).iter().map(|call| call.received).max().unwrap();
    asked_until("told by the first that it leads no longer", PATIENCE, async || {
        first.controller.scrape().await.is_some_and(|text| text.contains("\nfivespot_is_leader 0\n"))
    })
    .await;
    world.edit(&name, json!({"schedule": closed()})).await;
    world.until_settled(&name, "Inactive").await;
    assert_eq!(first.controller.health("/healthz").await.unwrap().0, 200, "it lives, and waits");
    first.proxy.mend();
    first.until_it_stands_by().await;
    let late = rivals.work(first).only(|call| call.received > led_until + DURATION);
    assert!(late.is_empty(), "by the one that was cut off: {late}");

    let told_at = Timestamp::now();
    world.edit(&name, json!({"schedule": open()})).await;
    let status = second.controller.terminate(Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(0), "{}", second.controller.log());
    until_held(world, "a").await;
    world.until_settled(&name, "Active").await;
    assert_eq!(world.machines_created(&name), 2);
    let (let_go_at, won_at) = rivals.handed_over(second, first);
    eprintln!(
        "taken over {:#} after the release, {:#} after the signal",
        won_at.duration_since(let_go_at),
        won_at.duration_since(told_at)
    );
    // Some milliseconds, unless its watch of the Lease still waits out the pause that the outage has earned it.
    assert!(won_at.duration_since(let_go_at) <= DURATION + SLACK);
    let late = rivals.work(second).only(|call| call.received > let_go_at);
    assert!(late.is_empty(), "after it had let go: {late}");
}

/// Nothing earned its watch of the Lease a pause: it hears of the release as it comes.
#[tokio::test]
async fn a_standby_at_rest_has_the_lease_within_a_second_of_its_release() {
    let rivals = Rivals::start("clean").await;
    let _logs = rivals.logs_on_panic();
    let Rivals { world, first, second } = &rivals;
    let name = rivals.lent(1).await.remove(0);
    // For longer than a Lease lasts it hears of renewals, and of nothing else.
    pass_until(Timestamp::now() + DURATION + SLACK).await;
    assert!(rivals.renewals(second).is_empty() && first.leads().await);

    let told_at = Timestamp::now();
    let status = first.controller.terminate(Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(0), "{}", first.controller.log());
    until_held(world, "b").await;
    let (let_go_at, won_at) = rivals.handed_over(first, second);
    let (after_release, after_signal) = (won_at.duration_since(let_go_at), won_at.duration_since(told_at));
    eprintln!("clean takeover {after_release:#} after the release, {after_signal:#} after the signal");
    assert!(after_release < AT_ONCE, "{after_release:#} after the release");

    world.edit(&name, json!({"schedule": {"enabled": false}})).await;
    world.until_settled(&name, "Disabled").await;
    rivals.deletion(second, &name);
    assert!(second.leads().await);
}

/// The first is stopped while it looks once more before it deletes: with its decision made, and its write to come.
#[tokio::test]
async fn a_leader_that_was_asleep_writes_nothing_when_it_wakes() {
    let rivals = Rivals::start("asleep").await;
    let _logs = rivals.logs_on_panic();
    let Rivals { world, first, second } = &rivals;
    let names = rivals.lent(3).await;

    let looks = |method: &Method, path: &str| method == Method::GET && path.contains("/scheduledmachines/");
    first.proxy.delay(Duration::from_secs(2), move |entry| looks(&entry.method, &entry.path));
    let seen = first.proxy.journal().len();
    for name in &names {
        world.edit(name, json!({"schedule": {"enabled": false}})).await;
    }
    asked_until("looking once more", PATIENCE, async || {
        let journal = first.proxy.journal();
        names.iter().all(|name| {
            journal[seen..].iter().any(|entry| looks(&entry.method, &entry.path) && entry.path.contains(name))
        })
    })
    .await;
    first.controller.freeze();
    until_held(world, "b").await;
    let audit = world.tenant.planes().management().audit();
    let is_done = |calls: &Calls| {
        let deletes = calls.by(&second.user).on("machines").verb("delete").accepted();
        names.iter().all(|name| !deletes.named(name).is_empty())
    };
    audit.until(world.mark, "done by the second", PATIENCE, is_done).await;
    // What had left before it was stopped has arrived long since.
    let written = first.proxy.writes().len();
    first.controller.thaw();
    asked_until("given up by the first", PATIENCE, async || {
        first.controller.log().matches("pass given up").count() >= names.len()
    })
    .await;
    // It was the fence that ended them.
    let log = first.controller.log();
    assert!(log.matches("write not sent").count() >= names.len(), "{log}");
    first.until_it_stands_by().await;
    let after = first.proxy.writes().split_off(written);
    assert!(after.is_empty(), "written after it woke: {after:?}");
    for name in &names {
        world.until_settled(name, "Disabled").await;
        world.until_nothing_left(name).await;
        assert_eq!(world.machines_created(name), 1);
        rivals.deletion(second, name);
    }
    assert!(second.leads().await);
}

#[tokio::test]
async fn a_container_that_is_started_again_does_not_inherit_the_lease_of_the_one_before_it() {
    let (tenant, user) = World::tenant("heirs").await;
    allow_leases(&tenant).await;
    let first = Replica::start(&tenant, "a").await;
    let world = World::with(tenant, user, first.controller.clone());
    let before = until_held(&world, "a").await;
    let _log = world.log_on_panic();
    let heir = first.controller.again();
    let other =
        |lease: &Lease| holder(lease).is_some_and(|holder| holder != before && holder.starts_with("a_"));
    eventually(&leases(&world), LEASE, "held by its heir", PATIENCE, other).await;
    let calls = world.tenant.planes().management().audit().after(world.mark).by(&first.user);
    let mut renewed: Vec<Timestamp> =
        calls.writes().on("leases").accepted().iter().map(|call| call.received).collect();
    renewed.sort_unstable();
    let waited = renewed.windows(2).map(|two| two[1].duration_since(two[0])).max().unwrap();
    assert!(waited >= DURATION, "{waited:#}: {calls}");
    assert!(heir.log().contains("\"stands by\""), "{}", heir.log());
}
