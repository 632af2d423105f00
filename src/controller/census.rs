//! How many machines are where, counted from the caches at each scrape: nothing to keep in step, nothing to drift.

use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kube::core::DynamicObject;
use kube::runtime::reflector::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use serde_json::Value;

use crate::api::condition::{Phase, types};
use crate::controller::observe::{self, World};
use crate::telemetry::metrics::Registry;
use crate::workload::{Reach, Workloads};

/// A machine that is wanted and has not come after this is late. Nobody promised an instant: a host that boots, joins and
/// gets its first pods is there sooner.
const LATE_IN: SignedDuration = SignedDuration::from_mins(15);

/// What is counted.
#[derive(Clone)]
pub struct Census {
    objects: Store<DynamicObject>,
    workloads: Workloads,
}

impl Census {
    /// Of what these caches hold.
    pub fn of(world: &World) -> Self {
        Self::new(world.scheduled_machines.clone(), world.workloads.clone())
    }

    /// Of ScheduledMachines and workload clusters.
    pub fn new(objects: Store<DynamicObject>, workloads: Workloads) -> Self {
        Self { objects, workloads }
    }

    /// Counts at each scrape from now on.
    pub fn register(self, registry: &mut Registry) {
        registry.register_collector(Box::new(self));
    }
}

/// The state of a workload cluster in one word.
pub fn word(reach: &Reach) -> &'static str {
    match reach {
        Reach::Connecting => "connecting",
        Reach::KubeconfigMissing(_) => "kubeconfig_missing",
        Reach::KubeconfigInvalid(_) => "kubeconfig_invalid",
        Reach::Unreachable(_) => "unreachable",
        Reach::Unauthorized(_) => "unauthorized",
        Reach::Connected => "connected",
    }
}

const REACHES: [&str; 6] =
    ["connecting", "kubeconfig_missing", "kubeconfig_invalid", "unreachable", "unauthorized", "connected"];

/// Of all objects.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    phases: [i64; Phase::ALL.len()],
    late_in: i64,
    late_out: i64,
}

impl Counts {
    fn of(objects: &[Arc<DynamicObject>], now: Timestamp) -> Self {
        let mut counts = Self::default();
        for object in objects {
            let status = object.data.get("status").unwrap_or(&Value::Null);
            let phase = observe::phase(object);
            let of_phase = Phase::ALL.into_iter().zip(&mut counts.phases).filter(|(each, _)| *each == phase);
            of_phase.for_each(|(_, count)| *count += 1);
            counts.late_in += i64::from(is_late_in(status, now));
            counts.late_out += i64::from(is_late_out(status, now));
        }
        counts
    }

    fn active(&self) -> i64 {
        Phase::ALL.iter().zip(self.phases).find(|(phase, _)| **phase == Phase::Active).map_or(0, |(_, n)| n)
    }
}

fn is_late_in(status: &Value, now: Timestamp) -> bool {
    let is_wanted = status["decision"]["state"] == "Active";
    let conditions = status["conditions"].as_array();
    let is_ready =
        conditions.into_iter().flatten().any(|said| said["type"] == types::READY && said["status"] == "True");
    let since = instant(&status["decision"]["since"]);
    is_wanted && !is_ready && since.is_some_and(|since| now.duration_since(since) > LATE_IN)
}

fn is_late_out(status: &Value, now: Timestamp) -> bool {
    instant(&status["leaving"]["goneBy"]).is_some_and(|by| by < now)
}

fn instant(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

/// One gauge for each value of a label.
fn gauges<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    values: impl IntoIterator<Item = (&'a str, i64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (word, count) in values {
        ConstGauge::new(count).encode(family.encode_family(&[(label, word)])?)?;
    }
    Ok(())
}

impl Collector for Census {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counts = Counts::of(&self.objects.state(), observe::now());
        let help = "Machines that are in their cluster: ScheduledMachines in phase Active.";
        let active = encoder.encode_descriptor("fivespot_machines_active", help, None, MetricType::Gauge)?;
        ConstGauge::new(counts.active()).encode(active)?;
        let phases = Phase::ALL.iter().map(|phase| phase.name()).zip(counts.phases);
        let help = "ScheduledMachines by phase.";
        gauges(&mut encoder, "fivespot_machines_by_phase", help, "phase", phases)?;
        let overdue = [("in", counts.late_in), ("out", counts.late_out)];
        let help = "Machines that are late. in: wanted for more than 15 minutes, and not ready; out: leaving, and \
                    the instant promised to the owner is over.";
        gauges(&mut encoder, "fivespot_machines_overdue", help, "direction", overdue)?;
        let reaches = self.workloads.reaches();
        let count = |state: &str| reaches.iter().filter(|(_, reach)| word(reach) == state).count();
        let states = REACHES.map(|state| (state, i64::try_from(count(state)).unwrap_or(i64::MAX)));
        let help =
            "Connections to workload clusters, one for each kubeconfig in use, by how the cluster answers.";
        gauges(&mut encoder, "fivespot_workload_clusters", help, "state", states)
    }
}

impl fmt::Debug for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Census").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(status: &Value) -> Arc<DynamicObject> {
        let whole = json!({"metadata": {"name": "ws"}, "status": status});
        Arc::new(serde_json::from_value(whole).unwrap())
    }

    fn ready(status: &str) -> Value {
        json!([{"type": "Ready", "status": status}])
    }

    #[test]
    fn every_object_has_one_phase() {
        let objects = [
            json!(null),
            json!({"phase": "Active"}),
            json!({"phase": "Whatever"}),
            json!({"phase": "Error"}),
        ]
        .map(|status| object(&status));
        let counts = Counts::of(&objects, Timestamp::UNIX_EPOCH);
        assert_eq!(counts.phases, [2, 1, 0, 0, 0, 0, 0, 1]);
        assert_eq!(counts.active(), 1);
    }

    #[test]
    fn late_is_who_does_not_come_and_who_does_not_go() {
        let now: Timestamp = "2026-11-02T09:16:00Z".parse().unwrap();
        let wanted = |since: &str, is_ready: &str| json!({"decision": {"state": "Active", "since": since}, "conditions": ready(is_ready)});
        for (status, late) in [
            (wanted("2026-11-02T09:00:00Z", "False"), (1, 0)),
            (wanted("2026-11-02T09:00:00Z", "True"), (0, 0)),
            (wanted("2026-11-02T09:10:00Z", "False"), (0, 0)),
            (json!({"decision": {"state": "Inactive", "since": "2026-11-02T09:00:00Z"}}), (0, 0)),
            (json!({"leaving": {"goneBy": "2026-11-02T09:15:00Z"}}), (0, 1)),
            (json!({"leaving": {"goneBy": "2026-11-02T09:17:00Z"}}), (0, 0)),
        ] {
            let counts = Counts::of(&[object(&status)], now);
            assert_eq!((counts.late_in, counts.late_out), late, "{status}");
        }
    }
}
