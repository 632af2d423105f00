//! What the user asks for: the raw spec read piece by piece, so that one bad field spoils nothing but itself.
//!
//! Never fails and never stops at the first fault. It reads the raw JSON rather than a typed spec because a stored
//! object may be older than today's schema, and the kill switch has to work on an object that nothing else can read.

mod forms;

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::api::duration::Duration;
use crate::api::keys::{is_reserved_in_line, is_reserved_on_machine};
use crate::api::scheduled_machine::{
    InlineMetadata, InlineObject, MachineTemplate, MachineTemplateSpec, ReadinessGate, Reclaim, SecretKeyRef,
};
use crate::api::taint::NodeTaint;
use crate::controller::agent::rules::is_usable;
use crate::schedule::{Fault, Schedule};

/// Cluster API counts a node-deletion limit from the Machine's deletion, not from when it turns to the Node, so the
/// time for the host itself is added on top of drain and volumes.
const HOST_ALLOWANCE: Duration = Duration::from_secs(600);
/// Volumes are waited for this long unless the user says otherwise; 0 would mean for ever.
const VOLUME_DETACH_DEFAULT: Duration = Duration::from_secs(60);
/// What Cluster API and the provider take to delete a Machine whose Node is empty and has no volumes: seconds, as measured, with room.
pub const DELETION_ALLOWANCE: SignedDuration = SignedDuration::from_secs(30);
/// The predecessor's default for grace and drain.
const FIVE_MINUTES: Duration = Duration::from_secs(300);

/// The spec, understood as far as it can be.
#[derive(Clone, Debug)]
pub struct Target {
    /// `spec.clusterName`; empty when it cannot be read.
    pub cluster_name: String,
    /// `spec.paused`.
    pub paused: bool,
    /// `spec.killSwitch`.
    pub kill_switch: bool,
    /// `spec.schedule.enabled`.
    pub enabled: bool,
    /// Higher opens first.
    pub priority: u8,
    /// The timetable, or all that is wrong with it.
    pub schedule: Result<Schedule, Vec<Fault>>,
    /// Cordoned, nothing evicted.
    pub grace: Duration,
    /// Bound on emptying the Node; zero: do not drain.
    pub drain: Duration,
    /// When a machine that its owner took back may come again.
    pub return_after: ReturnAfter,
    /// The owner's programs, those that an agent can look for.
    pub commands: Vec<String>,
    /// Bounds that Cluster API gets.
    pub limits: Limits,
    /// What the next Machine is made of, or all that is wrong with it. Blocks opening, nothing else.
    pub templates: Result<Templates, Vec<Fault>>,
    /// Taints of the lent Node, one of each key and effect; those that cannot be put on are left out, and faults.
    pub taints: Vec<NodeTaint>,
    /// Where the workload cluster's kubeconfig is.
    pub kubeconfig: SecretKeyRef,
    /// Faults of fields that have a safe stand-in (durations, flags).
    pub other_faults: Vec<Fault>,
}

/// When a machine that its owner took back may come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReturnAfter {
    /// When the timetable next opens.
    NextWindow,
    /// When somebody says so.
    Never,
    /// So long after.
    After(Duration),
}

/// Bounds on Cluster API's deletion of the Machine, in whole seconds, none of them 0 (which means for ever there).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Emptying the Node.
    pub drain: u64,
    /// Waiting for volumes.
    pub volume_detach: u64,
    /// Deleting the Node object, counted from the Machine's deletion.
    pub node_deletion: u64,
}

/// What the next Machine is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Templates {
    /// The bootstrap object.
    pub bootstrap: Template,
    /// The infrastructure object.
    pub infrastructure: Template,
    /// The user's labels on the Machine.
    pub machine_labels: BTreeMap<String, String>,
    /// The user's annotations on the Machine.
    pub machine_annotations: BTreeMap<String, String>,
    /// Kubernetes version.
    pub version: Option<String>,
    /// Failure domain.
    pub failure_domain: Option<String>,
    /// Seconds ready before available.
    pub min_ready_seconds: Option<i32>,
    /// Conditions that must hold.
    pub readiness_gates: Vec<ReadinessGate>,
}

