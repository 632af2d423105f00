//! One connection: its Secret, its client, its Nodes.
//!
//! Knows nothing of Machines or schedules; publishes into its slot first and tells of it afterwards.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::{Node, Secret};
use kube::{
    Api, ResourceExt,
    api::DynamicObject,
    core::ApiResource,
    runtime::{
        reflector::store::{Store, Writer},
        watcher::Config,
    },
};
use tokio::{
    sync::{Notify, mpsc::UnboundedSender, watch},
    time::{sleep, timeout},
};
use tracing::{Instrument, debug, info, info_span};

use super::{
    ConnectionKey, Dial, Reach, Slot, WorkloadNotice,
    bounds::MOST_OBJECTS,
    kubeconfig::{self, Accepted},
    line::{ANSWER, Line, Trouble, Turns},
    long::{Carrier, Hand},
};
use crate::{
    api::{
        names::{ANNOTATION_NODE_CLUSTER_NAMESPACE, ANNOTATION_NODE_MACHINE},
        syntax::is_object_name,
    },
    watch::{Cause, Notice, Outage, follow, follow_bounded},
};

/// One GET of the Secret in the management cluster.
const SECRET_TIMEOUT: Duration = Duration::from_secs(10);
/// Between a call that met trouble and the next list: a server that is only slow is not to be listed all the time.
const BREATH: Duration = Duration::from_secs(2);

pub(super) struct Connection {
    key: ConnectionKey,
    slot: Slot,
    /// Decoded without a schema: a failed decode would be logged by kube, the Secret's text with it.
    secrets: Api<DynamicObject>,
    notices: UnboundedSender<WorkloadNotice>,
    dial: Dial,
    /// Rings when the workload cluster does not accept the credentials.
    suspect: Notify,
    turns: Turns,
    hand: Hand,
    /// Of all lines of this connection, those of former credentials included.
    carrier: Carrier,
}

/// What the Secret holds for us.
#[derive(Clone, PartialEq, Eq)]
enum Material {
    Unread,
    /// Nothing, and why.
    Missing(String),
    Text(String),
}

impl Connection {
    pub(super) fn new(
        key: ConnectionKey,
        slot: Slot,
        management: kube::Client,
        notices: UnboundedSender<WorkloadNotice>,
        dial: Dial,
    ) -> Self {
        let secrets = Api::namespaced_with(management, &key.namespace, &ApiResource::erase::<Secret>(&()));
        let (hand, carrier) = Carrier::new(notices.clone());
        let (suspect, turns) = (Notify::new(), Turns::default());
        Self { key, slot, secrets, notices, dial, suspect, turns, hand, carrier }
    }

    /// Holds the connection until it is dropped.
    pub(super) async fn run(self) {
        let (material, changes) = watch::channel(Material::Unread);
        let span = info_span!("workload", namespace = self.key.namespace, secret = self.key.secret);
        let all = async {
            tokio::join!(
                self.follow_secret(&material),
                self.reread(&material),
                self.connect(changes),
                self.carrier.run()
            )
        };
        all.instrument(span).await;
    }

    /// Watches the one Secret by its name, so that a role limited to that name suffices.
    async fn follow_secret(&self, material: &watch::Sender<Material>) {
        // It becomes part of a selector, and an empty one would select by nothing.
        if !is_object_name(&self.key.secret) {
            let why = format!("spec.kubeconfigSecretRef names no Secret: {:?}", self.key.secret);
            publish(material, Material::Missing(why));
            return std::future::pending().await;
        }
        let config = Config::default().fields(&format!("metadata.name={}", self.key.secret));
        let writer = Writer::new(ApiResource::erase::<Secret>(&()));
        let mut is_there = false;
        follow(self.secrets.clone(), config, writer, |notice| match notice {
            Notice::Changed(secret) => {
                is_there = true;
                publish(material, self.material(&secret));
            }
            Notice::Gone(_) => {
                is_there = false;
                publish(material, self.absent());
            }
            // Of a Secret that is there everything has been said, also that it lacks the key.
            Notice::Synced if is_there => {}
            Notice::Synced => publish_missing(material, self.absent()),
            Notice::Failing(Outage { cause: Cause::Forbidden, message }) => {
                publish_missing(
                    material,
                    Material::Missing(format!("{} cannot be read: {message}", self.secret())),
                );
            }
            // An outage of the management cluster says nothing about the workload cluster.
            Notice::Failing(_) | Notice::Recovered => {}
        })
        .await;
    }

