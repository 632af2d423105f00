//! One kind: found by discovery, judged by its definition, its objects followed.

use std::{
    mem::replace,
    sync::{Arc, atomic::Ordering},
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, ResourceExt,
    runtime::{reflector::store::Writer, watcher::Config},
};
use tokio::{
    sync::{Notify, mpsc::UnboundedSender, watch},
    time::sleep,
};
use tracing::{Instrument, debug, info_span};

use super::{
    Child, FORGET_AFTER, Id, KindNotice, KindView, Ours, Slot,
    resolve::{self, Found, Refusal},
    verdict,
};
use crate::{
    api::names::LABEL_SCHEDULED_MACHINE,
    watch::{Backoff, Cause, Notice, follow},
};

/// Resolves one kind and follows its definition and our objects of it.
pub(super) struct Task {
    pub(super) id: Id,
    pub(super) slot: Arc<Slot>,
    pub(super) client: kube::Client,
    pub(super) namespace: Option<String>,
    pub(super) notices: UnboundedSender<KindNotice>,
}

/// What the definition says of the kind.
#[derive(Clone, PartialEq, Eq)]
enum Judgement {
    /// Not read yet.
    Pending,
    /// It may be used.
    Fit,
    /// It may not; why.
    Unfit(String),
    /// The version that was found is served no more, the one that was asked for is served now, or there is no such
    /// definition: whatever was found has to be found anew.
    Outdated,
}

impl Task {
    /// Returns when nobody has asked for the kind for a while.
    pub(super) async fn run(self) -> (Id, Arc<Slot>) {
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
            match resolve::find(&self.client, &self.id).await {
                Ok(found) => {
                    if self.follow_kind(&found).await {
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

    /// Returns when the kind has to be found anew; true if its objects were ever shown.
    async fn follow_kind(&self, found: &Found) -> bool {
        let judge = watch::Sender::new(Judgement::Pending);
        let judgements = judge.subscribe();
        tokio::select! {
            () = self.follow_definition(found, &judge) => false,
            shown = self.follow_judged(found, judgements) => shown,
        }
    }

    async fn follow_definition(&self, found: &Found, judge: &watch::Sender<Judgement>) {
        let writer = Writer::<CustomResourceDefinition>::default();
        let reader = writer.as_reader();
        let name = format!("{}.{}", found.resource.plural, found.resource.group);
        let config = Config::default().fields(&format!("metadata.name={name}"));
        follow(Api::all(self.client.clone()), config, writer, |notice| match notice {
            Notice::Changed(_) | Notice::Gone(_) | Notice::Synced => {
                let judgement = match reader.state().first() {
                    Some(definition) => self.judge(found, definition),
                    None => Judgement::Unfit(format!(
                        "{} has no CustomResourceDefinition {name}: use a kind of a Cluster API provider",
                        self.id.kind
                    )),
                };
                judge.send_if_modified(|known| {
                    let is_news = *known != judgement;
                    *known = judgement;
                    is_news
                });
            }
            // What was read of the definition stays true while its API server is away.
            Notice::Failing(outage) if *judge.borrow() == Judgement::Pending => {
                self.publish(KindView::Unreachable(outage.message));
            }
            Notice::Failing(_) | Notice::Recovered => {}
        })
        .await;
    }

    fn judge(&self, found: &Found, definition: &CustomResourceDefinition) -> Judgement {
        let serves = |version: &str| {
            definition.spec.versions.iter().any(|known| known.served && known.name == version)
        };
        let (_, asked) = self.id.api_version.split_once('/').unwrap_or_default();
        let is_found_again = found.instead.is_none() || !serves(asked);
        if !serves(&found.resource.version) || !is_found_again {
            return Judgement::Outdated;
        }
        match verdict(self.id.role, definition, &found.resource.version) {
            Ok(()) => Judgement::Fit,
            Err(why) => Judgement::Unfit(why),
        }
    }

    /// Our objects are followed also where the kind may not be used (any more): what was made has to be seen to go.
    async fn follow_judged(&self, found: &Found, mut judgements: watch::Receiver<Judgement>) -> bool {
        let mut shown = false;
        loop {
            let judgement = judgements.borrow_and_update().clone();
            let view: &(dyn Fn(Ours) -> KindView + Sync) = match (&judgement, &found.instead) {
                (Judgement::Outdated, _) => return shown,
                (Judgement::Pending, _) => {
                    // The sender lives in the other branch of the same select.
                    let _ = judgements.changed().await;
                    continue;
                }
                (Judgement::Unfit(why), _) => {
                    &|ours| KindView::NotAllowed { why: why.clone(), ours: Some(ours) }
                }
                (Judgement::Fit, Some(why)) => {
                    &|ours| KindView::NotServed { why: why.clone(), ours: Some(ours) }
                }
                (Judgement::Fit, None) => &KindView::Served,
            };
            tokio::select! {
                was_shown = self.follow_children(found, view) => return shown || was_shown,
                _ = judgements.changed() => shown = true,
            }
        }
    }

    /// Returns when the collection is no longer served; true if it ever was.
    async fn follow_children(&self, found: &Found, view: &(dyn Fn(Ours) -> KindView + Sync)) -> bool {
        let resource = found.resource.clone();
        let api: Api<Child> = match &self.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let writer = Writer::new(resource.clone());
        let view = view(Ours { resource, children: writer.as_reader() });
        let vanished = Notify::new();
        let mut shown = false;
        let following =
            follow(api, Config::default().labels(LABEL_SCHEDULED_MACHINE), writer, |notice| match notice {
                // The store holds the whole first list before anything of it is told.
                Notice::Changed(child) | Notice::Gone(child) => {
                    self.show(&view, !replace(&mut shown, true));
                    self.tell_child(&child);
                }
                Notice::Synced | Notice::Recovered => {
                    self.show(&view, !replace(&mut shown, true));
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
    fn show(&self, view: &KindView, is_new: bool) {
        if is_new || self.slot.view.borrow().ours().is_none() {
            self.publish(view.clone());
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

impl From<Refusal> for KindView {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotServed(why) => Self::NotServed { why, ours: None },
            Refusal::NotAllowed(why) => Self::NotAllowed { why, ours: None },
            Refusal::Unreachable(why) => Self::Unreachable(why),
        }
    }
}
