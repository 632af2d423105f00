use std::collections::VecDeque;

use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};

use super::*;
use crate::watch::mock::{Answer, Log, client, event};

const VERSION: &str = "infrastructure.cluster.x-k8s.io/v1";

fn discovery(namespaced: bool) -> Answer {
    Answer::Json(
        200,
        json!({"kind": "APIResourceList", "groupVersion": VERSION, "resources": [
            {"name": "hosts/status", "singularName": "", "namespaced": namespaced, "kind": "Host", "verbs": []},
            {"name": "hosts", "singularName": "host", "namespaced": namespaced, "kind": "Host", "verbs": ["list"]},
        ]}),
    )
}

fn definition(field: &str) -> Answer {
    let spec = json!({"type": "object", "properties": {field: {"type": "string"}}});
    Answer::Json(
        200,
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "hosts.infrastructure.cluster.x-k8s.io", "labels": {"cluster.x-k8s.io/v1beta2": "v1"}},
            "spec": {"group": "infrastructure.cluster.x-k8s.io", "scope": "Namespaced",
                     "names": {"kind": "Host", "plural": "hosts"},
                     "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                         {"type": "object", "properties": {"spec": spec}}}}]},
        }),
    )
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
    _actor: JoinSet<()>,
}

fn fixture(answer: impl FnMut(&str) -> Answer + Send + 'static) -> Fixture {
    let (client, log) = client(answer);
    let (sender, notices) = mpsc::unbounded_channel();
    let groups = vec!["infrastructure.cluster.x-k8s.io".to_owned()];
    let (kinds, actor) = Kinds::new(client, None, groups, sender);
    let mut tasks = JoinSet::new();
    tasks.spawn(actor);
    Fixture { kinds, notices, log, _actor: tasks }
}

fn scripted(answers: Vec<Answer>) -> impl FnMut(&str) -> Answer + Send + 'static {
    let mut queue = VecDeque::from(answers);
    move |_| queue.pop_front().unwrap_or(Answer::Silence)
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
}

#[tokio::test(start_paused = true)]
async fn a_machine_kind_is_served_with_our_objects_and_their_changes() {
    let (line, watch) = Answer::watch();
    let answers =
        vec![discovery(true), definition("providerID"), Answer::list("5", "", &[host("a", "3")]), watch];
    let mut fixture = fixture(scripted(answers));
    assert!(matches!(fixture.view(), KindView::Resolving));
    let KindView::Served { resource, children } = fixture.told().await else { panic!("not served") };
    assert_eq!((resource.plural.as_str(), children.len()), ("hosts", 1));
    let child = |name: &str| KindNotice::Child {
        namespace: "lent".into(),
        name: name.into(),
        scheduled_machine: "ws-17".into(),
    };
    assert_eq!(fixture.notices.recv().await.unwrap(), child("a"));
    line.unbounded_send(event("ADDED", &host("b", "6"))).unwrap();
    assert_eq!(fixture.notices.recv().await.unwrap(), child("b"));
    assert_eq!(children.len(), 2);
    assert_eq!(fixture.log.count("labelSelector=5spot.finos.org%2Fscheduled-machine"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_kind_installed_later_is_found_while_somebody_asks() {
    let mut installed = false;
    let mut calls = 0;
    let (_line, watch) = Answer::watch();
    let mut watch = Some(watch);
    let mut fixture = fixture(move |line| {
        calls += 1;
        installed |= calls > 12;
        match line {
            _ if !installed => Answer::failure(404),
            line if line.contains("customresourcedefinitions") => definition("providerID"),
            line if line.contains("watch=true") => watch.take().unwrap_or(Answer::Silence),
            line if line.contains("/hosts") => Answer::list("5", "", &[]),
            _ => discovery(true),
        }
    });
    fixture.view();
    let KindView::NotServed(why) = fixture.told().await else { panic!("told something else") };
    assert!(why.contains("is not served: install its provider"), "{why}");
    for _ in 0..20 {
        sleep(Duration::from_secs(30)).await;
        fixture.view();
    }
    assert!(matches!(fixture.view(), KindView::Served { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_kind_nobody_asks_for_is_forgotten() {
    let mut fixture = fixture(|_| Answer::failure(404));
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
    let (line, watch) = Answer::watch();
    let answers = vec![
        discovery(true),
        definition("providerID"),
        Answer::list("5", "", &[]),
        watch,
        Answer::failure(404),
        Answer::failure(404),
    ];
    let mut fixture = fixture(scripted(answers));
    fixture.view();
    assert!(matches!(fixture.told().await, KindView::Served { .. }));
    sleep(Duration::from_secs(2)).await;
    drop(line);
    assert!(matches!(fixture.told().await, KindView::NotServed(_)));
}

#[tokio::test(start_paused = true)]
async fn a_forbidden_look_is_not_taken_for_an_absence() {
    let mut fixture = fixture(scripted(vec![discovery(true), Answer::failure(403)]));
    fixture.view();
    assert!(matches!(fixture.told().await, KindView::Unreachable(_)));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_a_namespaced_machine_is_not_allowed() {
    for answers in [vec![discovery(false)], vec![discovery(true), definition("controlPlaneEndpoint")]] {
        let mut fixture = fixture(scripted(answers));
        fixture.view();
        assert!(matches!(fixture.told().await, KindView::NotAllowed(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn only_groups_allowed_by_their_exact_name_are_asked_about() {
    let fixture = fixture(|_| Answer::Silence);
    let view = |api_version| fixture.kinds.view(Role::Bootstrap, api_version, "Secret");
    for api_version in ["v1", "cluster.x-k8s.io/v1", "x.infrastructure.cluster.x-k8s.io/v1", "/v1"] {
        assert!(matches!(view(api_version), KindView::NotAllowed(_)), "{api_version}");
    }
    let hostile = "infrastructure.cluster.x-k8s.io/v1/../../v1";
    assert!(matches!(view(hostile), KindView::NotServed(_)));
    sleep(Duration::from_secs(60)).await;
    assert!(fixture.log.entries().is_empty());
}