    /// Reads the Secret past the watch when the credentials failed: a rotation may not have reached us yet.
    async fn reread(&self, material: &watch::Sender<Material>) {
        loop {
            self.suspect.notified().await;
            match timeout(SECRET_TIMEOUT, self.secrets.get_opt(&self.key.secret)).await {
                Ok(Ok(Some(secret))) => publish(material, self.material(&secret)),
                Ok(Ok(None)) => publish(material, self.absent()),
                Ok(Err(error)) => debug!(cause = %Outage::from(&error), "kubeconfig not read again"),
                Err(_elapsed) => debug!("kubeconfig not read again in time"),
            }
        }
    }

    /// Connects with what the Secret holds, anew whenever that changes and when a call meets trouble.
    async fn connect(&self, mut material: watch::Receiver<Material>) {
        let mut former = None;
        loop {
            let found = material.borrow_and_update().clone();
            // One for each line: a call of a former one says nothing about this one.
            let trouble = watch::Sender::default();
            let nodes = async {
                match self.client(found, &mut former, &trouble) {
                    Some(client) => self.follow_nodes(client).await,
                    None => std::future::pending().await,
                }
            };
            let trouble = tokio::select! {
                () = renewed(&mut material) => None,
                () = nodes => None,
                reach = self.trouble(trouble.subscribe()) => Some(reach),
            };
            // The watch is over: whatever the old connection still brings would say that all is well.
            if let Some(reach) = trouble {
                info!(?reach, "connecting anew");
                self.set_reach(reach);
                tokio::select! {
                    () = renewed(&mut material) => {}
                    () = sleep(BREATH) => {}
                }
            }
        }
    }

