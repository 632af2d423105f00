use std::{collections::VecDeque, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures::channel::mpsc::UnboundedSender as Lines;
use kube::runtime::reflector::ObjectRef;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};

use super::*;
use crate::watch::mock::{Answer, Log, client, event, node};

fn key() -> ConnectionKey {
    ConnectionKey { namespace: "lent".into(), secret: "grid-kubeconfig".into(), key: "value".into() }
}

fn kubeconfig(server: &str, authority: &str, token: &str) -> String {
    format!(
        "current-context: m\n\
         contexts: [{{name: m, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: '{server}', certificate-authority-data: '{authority}'}}}}]\n\
         users: [{{name: u, user: {{token: {token}}}}}]\n"
    )
}

fn authority() -> String {
    STANDARD.encode(rcgen::generate_simple_self_signed(["grid".to_owned()]).unwrap().cert.pem())
}

fn secret(text: &str, version: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "data": {"value": STANDARD.encode(text)},
           "metadata": {"name": "grid-kubeconfig", "namespace": "lent", "uid": "s", "resourceVersion": version}})
}

fn on_grid(name: &str, version: &str) -> Value {
    let mut node = node(name, version);
    node["metadata"]["annotations"] =
        json!({"cluster.x-k8s.io/machine": "ws-17", "cluster.x-k8s.io/cluster-namespace": "lent"});
    node["status"] = json!({"images": [{"names": ["big"]}]});
    node
}

struct Fixture {
    workloads: Workloads,
    notices: mpsc::UnboundedReceiver<WorkloadNotice>,
    management: Log,
    _actor: JoinSet<()>,
}

/// The management server answers from the first script, each dialled workload server from the next of `servers`.
fn fixture(management: Vec<Answer>, servers: Vec<Vec<Answer>>) -> Fixture {
    let (management, log) = scripted(management);
    let servers = Mutex::new(servers.into_iter());
    let dial: Dial = Arc::new(move |_| Ok(scripted(servers.lock().unwrap().next().unwrap_or_default()).0));
    let (sender, notices) = mpsc::unbounded_channel();
    let (workloads, actor) = Workloads::with_dial(management, sender, dial);
    let mut tasks = JoinSet::new();
    tasks.spawn(actor);
    Fixture { workloads, notices, management: log, _actor: tasks }
}

fn scripted(answers: Vec<Answer>) -> (kube::Client, Log) {
    let mut queue = VecDeque::from(answers);
    client(move |_| queue.pop_front().unwrap_or(Answer::Silence))
}

fn open_watch() -> (Lines<bytes::Bytes>, Answer) {
    Answer::watch()
}

impl Fixture {
    fn reach(&self) -> Reach {
        self.workloads.view(&key()).reach
    }

