//! Machines and Clusters in the version that is served: which one that is, and a complete cache of each.
//!
//! Follows the two `CustomResourceDefinition`s, so that an installation or an upgrade of Cluster API is acted on when it
//! happens and costs nothing while it does not. A new version's caches replace the old ones when they are complete.

#[cfg(test)]
mod tests;
mod unread;

use std::sync::Arc;

use futures::future::{self, BoxFuture, FutureExt};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::reflector::Store;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Config;
use kube::{Api, Client};
use tokio::sync::{mpsc::UnboundedSender, watch};
use tracing::{info, warn};

use crate::api::names::{CAPI_CLUSTERS, CAPI_MACHINES, LABEL_SCHEDULED_MACHINE};
use crate::capi::version::{Capi, Version, choose, served};
use crate::watch::{Notice, follow, follow_trimmed};
use unread::Unread;

/// The two lists, for people.
const MACHINES: &str = "the list of Machines";
const CLUSTERS: &str = "the list of Clusters";

/// What is known of Cluster API.
#[derive(Clone)]
pub enum CoreView {
    /// Not yet known, or between two versions; a notice follows. Nothing can be decided meanwhile.
    Resolving,
    /// See [`Capi::NotServed`].
    NotServed(String),
    /// See [`Capi::Unspoken`]; also while the definitions, Machines or Clusters cannot be read, and never could.
    Unspoken(String),
    /// They are.
    Served {
        /// The version of both.
        version: Version,
        /// Machines with the label of a `ScheduledMachine`. Complete; during an outage what was last known.
        machines: Store<DynamicObject>,
        /// Clusters. Likewise.
        clusters: Store<DynamicObject>,
    },
}

/// Something changed; the [`CoreView`] shows it already.
#[derive(Clone, Debug)]
pub enum CoreNotice {
    /// The view itself: every object is concerned.
    View,
    /// A Machine of ours came, changed or went.
    Machine(Box<DynamicObject>),
    /// A Cluster came, changed or went.
    Cluster(Box<DynamicObject>),
    /// The end of an outage.
    Recovered,
}

/// Clones are handles to the same one.
#[derive(Clone)]
pub struct Core {
    view: Arc<watch::Sender<CoreView>>,
}

impl Core {
    /// `namespace`: watch objects of this one only. The returned future is the actor that owns every watch; it runs
    /// until dropped, and ends them all with it.
    pub fn new(
        client: Client,
        namespace: Option<String>,
        notices: UnboundedSender<CoreNotice>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let core = Self { view: Arc::new(watch::Sender::new(CoreView::Resolving)) };
        let actor = Actor { client, namespace, notices, core: core.clone(), unread: Unread::default() };
        (core, actor.run())
    }

    /// What is known now. Never waits, never calls.
    pub fn view(&self) -> CoreView {
        self.view.borrow().clone()
    }

    /// Waits until something is known.
    pub async fn known(&self) {
        self.until(|view| !matches!(view, CoreView::Resolving)).await;
    }

    /// Waits until what is known satisfies `found`.
    pub async fn until(&self, found: impl Fn(&CoreView) -> bool) {
        let mut view = self.view.subscribe();
        // The sender is ours, so it is there.
        let _ = view.wait_for(found).await;
    }
}

/// What is known of a kind's definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Definition {
    /// Not listed yet.
    #[default]
    Unknown,
    /// There is none.
    Absent,
    /// Served in these versions.
    In(Vec<String>),
}