/// One in-line object.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// `group/version`.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// The user's.
    pub labels: BTreeMap<String, String>,
    /// The user's.
    pub annotations: BTreeMap<String, String>,
    /// Passed on as it is.
    pub spec: Map<String, Value>,
}

impl Template {
    /// The API group.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }
}

impl Target {
    /// Reads `spec` of a ScheduledMachine.
    pub fn read(spec: &Value) -> Self {
        let mut faults = Vec::new();
        let cluster_name: String = field(spec, "clusterName", "spec", &mut faults).unwrap_or_default();
        let grace = duration(spec, "gracefulShutdownTimeout", FIVE_MINUTES, &mut faults);
        let drain = duration(spec, "nodeDrainTimeout", FIVE_MINUTES, &mut faults);
        let mut template_faults = Vec::new();
        let machine: MachineTemplate =
            field(spec, "machineTemplate", "spec", &mut template_faults).unwrap_or_default();
        let faults_before = faults.len();
        let kubeconfig = kubeconfig(spec, &mut faults);
        let is_read = faults.len() == faults_before;
        if is_read && spec.get("kubeconfigSecretRef").is_some() {
            faults.extend(forms::secret_ref(&kubeconfig));
        }
        faults.extend(forms::commands(spec));
        let taints = taints(spec, &mut faults);
        Self {
            paused: field(spec, "paused", "spec", &mut faults).unwrap_or(false),
            kill_switch: field(spec, "killSwitch", "spec", &mut faults).unwrap_or(false),
            enabled: spec
                .get("schedule")
                .and_then(|schedule| field(schedule, "enabled", "spec.schedule", &mut faults))
                .unwrap_or(true),
            priority: field(spec, "priority", "spec", &mut faults).unwrap_or(50),
            schedule: schedule(spec),
            return_after: return_after(spec, &mut faults),
            commands: commands(spec),
            limits: limits(drain, machine.spec.as_ref(), &mut faults),
            templates: templates(spec, machine, template_faults),
            cluster_name,
            grace,
            drain,
            taints,
            kubeconfig,
            other_faults: faults,
        }
    }

    /// Where the workload cluster's kubeconfig is, without reading the rest. A name that cannot be read is empty.
    pub fn kubeconfig_of(spec: &Value) -> SecretKeyRef {
        kubeconfig(spec, &mut Vec::new())
    }

    /// From the end of a window to the promised hand-back: grace, drain, volumes, and what the deletion itself takes.
    pub fn hand_back_span(&self) -> SignedDuration {
        self.grace.as_signed() + self.drain.as_signed() + self.volume_span() + DELETION_ALLOWANCE
    }

    /// How long Cluster API may wait for volumes between the drain and the host.
    pub fn volume_span(&self) -> SignedDuration {
        SignedDuration::from_secs(i64::try_from(self.limits.volume_detach).unwrap_or(i64::MAX))
    }

    /// Everything that is wrong with the spec, in the order of its fields.
    pub fn faults(&self) -> Vec<Fault> {
        let schedule = self.schedule.as_ref().err().into_iter().flatten();
        let templates = self.templates.as_ref().err().into_iter().flatten();
        self.other_faults.iter().chain(schedule).chain(templates).cloned().collect()
    }
}

fn fault(path: impl Into<String>, message: impl Into<String>) -> Fault {
    Fault { path: path.into(), message: message.into() }
}

/// The field, `None` where it is absent, null or (then also a fault) of the wrong shape.
fn field<T: DeserializeOwned>(parent: &Value, name: &str, path: &str, faults: &mut Vec<Fault>) -> Option<T> {
    let value = parent.get(name).filter(|value| !value.is_null())?;
    match T::deserialize(value) {
        Ok(read) => Some(read),
        Err(error) => {
            faults.push(fault(format!("{path}.{name}"), error.to_string()));
            None
        }
    }
}

