use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use k8s_openapi::api::core::v1::Node;
use kube::runtime::reflector::{self, ObjectRef, Store};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    mock::{Answer, client, event, node},
    *,
};

/// One notice in words, and what the store showed while it was told.
#[derive(Debug)]
struct Told {
    what: String,
    in_store: bool,
}

struct Following {
    told: mpsc::UnboundedReceiver<Told>,
    store: Store<Node>,
    _task: JoinSet<()>,
}

fn start(client: kube::Client, config: Config) -> Following {
    start_bounded(client, config, usize::MAX)
}

fn start_bounded(client: kube::Client, config: Config, most: usize) -> Following {
    let (store, writer) = reflector::store::<Node>();
    let (sender, told) = mpsc::unbounded_channel();
    let shown = store.clone();
    let has = move |node: &Node| shown.get(&ObjectRef::new(&node.name_any())).is_some();
    let notify = move |notice: Notice<Node>| {
        let (what, in_store) = match &notice {
            Notice::Changed(node) => (format!("changed {}", node.name_any()), has(node)),
            Notice::Gone(node) => (format!("gone {}", node.name_any()), has(node)),
            Notice::Synced => ("synced".to_owned(), false),
            Notice::Failing(outage) => (format!("failing {:?}", outage.cause), false),
            Notice::Recovered => ("recovered".to_owned(), false),
        };
        sender.send(Told { what, in_store }).unwrap();
    };
    let mut task = JoinSet::new();
    task.spawn(follow_bounded(Api::all(client), config, writer, most, |_| {}, notify));
    Following { told, store, _task: task }
}

impl Following {
    async fn next(&mut self) -> Told {
        timeout(Duration::from_secs(600), self.told.recv()).await.expect("a notice").unwrap()
    }

    /// Notices up to and including `last`.
    async fn until(&mut self, last: &str) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let told = self.next().await;
            all.push(told.what.clone());
            if told.what == last {
                return all;
            }
        }
    }
}

/// Answers in this order, then silence.
fn scripted(answers: Vec<Answer>) -> (kube::Client, super::mock::Log) {
    let queue = Arc::new(Mutex::new(VecDeque::from(answers)));
    client(move |_| queue.lock().unwrap().pop_front().unwrap_or(Answer::Silence))
}

#[tokio::test(start_paused = true)]
async fn an_object_on_the_first_page_of_a_relist_is_announced_once_the_store_shows_it() {
    let (line, watch) = Answer::watch();
    let (_held, second) = Answer::watch();
    let (client, log) = scripted(vec![
        Answer::list("10", "", &[node("old", "5")]),
        watch,
        Answer::list("20", "more", &[node("new", "15")]),
        Answer::list("20", "", &[node("old", "5")]),
        second,
    ]);
    let mut following = start(client, Config::default().page_size(1));
    assert_eq!(following.until("synced").await, ["changed old", "synced"]);
    let gone = serde_json::json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"});
    line.unbounded_send(event("ERROR", &gone)).unwrap();
    let mut announced = Vec::new();
    loop {
        let told = following.next().await;
        if told.what == "synced" {
            break;
        }
        assert!(told.in_store, "{told:?}");
        announced.push(told.what);
    }
    announced.sort();
    assert_eq!(announced, ["changed new", "changed old"]);
    assert_eq!(log.count("continue=more"), 1);
    assert!(following.store.get(&ObjectRef::new("new")).unwrap().metadata.managed_fields.is_none());
}

#[tokio::test(start_paused = true)]
async fn http_410_at_the_start_of_a_watch_lists_again_and_tells_what_vanished() {
    let (_held, watch) = Answer::watch();
    let (client, log) = scripted(vec![
        Answer::list("10", "", &[node("kept", "5"), node("lost", "6")]),
        Answer::failure(410),
        Answer::list("30", "", &[node("kept", "5")]),
        watch,
    ]);
    let mut following = start(client, Config::default());
    following.until("synced").await;
    let told = following.next().await;
    assert_eq!((told.what.as_str(), told.in_store), ("gone lost", false));
    assert_eq!(following.until("synced").await, ["changed kept", "synced"]);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(log.count("resourceVersion=30"), 1, "{:?}", log.entries());
}

#[tokio::test(start_paused = true)]
async fn a_recreated_object_is_first_gone_and_then_changed() {
    let mut recreated = node("a", "15");
    recreated["metadata"]["uid"] = "another".into();
    let (client, _log) = scripted(vec![
        Answer::list("10", "", &[node("a", "5")]),
        Answer::failure(410),
        Answer::list("20", "", &[recreated]),
    ]);
    let mut following = start(client, Config::default());
    following.until("synced").await;
    assert_eq!(following.until("synced").await, ["gone a", "changed a", "synced"]);
}