    /// What a call met. Until a list of the Nodes has come over a new connection nobody calls: the old one may be dead
    /// without anybody having said so, or its credentials be worth nothing any more, and the watch on it knows of
    /// neither.
    async fn trouble(&self, mut trouble: watch::Receiver<Option<Trouble>>) -> Reach {
        match trouble.wait_for(Option::is_some).await.map(|trouble| *trouble) {
            Ok(Some(Trouble::Refused)) => {
                self.suspect.notify_one();
                Reach::Unauthorized("the API server does not accept the credentials (401)".to_owned())
            }
            Ok(Some(Trouble::Silent)) => {
                let seconds = ANSWER.as_secs_f32();
                Reach::Unreachable(format!("the API server did not answer a call within {seconds} s"))
            }
            // Nobody is left who could call.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// The client to use from now on, and the view that goes with it.
    fn client(
        &self,
        material: Material,
        former: &mut Option<Accepted>,
        trouble: &watch::Sender<Option<Trouble>>,
    ) -> Option<kube::Client> {
        let text = match material {
            Material::Unread => return None,
            Material::Missing(why) => {
                self.disconnect(Reach::KubeconfigMissing(why));
                return None;
            }
            Material::Text(text) => text,
        };
        let dialled = kubeconfig::parse(&text).and_then(|accepted| Ok(((self.dial)(&accepted)?, accepted)));
        let (client, accepted) = match dialled {
            Ok(dialled) => dialled,
            Err(fault) => {
                self.disconnect(Reach::KubeconfigInvalid(format!(
                    "{}, key {}: {fault}",
                    self.secret(),
                    self.key.key
                )));
                return None;
            }
        };
        // A rotated credential is no reason to call a working cluster unreachable.
        let rotated = former.as_ref().is_some_and(|former| former.is_same_cluster(&accepted));
        let moved = former.is_some() && !rotated;
        info!(server = %accepted.server(), rotated, "connecting");
        *former = Some(accepted);
        let line = Line::new(client.clone(), self.turns.clone(), trouble.clone(), self.hand.clone());
        self.publish(|view| {
            view.line = Some(line);
            view.epoch += 1;
            if moved {
                view.nodes = None;
            }
            let withdrawn = matches!(view.reach, Reach::KubeconfigMissing(_) | Reach::KubeconfigInvalid(_));
            if moved || withdrawn {
                view.reach = Reach::Connecting;
            }
            moved || withdrawn
        });
        Some(client)
    }

    async fn follow_nodes(&self, client: kube::Client) {
        let writer = Writer::<Node>::default();
        let reader = writer.as_reader();
        let mut shown = false;
        // The store holds the whole first list before anything of it is told, and whoever is told of a Node finds the
        // cluster connected.
        let mut show = || {
            if !std::mem::replace(&mut shown, true) {
                self.show(&reader);
            }
            self.set_reach(Reach::Connected);
        };
        let config = Config::default();
        follow_bounded(Api::all(client), config, writer, MOST_OBJECTS, drop_images, |notice| match notice {
            Notice::Changed(node) | Notice::Gone(node) => {
                show();
                self.tell_node(&node);
            }
            Notice::Synced | Notice::Recovered => show(),
            Notice::Failing(outage) => {
                if outage.cause == Cause::Unauthorized {
                    self.suspect.notify_one();
                }
                self.set_reach(reach(outage));
            }
        })
        .await;
    }

    /// Puts a first complete list in the place of what an earlier client knew, and tells of Nodes gone in between.
    fn show(&self, nodes: &Store<Node>) {
        let mut former = None;
        self.publish(|view| {
            former = view.nodes.replace(nodes.clone());
            replaced(&mut view.reach, Reach::Connected)
        });
        for node in former.map(|store: Store<Node>| store.state()).unwrap_or_default() {
            if nodes.find(|listed| listed.metadata.name == node.metadata.name).is_none() {
                self.tell_node(&node);
            }
        }
    }

    fn tell_node(&self, node: &Node) {
        let annotations = node.annotations();
        let machine = annotations
            .get(ANNOTATION_NODE_CLUSTER_NAMESPACE)
            .zip(annotations.get(ANNOTATION_NODE_MACHINE))
            .map(|(namespace, name)| (namespace.clone(), name.clone()));
        let provider_id = node.spec.as_ref().and_then(|spec| spec.provider_id.clone());
        let (connection, name) = (self.key.clone(), node.name_any());
        self.tell(WorkloadNotice::Node { connection, name, machine, provider_id });
    }

    /// Without a kubeconfig nothing is called; the last known Nodes stay to be looked at.
    fn disconnect(&self, why: Reach) {
        self.publish(|view| {
            view.line = None;
            view.epoch += 1;
            replaced(&mut view.reach, why)
        });
    }

    fn set_reach(&self, reach: Reach) {
        self.publish(|view| replaced(&mut view.reach, reach));
    }

    /// Changes the view; tells of it if `change` says that matters.
    fn publish(&self, change: impl FnOnce(&mut super::View) -> bool) {
        let mut matters = false;
        self.slot.send_modify(|view| matters = change(view));
        if matters {
            self.tell(WorkloadNotice::Reach(self.key.clone()));
        }
    }

    fn tell(&self, notice: WorkloadNotice) {
        // Nobody listens any more: we are about to be dropped.
        let _ = self.notices.send(notice);
    }

    fn material(&self, secret: &DynamicObject) -> Material {
        let data = secret.data.get("data").and_then(|data| data.get(&self.key.key));
        let Some(data) = data.and_then(serde_json::Value::as_str) else {
            return Material::Missing(format!("{} has no key {}", self.secret(), self.key.key));
        };
        // What is not text is no kubeconfig either, and is refused as one.
        let bytes = STANDARD.decode(data).unwrap_or_default();
        Material::Text(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn absent(&self) -> Material {
        Material::Missing(format!("{} does not exist", self.secret()))
    }

    fn secret(&self) -> String {
        format!("Secret {}/{}", self.key.namespace, self.key.secret)
    }
}

async fn renewed(material: &mut watch::Receiver<Material>) {
    if material.changed().await.is_err() {
        // The sender lives as long as this connection.
        std::future::pending::<()>().await;
    }
}

/// Labels of the Secret may change as they like: only another kubeconfig makes another connection.
fn publish(material: &watch::Sender<Material>, new: Material) {
    material.send_if_modified(|known| replaced(known, new));
}

fn replaced<T: PartialEq>(known: &mut T, new: T) -> bool {
    let differs = *known != new;
    *known = new;
    differs
}

/// As long as a kubeconfig is known, not being able to look again does not withdraw it.
fn publish_missing(material: &watch::Sender<Material>, missing: Material) {
    if !matches!(&*material.borrow(), Material::Text(_)) {
        publish(material, missing);
    }
}

fn reach(outage: Outage) -> Reach {
    match outage.cause {
        Cause::Unauthorized | Cause::Forbidden => Reach::Unauthorized(outage.message),
        Cause::Unreachable | Cause::Missing | Cause::Refused => Reach::Unreachable(outage.message),
    }
}

/// The list of container images is most of a Node's size, and of no use here.
fn drop_images(node: &mut Node) {
    if let Some(status) = &mut node.status {
        status.images = None;
    }
}
