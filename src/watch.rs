//! Follows a collection for ever and keeps its store current: what every cache of the controller is fed by.
//!
//! kube's own `watcher` under its `Controller` announces listed objects before the store shows them, repeats a watch
//! that was answered with HTTP 410 for ever, waits without limit for a list or for the start of a watch on a dead
//! connection, and starts its backoff anew with every attempt. Here an object is announced only once the store shows
//! it, every call is bounded, and no error leaves this module other than as [`Notice::Failing`].

mod backoff;
#[cfg(test)]
pub(crate) mod mock;
mod outage;
#[cfg(test)]
mod tests;

use std::{collections::HashSet, fmt::Debug, hash::Hash, pin::pin, time::Duration};

use futures::StreamExt;
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, VersionMatch, WatchEvent, WatchParams},
    runtime::{
        reflector::store::Writer,
        watcher::{Config, Event, ListSemantic},
    },
};
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

pub use self::{
    backoff::Backoff,
    outage::{Cause, Outage},
};

/// A page of a list: 500 objects come within a second; a half-open connection never answers.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);
/// A watch's first bytes are sent as soon as the server accepts it.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// A watch that stayed open this long, or brought an event, works. One that closes earlier failed (client-go draws the
/// same line).
const SETTLED_AFTER: Duration = Duration::from_secs(1);
/// The server ends a watch by itself after this many seconds; nothing else tells a quiet one from a dead connection.
const RENEW_AFTER_SECONDS: u32 = 60;
/// How much longer than that we wait before the connection is given up.
const RENEW_MARGIN: Duration = Duration::from_secs(5);

/// What a watch tells its owner, after the store already shows it.
#[derive(Clone, Debug)]
pub enum Notice<K> {
    /// The object is in the store: created, changed, or part of a list just completed.
    Changed(K),
    /// The object has left the store: deleted, replaced by one with another uid, or missing from a renewed list.
    Gone(K),
    /// The first or a renewed list is complete; everything of it has been announced.
    Synced,
    /// The store may be behind. Told once per outage, and again when its cause becomes another one.
    Failing(Outage),
    /// The outage is over.
    Recovered,
}

/// Follows a collection for ever, keeping `writer`'s store current. Never returns, never gives up.
///
/// Of `config` the selectors, `page_size`, `bookmarks`, `list_semantic` and `timeout` count (seconds, 60 if unset: a
/// dead connection is noticed five seconds later); lists are always paged, never streamed. `managedFields` are dropped
/// before an object is stored. After a failure the pause doubles from 200 ms to 5 s, or to 30 s where the server said
/// no (403, 404) and a person has to act; it starts anew only after a watch worked. 5 s and not more, so that an API
/// server that comes back is seen at once, at the price of one refused connection every five seconds until then.
pub async fn follow<K>(api: Api<K>, config: Config, writer: Writer<K>, notify: impl FnMut(Notice<K>) + Send)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone + Send + Sync,
{
    follow_trimmed(api, config, writer, |_| {}, notify).await;
}

