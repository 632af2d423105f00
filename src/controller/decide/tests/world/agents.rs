//! The reclaim agent's side of the workload cluster: its rules, its label, what it says, and who tears at them.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::json;

use super::Act;
use super::model::World;
use super::shell::refused;
use crate::api::names::{AGENT_RULES_OK, RECLAIM_AGENT_ENABLED, agent_object};
use crate::controller::agent::plan::RulesEdit;
use crate::controller::agent::{Agents, RulesMap, Sign, Written, rules};
use crate::controller::decide::tests::given::SM;
use crate::controller::effect::{Decision, Effect, NodeEdit};
use crate::controller::report::Failure;
use crate::controller::snapshot::Snapshot;

/// What somebody undid is not done again before.
const PEACE: SignedDuration = SignedDuration::from_secs(60);

/// In the workload cluster, and in the controller's memory.
#[derive(Clone, Debug, Default)]
pub(super) struct AgentWorld {
    maps: Vec<RulesMap>,
    /// A ConfigMap of that name without our labels: not among those that are shown.
    is_foreign: bool,
    /// Rules and Leases cannot be watched.
    is_unread: bool,
    /// Nothing may be written there.
    is_refusing: bool,
    /// What the agent says; `None`: no agent.
    beat: Option<&'static str>,
    pub(super) written: Written,
    /// Somebody asks, and whether the lists have come.
    asked: Option<bool>,
}

/// What others do there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deed {
    Unread(bool),
    Refuse(bool),
    Foreign(bool),
    /// The rules are deleted, edited, or given to another object.
    Tears(Torn),
    /// The label is taken off, or set to another value.
    Unlabel,
    Mislabel,
    /// The agent's words; `None`: it is not heard.
    Says(Option<&'static str>),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Torn {
    Deleted,
    Edited,
    Taken,
}

pub(super) fn deeds() -> impl Strategy<Value = Act> {
    let torn = prop::sample::select(vec![Torn::Deleted, Torn::Edited, Torn::Taken]);
    let words = prop::sample::select(vec![None, Some(AGENT_RULES_OK), Some("no rules")]);
    prop_oneof![
        2 => any::<bool>().prop_map(Deed::Unread),
        1 => prop::bool::weighted(0.3).prop_map(Deed::Refuse),
        2 => any::<bool>().prop_map(Deed::Foreign),
        3 => torn.prop_map(Deed::Tears),
        1 => Just(Deed::Unlabel),
        1 => Just(Deed::Mislabel),
        3 => words.prop_map(Deed::Says),
    ]
    .prop_map(Act::Agent)
}

impl AgentWorld {
    /// The controller was restarted.
    pub(super) fn forget(&mut self) {
        (self.written, self.asked) = (Written::default(), None);
    }

    /// The workload cluster went with it, and all that was written there.
    pub(super) fn cluster_is_gone(&mut self) {
        self.maps.clear();
        (self.is_foreign, self.beat) = (false, None);
    }

    fn ours(&self) -> impl Iterator<Item = &RulesMap> {
        self.maps.iter().filter(|map| map.uid_label.as_deref() == Some(SM))
    }
}

impl World {
    pub(super) fn deed(&mut self, deed: Deed) {
        let version = self.uid();
        match deed {
            Deed::Unread(is_unread) => self.agents.is_unread = is_unread,
            Deed::Refuse(refuses) => self.agents.is_refusing = refuses,
            Deed::Foreign(there) => self.agents.is_foreign = there && self.agents.maps.is_empty(),
            Deed::Says(words) => self.agents.beat = words,
            Deed::Tears(Torn::Deleted) => drop(self.agents.maps.pop()),
            Deed::Tears(torn) => {
                let Some(map) = self.agents.maps.last_mut() else { return };
                map.resource_version = version;
                match torn {
                    Torn::Edited => map.text = Some("match_commands = []".to_owned()),
                    Torn::Taken | Torn::Deleted => map.uid_label = Some("somebody else".to_owned()),
                }
            }
            Deed::Unlabel | Deed::Mislabel => {
                let Some(node) = self.live.node.as_mut() else { return };
                node.agent_label = matches!(deed, Deed::Mislabel).then(|| "disabled".to_owned());
                node.resource_version = version;
            }
        }
    }

    /// What the watches show; whoever asked for them has them until nobody does.
    pub(super) fn agents_seen(&self) -> Option<Agents> {
        let is_listed = self.agents.asked? && !self.agents.is_unread;
        let name = self.live.node.as_ref().map(|node| agent_object(&node.name));
        let concerns =
            |map: &&RulesMap| Some(&map.name) == name.as_ref() || map.uid_label.as_deref() == Some(SM);
        let sign = |words: &str| Sign {
            detector: "netlink".to_owned(),
            fallback: None,
            rules: words.to_owned(),
            // Renewed, and of that nobody is told.
            silent_at: self.wall() + SignedDuration::from_hours(48),
            is_alive: true,
        };
        Some(Agents {
            rules: is_listed.then(|| self.agents.maps.iter().filter(concerns).cloned().collect()),
            beat: self.agents.beat.filter(|_| is_listed).map(sign),
            is_heard: is_listed,
            trouble: self.agents.is_unread.then(|| "forbidden".to_owned()),
        })
    }

    pub(super) fn ask_for_agents(&mut self, decision: &Decision) {
        let asks = decision.agent.asks && self.live.cluster.is_some();
        self.agents.asked = asks.then(|| self.agents.asked.unwrap_or(false));
    }

    /// Lists come as soon as the cluster answers; true if one just did.
    pub(super) fn lists_come(&mut self) -> bool {
        let of_pods = self.lists_pods();
        let of_agents = self.agents.asked == Some(false) && self.is_reachable;
        if of_agents {
            self.agents.asked = Some(true);
        }
        of_pods || of_agents
    }