    async fn until(&mut self, wanted: impl Fn(&Reach) -> bool) {
        while !wanted(&self.reach()) {
            timeout(Duration::from_secs(600), self.notices.recv()).await.expect("a notice").unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_secret_is_named_and_connects_when_it_appears() {
    let (line, secrets) = open_watch();
    let (_nodes, watch) = open_watch();
    let mut fixture = fixture(
        vec![Answer::list("1", "", &[]), secrets],
        vec![vec![Answer::list("9", "", &[on_grid("n1", "3")]), watch]],
    );
    assert_eq!(fixture.reach(), Reach::Connecting);
    let missing = Reach::KubeconfigMissing("Secret lent/grid-kubeconfig does not exist".into());
    fixture.until(|reach| *reach == missing).await;
    assert!(fixture.workloads.view(&key()).line.is_none());
    line.unbounded_send(event("ADDED", &secret(&kubeconfig("https://grid", &authority(), "t"), "2")))
        .unwrap();
    fixture.until(|reach| *reach == Reach::Connected).await;
    let view = fixture.workloads.view(&key());
    let node = view.nodes.unwrap().get(&ObjectRef::new("n1")).unwrap();
    assert!(view.line.is_some() && node.status.as_ref().unwrap().images.is_none());
    assert_eq!(fixture.management.count("fieldSelector=metadata.name%3Dgrid-kubeconfig"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_secret_without_the_key_is_not_called_missing() {
    let (_line, secrets) = open_watch();
    let other = json!({"apiVersion": "v1", "kind": "Secret", "data": {"other": ""},
                       "metadata": {"name": "grid-kubeconfig", "namespace": "lent", "uid": "s", "resourceVersion": "1"}});
    let mut fixture = fixture(vec![Answer::list("1", "", &[other]), secrets], vec![]);
    let lacking = Reach::KubeconfigMissing("Secret lent/grid-kubeconfig has no key value".into());
    fixture.until(|reach| *reach == lacking).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(fixture.reach(), lacking);
}

#[tokio::test(start_paused = true)]
async fn a_node_is_told_with_its_machine_once_the_view_shows_it() {
    let (_secrets, watch) = open_watch();
    let text = kubeconfig("https://grid", &authority(), "t");
    let mut fixture = fixture(
        vec![Answer::list("1", "", &[secret(&text, "1")]), watch],
        vec![vec![Answer::list("9", "", &[on_grid("n1", "3")])]],
    );
    fixture.workloads.view(&key());
    assert_eq!(fixture.notices.recv().await.unwrap(), WorkloadNotice::Reach(key()));
    assert_eq!(fixture.reach(), Reach::Connected);
    let told = fixture.notices.recv().await.unwrap();
    let machine = Some(("lent".to_owned(), "ws-17".to_owned()));
    assert_eq!(
        told,
        WorkloadNotice::Node { connection: key(), name: "n1".into(), machine, provider_id: None }
    );
    assert!(fixture.workloads.view(&key()).nodes.unwrap().get(&ObjectRef::new("n1")).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_refused_kubeconfig_is_a_value_and_nothing_is_dialled() {
    let (_secrets, watch) = open_watch();
    let text = kubeconfig("http://grid", &authority(), "t");
    let mut fixture = fixture(vec![Answer::list("1", "", &[secret(&text, "1")]), watch], vec![]);
    fixture.until(|reach| *reach != Reach::Connecting).await;
    let Reach::KubeconfigInvalid(why) = fixture.reach() else { panic!("{:?}", fixture.reach()) };
    assert!(why.starts_with("Secret lent/grid-kubeconfig, key value: server is not https"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_rotation_keeps_the_reach_and_tells_of_nodes_gone_meanwhile() {
    let (line, secrets) = open_watch();
    let ((_first, one), (_second, two)) = (open_watch(), open_watch());
    let authority = authority();
    let mut fixture = fixture(
        vec![Answer::list("1", "", &[secret(&kubeconfig("https://grid", &authority, "t1"), "1")]), secrets],
        vec![
            vec![Answer::list("9", "", &[on_grid("n1", "3"), on_grid("n2", "4")]), one],
            vec![Answer::list("19", "", &[on_grid("n1", "3")]), two],
        ],
    );
    fixture.until(|reach| *reach == Reach::Connected).await;
    while fixture.notices.try_recv().is_ok() {}
    line.unbounded_send(event("MODIFIED", &secret(&kubeconfig("https://grid", &authority, "t2"), "2")))
        .unwrap();
    let told = [fixture.notices.recv().await.unwrap(), fixture.notices.recv().await.unwrap()];
    assert!(matches!(&told[0], WorkloadNotice::Node { name, .. } if name == "n2"), "{told:?}");
    assert!(matches!(&told[1], WorkloadNotice::Node { name, .. } if name == "n1"), "{told:?}");
    assert_eq!(fixture.reach(), Reach::Connected);
    assert!(fixture.notices.try_recv().is_err());
    let elsewhere = kubeconfig("https://other", &authority, "t2");
    line.unbounded_send(event("MODIFIED", &secret(&elsewhere, "3"))).unwrap();
    fixture.until(|reach| *reach == Reach::Connecting).await;
    assert!(fixture.workloads.view(&key()).nodes.is_none(), "another cluster's Nodes are not its own");
}

#[tokio::test(start_paused = true)]
async fn a_401_reads_the_secret_again_and_the_last_known_nodes_stay() {
    let (_line, secrets) = open_watch();
    let (nodes, watch) = open_watch();
    let (_renewed, again) = open_watch();
    let authority = authority();
    let text = |token: &str| kubeconfig("https://grid", &authority, token);
    let mut fixture = fixture(
        vec![
            Answer::list("1", "", &[secret(&text("t1"), "1")]),
            secrets,
            // The watch is behind; only the GET sees the rotation.
            Answer::Json(200, secret(&text("t2"), "2")),
        ],
        vec![
            vec![Answer::list("9", "", &[on_grid("n1", "3")]), watch, Answer::failure(401)],
            vec![Answer::failure(503), Answer::list("19", "", &[on_grid("n1", "3")]), again],
        ],
    );
    fixture.until(|reach| *reach == Reach::Connected).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    drop(nodes);
    fixture.until(|reach| matches!(reach, Reach::Unreachable(_))).await;
    assert_eq!(fixture.workloads.view(&key()).nodes.unwrap().len(), 1);
    fixture.until(|reach| *reach == Reach::Connected).await;
    assert_eq!(fixture.management.count("/secrets/grid-kubeconfig"), 1);
}

#[tokio::test(start_paused = true)]
async fn credentials_that_stay_refused_are_told_and_retried() {
    let (_line, secrets) = open_watch();
    let secret = secret(&kubeconfig("https://grid", &authority(), "t"), "1");
    let mut fixture = fixture(
        vec![Answer::list("1", "", std::slice::from_ref(&secret)), secrets, Answer::Json(200, secret)],
        vec![vec![Answer::failure(401), Answer::failure(401), Answer::list("9", "", &[])]],
    );
    fixture.until(|reach| matches!(reach, Reach::Unauthorized(_))).await;
    assert!(fixture.workloads.view(&key()).nodes.is_none());
    fixture.until(|reach| *reach == Reach::Connected).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_nobody_wants_is_closed_and_opened_anew() {
    let mut fixture = fixture(vec![Answer::list("1", "", &[]), Answer::watch().1], vec![]);
    fixture.until(|reach| matches!(reach, Reach::KubeconfigMissing(_))).await;
    fixture.workloads.retain(|_| false);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let calls = fixture.management.entries().len();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(fixture.management.entries().len(), calls, "a closed connection calls nobody");
    assert_eq!(fixture.reach(), Reach::Connecting);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(fixture.management.entries().len(), calls + 1);
}

fn pod(name: &str, version: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "web", "uid": format!("uid-{name}"), "resourceVersion": version,
                        "annotations": {"big": "text", "kubernetes.io/config.mirror": "x"}},
           "spec": {"nodeName": "n1", "priority": 7, "containers": [{"name": "c"}]},
           "status": {"phase": "Running", "podIP": "10.0.0.1"}})
}

impl Fixture {
    /// Waits for a word about pods; who it is for.
    async fn until_pods(&mut self) -> Vec<Asker> {
        loop {
            let notice = timeout(Duration::from_secs(600), self.notices.recv()).await.expect("a notice");
            if let Some(WorkloadNotice::Pods { node, askers }) = notice {
                assert_eq!(node, "n1");
                return askers;
            }
        }
    }

    fn pods(&self) -> usize {
        self.workloads.pods(&key(), "n1").and_then(|view| view.pods).map_or(0, |pods| pods.len())
    }
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_node_are_watched_while_somebody_asks_and_no_longer() {
    let (_secrets, watch) = open_watch();
    let ((_nodes, nodes), (line, pods)) = (open_watch(), open_watch());
    let text = kubeconfig("https://grid", &authority(), "t");
    let mut fixture = fixture(
        vec![Answer::list("1", "", &[secret(&text, "1")]), watch],
        vec![vec![Answer::list("9", "", &[]), nodes, Answer::list("20", "", &[pod("p1", "3")]), pods]],
    );
    fixture.until(|reach| *reach == Reach::Connected).await;
    assert!(fixture.workloads.pods(&key(), "n1").is_none());
    let asker = |name: &str| ("lent".to_owned(), name.to_owned());
    let (one, two, now) = (asker("ws-1"), asker("ws-2"), Timestamp::UNIX_EPOCH);
    for asker in [&one, &two] {
        fixture.workloads.ask_for_pods(asker, Some((&key(), "n1")), now);
    }
    while fixture.pods() == 0 {
        assert_eq!(fixture.until_pods().await, [one.clone(), two.clone()]);
    }
    let view = fixture.workloads.pods(&key(), "n1").unwrap();
    let seen = view.pods.unwrap().state()[0].clone();
    assert!(seen.spec.as_ref().is_some_and(|spec| spec.priority == Some(7) && spec.containers.is_empty()));
    assert_eq!(seen.metadata.annotations.as_ref().unwrap().len(), 1, "only what is read");
    assert_eq!((view.since, view.trouble), (now, None));

    line.unbounded_send(event("DELETED", &pod("p1", "4"))).unwrap();
    while fixture.pods() == 1 {
        fixture.until_pods().await;
    }
    fixture.workloads.ask_for_pods(&one, None, now);
    assert!(fixture.workloads.pods(&key(), "n1").is_some() && !line.is_closed(), "another one asks");
    fixture.workloads.retain_askers(|asker| *asker == one);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(fixture.workloads.pods(&key(), "n1").is_none() && line.is_closed());
}

/// A workload server that answers by what is asked, in whatever order: no Nodes, these answers for lists of pods, and
/// watches that stay open.
fn by_path(pods: Vec<Answer>) -> kube::Client {
    let (mut pods, mut open) = (VecDeque::from(pods), Vec::new());
    let (client, _) = client(move |line| {
        if line.contains("watch=true") {
            let (sender, watch) = open_watch();
            open.push(sender);
            return watch;
        }
        if !line.contains("/pods") {
            return Answer::list("9", "", &[]);
        }
        assert!(line.contains("fieldSelector=spec.nodeName%3Dn1"), "{line}");
        pods.pop_front().unwrap_or(Answer::Silence)
    });
    client
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_pods_tells_what_is_wrong_and_goes_on_with_a_rotated_credential() {
    let (line, secrets) = open_watch();
    let authority = authority();
    let text = |token: &str| kubeconfig("https://grid", &authority, token);
    let forbidden = (0..100).map(|_| Answer::failure(403)).collect();
    let servers = vec![by_path(forbidden), by_path(vec![Answer::list("20", "", &[pod("p1", "3")])])];
    let servers = Mutex::new(servers.into_iter());
    let dial: Dial = Arc::new(move |_| Ok(servers.lock().unwrap().next().unwrap()));
    let (management, log) = scripted(vec![Answer::list("1", "", &[secret(&text("t1"), "1")]), secrets]);
    let (sender, notices) = mpsc::unbounded_channel();
    let (workloads, actor) = Workloads::with_dial(management, sender, dial);
    let mut tasks = JoinSet::new();
    tasks.spawn(actor);
    let mut fixture = Fixture { workloads, notices, management: log, _actor: tasks };

    fixture.until(|reach| *reach == Reach::Connected).await;
    let asker = ("lent".to_owned(), "ws-1".to_owned());
    fixture.workloads.ask_for_pods(&asker, Some((&key(), "n1")), Timestamp::UNIX_EPOCH);
    fixture.until_pods().await;
    let view = fixture.workloads.pods(&key(), "n1").unwrap();
    assert!(view.trouble.is_some_and(|text| text.contains("403")) && view.pods.is_none());
    line.unbounded_send(event("MODIFIED", &secret(&text("t2"), "2"))).unwrap();
    while fixture.pods() == 0 {
        fixture.until_pods().await;
    }
    assert_eq!(fixture.workloads.pods(&key(), "n1").unwrap().trouble, None);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_answered_makes_the_cluster_unreachable_until_a_new_list_comes() {
    let (_line, secrets) = open_watch();
    let (_first, watch) = open_watch();
    let (_renewed, again) = open_watch();
    let text = kubeconfig("https://grid", &authority(), "t");
    let list = || Answer::list("9", "", &[on_grid("n1", "3")]);
    let mut fixture = fixture(
        vec![Answer::list("1", "", &[secret(&text, "1")]), secrets],
        vec![vec![list(), watch], vec![Answer::failure(503), list(), again]],
    );
    fixture.until(|reach| *reach == Reach::Connected).await;
    let line = fixture.workloads.view(&key()).line.unwrap();
    let never = || std::future::pending::<kube::Result<()>>();
    assert_eq!(line.call(never()).await.err(), Some(Unanswered::Silent));
    fixture.until(|reach| matches!(reach, Reach::Unreachable(why) if why.contains("1.2 s"))).await;
    assert_eq!(fixture.workloads.view(&key()).nodes.unwrap().len(), 1, "what was last known stays");
    fixture.until(|reach| *reach == Reach::Connected).await;
    // A call of the former line that ends late says nothing about the new one.
    assert_eq!(line.call(never()).await.err(), Some(Unanswered::Silent));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(fixture.reach(), Reach::Connected);
}

#[tokio::test(start_paused = true)]
async fn what_the_old_watch_still_brings_does_not_make_an_unreachable_cluster_connected() {
    let (_line, secrets) = open_watch();
    let (first, watch) = open_watch();
    let (_renewed, again) = open_watch();
    let text = kubeconfig("https://grid", &authority(), "t");
    let list = || Answer::list("9", "", &[on_grid("n1", "3")]);
    let mut fixture = fixture(
        vec![Answer::list("1", "", &[secret(&text, "1")]), secrets],
        vec![vec![list(), watch], vec![list(), again]],
    );
    fixture.until(|reach| *reach == Reach::Connected).await;
    let line = fixture.workloads.view(&key()).line.unwrap();
    assert_eq!(line.call(std::future::pending::<kube::Result<()>>()).await.err(), Some(Unanswered::Silent));
    fixture.until(|reach| matches!(reach, Reach::Unreachable(_))).await;
    // Nobody listens to it any more, so this may fail.
    let _ = first.unbounded_send(event("MODIFIED", &on_grid("n1", "4")));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(matches!(fixture.reach(), Reach::Unreachable(_)), "{:?}", fixture.reach());
    fixture.until(|reach| *reach == Reach::Connected).await;
}

#[tokio::test(start_paused = true)]
async fn no_secret_is_asked_for_by_what_is_no_name() {
    for name in ["", "x,metadata.name!=y", "Grid"] {
        let mut fixture = fixture(vec![], vec![]);
        let nameless = ConnectionKey { secret: name.into(), ..key() };
        fixture.workloads.view(&nameless);
        assert_eq!(fixture.notices.recv().await.unwrap(), WorkloadNotice::Reach(nameless.clone()));
        let reach = fixture.workloads.view(&nameless).reach;
        assert!(
            matches!(&reach, Reach::KubeconfigMissing(why) if why.contains("names no Secret")),
            "{name}: {reach:?}"
        );
        assert!(fixture.management.entries().is_empty(), "{:?}", fixture.management.entries());
    }
}
