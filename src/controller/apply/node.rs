//! The half of a pass that goes to the workload cluster.
//!
//! Somebody may want her machine back in the middle of it, so it is short whatever happens: calls for the Node are given
//! up after [`crate::workload::ANSWER`], calls for its pods are waited for only a moment and go on, see
//! [`crate::workload::LONGEST`], and nothing but calls of one Node stands in line.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use kube::api::{Api, DeleteParams, Patch, PostParams, Preconditions};
use kube::core::Status;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::Instrument;

use super::{Apply, params};
use crate::api::names;
use crate::controller::effect::{Effect, NodeEdit, PodEdit};
use crate::controller::error::{EffectError, is_not_found, words};
use crate::controller::expect::Written;
use crate::controller::observe;
use crate::controller::report::Failure;
use crate::controller::snapshot::pods::{Outcome, Verb};
use crate::telemetry::metrics::Eviction;
use crate::workload::{LONGEST, Line, Unanswered};

/// What an ejected pod gets.
const EJECT_GRACE_SECONDS: u32 = 1;
/// How long a pass waits for calls that make pods go. They go on without it, and their answers wake the object: somebody
/// may want her machine back meanwhile.
const MOMENT: Duration = Duration::from_millis(500);

/// What became of the half.
#[derive(Default)]
pub(super) struct Half {
    pub(super) done: usize,
    /// The last failure; delays nothing else.
    pub(super) failure: Option<Failure>,
}

