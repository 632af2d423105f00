//! What the controller shows of itself under `/health/status`.

use serde_json::{Value, json};

use crate::capi::core::CoreView;
use crate::controller::census::word;
use crate::controller::observe::World;
use crate::leadership::duties::Duties;
use crate::telemetry::answers::Answers;
use crate::workload::Reach;

/// More workload clusters than this are not listed one by one.
const MOST_CLUSTERS: usize = 200;

/// Whether it acts, caches, workload clusters (those in trouble first, and why), and when the API server was last heard.
pub fn status(world: &World, duties: &Duties, answers: &Answers, instance: &str) -> Value {
    let (shards, acts_on) = duties.held();
    let (capi, machines) = match world.core.view() {
        CoreView::Resolving => (json!({"state": "resolving"}), None),
        CoreView::NotServed(why) | CoreView::Unspoken(why) => {
            (json!({"state": "unusable", "why": why}), None)
        }
        CoreView::Served { version, machines, .. } => {
            (json!({"state": "served", "version": version.name()}), Some(machines.len()))
        }
    };
    json!({
        "instance": instance,
        "leadership": {"elected": duties.is_elected(), "shards": shards, "actsOn": acts_on},
        "apiServer": {
            "lastAnswerSecondsAgo": answers.age().map(|age| age.as_secs()),
            "trouble": answers.lately().err(),
        },
        "clusterApi": capi,
        "caches": {"scheduledMachines": world.scheduled_machines.len(), "machines": machines},
        "workloadClusters": clusters(world),
    })
}

fn clusters(world: &World) -> Value {
    let mut reaches = world.workloads.reaches();
    reaches.sort_by_key(|(key, reach)| {
        (*reach == Reach::Connected, key.namespace.clone(), key.secret.clone(), key.key.clone())
    });
    let listed = reaches.iter().take(MOST_CLUSTERS).map(|(key, reach)| {
        let why = match reach {
            Reach::Connecting | Reach::Connected => None,
            Reach::KubeconfigMissing(why)
            | Reach::KubeconfigInvalid(why)
            | Reach::Unreachable(why)
            | Reach::Unauthorized(why) => Some(why),
        };
        json!({"namespace": key.namespace, "secret": key.secret, "state": word(reach), "why": why})
    });
    json!({"count": reaches.len(), "list": listed.collect::<Vec<_>>()})
}
