//! The CustomResourceDefinitions, made from the types.

use std::fmt;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::machine_hold::MachineHold;
use super::scheduled_machine::ScheduledMachine;

/// How definitions are written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One document for each.
    #[default]
    Yaml,
    /// One `List`.
    Json,
}

/// Why a definition cannot be written down. It would be a mistake in a type, which a test would have found.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// As YAML.
    #[error("a definition does not fit YAML")]
    Yaml(#[source] serde_saphyr::ser_error::Error),
    /// As JSON.
    #[error("a definition does not fit JSON")]
    Json(#[source] serde_json::Error),
}

/// All kinds of ours, in the order of their names.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![MachineHold::crd(), ScheduledMachine::crd()]
}

/// Text that `kubectl apply -f -` takes.
pub fn render(definitions: &[CustomResourceDefinition], format: Format) -> Result<String, RenderError> {
    match format {
        Format::Yaml => definitions
            .iter()
            .map(|crd| {
                serde_saphyr::to_string(crd).map(|text| format!("---\n{text}")).map_err(RenderError::Yaml)
            })
            .collect(),
        Format::Json => {
            let list: Value = json!({ "apiVersion": "v1", "kind": "List", "items": definitions });
            serde_json::to_string_pretty(&list).map(|text| text + "\n").map_err(RenderError::Json)
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yaml => "yaml",
            Self::Json => "json",
        })
    }
}
