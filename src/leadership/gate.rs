//! The look at the Leases of other counts, before any shard of ours is acted on; see [`super::board`].

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use tokio::time::timeout;
use tracing::warn;

use super::board::Board;
use super::candidate::Moment;
use super::{clock, lease};
use crate::api::names::LABEL_SHARDS;
use crate::watch::Outage;

/// After a look that could not be made.
const AGAIN: Duration = Duration::from_secs(1);

/// Shared by all electors of a replica.
pub(super) struct Gate {
    api: Api<Lease>,
    /// Of all Leases of the election, whatever their count.
    selector: String,
    /// Ours.
    count: String,
    board: Mutex<Board>,
}

impl Gate {
    /// Of the election whose Leases that selector selects.
    pub(super) fn new(api: Api<Lease>, selector: String, count: u16) -> Self {
        Self { api, selector, count: count.to_string(), board: Mutex::default() }
    }

    /// The watch has told of a Lease. True if it is one of another count.
    pub(super) fn note(&self, lease: &Lease) -> bool {
        let is_other = self.is_other(lease);
        if is_other {
            self.board().note(&lease.name_any(), &lease::read(lease), clock::now());
        }
        is_other
    }

    /// Until when somebody may act under another count, as far as is known.
    pub(super) fn taken_until(&self, now: Moment) -> Option<Moment> {
        self.board().taken_until(now)
    }

    /// The same, asked of the server. Where it does not answer nobody acts.
    pub(super) async fn look(&self, patience: Duration) -> Option<Moment> {
        let params = ListParams::default().labels(&self.selector);
        let why = match timeout(patience, self.api.list(&params)).await {
            Ok(Ok(listed)) => {
                let others = listed.items.iter().filter(|lease| self.is_other(lease));
                let others: Vec<_> = others.map(|lease| (lease.name_any(), lease::read(lease))).collect();
                let (now, mut board) = (clock::now(), self.board());
                board.listed(others.iter().map(|(name, lease)| (name.as_str(), lease.clone())), now);
                return board.taken_until(now);
            }
            Ok(Err(error)) => Outage::from(&error).message,
            Err(_elapsed) => "no answer in time".to_owned(),
        };
        warn!("cannot see whether replicas of another instance count act: {why}");
        Some(clock::now().after(AGAIN))
    }

    fn is_other(&self, lease: &Lease) -> bool {
        lease.labels().get(LABEL_SHARDS).is_none_or(|count| *count != self.count)
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