fn duration(spec: &Value, name: &str, default: Duration, faults: &mut Vec<Fault>) -> Duration {
    let Some(text) = field::<String>(spec, name, "spec", faults) else { return default };
    // The predecessor trimmed its durations, so stored objects may carry blanks.
    text.trim().parse().unwrap_or_else(|error| {
        faults.push(fault(format!("spec.{name}"), format!("{text:?} {error}; {default} stands in for it")));
        default
    })
}

/// Faults of single entries are told by `forms`.
fn commands(spec: &Value) -> Vec<String> {
    let all = spec.get("killIfCommands").and_then(Value::as_array).into_iter().flatten();
    all.filter_map(Value::as_str).filter(|command| is_usable(command)).map(str::to_owned).collect()
}

fn return_after(spec: &Value, faults: &mut Vec<Fault>) -> ReturnAfter {
    let text = field::<Reclaim>(spec, "reclaim", "spec", faults).map(|reclaim| reclaim.return_after);
    match text.as_deref().map(str::trim) {
        None | Some("NextWindow") => ReturnAfter::NextWindow,
        Some("Never") => ReturnAfter::Never,
        Some(text) => match text.parse() {
            Ok(span) => ReturnAfter::After(span),
            Err(error) => {
                let message =
                    format!("{text:?} {error}, nor NextWindow or Never; NextWindow stands in for it");
                faults.push(fault("spec.reclaim.returnAfter", message));
                ReturnAfter::NextWindow
            }
        },
    }
}

fn kubeconfig(spec: &Value, faults: &mut Vec<Fault>) -> SecretKeyRef {
    let is_named = spec.get("kubeconfigSecretRef").is_some_and(|value| !value.is_null());
    field(spec, "kubeconfigSecretRef", "spec", faults).unwrap_or_else(|| {
        let cluster = spec.get("clusterName").and_then(Value::as_str).unwrap_or_default();
        // Somebody asked for other credentials than the Cluster's own: those never stand in for them.
        let name = if is_named { String::new() } else { format!("{cluster}-kubeconfig") };
        SecretKeyRef { name, key: "value".to_owned() }
    })
}

/// One by one: what cannot be read, or would be refused, keeps no other off.
fn taints(spec: &Value, faults: &mut Vec<Fault>) -> Vec<NodeTaint> {
    let listed: Vec<Value> = field(spec, "nodeTaints", "spec", faults).unwrap_or_default();
    let mut taints: Vec<NodeTaint> = Vec::new();
    for (place, value) in listed.iter().enumerate() {
        let path = format!("spec.nodeTaints[{place}]");
        match NodeTaint::deserialize(value) {
            Err(error) => faults.push(fault(path, error.to_string())),
            Ok(taint) if taints.iter().any(|t| (&t.key, t.effect) == (&taint.key, taint.effect)) => {
                faults.push(fault(path, "has the key and effect of one before it; keep one"));
            }
            Ok(taint) => match taint.fault() {
                Some(words) => faults.push(fault(path, format!("{:?} {words}", taint.key))),
                None => taints.push(taint),
            },
        }
    }
    taints
}

fn schedule(spec: &Value) -> Result<Schedule, Vec<Fault>> {
    let stored = spec.get("schedule").filter(|value| !value.is_null());
    stored.map_or_else(|| Err(vec![fault("spec.schedule", "is required")]), Schedule::read)
}

