//! What of Cluster API cannot be read, and when that is worth telling.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Sleep, sleep};

use super::{Actor, CoreView};
use crate::watch::{Cause, Outage};

/// An API server that has just come up refuses a call or two before it has read its roles.
const PATIENCE: Duration = Duration::from_secs(5);

/// What fails now, and how.
#[derive(Clone, Default)]
pub(super) struct Unread(watch::Sender<BTreeMap<&'static str, String>>);

impl Unread {
    /// `what` cannot be read.
    pub(super) fn failing(&self, what: &'static str, outage: &Outage) {
        let advice = match outage.cause {
            Cause::Forbidden | Cause::Unauthorized => {
                "; give the controller the role that comes with it (manifests/controller/role.yaml)"
            }
            Cause::Unreachable | Cause::Missing | Cause::Refused => "",
        };
        let why = format!("{what} cannot be read: {outage}{advice}");
        self.0.send_if_modified(|unread| unread.insert(what, why.clone()) != Some(why));
    }

    /// `what` can be read, or is not asked for any more.
    pub(super) fn read(&self, what: &'static str) {
        self.0.send_if_modified(|unread| unread.remove(what).is_some());
    }

    fn first(unread: &BTreeMap<&'static str, String>) -> Option<String> {
        unread.values().next().cloned()
    }
}

impl Actor {
    /// While nothing can be said of Machines because they cannot be read, that is what is said. What can be read again
    /// takes its place by itself.
    pub(super) async fn tell_unread(&self) {
        let mut unread = self.unread.0.subscribe();
        let mut view = self.core.view.subscribe();
        let mut told = None;
        let mut patience: Option<Pin<Box<Sleep>>> = None;
        loop {
            let why = Unread::first(&unread.borrow_and_update());
            let (is_silent, is_told) = match &*view.borrow_and_update() {
                CoreView::Resolving => (true, false),
                CoreView::Unspoken(known) => (false, told.as_ref() == Some(known)),
                CoreView::NotServed(_) | CoreView::Served { .. } => (false, false),
            };
            match why {
                Some(why) if is_told && told.as_ref() != Some(&why) => {
                    self.publish(CoreView::Unspoken(why.clone()));
                    told = Some(why);
                }
                Some(why) if is_silent => {
                    let over = patience.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
                    tokio::select! {
                        () = over => {
                            self.publish(CoreView::Unspoken(why.clone()));
                            (told, patience) = (Some(why), None);
                        }
                        // Both senders live as long as the actor.
                        _ = unread.changed() => {}
                        _ = view.changed() => {}
                    }
                }
                _ => {
                    patience = None;
                    tokio::select! {
                        _ = unread.changed() => {}
                        _ = view.changed() => {}
                    }
                }
            }
        }
    }
}
