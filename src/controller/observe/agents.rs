//! Of the reclaim agents of a workload cluster, what concerns one object.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;

use super::World;
use crate::api::names::{LABEL_SCHEDULED_MACHINE_UID, RULES_KEY, agent_object};
use crate::controller::agent::{Agents, RulesMap, Sign};
use crate::controller::snapshot::{Node, Object};
use crate::workload::{AgentsView, Beat, ConnectionKey, SILENT_AFTER};

impl World {
    /// `None`: nobody asks.
    pub(super) fn agents(
        &self,
        key: &ConnectionKey,
        object: &Object,
        node: Option<&Node>,
        now: Timestamp,
    ) -> Option<Agents> {
        let AgentsView { rules, beats, trouble } = self.workloads.agents(key)?;
        let name = node.map(|node| agent_object(&node.name));
        let concerns = |map: &ConfigMap| {
            Some(map.name_any()) == name || map.labels().get(LABEL_SCHEDULED_MACHINE_UID) == Some(&object.uid)
        };
        let rules = rules.map(|rules| rules.state_filter(concerns).iter().map(|map| read(map)).collect());
        let beat = name.as_ref().and_then(|name| beats.as_ref()?.get(name));
        Some(Agents { rules, beat: beat.map(|beat| sign(beat, now)), is_heard: beats.is_some(), trouble })
    }
}

fn read(map: &ConfigMap) -> RulesMap {
    RulesMap {
        name: map.name_any(),
        uid: map.uid().unwrap_or_default(),
        resource_version: map.resource_version().unwrap_or_default(),
        uid_label: map.labels().get(LABEL_SCHEDULED_MACHINE_UID).cloned(),
        text: map.data.as_ref().and_then(|data| data.get(RULES_KEY)).cloned(),
    }
}

fn sign(beat: &Beat, now: Timestamp) -> Sign {
    let signed = |span| SignedDuration::try_from(span).unwrap_or_default();
    let left = signed(SILENT_AFTER).saturating_sub(signed(beat.age()));
    Sign {
        detector: beat.detector.clone().unwrap_or_default(),
        fallback: beat.fallback.clone(),
        rules: beat.rules.clone().unwrap_or_default(),
        silent_at: now.saturating_add(left).unwrap_or(now),
        is_alive: beat.is_alive,
    }
}
