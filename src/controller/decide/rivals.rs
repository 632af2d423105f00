//! A re-used host: an earlier Node with the provider id of our Machine keeps Cluster API from finding the right one.
//!
//! One that is provably ours and has not been heard of since before the Machine goes. Any other is named, with what to
//! do: it may be somebody's.

use crate::controller::decide::open::waiting;
use crate::controller::effect::{Effect, NodeEdit, Standing};
use crate::controller::snapshot::{Rival, Snapshot};

/// What to say and to do about them, while the Machine waits for its Node.
pub(super) fn plan(snapshot: &Snapshot) -> Option<(Standing, Option<Effect>)> {
    let stale = |rival: &&Rival| rival.is_older && rival.is_silent;
    // The only one, once Cluster API has taken it for the Machine's: its kubelet may come back under that name.
    let is_taken = snapshot.rivals.len() == 1
        && snapshot.own_machine().and_then(|machine| machine.node.as_ref())
            == snapshot.rivals.first().map(|only| &only.name);
    let mut removable = snapshot.rivals.iter().filter(|rival| stale(rival) && is_ours(snapshot, rival));
    if let Some(rival) = removable.next().filter(|_| !is_taken) {
        let message =
            format!("waiting for the Node {} of an earlier run to go: it has the same host", rival.name);
        let delete = Effect::DeleteNode(NodeEdit {
            name: rival.name.clone(),
            uid: rival.uid.clone(),
            resource_version: rival.resource_version.clone(),
        });
        return Some((waiting("WaitingForNode", message), (!rival.deleting).then_some(delete)));
    }
    let names: Vec<&str> = snapshot.rivals.iter().map(|rival| rival.name.as_str()).collect();
    let message = match (names.as_slice(), snapshot.rivals.iter().find(stale)) {
        ([], _) | ([_], None) => return None,
        ([name], Some(_)) => format!(
            "Node {name} has the host of this Machine and has not been heard of since before it; if the host joins \
             under another name, delete it: kubectl delete node {name}"
        ),
        (names, _) => format!(
            "Nodes {} have the same host, so Cluster API takes none of them for this Machine's; delete those that are \
             not: kubectl delete node <name>",
            names.join(" and ")
        ),
    };
    Some((waiting("WaitingForNode", message), None))
}

fn is_ours(snapshot: &Snapshot, rival: &Rival) -> bool {
    let recorded = snapshot.status.node_ref.as_ref().and_then(|node| node.uid.as_ref());
    rival.carries_our_mark || recorded == Some(&rival.uid)
}
