use std::sync::Mutex;

use bytes::Bytes;
use futures::channel::mpsc::UnboundedSender as Line;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::*;
use crate::watch::mock::{Answer, Log, client, event};

const GROUP: &str = "infrastructure.cluster.x-k8s.io";
const VERSION: &str = "infrastructure.cluster.x-k8s.io/v1";

/// An API server with one kind in its group.
struct Server {
    /// The versions in which it is served.
    served: Vec<&'static str>,
    namespaced: bool,
    /// The field that says what the kind is.
    field: &'static str,
    is_forbidden: bool,
    children: Vec<Value>,
    open: Vec<(String, Line<Bytes>)>,
}

fn server() -> Server {
    Server {
        served: vec!["v1"],
        namespaced: true,
        field: "providerID",
        is_forbidden: false,
        children: Vec::new(),
        open: Vec::new(),
    }
}

impl Server {
    fn definition(&self) -> Value {
        let spec = json!({"type": "object", "properties": {self.field: {"type": "string"}}});
        let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
        let versions: Vec<Value> = self
            .served
            .iter()
            .map(|name| json!({"name": name, "served": true, "storage": false, "schema": schema}))
            .collect();
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "hosts.infrastructure.cluster.x-k8s.io", "uid": "d", "resourceVersion": "4",
                         "labels": {"cluster.x-k8s.io/v1beta2": "v1"}},
            "spec": {"group": GROUP, "scope": "Namespaced",
                     "names": {"kind": "Host", "plural": "hosts"}, "versions": versions},
        })
    }

    fn resources(&self) -> Answer {
        let namespaced = self.namespaced;
        Answer::Json(
            200,
            json!({"kind": "APIResourceList", "groupVersion": VERSION, "resources": [
                {"name": "hosts/status", "singularName": "", "namespaced": namespaced, "kind": "Host", "verbs": []},
                {"name": "hosts", "singularName": "host", "namespaced": namespaced, "kind": "Host", "verbs": ["list"]},
            ]}),
        )
    }

    fn group(&self) -> Answer {
        if self.served.is_empty() {
            return Answer::failure(404);
        }
        let version = |name: &&str| json!({"groupVersion": format!("{GROUP}/{name}"), "version": name});
        let versions: Vec<Value> = self.served.iter().map(version).collect();
        Answer::Json(200, json!({"name": GROUP, "versions": versions}))
    }

    fn answer(&mut self, line: &str) -> Answer {
        let is_served = self.served.iter().any(|version| line.contains(&format!("{GROUP}/{version}")));
        let is_definition = line.contains("customresourcedefinitions");
        match line {
            _ if is_definition && self.is_forbidden => Answer::failure(403),
            _ if !is_definition && line.ends_with(GROUP) => self.group(),
            _ if !is_definition && !is_served => Answer::failure(404),
            _ if line.contains("watch=true") => {
                let (sender, watch) = Answer::watch();
                self.open.push((line.to_owned(), sender));
                watch
            }
            _ if is_definition && self.served.is_empty() => Answer::list("5", "", &[]),
            _ if is_definition => Answer::list("5", "", &[self.definition()]),
            _ if line.contains("/hosts") => Answer::list("5", "", &self.children),
            _ => self.resources(),
        }
    }

    /// An event of the latest watch whose request contains that.
    fn says(&self, part: &str, what: &str, object: &Value) {
        let (_, line) = self.open.iter().rfind(|(line, _)| line.contains(part)).unwrap();
        line.unbounded_send(event(what, object)).unwrap();
    }

    fn says_definition(&self) {
        self.says("customresourcedefinitions", "MODIFIED", &self.definition());
    }
}

fn host(name: &str, version: &str) -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
           "metadata": {"name": name, "namespace": "lent", "uid": name, "resourceVersion": version,
                        "labels": {"5spot.finos.org/scheduled-machine": "ws-17"}}})
}

struct Fixture {
    kinds: Kinds,
    notices: mpsc::UnboundedReceiver<KindNotice>,
    log: Log,
    server: Arc<Mutex<Server>>,
    _actor: JoinSet<()>,
}

fn fixture(server: Server) -> Fixture {
    let server = Arc::new(Mutex::new(server));
    let answering = server.clone();
    let (client, log) = client(move |line| answering.lock().unwrap().answer(line));
    let (sender, notices) = mpsc::unbounded_channel();
    let (kinds, actor) = Kinds::new(client, None, vec![GROUP.to_owned()], sender);
    let mut tasks = JoinSet::new();
    tasks.spawn(actor);
    Fixture { kinds, notices, log, server, _actor: tasks }
}

impl Fixture {
    fn view(&self) -> KindView {
        self.kinds.view(Role::Infrastructure, VERSION, "Host")
    }

    /// The next view that is told.
    async fn told(&mut self) -> KindView {
        loop {
            let notice =
                timeout(Duration::from_secs(600), self.notices.recv()).await.expect("a notice").unwrap();
            if matches!(notice, KindNotice::Kind { .. }) {
                return self.view();
            }
        }
    }

    fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap()
    }

    /// Watches of that are open.
    async fn until_watched(&self, part: &str) {
        while !self.server().open.iter().any(|(line, _)| line.contains(part)) {
            sleep(Duration::from_millis(10)).await;
        }
    }
}

fn served(view: &KindView) -> Ours {
    match view {
        KindView::Served(ours) => ours.clone(),
        other => panic!("not served: {}", why(other)),
    }
}

