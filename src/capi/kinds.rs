//! Which bootstrap and infrastructure kinds are served and allowed, and a metadata-only watch of our objects of each
//! kind in use.
//!
//! A kind is resolved when somebody first asks for it, again for as long as it is asked for and not there, and once
//! more when its collection disappears. Knows nothing of what the objects are for.

mod resolve;
#[cfg(test)]
mod tests;
mod verdict;

use std::{
    collections::HashMap,
    mem::discriminant,
    panic::resume_unwind,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kube::{
    Api, ResourceExt,
    api::DynamicObject,
    core::{PartialObjectMeta, discovery::ApiResource},
    runtime::{
        reflector::store::{Store, Writer},
        watcher::Config,
    },
};
use tokio::{
    sync::{
        Notify,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        watch,
    },
    task::JoinSet,
    time::sleep,
};
use tracing::{Instrument, debug, info_span};

pub use self::verdict::verdict;
use crate::{
    api::names::LABEL_SCHEDULED_MACHINE,
    watch::{Backoff, Cause, Notice, follow},
};

/// A kind nobody asked for during a whole span of this length is forgotten, its watch closed. Passes at rest come every
/// minute or more often.
const FORGET_AFTER: Duration = Duration::from_secs(5 * 60);

/// What a kind is used as.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// `bootstrapSpec`: writes the data a host joins with.
    Bootstrap,
    /// `infrastructureSpec`: stands for the host.
    Infrastructure,
}

/// One object of such a kind, its metadata only.
pub type Child = PartialObjectMeta<DynamicObject>;

/// What is known of a kind. The texts are fit for a condition: stable while the cause is, saying what to do.
#[derive(Clone)]
pub enum KindView {
    /// Not yet known; a notice follows.
    Resolving,
    /// The API server has no such version or kind. Looked for again, at most 30 s apart.
    NotServed(String),
    /// The kind may not be used, or not in this role.
    NotAllowed(String),
    /// It cannot be said: the API server does not answer, or forbids us to look.
    Unreachable(String),
    /// The kind may be used.
    Served {
        /// What to make an `Api` from.
        resource: ApiResource,
        /// Our objects of this kind: those with the label of a `ScheduledMachine`. Complete; during an outage of the
        /// API server what was last known.
        children: Store<Child>,
    },
}

/// Something about a kind changed; the [`KindView`] shows it already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KindNotice {
    /// The view of this kind.
    Kind {
        /// As asked for.
        role: Role,
        /// As asked for.
        api_version: String,
        /// As asked for.
        kind: String,
    },
    /// One of our objects came, changed or went.
    Child {
        /// Of the object.
        namespace: String,
        /// Of the object.
        name: String,
        /// The value of its `5spot.finos.org/scheduled-machine` label.
        scheduled_machine: String,
    },
}

/// All kinds asked for; clones are handles to the same ones.
#[derive(Clone)]
pub struct Kinds {
    slots: Slots,
    orders: UnboundedSender<(Id, Arc<Slot>)>,
    allowed_groups: Arc<[String]>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Id {
    role: Role,
    api_version: String,
    kind: String,
}

struct Slot {
    view: watch::Sender<KindView>,
    /// Set by whoever looks, cleared by the task; true means somebody still needs it.
    asked: AtomicBool,
}

type Slots = Arc<Mutex<HashMap<Id, Arc<Slot>>>>;

fn lock(slots: &Slots) -> MutexGuard<'_, HashMap<Id, Arc<Slot>>> {
    // The map is whole between any two statements that hold the lock.
    slots.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kinds {
    /// `namespace`: watch objects of this one only. `allowed_groups`: exact names of API groups. The returned future is
    /// the actor that owns every watch; it runs until dropped, and ends them all with it.
    pub fn new(
        client: kube::Client,
        namespace: Option<String>,
        allowed_groups: Vec<String>,
        notices: UnboundedSender<KindNotice>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (orders, incoming) = unbounded_channel();
        let slots = Slots::default();
        let actor = run(incoming, slots.clone(), move |id, slot| Task {
            id,
            slot,
            client: client.clone(),
            namespace: namespace.clone(),
            notices: notices.clone(),
        });
        (Self { slots, orders, allowed_groups: allowed_groups.into() }, actor)
    }

    /// What is known of a kind; starts finding out if that is nothing. Never waits, never calls.
    ///
    /// A kind stays known, and watched, for as long as it is asked for at least every five minutes.
    pub fn view(&self, role: Role, api_version: &str, kind: &str) -> KindView {
        if let Err(refusal) = resolve::admit(&self.allowed_groups, api_version) {
            return refusal.into();
        }
        let id = Id { role, api_version: api_version.to_owned(), kind: kind.to_owned() };
        let mut slots = lock(&self.slots);
        if let Some(slot) = slots.get(&id) {
            slot.asked.store(true, Ordering::Relaxed);
            return slot.view.borrow().clone();
        }
        let slot =
            Arc::new(Slot { view: watch::Sender::new(KindView::Resolving), asked: AtomicBool::new(true) });
        slots.insert(id.clone(), slot.clone());
        // No actor: still resolving.
        let _ = self.orders.send((id, slot));
        KindView::Resolving
    }
}

async fn run(
    mut orders: UnboundedReceiver<(Id, Arc<Slot>)>,
    slots: Slots,
    task: impl Fn(Id, Arc<Slot>) -> Task + Send,
) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some((id, slot)) => drop(tasks.spawn(task(id, slot).run())),
                // No handle is left, so nobody can look; whoever runs us may still wait for us.
                None => std::future::pending().await,
            },
            Some(ended) = tasks.join_next() => match ended {
                Ok((id, slot)) => {
                    let mut slots = lock(&slots);
                    // Asked for in the very moment its task gave up: under the lock nobody can ask.
                    if slot.asked.load(Ordering::Relaxed) {
                        tasks.spawn(task(id, slot).run());
                    } else {
                        slots.remove(&id);
                    }
                }
                Err(failed) if failed.is_panic() => resume_unwind(failed.into_panic()),
                Err(_cancelled) => {}
            },
        }
    }
}

