//! The agent on a lent machine: sees the owner's programs start, and says so on the Node.
//!
//! - [`rules`]: which programs are the owner's; [`book`]: those in force; [`session`]: what to ask for. Pure.
//! - [`rules_watch`]: its ConfigMap; [`identity`]: that this host is that Node.
//! - [`report`]: the request on the Node; [`lease`]: the sign of life; [`watchdog`]: who ends it when it is stuck;
//!   [`measure`]: what its ports show, if it has any.
//! - [`oneshot`]: one look, without any of that.

pub mod book;
pub mod error;
mod eyes;
pub mod identity;
pub mod lease;
pub mod measure;
pub mod oneshot;
pub mod report;
pub mod rules;
pub mod rules_watch;
pub mod session;
pub mod watchdog;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use jiff::Timestamp;
use kube::Client;
use tokio::sync::{mpsc, watch};

use self::book::Book;
pub use self::error::Error;
use self::eyes::Eyes;
use self::identity::Identity;
use self::lease::Said;
use self::measure::{RuleFaults, Shown, Stages};
use self::oneshot::Look;
use self::report::Place;
use self::watchdog::Pulse;
use crate::api::names::AGENT;
use crate::config::{AgentConfig, DetectorChoice};
use crate::detector::{Detector, Kind, Options};
use crate::runtime::{StopSignals, Tasks};
use crate::telemetry::admin::{self, Port, Purpose};
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Registry;

#[expect(clippy::disallowed_methods, reason = "requests and renewals carry the time at which they were made")]
fn wall_clock() -> Timestamp {
    Timestamp::now()
}

fn options(config: &AgentConfig) -> Options {
    let kind = match config.detector {
        DetectorChoice::Auto => Kind::Auto,
        DetectorChoice::Netlink => Kind::Netlink,
        DetectorChoice::Poll => Kind::Poll,
    };
    Options { kind, proc_root: config.proc_root.clone(), ..Options::default() }
}

async fn client() -> Result<Client, Error> {
    let mut config = kube::Config::infer().await.map_err(|error| Error::Kubeconfig(error.into()))?;
    // kube's own retries can keep one call for minutes; an owner is waiting.
    config.default_retry = false;
    config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
    Client::try_from(config).map_err(|error| Error::Client(error.into()))
}

/// One look by rules that were read from a file.
pub async fn look_by_rules(config: &AgentConfig, rules: rules::Rules) -> Look {
    let rules = (!rules.is_inert()).then(|| Arc::new(rules));
    oneshot::look(options(config), rules).await
}

/// One look by the rules that the cluster has for a Node's agent. Where they cannot be read it says so, and what it sees by
/// none.
pub async fn look_for_node(config: &AgentConfig, node: &str) -> Look {
    let read = async { rules_watch::read_once(client().await?, node).await };
    let mut book = Book::new();
    let fault = match read.await {
        Ok(text) => {
            book.take(node, text.as_deref());
            book.is_faulty().then(|| book.word())
        }
        Err(error) => Some(error.to_string()),
    };
    let mut look = oneshot::look(options(config), book.in_force().cloned()).await;
    if fault.is_some() {
        look.is_healthy = false;
        look.error = fault;
    }
    look
}

/// Watches over this Node until a signal to stop.
///
/// # Errors
/// It could not begin, or a part of it ended.
pub async fn watch_over(config: &AgentConfig, node: &str) -> Result<(), Error> {
    let mut signals = StopSignals::listen().map_err(Error::Start)?;
    let client = client().await?;
    let detector = Detector::start(options(config))?;
    let monitor = detector.monitor();
    let loop_count = Arc::new(AtomicU64::new(0));
    let pulses =
        vec![Pulse::of("event loop", Arc::clone(&loop_count)), Pulse::of("detector", monitor.turns())];
    watchdog::guard(pulses, watchdog::LOOK, watchdog::MOST, end_stuck).map_err(Error::Start)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        node,
        detector = detector.health().source.map_or("none", crate::detector::Source::word),
        "reclaim agent starts"
    );
    let place = Place::new(client.clone(), node, identity(config));
    let health = Health::default();
    let mut tasks = Tasks::new(health.clone());
    tasks.spawn("event loop", watchdog::tick(loop_count));
    let mut registry = Registry::default();
    let stages = Stages::register(&mut registry);
    let faults = RuleFaults::register(&mut registry);
    let said = start(&mut tasks, &client, &place, detector, (stages, faults));
    serve(config, &mut tasks, health, registry, &Shown { node: node.to_owned(), monitor, said })?;
    tokio::select! {
        () = signals.next() => {}
        end = tasks.first_end() => return Err(end.into()),
    }
    tracing::info!("stopped");
    Ok(())
}