impl Apply<'_> {
    /// Writes to the Node one after the other (each is checked against what was read), pods beside them all at once.
    pub(super) async fn node_half(&self, effects: &[&Effect]) -> Half {
        let is_of_pod = |effect: &&&Effect| matches!(effect, Effect::Evict(_) | Effect::DeletePod(_));
        let (pods, edits): (Vec<&Effect>, Vec<&Effect>) = effects.iter().partition(is_of_pod);
        let edits = async {
            let mut half = Half::default();
            for effect in edits {
                let done = self.one(effect).await.map(drop);
                // Who has just kept silent gets no second call: what is decided meanwhile may not be late for it.
                let is_silent = matches!(done, Err(EffectError::Silent { .. }));
                half.count(effect, done);
                if is_silent {
                    break;
                }
            }
            half
        };
        // All at once: a decision asks for no more than a few.
        let calls: Vec<_> = pods.iter().map(|effect| self.one(effect)).collect();
        let (mut half, tried) = tokio::join!(edits, join_all(calls));
        for (effect, done) in pods.iter().zip(tried) {
            half.count(effect, done.map(drop));
        }
        half
    }

    pub(super) async fn on_node(&self, effect: &Effect) -> Result<(), EffectError> {
        let annotated = |value: Value| json!({names::ANNOTATION_CORDONED_BY: value});
        match effect {
            Effect::Cordon(edit) => {
                let patch = json!({"metadata": {"annotations": annotated(json!(self.snapshot.object.uid))},
                                   "spec": {"unschedulable": true}});
                self.edit_node("cordon", edit, patch).await
            }
            Effect::Uncordon { node, lifts, taints } => {
                let mut patch = json!({"metadata": {}, "spec": {}});
                if *lifts {
                    patch["metadata"]["annotations"] = annotated(Value::Null);
                    patch["spec"]["unschedulable"] = Value::Null;
                }
                if let Some(taints) = taints {
                    patch["spec"]["taints"] = listed(taints);
                }
                self.edit_node("uncordon", node, patch).await
            }
            Effect::EjectNode { node, cordons, taints } => {
                let mut patch = json!({"metadata": {}, "spec": {"taints": listed(taints)}});
                if *cordons {
                    patch["metadata"]["annotations"] = annotated(json!(self.snapshot.object.uid));
                    patch["spec"]["unschedulable"] = json!(true);
                }
                self.edit_node("eject_node", node, patch).await
            }
            Effect::Taint(edit) => {
                let steps = serde_json::from_value(edit.patch()).map_err(EffectError::Encode)?;
                self.patch_node("taint", &edit.node, &Patch::Json(steps)).await
            }
            Effect::ClearReclaim(edit) => {
                let gone = json!({
                    names::ANNOTATION_RECLAIM_REQUESTED: null,
                    names::ANNOTATION_RECLAIM_REASON: null,
                    names::ANNOTATION_RECLAIM_REQUESTED_AT: null,
                });
                let patch = json!({"metadata": {"annotations": gone}});
                self.edit_node("clear_reclaim", edit, patch).await
            }
            Effect::LabelNode { node, on } => self.label_node(node, *on).await,
            Effect::WriteRules(edit) => self.write_rules(edit).await,
            Effect::DeleteRules { name, uid } => self.delete_rules(name, uid).await,
            Effect::DeleteNode(edit) => self.delete_node(edit).await,
            Effect::Evict(pod) => self.evict(pod).await,
            Effect::DeletePod(pod) => self.delete_pod(pod).await,
            Effect::AddFinalizer
            | Effect::RemoveFinalizer { .. }
            | Effect::CreateChild { .. }
            | Effect::CreateMachine(_)
            | Effect::PatchMachine { .. }
            | Effect::PatchChild { .. }
            | Effect::WriteHold(_)
            | Effect::DeleteMachine { .. }
            | Effect::ReleaseMachine { .. }
            | Effect::DeleteChild { .. } => Ok(()),
        }
    }

    pub(super) async fn edit_node(
        &self,
        what: &'static str,
        edit: &NodeEdit,
        mut patch: Value,
    ) -> Result<(), EffectError> {
        patch["metadata"]["uid"] = json!(edit.uid);
        patch["metadata"]["resourceVersion"] = json!(edit.resource_version);
        self.patch_node(what, edit, &Patch::Merge(patch)).await
    }

    async fn patch_node(
        &self,
        what: &'static str,
        edit: &NodeEdit,
        patch: &Patch<Value>,
    ) -> Result<(), EffectError> {
        let line = self.line(what)?;
        let api: Api<Node> = Api::all(line.client());
        match on_line(line, what, api.patch(&edit.name, &params(), patch)).await? {
            Ok(node) => {
                self.expectations.note(&self.snapshot.object, Written::Node(&node));
                Ok(())
            }
            Err(error) if is_not_found(&error) => Ok(()),
            Err(source) => {
                Err(EffectError::Patch { what: format!("Node {}", edit.name), source: source.into() })
            }
        }
    }

    async fn delete_node(&self, edit: &NodeEdit) -> Result<(), EffectError> {
        let line = self.line("delete_node")?;
        // Only as it was read: a kubelet that has come back registers no other while it runs.
        let as_read =
            Preconditions { resource_version: Some(edit.resource_version.clone()), ..of_uid(&edit.uid) };
        let params = DeleteParams::default().preconditions(as_read);
        let api: Api<Node> = Api::all(line.client());
        match on_line(line, "delete_node", api.delete(&edit.name, &params)).await? {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(source) => {
                Err(EffectError::Delete { what: format!("Node {}", edit.name), source: source.into() })
            }
        }
    }

    async fn evict(&self, pod: &PodEdit) -> Result<(), EffectError> {
        let line = self.line("evict")?;
        let api: Api<Pod> = Api::namespaced(line.client(), &pod.namespace);
        let body = json!({
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": pod.name, "namespace": pod.namespace},
            "deleteOptions": {"preconditions": {"uid": pod.uid}},
        });
        let name = pod.name.clone();
        let call = async move {
            // Not by kube's own `evict`: it loses the uid, and takes a Failure that comes with 201 for a success.
            let params = PostParams::default();
            api.create_subresource::<Value, Status>("eviction", &name, &params, &body).await
        };
        let read = |answer: kube::Result<Status>| match answer {
            Ok(status) if status.is_failure() => refusal(&status),
            Ok(_) => Outcome::Accepted,
            Err(kube::Error::Api(status)) => refusal(&status),
            Err(error) => Outcome::Failed { message: words(&error) },
        };
        self.make_go(line, pod, Verb::Evict, call, read).await;
        Ok(())
    }

    async fn delete_pod(&self, pod: &PodEdit) -> Result<(), EffectError> {
        let line = self.line("delete_pod")?;
        let api: Api<Pod> = Api::namespaced(line.client(), &pod.namespace);
        let (name, uid) = (pod.name.clone(), pod.uid.clone());
        let call = async move {
            let params =
                DeleteParams::default().grace_period(EJECT_GRACE_SECONDS).preconditions(of_uid(&uid));
            api.delete(&name, &params).await.map(drop)
        };
        let read = |answer: kube::Result<()>| match answer {
            Ok(()) => Outcome::Accepted,
            // Gone, or a namesake.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Outcome::Accepted,
            Err(error) => Outcome::Failed { message: words(&error) },
        };
        self.make_go(line, pod, Verb::Delete, call, read).await;
        Ok(())
    }

    /// The call is on record before it is made, and until it is answered: as long as that takes no other goes out. Any
    /// answer is noted for the pod, and none is a failure of the pass, which waits for it no longer than [`MOMENT`].
    async fn make_go<T: Send + 'static>(
        &self,
        line: &Line,
        pod: &PodEdit,
        verb: Verb,
        call: impl Future<Output = kube::Result<T>> + Send + 'static,
        read: impl FnOnce(kube::Result<T>) -> Outcome + Send + 'static,
    ) {
        let object = &self.snapshot.object;
        let mut underway = self.evictions.begin(&object.uid, &pod.uid, verb);
        let (tell, told) = oneshot::channel();
        let asker = (object.namespace.clone(), object.name.clone());
        let (way, pod, metrics) = (line.clone(), pod.clone(), self.metrics.clone());
        let seen_through = async move {
            let Some(answer) = underway.answer(way.call_patiently(call)).await else { return };
            let outcome = answer.map_or_else(|_late| unanswered(), read);
            log(&pod, &outcome);
            if verb == Verb::Evict {
                metrics.evicted(counted(&outcome));
            }
            underway.end(outcome, observe::now());
            // Nobody waits any more.
            if tell.send(()).is_err() {
                way.wake(asker);
            }
        };
        line.hand_over(seen_through.in_current_span());
        // Late, or given up: the next pass sees what is noted.
        let _ = timeout(MOMENT, told).await;
    }

    pub(super) fn line(&self, what: &'static str) -> Result<&Line, EffectError> {
        self.workload.ok_or(EffectError::NotConnected { what })
    }
}