#[tokio::test(start_paused = true)]
async fn a_failing_list_backs_off_and_is_told_once() {
    let (client, log) = client(|_| Answer::failure(500));
    let mut following = start(client, Config::default());
    sleep(Duration::from_secs(120)).await;
    let lists = log.entries().len();
    assert!((24..60).contains(&lists), "{lists} lists in 120 s");
    assert_eq!(following.next().await.what, "failing Refused");
    assert!(following.told.try_recv().is_err(), "an outage is told once");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_forbids_is_asked_every_half_minute() {
    let (client, log) = client(|_| Answer::failure(403));
    let _following = start(client, Config::default());
    sleep(Duration::from_secs(600)).await;
    let lists = log.entries().len();
    assert!((20..60).contains(&lists), "{lists} lists in 600 s");
}

#[tokio::test(start_paused = true)]
async fn answering_every_watch_with_410_is_no_tight_loop() {
    let (client, log) =
        client(
            |line| {
                if line.contains("watch=true") { Answer::failure(410) } else { Answer::list("1", "", &[]) }
            },
        );
    let _following = start(client, Config::default());
    sleep(Duration::from_secs(120)).await;
    assert!(log.count("watch=true") < 60, "{} watches in 120 s", log.count("watch=true"));
}

/// A server that was restarted answers 503, and then forgets all versions.
#[tokio::test(start_paused = true)]
async fn the_list_after_an_outage_does_not_wait_as_the_outage_taught() {
    let (first, watch) = Answer::watch();
    let (_second, again) = Answer::watch();
    let mut answers = vec![Answer::list("7", "", &[]), watch];
    answers.extend((0..8).map(|_| Answer::failure(503)));
    answers.extend([Answer::failure(410), Answer::list("9", "", &[]), again]);
    let (mut answers, times) = (VecDeque::from(answers), Arc::new(Mutex::new(Vec::new())));
    let seen = times.clone();
    let (client, _log) = client(move |_| {
        #[expect(clippy::disallowed_methods, reason = "the test's own clock, which is virtual")]
        seen.lock().unwrap().push(tokio::time::Instant::now());
        answers.pop_front().unwrap()
    });
    let mut following = start(client, Config::default());
    following.until("synced").await;
    sleep(Duration::from_secs(2)).await;
    drop(first);
    following.until("recovered").await;
    let times = times.lock().unwrap().clone();
    let pause = |at: usize| times[at].duration_since(times[at - 1]);
    assert!(pause(9) > Duration::from_secs(2), "an outage: {:?}", pause(9));
    assert!(pause(11) < Duration::from_millis(300), "{:?} from 410 to the list", pause(11));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_closes_at_once_counts_as_an_outage() {
    let (client, log) =
        client(
            |line| {
                if line.contains("watch=true") { Answer::watch().1 } else { Answer::list("1", "", &[]) }
            },
        );
    let mut following = start(client, Config::default());
    assert_eq!(following.until("failing Refused").await, ["synced", "failing Refused"]);
    sleep(Duration::from_secs(120)).await;
    assert!(log.count("watch=true") < 60);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_given_up_and_asked_again() {
    let (_held, watch) = Answer::watch();
    let (client, _log) = scripted(vec![Answer::Silence, Answer::list("1", "", &[node("a", "1")]), watch]);
    let mut following = start(client, Config::default());
    assert_eq!(
        following.until("recovered").await,
        ["failing Unreachable", "changed a", "synced", "recovered"]
    );
}

#[tokio::test(start_paused = true)]
async fn an_outage_between_two_watches_ends_with_the_watch_that_works_and_needs_no_list() {
    let (first, watch) = Answer::watch();
    let (second, again) = Answer::watch();
    let (client, log) =
        scripted(vec![Answer::list("7", "", &[]), watch, Answer::failure(503), Answer::failure(503), again]);
    let mut following = start(client, Config::default());
    following.until("synced").await;
    first.unbounded_send(event("ADDED", &node("a", "8"))).unwrap();
    let told = following.next().await;
    assert_eq!((told.what.as_str(), told.in_store), ("changed a", true));
    drop(first);
    assert_eq!(following.until("recovered").await, ["failing Refused", "recovered"]);
    second.unbounded_send(event("DELETED", &node("a", "9"))).unwrap();
    let told = following.next().await;
    assert_eq!((told.what.as_str(), told.in_store), ("gone a", false));
    assert_eq!(log.count("resourceVersion=8"), 3, "resumed where it was: {:?}", log.entries());
}

#[tokio::test(start_paused = true)]
async fn a_silent_watch_is_replaced_after_its_time() {
    let (client, log) = client({
        let mut held = Vec::new();
        move |line| {
            if !line.contains("watch=true") {
                return Answer::list("1", "", &[]);
            }
            let (sender, watch) = Answer::watch();
            held.push(sender);
            watch
        }
    });
    let mut following = start(client, Config::default().timeout(60));
    sleep(Duration::from_secs(300)).await;
    let watches = log.count("watch=true&timeoutSeconds=60");
    assert!((4..6).contains(&watches), "{:?}", log.entries());
    assert_eq!(following.until("synced").await, ["synced"]);
    assert!(following.told.try_recv().is_err(), "a renewal is no outage");
}

#[tokio::test(start_paused = true)]
async fn more_objects_than_are_kept_are_an_outage_in_a_list_and_in_a_watch() {
    let (lines, watch) = Answer::watch();
    let (more, again) = Answer::watch();
    let nodes = |names: &[&str]| names.iter().map(|name| node(name, "1")).collect::<Vec<_>>();
    let mut answers = VecDeque::from([
        Answer::list("1", "more", &nodes(&["a", "b"])),
        Answer::list("1", "", &nodes(&["c"])),
        Answer::list("2", "", &nodes(&["a", "b"])),
        watch,
        again,
    ]);
    let (client, _log) = client(move |_| answers.pop_front().unwrap_or(Answer::Silence));
    let mut following = start_bounded(client, Config::default(), 2);
    assert_eq!(following.until("failing Refused").await, ["failing Refused"], "nothing of it is shown");
    following.until("synced").await;
    following.until("recovered").await;
    lines.unbounded_send(event("MODIFIED", &node("a", "3"))).unwrap();
    following.until("changed a").await;
    lines.unbounded_send(event("ADDED", &node("c", "4"))).unwrap();
    assert_eq!(following.until("failing Refused").await, ["failing Refused"]);
    assert_eq!(following.store.len(), 2);
    more.unbounded_send(event("DELETED", &node("a", "5"))).unwrap();
    following.until("recovered").await;
    assert_eq!(following.store.len(), 1, "there is room again");
}
