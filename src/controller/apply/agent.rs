//! What is written for the agent: its rules in the workload cluster, and the label that brings its pod to the Node.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PostParams};
use serde_json::{Value, json};

use super::node::{of_uid, on_line};
use super::{Apply, params};
use crate::api::names;
use crate::controller::agent::plan::RulesEdit;
use crate::controller::effect::NodeEdit;
use crate::controller::error::{EffectError, is_already_exists, is_not_found};
use crate::controller::observe;

impl Apply<'_> {
    /// Noted before: an answer that is lost may be to a write that was done.
    pub(super) async fn label_node(&self, node: &NodeEdit, on: bool) -> Result<(), EffectError> {
        let value = if on { json!(names::RECLAIM_AGENT_ENABLED) } else { Value::Null };
        let label = on.then(|| (node.uid.clone(), observe::now()));
        self.agent_writes.note(&self.snapshot.object.uid, |written| written.label = label);
        let patch = json!({"metadata": {"labels": {names::LABEL_RECLAIM_AGENT: value}}});
        self.edit_node("label_node", node, patch).await
    }

    pub(super) async fn write_rules(&self, edit: &RulesEdit) -> Result<(), EffectError> {
        let line = self.line("write_rules")?;
        let api: Api<ConfigMap> = Api::namespaced(line.client(), names::AGENT_NAMESPACE);
        let object = &self.snapshot.object;
        let mut labels: serde_json::Map<String, Value> =
            names::LABELS_OF_RULES.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        labels.insert(names::LABEL_SCHEDULED_MACHINE.to_owned(), json!(object.name));
        labels.insert(names::LABEL_SCHEDULED_MACHINE_UID.to_owned(), json!(object.uid));
        let mut map = json!({
            "metadata": {"name": edit.name, "labels": labels},
            "data": {names::RULES_KEY: edit.text},
        });
        let what = || format!("ConfigMap {}/{}", names::AGENT_NAMESPACE, edit.name);
        let written = if let Some((uid, version)) = &edit.there {
            map["metadata"]["uid"] = json!(uid);
            map["metadata"]["resourceVersion"] = json!(version);
            on_line(line, "write_rules", api.patch(&edit.name, &params(), &Patch::Merge(map))).await?
        } else {
            let map = serde_json::from_value(map).map_err(EffectError::Encode)?;
            let params =
                PostParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PostParams::default() };
            on_line(line, "write_rules", api.create(&params, &map)).await?
        };
        match written {
            Ok(_) => {
                let rules = Some((edit.name.clone(), edit.text.clone(), observe::now()));
                self.agent_writes.note(&object.uid, |written| written.rules = rules);
                Ok(())
            }
            // Not among those with our labels: somebody else's.
            Err(error) if is_already_exists(&error) => Err(EffectError::NameTaken { what: what() }),
            Err(source) => Err(EffectError::Patch { what: what(), source: source.into() }),
        }
    }

    pub(super) async fn delete_rules(&self, name: &str, uid: &str) -> Result<(), EffectError> {
        let line = self.line("delete_rules")?;
        let api: Api<ConfigMap> = Api::namespaced(line.client(), names::AGENT_NAMESPACE);
        let params = DeleteParams::default().preconditions(of_uid(uid));
        self.agent_writes.note(&self.snapshot.object.uid, |written| written.rules = None);
        match on_line(line, "delete_rules", api.delete(name, &params)).await? {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(source) => {
                let what = format!("ConfigMap {}/{name}", names::AGENT_NAMESPACE);
                Err(EffectError::Delete { what, source: source.into() })
            }
        }
    }
}