/// [`follow`], with `trim` removing from every object what nobody reads before it is stored.
pub async fn follow_trimmed<K>(
    api: Api<K>,
    config: Config,
    writer: Writer<K>,
    trim: fn(&mut K),
    notify: impl FnMut(Notice<K>) + Send,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone + Send + Sync,
{
    follow_bounded(api, config, writer, usize::MAX, trim, notify).await;
}

/// [`follow_trimmed`], where the server may be anybody's: of more than `most` objects none is kept, which counts as an
/// outage.
pub async fn follow_bounded<K>(
    api: Api<K>,
    config: Config,
    writer: Writer<K>,
    most: usize,
    trim: fn(&mut K),
    notify: impl FnMut(Notice<K>) + Send,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone + Send + Sync,
{
    let mut follower = Follower {
        api,
        config,
        writer,
        most,
        trim,
        notify,
        outage: None,
        backoff: Backoff::default(),
        expiries: Backoff::default(),
    };
    loop {
        let mut version = follower.list_until_complete().await;
        follower.watch_until_expired(&mut version).await;
    }
}

struct Follower<K, F>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    api: Api<K>,
    config: Config,
    writer: Writer<K>,
    most: usize,
    trim: fn(&mut K),
    notify: F,
    /// What the owner was last told is wrong.
    outage: Option<Outage>,
    backoff: Backoff,
    /// Of lists after expired watches alone: a server that was restarted forgets all versions, and the first list after
    /// an outage is not to wait as the outage taught us.
    expiries: Backoff,
}

/// How one watch came to its end.
enum Ended {
    /// Regularly, or by losing a connection that worked: resume at once.
    Closed,
    /// The server no longer knows our resource version: list again.
    Expired,
    Failed(Outage),
}

impl<K, F> Follower<K, F>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone + Send + Sync,
    F: FnMut(Notice<K>) + Send,
{
    /// Returns the resource version to watch from.
    async fn list_until_complete(&mut self) -> String {
        loop {
            match self.list().await {
                Ok(version) => {
                    self.release();
                    return version;
                }
                Err(outage) => self.pause_after(outage).await,
            }
        }
    }

    /// Fills the writer's buffer; the store keeps showing the old list until [`Self::release`].
    async fn list(&mut self) -> Result<String, Outage> {
        self.writer.apply_watcher_event(&Event::Init);
        let mut params = self.list_params();
        let mut count = 0_usize;
        loop {
            let page = match timeout(LIST_TIMEOUT, self.api.list(&params)).await {
                Ok(answer) => answer.map_err(|error| Outage::from(&error))?,
                Err(_elapsed) => return Err(Outage::no_answer()),
            };
            count = count.saturating_add(page.items.len());
            if count > self.most {
                return Err(Outage::too_many(self.most));
            }
            for mut object in page.items {
                self.strip(&mut object);
                self.writer.apply_watcher_event(&Event::InitApply(object));
            }
            let Some(token) = page.metadata.continue_.filter(|token| !token.is_empty()) else {
                return Ok(page.metadata.resource_version.unwrap_or_default());
            };
            params.continue_token = Some(token);
            // The token stands for a version; the server refuses a second one.
            params.resource_version = None;
            params.version_match = None;
        }
    }

    /// Swaps the store and only then tells of it: an owner that looks an object up finds it.
    fn release(&mut self) {
        let reader = self.writer.as_reader();
        let before = reader.state();
        self.writer.apply_watcher_event(&Event::InitDone);
        let listed = reader.state();
        let present: HashSet<_> =
            listed.iter().map(|object| (object.namespace(), object.name_any(), object.uid())).collect();
        for object in before {
            if !present.contains(&(object.namespace(), object.name_any(), object.uid())) {
                (self.notify)(Notice::Gone((*object).clone()));
            }
        }
        for object in listed {
            (self.notify)(Notice::Changed((*object).clone()));
        }
        (self.notify)(Notice::Synced);
        self.tell_recovered();
    }

    async fn watch_until_expired(&mut self, version: &mut String) {
        loop {
            match self.watch(version).await {
                Ended::Closed => debug!(collection = self.api.resource_url(), "watch ended, resuming"),
                Ended::Failed(outage) => self.pause_after(outage).await,
                Ended::Expired => {
                    debug!(collection = self.api.resource_url(), "resource version expired, listing again");
                    // A server that answers every watch with 410 must not be listed in a tight loop.
                    sleep(self.expiries.pause(Backoff::SHORT)).await;
                    return;
                }
            }
        }
    }

    async fn watch(&mut self, version: &mut String) -> Ended {
        let params = self.watch_params();
        let renewed_within =
            Duration::from_secs(params.timeout.unwrap_or(RENEW_AFTER_SECONDS).into()) + RENEW_MARGIN;
        let stream = match timeout(START_TIMEOUT, self.api.watch(&params, version)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return ended_by(&error),
            Err(_elapsed) => return Ended::Failed(Outage::no_answer()),
        };
        let mut stream = pin!(stream);
        let mut settled = false;
        loop {
            let patience = if settled { renewed_within } else { SETTLED_AFTER };
            match timeout(patience, stream.next()).await {
                Err(_elapsed) if settled => return Ended::Closed,
                Ok(None | Some(Err(kube::Error::ReadEvents(_)))) if settled => return Ended::Closed,
                Ok(None) => return Ended::Failed(Outage::closed_at_once()),
                Ok(Some(Err(kube::Error::SerdeError(error)))) => {
                    // Resuming would meet the same event again, so it is left out; the next list may carry it. The
                    // text is not logged: it may be a Secret's.
                    let problem = error.classify();
                    warn!(collection = self.api.resource_url(), ?problem, "watch event left out");
                }
                Ok(Some(Err(error))) => return ended_by(&error),
                Ok(Some(Ok(WatchEvent::Error(status)))) => return ended_by(&kube::Error::Api(status)),
                Ok(Some(Ok(WatchEvent::Added(_)))) if self.writer.as_reader().len() >= self.most => {
                    return Ended::Failed(Outage::too_many(self.most));
                }
                Ok(Some(Ok(event))) => {
                    settled = true;
                    self.tell_healthy();
                    self.take(event, version);
                }
                Err(_elapsed) => {
                    settled = true;
                    self.tell_healthy();
                }
            }
        }
    }

    /// Applies one event to the store, tells of it, and moves the version to resume from.
    fn take(&mut self, event: WatchEvent<K>, version: &mut String) {
        let (mut object, gone) = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
            WatchEvent::Deleted(object) => (object, true),
            WatchEvent::Bookmark(bookmark) => {
                *version = bookmark.metadata.resource_version;
                return;
            }
            WatchEvent::Error(_) => return,
        };
        if let Some(seen) = object.resource_version() {
            *version = seen;
        }
        self.strip(&mut object);
        let notice: fn(K) -> Notice<K> = if gone { Notice::Gone } else { Notice::Changed };
        self.writer.apply_watcher_event(&if gone {
            Event::Delete(object.clone())
        } else {
            Event::Apply(object.clone())
        });
        (self.notify)(notice(object));
    }

    fn strip(&self, object: &mut K) {
        object.meta_mut().managed_fields = None;
        (self.trim)(object);
    }

    fn tell_healthy(&mut self) {
        self.backoff.reset();
        self.expiries.reset();
        self.tell_recovered();
    }

    fn tell_recovered(&mut self) {
        if self.outage.take().is_some() {
            info!(collection = self.api.resource_url(), "watch recovered");
            (self.notify)(Notice::Recovered);
        }
    }

    async fn pause_after(&mut self, outage: Outage) {
        let collection = self.api.resource_url();
        // A server that answers again may say no at first, before it has read its roles.
        let was_dark = self.outage.as_ref().is_some_and(|before| before.cause == Cause::Unreachable);
        if was_dark && outage.cause != Cause::Unreachable {
            self.backoff.reset();
        }
        let pause = self.backoff.pause(outage.cause.longest_pause());
        if self.outage.is_none() {
            warn!(collection, cause = %outage, "watch failing");
        } else {
            debug!(collection, cause = %outage, ?pause, "watch still failing");
        }
        if self.outage.as_ref() != Some(&outage) {
            self.outage = Some(outage.clone());
            (self.notify)(Notice::Failing(outage));
        }
        sleep(pause).await;
    }

    fn list_params(&self) -> ListParams {
        let cached = self.config.list_semantic == ListSemantic::Any;
        ListParams {
            label_selector: self.config.label_selector.clone(),
            field_selector: self.config.field_selector.clone(),
            limit: self.config.page_size,
            resource_version: cached.then(|| "0".to_owned()),
            version_match: cached.then_some(VersionMatch::NotOlderThan),
            ..ListParams::default()
        }
    }

    fn watch_params(&self) -> WatchParams {
        WatchParams {
            label_selector: self.config.label_selector.clone(),
            field_selector: self.config.field_selector.clone(),
            timeout: Some(self.config.timeout.unwrap_or(RENEW_AFTER_SECONDS)),
            bookmarks: self.config.bookmarks,
            send_initial_events: false,
        }
    }
}

/// HTTP 410 as the answer to a watch and as an event inside one mean the same.
fn ended_by(error: &kube::Error) -> Ended {
    match error {
        kube::Error::Api(status) if status.code == 410 => Ended::Expired,
        error => Ended::Failed(Outage::from(error)),
    }
}
