//! Waiting for objects, by watches.

use std::fmt::{Debug, Display};
use std::time::Duration;

use futures::{StreamExt, pin_mut};
use jiff::Timestamp;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What can be waited for.
pub trait Awaited: Resource + Clone + DeserializeOwned + Serialize + Debug + Send + 'static {}
impl<K> Awaited for K where K: Resource + Clone + DeserializeOwned + Serialize + Debug + Send + 'static {}

/// Watches the object until `found` holds, and returns it as it was then. Panics after `patience` with what
/// was waited for and the object as it was seen last.
#[track_caller]
pub fn eventually<K: Awaited>(
    api: &Api<K>,
    name: &str,
    what: &str,
    patience: Duration,
    mut found: impl FnMut(&K) -> bool,
) -> impl Future<Output = K> {
    let search = watch(api, name, what, patience, move |object| object.is_some_and(&mut found));
    async move { search.await.expect("found") }
}

/// Watches until there is no such object.
#[track_caller]
pub fn gone<K: Awaited>(api: &Api<K>, name: &str, patience: Duration) -> impl Future<Output = ()> {
    let search = watch(api, name, "gone", patience, |object| object.is_none());
    async move {
        search.await;
    }
}

/// Watches until `found` holds, for an object that may be there or not.
#[track_caller]
pub fn watch<K: Awaited>(
    api: &Api<K>,
    name: &str,
    what: &str,
    patience: Duration,
    mut found: impl FnMut(Option<&K>) -> bool,
) -> impl Future<Output = Option<K>> {
    let caller = std::panic::Location::caller();
    let (api, name, what) = (api.clone(), name.to_owned(), what.to_owned());
    async move {
        let mut last = "never seen".to_owned();
        let search = async {
            let stream = watch_object(api, &name).default_backoff();
            pin_mut!(stream);
            while let Some(seen) = stream.next().await {
                match seen {
                    Ok(object) if found(object.as_ref()) => return object,
                    Ok(Some(object)) => last = shown(&object),
                    Ok(None) => "not there".clone_into(&mut last),
                    Err(trouble) => last = format!("{last}\nand then the watch failed: {trouble}"),
                }
            }
            unreachable!("a watch begins again when it ends")
        };
        if let Ok(object) = tokio::time::timeout(patience, search).await {
            return object;
        }
        panic!("{caller}: {name} not {what} after {patience:?}; last seen:\n{last}");
    }
}

/// The object as YAML, without what nobody reads.
pub fn shown<K: Serialize>(object: &K) -> String {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(metadata) = value.get_mut("metadata").and_then(|m| m.as_object_mut()) {
        metadata.remove("managedFields");
    }
    serde_saphyr::to_string(&value).unwrap_or_else(|_| value.to_string())
}

/// Lets time pass until that instant: for scenarios in which nothing but the clock moves on.
pub async fn pass_until(at: Timestamp) {
    // A timer may run by another clock than the one that was asked; it is asked again.
    while let Ok(left) = Duration::try_from(at.duration_since(Timestamp::now())) {
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left).await;
    }
}

/// Asks again and again until the answer is yes; for what has no watch. Panics after `patience`.
#[track_caller]
pub fn asked_until(
    what: &str,
    patience: Duration,
    mut asked: impl AsyncFnMut() -> bool,
) -> impl Future<Output = ()> {
    answered_until(what, patience, async move || asked().await.then_some(()).ok_or("no"))
}

/// Asks again and again until there is what was asked for, and returns it. Panics after `patience` with the last answer.
#[track_caller]
pub fn answered_until<T, No: Display>(
    what: &str,
    patience: Duration,
    mut asked: impl AsyncFnMut() -> Result<T, No>,
) -> impl Future<Output = T> {
    let (caller, what) = (std::panic::Location::caller(), what.to_owned());
    async move {
        let deadline = std::time::Instant::now() + patience;
        loop {
            match asked().await {
                Ok(found) => return found,
                Err(no) => assert!(
                    std::time::Instant::now() < deadline,
                    "{caller}: not {what} after {patience:?}: {no}"
                ),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