fn limits(drain: Duration, machine: Option<&MachineTemplateSpec>, faults: &mut Vec<Fault>) -> Limits {
    let mut read = |name: &str, text: Option<&String>| -> Option<Duration> {
        let text = text?;
        match text.trim().parse::<Duration>() {
            Ok(duration) if !duration.is_zero() => return Some(duration),
            Ok(_) => faults.push(fault(
                format!("spec.machineTemplate.spec.{name}"),
                "must be at least 1s: Cluster API takes 0 for no limit at all",
            )),
            Err(error) => {
                faults.push(fault(format!("spec.machineTemplate.spec.{name}"), format!("{text:?} {error}")));
            }
        }
        None
    };
    let volume_detach =
        read("nodeVolumeDetachTimeout", machine.and_then(|m| m.node_volume_detach_timeout.as_ref()))
            .unwrap_or(VOLUME_DETACH_DEFAULT);
    let node_deletion = read("nodeDeletionTimeout", machine.and_then(|m| m.node_deletion_timeout.as_ref()))
        .map_or(drain.as_secs() + volume_detach.as_secs() + HOST_ALLOWANCE.as_secs(), Duration::as_secs);
    Limits { drain: drain.as_secs().max(1), volume_detach: volume_detach.as_secs(), node_deletion }
}

fn templates(
    spec: &Value,
    machine: MachineTemplate,
    mut faults: Vec<Fault>,
) -> Result<Templates, Vec<Fault>> {
    if spec.get("clusterName").and_then(Value::as_str).is_none_or(str::is_empty) {
        faults.push(fault("spec.clusterName", "is required: the Cluster that the machine joins"));
    }
    let cluster = spec.get("clusterName").and_then(Value::as_str).unwrap_or_default();
    faults.extend(forms::cluster_name(cluster));
    let bootstrap = template(spec, "bootstrapSpec", &mut faults);
    let infrastructure = template(spec, "infrastructureSpec", &mut faults);
    let path = "spec.machineTemplate";
    reserved_keys(&machine.labels, &format!("{path}.labels"), is_reserved_on_machine, &mut faults);
    reserved_keys(&machine.annotations, &format!("{path}.annotations"), is_reserved_on_machine, &mut faults);
    faults.extend(forms::texts(path, &machine.labels, &machine.annotations));
    let fields = machine.spec.unwrap_or_default();
    faults.extend(forms::machine(&fields));
    match (bootstrap, infrastructure) {
        (Some(bootstrap), Some(infrastructure)) if faults.is_empty() => Ok(Templates {
            bootstrap,
            infrastructure,
            machine_labels: machine.labels,
            machine_annotations: machine.annotations,
            version: fields.version,
            failure_domain: fields.failure_domain,
            min_ready_seconds: fields.min_ready_seconds,
            readiness_gates: fields.readiness_gates,
        }),
        _ => Err(faults),
    }
}

fn template(spec: &Value, name: &str, faults: &mut Vec<Fault>) -> Option<Template> {
    let path = format!("spec.{name}");
    if spec.get(name).is_none_or(Value::is_null) {
        faults.push(fault(path, "is required"));
        return None;
    }
    let object: InlineObject = field(spec, name, "spec", faults)?;
    faults.extend(forms::type_meta(&path, &object.api_version, &object.kind));
    let InlineMetadata { labels, annotations } = object.metadata.unwrap_or_default();
    reserved_keys(&labels, &format!("{path}.metadata.labels"), is_reserved_in_line, faults);
    reserved_keys(&annotations, &format!("{path}.metadata.annotations"), is_reserved_in_line, faults);
    faults.extend(forms::texts(&format!("{path}.metadata"), &labels, &annotations));
    Some(Template {
        api_version: object.api_version,
        kind: object.kind,
        labels,
        annotations,
        spec: object.spec,
    })
}

/// Nobody may set the keys that 5spot, Cluster API and Kubernetes write themselves.
fn reserved_keys(
    keys: &BTreeMap<String, String>,
    path: &str,
    is_reserved: fn(&str) -> bool,
    faults: &mut Vec<Fault>,
) {
    for key in keys.keys().filter(|key| is_reserved(key)) {
        faults.push(fault(
            format!("{path}[{key:?}]"),
            "is written by 5spot, Cluster API or Kubernetes; use a key of your own",
        ));
    }
}

#[cfg(test)]
mod tests;
