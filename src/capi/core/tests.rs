use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc::UnboundedSender;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::*;
use crate::watch::mock::{Answer, Log, client, event};

fn definition(plural: &str, versions: &[&str]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(
            |name| json!({"name": name, "served": true, "storage": false, "schema": {"openAPIV3Schema": {}}}),
        )
        .collect();
    json!({
        "metadata": {"name": format!("{plural}.cluster.x-k8s.io"), "uid": plural, "resourceVersion": "7"},
        "spec": {"group": "cluster.x-k8s.io", "scope": "Namespaced",
                 "names": {"kind": "Any", "plural": plural}, "versions": versions},
    })
}

/// An API server with two definitions and no objects.
#[derive(Default)]
struct Server {
    /// What is listed, by plural.
    machines: Vec<&'static str>,
    clusters: Vec<&'static str>,
    /// Open watches, by the line that asked for them.
    open: Vec<(String, UnboundedSender<Bytes>)>,
    /// Lists of Machines are not answered.
    silent: bool,
    /// What is refused with 403: part of its line.
    forbidden: Option<&'static str>,
}

impl Server {
    fn answer(&mut self, line: &str) -> Answer {
        if self.forbidden.is_some_and(|part| line.contains(part)) {
            return Answer::failure(403);
        }
        if line.contains("watch=true") {
            let (sender, watch) = Answer::watch();
            self.open.push((line.to_owned(), sender));
            return watch;
        }
        if !line.contains("customresourcedefinitions") {
            return if self.silent { Answer::Silence } else { Answer::list("5", "", &[]) };
        }
        let is_machines = line.contains("machines.cluster");
        let (plural, versions) =
            if is_machines { ("machines", &self.machines) } else { ("clusters", &self.clusters) };
        let found: Vec<Value> =
            (!versions.is_empty()).then(|| definition(plural, versions)).into_iter().collect();
        Answer::list("5", "", &found)
    }

    fn says(&self, plural: &str, what: &str, versions: &[&str]) {
        let name = format!("{plural}.cluster.x-k8s.io");
        let (_, line) = self.open.iter().rfind(|(line, _)| line.contains(&name)).unwrap();
        line.unbounded_send(event(what, &definition(plural, versions))).unwrap();
    }
}

struct Fixture {
    core: Core,
    notices: mpsc::UnboundedReceiver<CoreNotice>,
    log: Log,
    server: Arc<Mutex<Server>>,
    _actor: JoinSet<()>,
}

fn fixture(machines: &[&'static str], clusters: &[&'static str]) -> Fixture {
    let server = Server { machines: machines.to_vec(), clusters: clusters.to_vec(), ..Server::default() };
    let server = Arc::new(Mutex::new(server));
    let answering = server.clone();
    let (client, log) = client(move |line| answering.lock().unwrap().answer(line));
    let (sender, notices) = mpsc::unbounded_channel();
    let (core, actor) = Core::new(client, None, sender);
    let mut tasks = JoinSet::new();
    tasks.spawn(actor);
    Fixture { core, notices, log, server, _actor: tasks }
}

impl Fixture {
    /// The next view that is told.
    async fn told(&mut self) -> CoreView {
        loop {
            let notice = timeout(Duration::from_secs(60), self.notices.recv()).await.expect("a notice");
            if matches!(notice, Some(CoreNotice::View)) {
                return self.core.view();
            }
        }
    }

    async fn until_watching(&self, part: &str) {
        while self.log.count(part) == 0 {
            sleep(Duration::from_millis(10)).await;
        }
        sleep(Duration::from_millis(10)).await;
    }

    fn says(&self, plural: &str, what: &str, versions: &[&str]) {
        self.server.lock().unwrap().says(plural, what, versions);
    }
}

fn version(view: &CoreView) -> Option<Version> {
    match view {
        CoreView::Served { version, .. } => Some(*version),
        CoreView::Resolving | CoreView::NotServed(_) | CoreView::Unspoken(_) => None,
    }
}