/// Resolves one kind and follows our objects of it.
struct Task {
    id: Id,
    slot: Arc<Slot>,
    client: kube::Client,
    namespace: Option<String>,
    notices: UnboundedSender<KindNotice>,
}

impl Task {
    /// Returns when nobody has asked for the kind for a while.
    async fn run(self) -> (Id, Arc<Slot>) {
        let span = info_span!("kind", api_version = self.id.api_version, kind = self.id.kind);
        async {
            tokio::select! {
                () = self.resolve_for_ever() => {}
                () = self.forgotten() => debug!("no longer in use"),
            }
        }
        .instrument(span)
        .await;
        (self.id, self.slot)
    }

    async fn forgotten(&self) {
        while self.slot.asked.swap(false, Ordering::Relaxed) {
            sleep(FORGET_AFTER).await;
        }
    }

    async fn resolve_for_ever(&self) {
        let mut backoff = Backoff::default();
        loop {
            match resolve::resolve(&self.client, &self.id).await {
                Ok(resource) => {
                    if self.follow_children(resource).await {
                        backoff.reset();
                    }
                }
                Err(refusal) => self.publish(refusal.into()),
            }
            let longest = match &*self.slot.view.borrow() {
                KindView::Unreachable(_) => Backoff::SHORT,
                _ => Backoff::LONG,
            };
            sleep(backoff.pause(longest)).await;
        }
    }

    /// Returns when the collection is no longer served; true if it ever was.
    async fn follow_children(&self, resource: ApiResource) -> bool {
        let api: Api<Child> = match &self.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let writer = Writer::new(resource.clone());
        let served = KindView::Served { resource, children: writer.as_reader() };
        let vanished = Notify::new();
        let mut shown = false;
        let following =
            follow(api, Config::default().labels(LABEL_SCHEDULED_MACHINE), writer, |notice| match notice {
                // The store holds the whole first list before anything of it is told.
                Notice::Changed(child) | Notice::Gone(child) => {
                    self.show(&served, !std::mem::replace(&mut shown, true));
                    self.tell_child(&child);
                }
                Notice::Synced | Notice::Recovered => {
                    self.show(&served, !std::mem::replace(&mut shown, true));
                }
                Notice::Failing(outage) => match outage.cause {
                    Cause::Missing => vanished.notify_one(),
                    // What is known of the kind stays true while its API server is away.
                    Cause::Unreachable | Cause::Refused if shown => {}
                    Cause::Unreachable | Cause::Refused | Cause::Unauthorized | Cause::Forbidden => {
                        self.publish(KindView::Unreachable(outage.message));
                    }
                },
            });
        tokio::select! {
            () = following => {}
            () = vanished.notified() => {}
        }
        shown
    }

    fn tell_child(&self, child: &Child) {
        let Some(scheduled_machine) = child.labels().get(LABEL_SCHEDULED_MACHINE).cloned() else { return };
        self.tell(KindNotice::Child {
            namespace: child.namespace().unwrap_or_default(),
            name: child.name_any(),
            scheduled_machine,
        });
    }

    /// `is_new`: the store is another one than before, so whatever was read from the former is out of date.
    fn show(&self, served: &KindView, is_new: bool) {
        if is_new || !matches!(&*self.slot.view.borrow(), KindView::Served { .. }) {
            self.publish(served.clone());
        }
    }

    fn publish(&self, view: KindView) {
        let changed = self.slot.view.send_if_modified(|known| {
            let changed = !known.says_the_same(&view);
            *known = view;
            changed
        });
        if changed {
            let Id { role, api_version, kind } = self.id.clone();
            self.tell(KindNotice::Kind { role, api_version, kind });
        }
    }

    fn tell(&self, notice: KindNotice) {
        // Nobody listens any more: we are about to be dropped.
        let _ = self.notices.send(notice);
    }
}

impl KindView {
    /// Never true of two served kinds: the store may be another one.
    fn says_the_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::NotServed(one), Self::NotServed(two))
            | (Self::NotAllowed(one), Self::NotAllowed(two))
            | (Self::Unreachable(one), Self::Unreachable(two)) => one == two,
            (Self::Served { .. }, Self::Served { .. }) => false,
            _ => discriminant(self) == discriminant(other),
        }
    }
}