fn why(view: &KindView) -> String {
    match view {
        KindView::NotServed { why, .. } => format!("not served: {why}"),
        KindView::NotAllowed { why, .. } => format!("not allowed: {why}"),
        KindView::Unreachable(why) => format!("unreachable: {why}"),
        KindView::Resolving => "resolving".to_owned(),
        KindView::Served(_) => "served".to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_kind_is_served_with_our_objects_and_their_changes() {
    let mut fixture = fixture(Server { children: vec![host("a", "3")], ..server() });
    assert!(matches!(fixture.view(), KindView::Resolving));
    let Ours { resource, children } = served(&fixture.told().await);
    assert_eq!((resource.plural.as_str(), children.len()), ("hosts", 1));
    let child = |name: &str| KindNotice::Child {
        namespace: "lent".into(),
        name: name.into(),
        scheduled_machine: "ws-17".into(),
    };
    assert_eq!(fixture.notices.recv().await.unwrap(), child("a"));
    fixture.until_watched("/hosts").await;
    fixture.server().says("/hosts", "ADDED", &host("b", "6"));
    assert_eq!(fixture.notices.recv().await.unwrap(), child("b"));
    assert_eq!(children.len(), 2);
    assert_eq!(fixture.log.count("labelSelector=5spot.finos.org%2Fscheduled-machine"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_kind_installed_later_is_found_while_somebody_asks() {
    let mut fixture = fixture(Server { served: vec![], ..server() });
    fixture.view();
    let said = why(&fixture.told().await);
    assert!(said.contains("is not served: install its provider"), "{said}");
    for _ in 0..4 {
        sleep(Duration::from_secs(30)).await;
        fixture.view();
    }
    fixture.server().served = vec!["v1"];
    served(&fixture.told().await);
}

#[tokio::test(start_paused = true)]
async fn a_kind_nobody_asks_for_is_forgotten() {
    let mut fixture = fixture(Server { served: vec![], ..server() });
    fixture.view();
    fixture.told().await;
    sleep(Duration::from_secs(11 * 60)).await;
    let calls = fixture.log.entries().len();
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(fixture.log.entries().len(), calls);
    assert!(matches!(fixture.view(), KindView::Resolving));
    sleep(Duration::from_secs(1)).await;
    assert!(fixture.log.entries().len() > calls);
}

#[tokio::test(start_paused = true)]
async fn a_removed_definition_makes_a_served_kind_not_served() {
    let mut fixture = fixture(server());
    fixture.view();
    served(&fixture.told().await);
    fixture.until_watched("/hosts").await;
    let definition = fixture.server().definition();
    {
        let mut server = fixture.server();
        server.served.clear();
        server.says("customresourcedefinitions", "DELETED", &definition);
        // As the API server does: the watches of the collection end with it.
        server.open.retain(|(line, _)| !line.contains("/hosts"));
    }
    let mut said = why(&fixture.told().await);
    if said.contains("no CustomResourceDefinition") {
        said = why(&fixture.told().await);
    }
    assert!(said.contains("not served: infrastructure.cluster.x-k8s.io/v1 is not served"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_kind_is_judged_anew_when_its_definition_changes_and_ours_of_it_stay_in_sight() {
    let mut fixture = fixture(Server { children: vec![host("a", "3")], ..server() });
    fixture.view();
    served(&fixture.told().await);
    fixture.until_watched("customresourcedefinitions").await;
    fixture.server().field = "controlPlaneEndpoint";
    fixture.server().says_definition();
    let view = fixture.told().await;
    assert!(why(&view).contains("not allowed: Host is a cluster"), "{}", why(&view));
    assert_eq!(view.ours().unwrap().children.len(), 1);
    fixture.server().field = "providerID";
    fixture.server().says_definition();
    served(&fixture.told().await);
}

#[tokio::test(start_paused = true)]
async fn ours_of_a_kind_that_is_served_in_another_version_alone_stay_in_sight() {
    let children = vec![host("a", "3")];
    let mut fixture = fixture(Server { served: vec!["v2", "v3"], children, ..server() });
    fixture.view();
    let view = fixture.told().await;
    let KindView::NotServed { why, ours: Some(ours) } = &view else { panic!("{}", why(&view)) };
    assert!(why.contains("is not served: it is served as v2, correct apiVersion"), "{why}");
    assert_eq!((ours.resource.version.as_str(), ours.children.len()), ("v2", 1));
    fixture.until_watched("customresourcedefinitions").await;
    fixture.server().served = vec!["v1", "v2"];
    fixture.server().says_definition();
    assert_eq!(served(&fixture.told().await).resource.version, "v1", "found again where it was asked for");
}

#[tokio::test(start_paused = true)]
async fn a_forbidden_look_is_not_taken_for_an_absence() {
    let mut fixture = fixture(Server { is_forbidden: true, ..server() });
    fixture.view();
    assert!(matches!(fixture.told().await, KindView::Unreachable(_)));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_a_namespaced_machine_is_not_allowed() {
    for refused in
        [Server { namespaced: false, ..server() }, Server { field: "controlPlaneEndpoint", ..server() }]
    {
        let mut fixture = fixture(refused);
        fixture.view();
        assert!(matches!(fixture.told().await, KindView::NotAllowed { .. }));
    }
}

#[tokio::test(start_paused = true)]
async fn only_groups_allowed_by_their_exact_name_are_asked_about() {
    let fixture = fixture(server());
    let view = |api_version| fixture.kinds.view(Role::Bootstrap, api_version, "Secret");
    for api_version in ["v1", "cluster.x-k8s.io/v1", "x.infrastructure.cluster.x-k8s.io/v1", "/v1"] {
        assert!(matches!(view(api_version), KindView::NotAllowed { .. }), "{api_version}");
    }
    let hostile = "infrastructure.cluster.x-k8s.io/v1/../../v1";
    assert!(matches!(view(hostile), KindView::NotServed { .. }));
    sleep(Duration::from_secs(60)).await;
    assert!(fixture.log.entries().is_empty());
}