impl Definition {
    fn versions(&self) -> Option<&[String]> {
        match self {
            Self::In(versions) => Some(versions),
            Self::Unknown | Self::Absent => None,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    machines: Definition,
    clusters: Definition,
}

impl Seen {
    fn choice(&self) -> Option<Capi> {
        let Self { machines, clusters } = self;
        let is_known = *machines != Definition::Unknown && *clusters != Definition::Unknown;
        is_known.then(|| choose(machines.versions(), clusters.versions()))
    }

    fn serves(&self, version: Version) -> bool {
        let has = |definition: &Definition| {
            definition.versions().is_some_and(|all| all.iter().any(|served| served == version.name()))
        };
        has(&self.machines) && has(&self.clusters)
    }
}

struct Actor {
    client: Client,
    namespace: Option<String>,
    notices: UnboundedSender<CoreNotice>,
    core: Core,
    unread: Unread,
}

/// The watches of one version.
struct Generation {
    version: Version,
    machines: Store<DynamicObject>,
    clusters: Store<DynamicObject>,
    following: BoxFuture<'static, ()>,
}

impl Actor {
    async fn run(self) {
        let seen = watch::Sender::new(Seen::default());
        let changes = seen.subscribe();
        future::join4(
            self.definition(CAPI_MACHINES, |found| {
                seen.send_if_modified(|seen| replaced(&mut seen.machines, found));
            }),
            self.definition(CAPI_CLUSTERS, |found| {
                seen.send_if_modified(|seen| replaced(&mut seen.clusters, found));
            }),
            self.serve(changes),
            self.tell_unread(),
        )
        .await;
    }

    async fn serve(&self, mut seen: watch::Receiver<Seen>) {
        let mut current: Option<Generation> = None;
        loop {
            let known = seen.borrow_and_update().clone();
            let is_settled = match known.choice() {
                Some(capi) => self.take(capi, &known, &mut current, &mut seen).await,
                None => true,
            };
            if is_settled {
                until_changed(&mut current, &mut seen).await;
            }
        }
    }

    /// Ends with caches of what is served: true; or as soon as something else is.
    async fn take(
        &self,
        capi: Capi,
        known: &Seen,
        current: &mut Option<Generation>,
        seen: &mut watch::Receiver<Seen>,
    ) -> bool {
        let version = match capi {
            Capi::Served(version) => version,
            Capi::NotServed(why) => {
                warn!(why, "Cluster API cannot be used");
                *current = None;
                self.publish(CoreView::NotServed(why));
                return true;
            }
            Capi::Unspoken(why) => {
                warn!(why, "Cluster API cannot be used, and Machines may stand");
                *current = None;
                self.publish(CoreView::Unspoken(why));
                return true;
            }
        };
        match current.as_ref().map(|generation| generation.version) {
            Some(spoken) if spoken == version => return true,
            // Both are served: the caches of the former stay true until those of the latter are complete.
            Some(spoken) if known.serves(spoken) => {}
            Some(_) => {
                *current = None;
                self.publish(CoreView::Resolving);
            }
            None => {}
        }
        let mut next = self.start(version);
        tokio::select! {
            () = next.complete() => {}
            () = until_changed(current, seen) => return false,
        }
        info!(version = version.name(), "Cluster API");
        let Generation { machines, clusters, .. } = &next;
        self.publish(CoreView::Served { version, machines: machines.clone(), clusters: clusters.clone() });
        *current = Some(next);
        true
    }

    fn start(&self, version: Version) -> Generation {
        let (machines, clusters) = (Writer::new(version.machine()), Writer::new(version.cluster()));
        let (machine_store, cluster_store) = (machines.as_reader(), clusters.as_reader());
        let ours = Config::default().labels(LABEL_SCHEDULED_MACHINE);
        let machines = self.follow(MACHINES, &version.machine(), machines, ours, CoreNotice::Machine);
        let every = Config::default();
        let clusters = self.follow(CLUSTERS, &version.cluster(), clusters, every, CoreNotice::Cluster);
        let following = future::join(machines, clusters).map(|_| ()).boxed();
        Generation { version, machines: machine_store, clusters: cluster_store, following }
    }

    fn follow(
        &self,
        what: &'static str,
        resource: &ApiResource,
        writer: Writer<DynamicObject>,
        config: Config,
        tell: fn(Box<DynamicObject>) -> CoreNotice,
    ) -> BoxFuture<'static, ()> {
        let api: Api<DynamicObject> = match &self.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, resource),
            None => Api::all_with(self.client.clone(), resource),
        };
        let (notices, unread) = (self.notices.clone(), self.unread.clone());
        // What is said of another version's says nothing about this one.
        unread.read(what);
        follow(api, config, writer, move |notice| {
            let notice = match notice {
                Notice::Changed(object) | Notice::Gone(object) => tell(Box::new(object)),
                Notice::Recovered => {
                    unread.read(what);
                    CoreNotice::Recovered
                }
                Notice::Synced => return unread.read(what),
                Notice::Failing(outage) => return unread.failing(what, &outage),
            };
            // Nobody listens any more: we are about to be dropped.
            let _ = notices.send(notice);
        })
        .boxed()
    }

    /// Follows one definition, of which only the names of its versions are kept. Tells once at the first list whatever
    /// it found, then at every change.
    async fn definition(&self, name: &'static str, mut tell: impl FnMut(Definition) + Send) {
        let writer = Writer::<CustomResourceDefinition>::default();
        let reader = writer.as_reader();
        let config = Config::default().fields(&format!("metadata.name={name}"));
        follow_trimmed(Api::all(self.client.clone()), config, writer, drop_schemas, |notice| match notice {
            Notice::Changed(_) | Notice::Gone(_) | Notice::Synced => {
                self.unread.read(name);
                let found = reader.state().first().map(|definition| served(definition));
                tell(found.map_or(Definition::Absent, Definition::In));
            }
            Notice::Failing(outage) => self.unread.failing(name, &outage),
            Notice::Recovered => self.unread.read(name),
        })
        .await;
    }

    fn publish(&self, view: CoreView) {
        self.core.view.send_replace(view);
        let _ = self.notices.send(CoreNotice::View);
    }
}

impl Generation {
    async fn complete(&mut self) {
        let both = future::join(self.machines.wait_until_ready(), self.clusters.wait_until_ready());
        tokio::select! {
            // The writers live in `following`, so the wait ends with a complete list.
            _ = both => {}
            () = &mut self.following => {}
        }
    }
}

/// Keeps the watches going until another version counts.
async fn until_changed(current: &mut Option<Generation>, seen: &mut watch::Receiver<Seen>) {
    let following = async {
        match current {
            Some(generation) => (&mut generation.following).await,
            None => future::pending().await,
        }
    };
    tokio::select! {
        () = following => {}
        // The sender lives as long as the actor.
        _ = seen.changed() => {}
    }
}

fn drop_schemas(definition: &mut CustomResourceDefinition) {
    for version in &mut definition.spec.versions {
        version.schema = None;
    }
    definition.metadata.annotations = None;
}

fn replaced(place: &mut Definition, found: Definition) -> bool {
    let is_news = *place != found;
    *place = found;
    is_news
}
