//! The CustomResourceDefinitions, made from the types.

use std::fmt;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSON};
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
    vec![unseen(MachineHold::crd()), unseen(ScheduledMachine::crd())]
}

/// What the controller has not looked at yet says so: tools that read by kstatus (Flux, Argo, kpt) take an object without
/// an observed generation for finished the moment it is created.
fn unseen(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let schemas = crd.spec.versions.iter_mut().filter_map(|version| version.schema.as_mut());
    for schema in schemas.filter_map(|schema| schema.open_api_v3_schema.as_mut()) {
        let Some(status) = schema.properties.as_mut().and_then(|fields| fields.get_mut("status")) else {
            continue;
        };
        status.default = Some(JSON(json!({})));
        if let Some(field) =
            status.properties.as_mut().and_then(|fields| fields.get_mut("observedGeneration"))
        {
            field.default = Some(JSON(json!(-1)));
        }
    }
    crd
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Visits every schema with the path to it.
    fn visit(path: &str, schema: &Value, each: &mut impl FnMut(&str, &Value)) {
        each(path, schema);
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            visit(&format!("{path}.{name}"), property, each);
        }
        for below in ["items", "additionalProperties"] {
            if let Some(schema) = schema.get(below) {
                visit(&format!("{path}[{below}]"), schema, each);
            }
        }
    }

    fn visit_all(each: &mut impl FnMut(&str, &Value)) {
        for crd in definitions() {
            let versions = serde_json::to_value(&crd.spec.versions).unwrap();
            visit(&crd.spec.names.kind, &versions[0]["schema"]["openAPIV3Schema"], each);
        }
    }

    #[test]
    fn every_text_list_and_map_is_bounded() {
        visit_all(&mut |path, schema| {
            let bounded = match schema["type"].as_str() {
                Some("string") => {
                    ["maxLength", "enum", "format"].iter().any(|bound| schema.get(bound).is_some())
                }
                Some("array") => {
                    schema.get("maxItems").is_some() && schema.get("x-kubernetes-list-type").is_some()
                }
                Some("object") if schema.get("additionalProperties").is_some() => {
                    schema.get("maxProperties").is_some()
                }
                Some(_) => true,
                None => panic!("{path} has no type"),
            };
            assert!(bounded, "{path} is unbounded: {schema:#}");
        });
    }

    #[test]
    fn every_field_is_described() {
        visit_all(&mut |path, schema| {
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                let described = property["description"].as_str().is_some_and(|text| !text.is_empty());
                // Below an object of any shape, and at the top, there is nothing to say.
                assert!(described || !path.contains('.') || name == "spec", "{path}.{name} is not described");
            }
        });
    }

    #[test]
    fn no_name_or_word_of_ours_is_a_boolean_to_yaml_1_1() {
        let booleans = ["y", "n", "yes", "no", "on", "off", "true", "false"];
        visit_all(&mut |path, schema| {
            let names =
                schema["properties"].as_object().into_iter().flat_map(|all| all.keys().map(String::as_str));
            let words = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
            for word in names.chain(words) {
                // The status of a condition is Kubernetes' own, and written by us alone.
                let is_boolean = booleans.contains(&word.to_lowercase().as_str());
                assert!(!is_boolean || path.ends_with(".conditions[items].status"), "{path}: {word}");
            }
        });
    }

    #[test]
    fn every_rule_says_what_to_write() {
        let mut rules = 0;
        visit_all(&mut |path, schema| {
            for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
                let message = rule["message"].as_str().unwrap_or_default();
                assert!(message.len() > 12 && !message.contains('\n'), "{path}: {rule}");
                rules += 1;
            }
        });
        assert!(rules > 80, "{rules} rules");
    }

    #[test]
    fn clusterctl_moves_our_kinds() {
        for crd in definitions() {
            let labels = crd.metadata.labels.unwrap();
            for key in ["clusterctl.cluster.x-k8s.io", "clusterctl.cluster.x-k8s.io/move"] {
                assert_eq!(labels.get(key).map(String::as_str), Some(""), "{key}");
            }
        }
    }

    #[test]
    fn both_formats_read_back_as_the_definitions() {
        let definitions = definitions();
        let yaml = render(&definitions, Format::Yaml).unwrap();
        let read: Vec<CustomResourceDefinition> = serde_saphyr::from_multiple(&yaml).unwrap();
        assert_eq!(read, definitions);
        let json: Value = serde_json::from_str(&render(&definitions, Format::Json).unwrap()).unwrap();
        assert_eq!(json["items"], json!(definitions));
    }
}
