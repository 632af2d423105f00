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
    assert!(fixture.workloads.view(&key()).client.is_none());
    line.unbounded_send(event("ADDED", &secret(&kubeconfig("https://grid", &authority(), "t"), "2")))
        .unwrap();
    fixture.until(|reach| *reach == Reach::Connected).await;
    let view = fixture.workloads.view(&key());
    let node = view.nodes.unwrap().get(&ObjectRef::new("n1")).unwrap();
    assert!(view.client.is_some() && node.status.as_ref().unwrap().images.is_none());
    assert_eq!(fixture.management.count("fieldSelector=metadata.name%3Dgrid-kubeconfig"), 2);
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
    assert_eq!(told, WorkloadNotice::Node { connection: key(), name: "n1".into(), machine });
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
