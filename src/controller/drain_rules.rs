//! The cache of MachineDrainRules. Few clusters have one, and one without the kind has none.

use std::future::Future;
use std::sync::Arc;

use kube::Client;
use kube::core::DynamicObject;
use kube::runtime::reflector::Store;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Config;
use tokio::sync::watch;

use crate::capi::core::{Core, CoreView};
use crate::capi::version::Version;
use crate::controller::watch::collection;
use crate::watch::{Cause, Notice, follow};

/// What can be said of them.
#[derive(Clone)]
enum State {
    /// Not asked for yet.
    Unread,
    /// The kind is not served.
    NoSuchKind,
    /// All of them; during an outage what was last known.
    Listed(Store<DynamicObject>),
    /// They cannot be read.
    Unreadable,
}

/// A handle to the cache.
#[derive(Clone)]
pub struct DrainRules {
    state: watch::Receiver<State>,
}

impl DrainRules {
    /// The cache, and the task that keeps it; `wake` is called for each rule that came, changed or went. `namespace`:
    /// those of this one only.
    pub fn new(
        client: Client,
        namespace: Option<String>,
        core: Core,
        wake: impl Fn(&DynamicObject) + Send + Sync + 'static,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (tell, state) = watch::channel(State::Unread);
        let task = async move {
            loop {
                core.known().await;
                let view = core.view();
                let version = spoken(&view);
                let none = match view {
                    // What cannot be read now may hold some.
                    CoreView::Unspoken(_) => State::Unreadable,
                    CoreView::Resolving | CoreView::NotServed(_) | CoreView::Served { .. } => {
                        State::NoSuchKind
                    }
                };
                let rules = async {
                    if let Some(version) = version {
                        let collection = collection(&client, namespace.as_deref(), &version.drain_rule());
                        keep(collection, version, &tell, &wake).await;
                    }
                    tell.send_replace(none);
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    () = core.until(|view| spoken(view) != version) => {}
                    () = rules => {}
                }
            }
        };
        (Self { state }, task)
    }

    /// Waits until something can be said of them.
    pub async fn settled(&self) {
        // The task that tells runs as long as the process.
        let _ = self.state.clone().wait_for(|state| !matches!(state, State::Unread)).await;
    }

    /// Those of a namespace; `None`: they cannot be read.
    pub fn within(&self, namespace: &str) -> Option<Vec<Arc<DynamicObject>>> {
        let is_there = |rule: &DynamicObject| rule.metadata.namespace.as_deref() == Some(namespace);
        match &*self.state.borrow() {
            State::Unread | State::Unreadable => None,
            State::NoSuchKind => Some(Vec::new()),
            State::Listed(store) => Some(store.state_filter(|rule| is_there(rule))),
        }
    }
}

fn spoken(view: &CoreView) -> Option<Version> {
    match view {
        CoreView::Resolving | CoreView::NotServed(_) | CoreView::Unspoken(_) => None,
        CoreView::Served { version, .. } => Some(*version),
    }
}

async fn keep(
    collection: kube::Api<DynamicObject>,
    version: Version,
    tell: &watch::Sender<State>,
    wake: &(impl Fn(&DynamicObject) + Send + Sync),
) {
    let writer = Writer::new(version.drain_rule());
    let reader = writer.as_reader();
    follow(collection, Config::default(), writer, |notice| match notice {
        Notice::Changed(rule) | Notice::Gone(rule) => wake(&rule),
        Notice::Synced => drop(tell.send_replace(State::Listed(reader.clone()))),
        Notice::Failing(outage) if outage.cause == Cause::Missing => {
            tell.send_replace(State::NoSuchKind);
        }
        // An old list is better than none.
        Notice::Failing(_) => {
            tell.send_if_modified(|state| {
                let is_first = matches!(state, State::Unread);
                if is_first {
                    *state = State::Unreadable;
                }
                is_first
            });
        }
        Notice::Recovered => {}
    })
    .await;
}