fn start(
    tasks: &mut Tasks,
    client: &Client,
    place: &Place,
    detector: Detector<rules::Rules>,
    (stages, faults): (Stages, RuleFaults),
) -> watch::Receiver<Said> {
    let (tell_text, texts) = mpsc::unbounded_channel();
    let (tell_news, news) = mpsc::unbounded_channel();
    let (want, wanted) = watch::channel(None);
    let book = Book::new();
    let (say, said) = watch::channel(Said::new(&detector.health(), &book));
    let (rules_client, node) = (client.clone(), place.name().to_owned());
    tasks.spawn("rules", async move { rules_watch::follow_rules(rules_client, &node, tell_text).await });
    tasks.spawn("request", report::ask(place.clone(), wanted, tell_news.clone(), stages.clone()));
    tasks.spawn("lease", lease::renew(place.clone(), client.clone(), said.clone(), tell_news));
    let node = place.name().to_owned();
    let session = session::Session::default();
    let eyes = Eyes { node, detector, book, session, texts, news, want, say, stages, faults };
    tasks.spawn("eyes", eyes.watch());
    said
}

/// The ports that are asked for. One that cannot be had is no reason to leave the owner alone.
fn serve(
    config: &AgentConfig,
    tasks: &mut Tasks,
    health: Health,
    mut registry: Registry,
    shown: &Shown,
) -> Result<(), Error> {
    shown.register(&mut registry);
    shown.needs(&health);
    let about = shown.clone();
    let sites = [
        (config.metrics_port, Purpose::Metrics, admin::metrics_site(Arc::new(registry))),
        (config.health_port, Purpose::Health, admin::health_site(health, move || about.status())),
    ];
    let mut ports = Vec::new();
    for (port, purpose, site) in sites {
        match port.map(|port| Port::bind(port, purpose)) {
            None => {}
            Some(Ok(port)) => ports.push((port, site)),
            Some(Err(error)) => tracing::warn!(%error, "the agent goes on without this port"),
        }
    }
    if !ports.is_empty() {
        tasks.spawn("http", admin::serve(ports).map_err(Error::Start)?);
    }
    Ok(())
}

fn identity(config: &AgentConfig) -> Identity {
    if config.skip_host_id_check {
        tracing::warn!(
            "the host-identity check is OFF: whatever NODE_NAME says is believed, and another owner's machine may be \
             taken away; unset SKIP_HOST_ID_CHECK"
        );
        return Identity::Believed;
    }
    let path: &Path = &config.machine_id_path;
    Identity::Strict(path.to_owned())
}

/// For the last words of a process that is stuck.
const LAST_WORDS: Duration = Duration::from_secs(1);

fn end_stuck(name: &'static str) {
    // Whoever should read the log may be stuck as well: the end does not wait for that.
    let (spoken, heard) = std::sync::mpsc::channel();
    let speak = move || {
        tracing::error!(part = name, "stuck: the process ends itself, to be started anew");
        // Nobody listens any more when it took too long.
        let _ = spoken.send(());
    };
    if std::thread::Builder::new().name("5spot-last-words".to_owned()).spawn(speak).is_ok() {
        // Spoken, or not in time: the end comes either way.
        let _ = heard.recv_timeout(LAST_WORDS);
    }
    std::process::exit(1);
}