fn unanswered() -> Outcome {
    let seconds = LONGEST.as_secs();
    Outcome::Failed { message: format!("no answer from the workload cluster within {seconds} s") }
}

fn counted(outcome: &Outcome) -> Eviction {
    match outcome {
        Outcome::Accepted => Eviction::Accepted,
        Outcome::Refused { .. } => Eviction::Refused,
        Outcome::Forbidden { .. } | Outcome::Failed { .. } => Eviction::Failed,
    }
}

fn log(pod: &PodEdit, outcome: &Outcome) {
    let PodEdit { namespace, name, .. } = pod;
    match outcome {
        Outcome::Accepted => tracing::info!(namespace, name, "pod is to go"),
        Outcome::Refused { budgets } => tracing::debug!(namespace, name, ?budgets, "eviction refused"),
        Outcome::Forbidden { message } | Outcome::Failed { message } => {
            tracing::warn!(namespace, name, message, "pod cannot be made to go");
        }
    }
}

pub(super) async fn on_line<T>(
    line: &Line,
    what: &'static str,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<kube::Result<T>, EffectError> {
    line.call(call).await.map_err(|unanswered| match unanswered {
        Unanswered::Silent => EffectError::Silent { what },
        Unanswered::Busy => EffectError::Busy { what },
    })
}

impl Half {
    fn count(&mut self, effect: &Effect, done: Result<(), EffectError>) {
        match done {
            Ok(()) => {
                // What became of a pod was told by its name.
                if !matches!(effect, Effect::Evict(_) | Effect::DeletePod(_)) {
                    tracing::info!(effect = effect.label(), "done");
                }
                self.done += 1;
            }
            Err(error) => {
                tracing::warn!(effect = effect.label(), %error, "failed on the workload side");
                self.failure = Some(Failure::from(&error));
            }
        }
    }
}

/// What the server says to an eviction that it does not perform.
fn refusal(status: &Status) -> Outcome {
    let message = || format!("its eviction was refused: {} ({})", status.message, status.code);
    match status.code {
        // Gone, or a namesake.
        404 | 409 => Outcome::Accepted,
        429 => Outcome::Refused { budgets: budgets(status) },
        // Two budgets select one pod, say: no retry mends that, but a person may.
        401 | 403 => Outcome::Forbidden { message: message() },
        _ => Outcome::Failed { message: message() },
    }
}

/// By name: the server puts it only into a sentence.
fn budgets(status: &Status) -> Vec<String> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let of_budget = causes.filter(|cause| cause.reason == "DisruptionBudget");
    let name = |message: &str| {
        let rest = message.strip_prefix("The disruption budget ")?;
        rest.split_whitespace().next().map(str::to_owned)
    };
    of_budget.filter_map(|cause| name(&cause.message)).collect()
}

pub(super) fn of_uid(uid: &str) -> Preconditions {
    Preconditions { uid: Some(uid.to_owned()), resource_version: None }
}

/// A list in a merge patch replaces the list that is there; an empty one takes the field away.
fn listed(taints: &[Taint]) -> Value {
    if taints.is_empty() { Value::Null } else { json!(taints) }
}
