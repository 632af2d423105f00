//! Which bootstrap and infrastructure kinds are served and allowed, and a metadata-only watch of our objects of each
//! kind in use.
//!
//! A kind is resolved when somebody first asks for it, again for as long as it is asked for and not there, and once
//! more when its collection disappears; it is judged anew whenever its definition changes. Knows nothing of what the
//! objects are for.

mod resolve;
mod task;
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
    api::DynamicObject,
    core::{PartialObjectMeta, discovery::ApiResource},
    runtime::reflector::store::Store,
};
use tokio::{
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        watch,
    },
    task::JoinSet,
};

use self::task::Task;
pub use self::verdict::verdict;

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
    NotServed {
        /// In words.
        why: String,
        /// There all the same: the kind is served in other versions.
        ours: Option<Ours>,
    },
    /// The kind may not be used, or not in this role.
    NotAllowed {
        /// In words.
        why: String,
        /// There all the same: it may have been allowed when they were made.
        ours: Option<Ours>,
    },
    /// It cannot be said: the API server does not answer, or forbids us to look.
    Unreachable(String),
    /// The kind may be used.
    Served(Ours),
}

/// Our objects of a kind: those with the label of a `ScheduledMachine`.
#[derive(Clone)]
pub struct Ours {
    /// What to make an `Api` from.
    pub resource: ApiResource,
    /// Complete; during an outage of the API server what was last known.
    pub children: Store<Child>,
}

impl KindView {
    /// Our objects, as far as they can be seen.
    pub fn ours(&self) -> Option<&Ours> {
        match self {
            Self::Served(ours) => Some(ours),
            Self::NotServed { ours, .. } | Self::NotAllowed { ours, .. } => ours.as_ref(),
            Self::Resolving | Self::Unreachable(_) => None,
        }
    }
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

impl KindView {
    /// Never true where there are objects to see: the store may be another one.
    fn says_the_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::NotServed { why: one, ours: None }, Self::NotServed { why: two, ours: None })
            | (Self::NotAllowed { why: one, ours: None }, Self::NotAllowed { why: two, ours: None })
            | (Self::Unreachable(one), Self::Unreachable(two)) => one == two,
            (one, two) if one.ours().is_some() || two.ours().is_some() => false,
            _ => discriminant(self) == discriminant(other),
        }
    }
}
