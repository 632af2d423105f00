//! Performs effects: one API call each, bounded in time, safe to repeat.
//!
//! Creates tolerate *already ours*, deletes carry a uid, edits of Nodes carry a resource version. It decides nothing.

mod agent;
mod hold;
mod node;
mod release;

use std::future::Future;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{ApiResource, DynamicObject};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::api::names;
use crate::api::status::ObjectRef;
use crate::capi::kinds::Role;
use crate::capi::machine::Machine;
use crate::controller::agent::writes::AgentWrites;
use crate::controller::effect::Effect;
use crate::controller::error::{Class, EffectError, is_already_exists, is_not_found, is_unserved};
use crate::controller::evictions::Evictions;
use crate::controller::expect::{Expectations, Written};
use crate::controller::hold::tries::HoldTries;
use crate::controller::report::{Failure, Made, Report};
use crate::controller::snapshot::Snapshot;
use crate::telemetry::metrics::ControllerMetrics;
use crate::workload::Line;

/// Bound on one call. The API server's own bound on a mutating call is 34 s; an owner waits no longer than this for us
/// to try again.
const CALL: Duration = Duration::from_secs(10);

/// Bound on a create: admission webhooks may take up to 30 s, and a call that is given up before is undone by nobody.
const CREATE: Duration = Duration::from_secs(35);

/// Of a patch before the DELETE of an eject: what it would spare the owner is no reason to keep her waiting.
const IN_PASSING: Duration = Duration::from_millis(400);

async fn within_hurry<T>(
    bound: Duration,
    call: impl Future<Output = Result<T, EffectError>>,
) -> Result<T, EffectError> {
    let late = || EffectError::Timeout { what: "patch", seconds: bound.as_secs().max(1) };
    tokio::time::timeout(bound, call).await.unwrap_or_else(|_late| Err(late()))
}

/// Performs the effects of one ScheduledMachine.
pub struct Apply<'a> {
    /// The management cluster.
    pub management: &'a Client,
    /// The workload cluster, where it can be reached.
    pub workload: Option<&'a Line>,
    /// What was decided on.
    pub snapshot: &'a Snapshot,
    /// Where writes are noted, so that the next pass waits for the cache to show them.
    pub expectations: &'a Expectations,
    /// Where tries to make pods go are noted.
    pub evictions: &'a Evictions,
    /// Where writes for the agent are noted.
    pub agent_writes: &'a AgentWrites,
    /// Where tries to write a reclaim's hold are noted.
    pub hold_tries: &'a HoldTries,
    /// Where they are counted.
    pub metrics: &'a ControllerMetrics,
}