    fn may_write(&self) -> Result<(), Failure> {
        match (self.is_reachable, self.agents.is_refusing) {
            (false, _) => Err(refused("NotConnected")),
            (true, true) => Err(refused("UpdateFailed")),
            (true, false) => Ok(()),
        }
    }

    pub(super) fn label_node(&mut self, edit: &NodeEdit, on: bool) -> Result<(), Failure> {
        self.agents.written.label = on.then(|| (edit.uid.clone(), self.wall()));
        self.may_write()?;
        self.edit_node(edit, |node| node.agent_label = on.then(|| RECLAIM_AGENT_ENABLED.to_owned()))
    }

    pub(super) fn write_rules(&mut self, edit: &RulesEdit) -> Result<(), Failure> {
        self.may_write()?;
        let (uid, at) = (self.uid(), self.wall());
        let there = self.agents.maps.iter().position(|map| map.name == edit.name);
        let of = |map: &RulesMap| (map.uid.clone(), map.resource_version.clone());
        let is_as_shown = there.map(|place| of(&self.agents.maps[place])) == edit.there;
        if self.agents.is_foreign || !is_as_shown {
            return Err(refused(if edit.there.is_none() { "NameTaken" } else { "UpdateFailed" }));
        }
        let kept = there.map(|place| self.agents.maps.remove(place).uid);
        self.agents.maps.push(RulesMap {
            name: edit.name.clone(),
            uid: kept.unwrap_or_else(|| uid.clone()),
            resource_version: uid,
            uid_label: Some(SM.to_owned()),
            text: Some(edit.text.clone()),
        });
        self.agents.written.rules = Some((edit.name.clone(), edit.text.clone(), at));
        Ok(())
    }

    pub(super) fn delete_rules(&mut self, name: &str, uid: &str) -> Result<(), Failure> {
        self.agents.written.rules = None;
        self.may_write()?;
        self.agents.maps.retain(|map| map.name != name || map.uid != uid);
        Ok(())
    }

    /// Rules before the label, and off in the other order; nobody else's are deleted, and nobody is fought with.
    pub(super) fn obeys_its_agent(&self, snapshot: &Snapshot, decision: &Decision) {
        let commands = &snapshot.target.commands;
        let is_fresh = |at: Timestamp| at <= snapshot.now && snapshot.now < at + PEACE;
        let written = &self.agents.written;
        for effect in &decision.effects {
            match effect {
                Effect::WriteRules(edit) => {
                    assert!(!commands.is_empty(), "nobody asks for an agent");
                    assert!(snapshot.own_machine().is_some(), "for a machine that is gone");
                    let same =
                        written.rules.as_ref().filter(|last| (&last.0, &last.1) == (&edit.name, &edit.text));
                    assert!(!same.is_some_and(|last| is_fresh(last.2)), "no peace: {edit:?} after {same:?}");
                }
                Effect::LabelNode { node, on: true } => {
                    let known = snapshot.agents.as_ref().and_then(|agents| agents.rules.as_ref()).unwrap();
                    let text = rules::text(commands);
                    let has_rules = known
                        .iter()
                        .any(|map| map.name == agent_object(&node.name) && map.text.as_ref() == Some(&text));
                    assert!(!commands.is_empty() && has_rules, "an agent without rules: {known:?}");
                    let last = written.label.as_ref().filter(|(uid, _)| *uid == node.uid);
                    assert!(!last.is_some_and(|(_, at)| is_fresh(*at)), "no peace: {last:?}");
                }
                Effect::LabelNode { on: false, .. } => {
                    assert!(commands.is_empty(), "somebody wants an agent");
                }
                Effect::DeleteRules { name, uid } => {
                    let is_ours = self.agents.ours().any(|map| map.uid == *uid);
                    let is_gone = !self.agents.maps.iter().any(|map| map.uid == *uid);
                    assert!(is_ours || is_gone, "somebody else's rules: {name}");
                    let is_on_node = snapshot
                        .own_node()
                        .filter(|_| snapshot.own_machine().is_some())
                        .is_some_and(|node| {
                            let is_labelled = node.agent_label.as_deref() == Some(RECLAIM_AGENT_ENABLED);
                            is_labelled && *name == agent_object(&node.name)
                        });
                    assert!(!is_on_node, "taken from an agent that is still there: {name}");
                }
                _ => {}
            }
        }
    }

    /// In the end whoever wants an agent has one, and nobody else does.
    pub(super) fn agent_is_as_asked_for(&self) {
        let commands = &self.live.target.commands;
        let node = self.live.node.as_ref();
        let is_in = self.live.host.as_ref().is_some_and(|host| host.machine.is_ready()) && node.is_some();
        let ours: Vec<&RulesMap> = self.agents.ours().collect();
        let label = node.and_then(|node| node.agent_label.as_deref());
        let told = self.status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "AgentReady");
        if !is_in || commands.is_empty() {
            assert!(ours.is_empty(), "left behind: {ours:?} {:#}", self.status);
            assert!(told.is_none(), "{told:?}");
            assert!(label != Some(RECLAIM_AGENT_ENABLED), "{node:?}");
            return;
        }
        let text = rules::text(commands);
        let is_right = ours.len() == 1 && ours[0].text.as_ref() == Some(&text);
        assert!(is_right && label == Some(RECLAIM_AGENT_ENABLED), "{ours:?} {node:?} {:#}", self.status);
        let hears = self.agents.beat == Some(AGENT_RULES_OK);
        let status = json!(if hears { "True" } else { "False" });
        assert_eq!(told.map(|told| &told["status"]), Some(&status), "{:#}", self.status);
    }
}
