//! Turns: no more than so many machines are made at one time, and of those that wait the highest priority goes first.
//!
//! The order is [`line`]'s. This file reads the clock for it, turns a pass into a question, and wakes who is called. A
//! pass that must wait ends: it holds no place among the passes, and is woken when its turn has come.

pub mod line;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::api::status::DesiredState;
use crate::controller::effect::{Decision, Effect};
use crate::controller::observe;
use crate::controller::snapshot::{Object, Service, Snapshot};
use crate::controller::watch::Waker;
use line::{Answer, Line, Who};

/// Who waits for no longer than this writes no status about it.
pub const MOMENT: Duration = Duration::from_secs(1);
/// Who waits asks again after this at the latest; being called is what it counts on.
pub const NET: Duration = Duration::from_secs(5);

/// Whether an object makes its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Now.
    Now,
    /// At that instant, or shortly after.
    At(Timestamp),
    /// Not that anybody knows.
    Never,
}

impl Opening {
    /// Read from a decision.
    pub fn of(snapshot: &Snapshot, decision: &Decision) -> Self {
        let creates =
            |effect: &Effect| matches!(effect, Effect::CreateChild { .. } | Effect::CreateMachine(_));
        if decision.effects.iter().any(creates) {
            return Self::Now;
        }
        let is_looking = snapshot.children.iter().any(|child| child.service == Service::Resolving);
        if decision.ruling.state == DesiredState::Active && snapshot.machine.is_none() && is_looking {
            // After a start all kinds are looked up, and then all objects come at once.
            return Self::At(snapshot.now);
        }
        match &decision.ruling.next {
            Some(next) if next.state == DesiredState::Active => Self::At(next.at),
            _ => Self::Never,
        }
    }
}

/// What a pass is told.
#[derive(Debug)]
pub enum Turn {
    /// It goes on; what it makes, it makes while it holds this.
    Go(Option<Permit>),
    /// Others come first. It has been waiting for so long.
    Wait(Duration),
}

/// The line, shared by all passes.
#[derive(Clone)]
pub struct Turns(Arc<Shared>);

struct Shared {
    line: Mutex<Line>,
    waker: Waker,
}

impl Turns {
    /// `bound` machines at one time; who is called is woken through `waker`.
    pub fn new(bound: usize, waker: Waker) -> Self {
        Self(Arc::new(Shared { line: Mutex::new(Line::new(bound)), waker }))
    }

    /// Asked once in each pass, before anything is done.
    pub fn ask(&self, snapshot: &Snapshot, decision: &Decision) -> Turn {
        let (who, priority) = (who(&snapshot.object), snapshot.target.priority);
        let now = observe::now();
        if Opening::of(snapshot, decision) != Opening::Now {
            self.foresee(snapshot, decision);
            return Turn::Go(None);
        }
        let answer = self.0.lock().ask(&who, priority, now);
        match answer {
            Answer::Go => Turn::Go(Some(Permit(self.0.clone()))),
            Answer::Wait { since } => {
                Turn::Wait(Duration::try_from(now.duration_since(since)).unwrap_or_default())
            }
        }
    }

    /// Notes when an object will make its machine, and that it does not now.
    pub fn foresee(&self, snapshot: &Snapshot, decision: &Decision) {
        let (who, priority) = (who(&snapshot.object), snapshot.target.priority);
        self.step_aside(&snapshot.object);
        match Opening::of(snapshot, decision) {
            Opening::Now => self.0.lock().expect(&who, priority, snapshot.now),
            Opening::At(at) => self.0.lock().expect(&who, priority, at),
            Opening::Never => {}
        }
    }

    /// The object does not make its machine now, whatever it wants.
    pub fn step_aside(&self, object: &Object) {
        let called = self.0.lock().step_aside(&who(object), observe::now());
        self.0.wake(&called);
    }

    /// Forgets objects that are gone, however they went.
    pub fn retain(&self, is_there: impl Fn(&Who) -> bool) {
        let called = self.0.lock().retain(is_there, observe::now());
        self.0.wake(&called);
    }
}

fn who(object: &Object) -> Who {
    (object.namespace.clone(), object.name.clone())
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, called: &[Who]) {
        for (namespace, name) in called {
            self.waker.wake(namespace, name);
        }
    }
}

/// A turn. It ends when this is dropped, however the pass ended.
pub struct Permit(Arc<Shared>);

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Permit")
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let called = self.0.lock().give_back(observe::now());
        self.0.wake(&called);
    }
}