impl Apply<'_> {
    /// Both halves side by side. On the management side in order, up to the first failure; what [`Effect::goes_beside`]
    /// allows goes side by side there. See [`node`] for the other half.
    ///
    /// In a hurry, which an eject is, no patch of the Machine keeps its DELETE waiting: one that is refused, or not answered
    /// within [`IN_PASSING`], is told, and the DELETE is sent all the same.
    pub async fn all(&self, effects: &[Effect], in_a_hurry: bool) -> (Report, Option<EffectError>) {
        let (node, management): (Vec<&Effect>, Vec<&Effect>) =
            effects.iter().partition(|effect| effect.is_on_node());
        let ((mut report, error), half) =
            tokio::join!(self.management_half(&management, in_a_hurry), self.node_half(&node));
        report.done += half.done;
        report.node_failure = half.failure;
        (report, error)
    }

    async fn management_half(&self, effects: &[&Effect], in_a_hurry: bool) -> (Report, Option<EffectError>) {
        let recorded = self.record(effects).await;
        let written = recorded.as_ref().is_some_and(|recorded| recorded.failure.is_none());
        let mut report = Report { recorded, done: usize::from(written), ..Report::default() };
        let rest: Vec<&Effect> = effects.iter().filter(|effect| effect.wish().is_none()).copied().collect();
        let mut failed = None;
        // Once the DELETE is out nothing is kept waiting: a server that is slow gets the patch through then.
        let is_awaited = rest.iter().any(|effect| matches!(effect, Effect::DeleteMachine { .. }));
        for beside in rest.chunk_by(|a, b| a.goes_beside(b)) {
            let is_in_passing = in_a_hurry && is_awaited && matches!(beside, [Effect::PatchMachine { .. }]);
            let bound = if is_in_passing { IN_PASSING } else { Duration::MAX };
            let calls: Vec<_> = beside.iter().map(|effect| within_hurry(bound, self.one(effect))).collect();
            let outcomes = join_all(calls).await;
            for (effect, outcome) in beside.iter().zip(outcomes) {
                match outcome {
                    Ok(made) => {
                        tracing::info!(effect = effect.label(), "done");
                        report.done += 1;
                        report.made.extend(made);
                    }
                    // The first is told; the next pass meets the other again, if it lasts.
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
            if failed.is_some() && !is_in_passing {
                break;
            }
        }
        // What was read is old: looked at again at once, and no news for anybody.
        let news = failed.as_ref().filter(|error: &&EffectError| error.class() != Class::Conflict);
        report.failure = news.map(Failure::from);
        (report, failed)
    }

    async fn one(&self, effect: &Effect) -> Result<Option<(Made, ObjectRef)>, EffectError> {
        match effect {
            Effect::AddFinalizer => self.add_finalizer().await.map(|()| None),
            Effect::RemoveFinalizer { kinds } => self.remove_finalizer(kinds).await.map(|()| None),
            Effect::CreateChild { role, resource, object } => {
                self.create(Made::Child(*role), resource, object).await.map(Some)
            }
            Effect::CreateMachine(object) => {
                self.create(Made::Machine, &self.machine(), object).await.map(Some)
            }
            Effect::PatchMachine { uid: _, patch } => self.patch_machine(patch).await.map(|()| None),
            Effect::PatchChild { resource, patch } => self.patch_child(resource, patch).await.map(|()| None),
            // Before all others of this half, and told by itself: see `management_half`.
            Effect::WriteHold(_) => Ok(None),
            Effect::DeleteMachine { uid } => self.delete(&self.machine(), uid).await.map(|()| None),
            Effect::ReleaseMachine { uid, unseen } => self.release(uid, unseen).await.map(|()| None),
            Effect::DeleteChild { resource, uid } => self.delete(resource, uid).await.map(|()| None),
            Effect::Cordon(_)
            | Effect::Uncordon { .. }
            | Effect::EjectNode { .. }
            | Effect::Taint(_)
            | Effect::ClearReclaim(_)
            | Effect::LabelNode { .. }
            | Effect::WriteRules(_)
            | Effect::DeleteRules { .. }
            | Effect::DeleteNode(_)
            | Effect::Evict(_)
            | Effect::DeletePod(_) => self.on_node(effect).await.map(|()| None),
        }
    }

    fn objects(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.management.clone(), &self.snapshot.object.namespace, resource)
    }

    fn machine(&self) -> ApiResource {
        self.snapshot.capi.version().machine()
    }

    fn controls(&self, found: &DynamicObject) -> bool {
        self.snapshot.owns_machine(&Machine::decode(found, self.snapshot.capi.version()))
    }

    fn scheduled_machines(&self) -> Api<DynamicObject> {
        self.objects(&super::watch::scheduled_machine_resource())
    }

    fn what(&self, kind: &str) -> String {
        format!("{kind} {}/{}", self.snapshot.object.namespace, self.snapshot.object.name)
    }

    async fn add_finalizer(&self) -> Result<(), EffectError> {
        // Appended to the list as it is on the server, not as we last saw it; the uid guards against a namesake.
        let name = &self.snapshot.object.name;
        let failed = |source: kube::Error| EffectError::Patch {
            what: self.what("ScheduledMachine"),
            source: source.into(),
        };
        let live = bounded("get", self.scheduled_machines().get(name)).await?.map_err(failed)?;
        let mut finalizers = live.finalizers().to_vec();
        if live.uid().as_ref() != Some(&self.snapshot.object.uid)
            || finalizers.iter().any(|f| f == names::FINALIZER)
        {
            return Ok(());
        }
        finalizers.push(names::FINALIZER.to_owned());
        self.write_finalizers(&live, &finalizers).await.map_err(failed_as(failed))
    }

    async fn remove_finalizer(&self, kinds: &[ApiResource]) -> Result<(), EffectError> {
        for kind in kinds {
            self.nothing_left(kind).await?;
        }
        let failed = |source: kube::Error| EffectError::Patch {
            what: self.what("ScheduledMachine"),
            source: source.into(),
        };
        let live = match bounded("get", self.scheduled_machines().get(&self.snapshot.object.name)).await? {
            Ok(live) => live,
            Err(error) if is_not_found(&error) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        if live.uid().as_ref() != Some(&self.snapshot.object.uid) {
            return Ok(());
        }
        let rest: Vec<String> =
            live.finalizers().iter().filter(|f| *f != names::FINALIZER).cloned().collect();
        match self.write_finalizers(&live, &rest).await {
            Err(FinalizerWrite::Refused(error)) if is_not_found(&error) => Ok(()),
            outcome => outcome.map_err(failed_as(failed)),
        }
    }

    /// The list is replaced whole, so only as it was just read.
    async fn write_finalizers(&self, live: &DynamicObject, list: &[String]) -> Result<(), FinalizerWrite> {
        let patch = json!({"metadata": {"uid": live.uid(), "resourceVersion": live.resource_version(), "finalizers": list}});
        let call = self.scheduled_machines();
        let name = &self.snapshot.object.name;
        let written = bounded("patch", call.patch(name, &params(), &Patch::Merge(&patch))).await;
        let written = written.map_err(FinalizerWrite::Late)?.map_err(FinalizerWrite::Refused)?;
        self.expectations.note(&self.snapshot.object, Written::Object(&written));
        Ok(())
    }

    /// A live look by label: caches lie, and after this nobody will look again.
    async fn nothing_left(&self, kind: &ApiResource) -> Result<(), EffectError> {
        let selector = format!("{}={}", names::LABEL_SCHEDULED_MACHINE_UID, self.snapshot.object.uid);
        let list = ListParams::default().labels(&selector);
        match bounded("list", self.objects(kind).list_metadata(&list)).await? {
            Ok(found) => match found.items.first() {
                Some(left) => Err(EffectError::Left { what: format!("{} {}", kind.kind, left.name_any()) }),
                None => Ok(()),
            },
            Err(error) if is_unserved(&error) => self.is_defined_no_more(&kind.group, &kind.kind).await,
            Err(source) => Err(EffectError::Look { what: kind.kind.clone(), source: source.into() }),
        }
    }

    /// With its definition a kind's objects are gone. A definition that only serves the kind no more still has them, out
    /// of everybody's sight.
    async fn is_defined_no_more(&self, group: &str, kind: &str) -> Result<(), EffectError> {
        let api: Api<CustomResourceDefinition> = Api::all(self.management.clone());
        let failed = |source: kube::Error| EffectError::Look { what: kind.to_owned(), source: source.into() };
        let all = bounded("list", api.list_metadata(&ListParams::default())).await?.map_err(failed)?;
        let of_group = format!(".{group}");
        for name in all.iter().map(ResourceExt::name_any).filter(|name| name.ends_with(&of_group)) {
            let found = bounded("get", api.get_opt(&name)).await?.map_err(failed)?;
            if found.is_some_and(|found| found.spec.names.kind == kind) {
                return Err(EffectError::Unserved { what: kind.to_owned(), definition: name });
            }
        }
        Ok(())
    }

    async fn create(
        &self,
        made: Made,
        resource: &ApiResource,
        object: &DynamicObject,
    ) -> Result<(Made, ObjectRef), EffectError> {
        let api = self.objects(resource);
        let params =
            PostParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let there = match within(CREATE, "create", api.create(&params, object)).await? {
            Ok(created) => created,
            // Ours from a pass whose answer was lost, or somebody else's: only a look can tell.
            Err(error) if is_already_exists(&error) => self.already_there(&api, made, resource).await?,
            Err(source) => {
                return Err(EffectError::Create { what: self.what(&resource.kind), source: source.into() });
            }
        };
        self.expectations.note(&self.snapshot.object, Written::Made(made, &there));
        let reference = ObjectRef {
            api_version: resource.api_version.clone(),
            kind: resource.kind.clone(),
            name: there.name_any(),
            namespace: there.namespace(),
            uid: there.uid(),
        };
        Ok((made, reference))
    }

    async fn already_there(
        &self,
        api: &Api<DynamicObject>,
        made: Made,
        resource: &ApiResource,
    ) -> Result<DynamicObject, EffectError> {
        let what = self.what(&resource.kind);
        let found = bounded("get", api.get(&self.snapshot.object.name)).await?;
        let found =
            found.map_err(|source| EffectError::Create { what: what.clone(), source: source.into() })?;
        let is_labelled =
            found.labels().get(names::LABEL_SCHEDULED_MACHINE_UID) == Some(&self.snapshot.object.uid);
        let status = &self.snapshot.status;
        let recorded = match made {
            Made::Machine => &status.machine_ref,
            Made::Child(Role::Bootstrap) => &status.bootstrap_ref,
            Made::Child(Role::Infrastructure) => &status.infrastructure_ref,
        };
        let is_recorded =
            found.uid().is_some() && recorded.as_ref().and_then(|r| r.uid.clone()) == found.uid();
        let is_ours = is_labelled || is_recorded || self.controls(&found);
        if is_ours && found.metadata.deletion_timestamp.is_none() {
            return Ok(found);
        }
        if is_ours {
            return Err(EffectError::Left { what });
        }
        Err(EffectError::NameTaken { what })
    }

    async fn patch_machine(&self, patch: &Value) -> Result<(), EffectError> {
        let api = self.objects(&self.machine());
        let written =
            bounded("patch", api.patch(&self.snapshot.object.name, &params(), &Patch::Merge(patch))).await?;
        match written {
            Ok(machine) => {
                self.expectations.note(&self.snapshot.object, Written::Made(Made::Machine, &machine));
                Ok(())
            }
            Err(error) if is_not_found(&error) => Ok(()),
            Err(source) => Err(EffectError::Patch { what: self.what("Machine"), source: source.into() }),
        }
    }

    async fn patch_child(&self, resource: &ApiResource, patch: &Value) -> Result<(), EffectError> {
        let api = self.objects(resource);
        let name = &self.snapshot.object.name;
        match bounded("patch", api.patch(name, &params(), &Patch::Merge(patch))).await? {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(source) => Err(EffectError::Patch { what: self.what(&resource.kind), source: source.into() }),
        }
    }

    async fn delete(&self, resource: &ApiResource, uid: &str) -> Result<(), EffectError> {
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let params = DeleteParams::background().preconditions(preconditions);
        let api = self.objects(resource);
        match bounded("delete", api.delete(&self.snapshot.object.name, &params)).await? {
            Ok(either) => {
                if let (Some(object), true) = (either.left(), resource.kind == "Machine") {
                    self.expectations.note(&self.snapshot.object, Written::Deleted(Made::Machine, &object));
                }
                Ok(())
            }
            Err(error) if is_not_found(&error) => Ok(()),
            Err(source) => {
                Err(EffectError::Delete { what: self.what(&resource.kind), source: source.into() })
            }
        }
    }
}

enum FinalizerWrite {
    Late(EffectError),
    Refused(kube::Error),
}

fn failed_as(failed: impl Fn(kube::Error) -> EffectError) -> impl Fn(FinalizerWrite) -> EffectError {
    move |outcome| match outcome {
        FinalizerWrite::Late(error) => error,
        FinalizerWrite::Refused(error) => failed(error),
    }
}

fn params() -> PatchParams {
    PatchParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

async fn bounded<T>(what: &'static str, call: impl Future<Output = T>) -> Result<T, EffectError> {
    within(CALL, what, call).await
}

async fn within<T>(
    bound: Duration,
    what: &'static str,
    call: impl Future<Output = T>,
) -> Result<T, EffectError> {
    let late = |_| EffectError::Timeout { what, seconds: bound.as_secs() };
    tokio::time::timeout(bound, call).await.map_err(late)
}
