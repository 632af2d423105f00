//! What is done when this replica begins to act, or ceases to: whoever begins looks at every object.

use std::sync::Arc;

use kube::ResourceExt;
use tokio::sync::watch;

use crate::controller::reconcile::Context;
use crate::controller::watch::Waker;
use crate::controller::{decide, observe};

/// Follows the changes of what this replica acts on. Never ends.
pub(super) async fn follow(context: Arc<Context>, waker: Waker, mut changes: watch::Receiver<()>) {
    while changes.changed().await.is_ok() {
        context.turns.retain(|(namespace, name)| context.duties.acts_on(namespace, name));
        // What failed in a former term, or because that ended, says nothing about the next try.
        context.backoff.forget_all();
        foresee(&context);
        waker.everything();
    }
}

/// Whoever is due already is known before the first is asked: after an outage too the order is that of priorities. Opens
/// the connections that objects need, also of a replica that stands by.
pub(super) fn foresee(context: &Context) {
    let world = &context.world;
    for raw in world.scheduled_machines.state() {
        let is_ours = context.duties.acts_on(&raw.namespace().unwrap_or_default(), &raw.name_any());
        if let Some(snapshot) = world.snapshot(&raw, observe::now()).filter(|_| is_ours) {
            context.turns.foresee(&snapshot, &decide::decide(&snapshot));
        }
    }
}