#[tokio::test(start_paused = true)]
async fn the_preferred_version_is_followed_when_both_are_served() {
    let mut fixture = fixture(&["v1beta1", "v1beta2"], &["v1beta1", "v1beta2"]);
    assert!(matches!(fixture.core.view(), CoreView::Resolving));
    assert_eq!(version(&fixture.told().await), Some(Version::V1Beta2));
    assert_eq!(fixture.log.count("v1beta1"), 0);
    assert_eq!(fixture.log.count("machines?&labelSelector=5spot.finos.org%2Fscheduled-machine"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_is_taken_up_when_both_definitions_have_it_and_the_new_caches_are_complete() {
    let mut fixture = fixture(&["v1beta1"], &["v1beta1"]);
    assert_eq!(version(&fixture.told().await), Some(Version::V1Beta1));
    fixture.until_watching("watch=true").await;
    fixture.server.lock().unwrap().silent = true;
    let both = ["v1beta1", "v1beta2"];
    fixture.says("machines", "MODIFIED", &both);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(fixture.log.count("/v1beta2/"), 0, "half an upgrade");
    fixture.says("clusters", "MODIFIED", &both);
    fixture.until_watching("/v1beta2/").await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(version(&fixture.core.view()), Some(Version::V1Beta1), "until the new caches are complete");
    fixture.server.lock().unwrap().silent = false;
    assert_eq!(version(&fixture.told().await), Some(Version::V1Beta2));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_decided_on_a_version_that_is_served_no_more() {
    let mut fixture = fixture(&["v1beta1"], &["v1beta1"]);
    assert_eq!(version(&fixture.told().await), Some(Version::V1Beta1));
    fixture.until_watching("watch=true").await;
    fixture.server.lock().unwrap().silent = true;
    for plural in ["machines", "clusters"] {
        fixture.says(plural, "MODIFIED", &["v1beta2"]);
    }
    let mut view = fixture.told().await;
    // The two definitions change one after the other; between them they have no version in common.
    if matches!(view, CoreView::NotServed(_) | CoreView::Unspoken(_)) {
        view = fixture.told().await;
    }
    assert!(matches!(view, CoreView::Resolving | CoreView::Unspoken(_)));
    fixture.server.lock().unwrap().silent = false;
    assert_eq!(version(&fixture.told().await), Some(Version::V1Beta2));
}

#[tokio::test(start_paused = true)]
async fn an_installation_is_noticed_and_so_is_its_end_without_a_call_in_between() {
    let mut fixture = fixture(&[], &[]);
    let CoreView::NotServed(why) = fixture.told().await else { panic!("served") };
    assert!(why.contains("machines.cluster.x-k8s.io") && why.contains("install Cluster API"), "{why}");
    fixture.core.known().await;
    fixture.until_watching("watch=true").await;
    let calls = fixture.log.entries().len();
    // Shorter than a watch lasts.
    sleep(Duration::from_secs(50)).await;
    assert_eq!(fixture.log.entries().len(), calls);
    for plural in ["machines", "clusters"] {
        fixture.says(plural, "ADDED", &["v1beta2"]);
    }
    while version(&fixture.told().await) != Some(Version::V1Beta2) {}
    fixture.says("machines", "DELETED", &["v1beta2"]);
    assert!(matches!(fixture.told().await, CoreView::NotServed(_)));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_said_in_words_until_it_can() {
    let served = ["v1beta1", "v1beta2"];
    for (part, words) in [
        ("machines.cluster", "machines.cluster.x-k8s.io cannot be read"),
        ("clusters.cluster", "clusters.cluster.x-k8s.io cannot be read"),
        ("v1beta2/machines", "list of Machines cannot be read"),
        ("v1beta2/clusters", "list of Clusters cannot be read"),
    ] {
        let mut fixture = fixture(&served, &served);
        fixture.server.lock().unwrap().forbidden = Some(part);
        let CoreView::Unspoken(why) = fixture.told().await else { panic!("{part}: said something else") };
        assert!(why.contains(words) && why.contains("manifests/controller/role.yaml"), "{part}: {why}");
        fixture.core.known().await;
        fixture.server.lock().unwrap().forbidden = None;
        assert_eq!(version(&fixture.told().await), Some(Version::V1Beta2), "{part}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_passes_in_a_moment_is_told_to_nobody() {
    let mut fixture = fixture(&["v1beta2"], &["v1beta2"]);
    fixture.server.lock().unwrap().forbidden = Some("customresourcedefinitions");
    let server = fixture.server.clone();
    let mended = async move {
        // The pause after it may be four times as long, and a quarter more, and is still over in time.
        sleep(Duration::from_millis(500)).await;
        server.lock().unwrap().forbidden = None;
    };
    let (told, ()) = tokio::join!(fixture.told(), mended);
    assert_eq!(version(&told), Some(Version::V1Beta2));
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_what_is_known_says_nothing_new() {
    let mut fixture = fixture(&["v1beta2"], &["v1beta2"]);
    assert_eq!(version(&fixture.told().await), Some(Version::V1Beta2));
    {
        let mut server = fixture.server.lock().unwrap();
        server.forbidden = Some("x-k8s.io");
        server.open.clear();
    }
    sleep(Duration::from_secs(30)).await;
    assert_eq!(version(&fixture.core.view()), Some(Version::V1Beta2), "what was last known");
}
