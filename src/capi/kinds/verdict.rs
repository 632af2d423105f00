//! Whether a kind is what it is used as. Pure.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};

use super::Role;

/// Labels by which a `CustomResourceDefinition` declares the contract its kind follows; the value lists versions.
const CONTRACT_LABELS: [&str; 2] = ["cluster.x-k8s.io/v1beta2", "cluster.x-k8s.io/v1beta1"];

/// Says whether objects of this kind may stand in this role of a Machine.
///
/// A kind that a user may name is created with the controller's rights, so it has to prove what it is by the fields the
/// Cluster API contract demands of it: being in an allowed group is not enough, credentials and whole clusters live in
/// the same groups.
///
/// # Errors
/// What the kind lacks, in words fit for a condition.
pub fn verdict(role: Role, definition: &CustomResourceDefinition, version: &str) -> Result<(), String> {
    let kind = &definition.spec.names.kind;
    let labels = definition.metadata.labels.as_ref();
    let is_labelled =
        |label| labels.and_then(|labels| labels.get(label)).is_some_and(|value| !value.is_empty());
    if !CONTRACT_LABELS.into_iter().any(is_labelled) {
        return Err(format!(
            "{kind} follows no Cluster API contract: its CustomResourceDefinition has no label {} or {}; use a kind \
             of a Cluster API provider",
            CONTRACT_LABELS[0], CONTRACT_LABELS[1]
        ));
    }
    let version = definition.spec.versions.iter().find(|known| known.name == version && known.served);
    let schema = version
        .and_then(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref())
        .ok_or_else(|| format!("{kind} has no schema in this version; use a version its provider serves"))?;
    let has = |parent, field| has_field(schema, parent, field);
    if is_template(schema) {
        return Err(format!("{kind} is a template; use the kind it is a template of"));
    }
    match role {
        Role::Infrastructure if has("spec", "controlPlaneEndpoint") => {
            Err(format!("{kind} is a cluster, not a machine; use the provider's machine kind"))
        }
        Role::Infrastructure if has("spec", "providerIDList") => {
            Err(format!("{kind} is a pool of machines; use the provider's machine kind"))
        }
        Role::Infrastructure if has("spec", "providerID") => Ok(()),
        Role::Infrastructure => Err(format!(
            "{kind} is not an infrastructure machine: it has no spec.providerID; use one that has"
        )),
        Role::Bootstrap if has("status", "dataSecretName") => Ok(()),
        // A schema that leaves its status open can neither prove nor disprove the field. Only where the group itself
        // says what its kinds are for is that let pass.
        Role::Bootstrap
            if definition.spec.group.starts_with("bootstrap.") && leaves_open(schema, "status") =>
        {
            Ok(())
        }
        Role::Bootstrap => Err(format!(
            "{kind} is not a bootstrap config: it has no status.dataSecretName; use one that has"
        )),
    }
}

/// A template carries the whole spec of what it is a template of. A machine may name one to be made from: the path of an
/// image, say (`VSphereMachine`), or its id and name (`CloudStackMachine`).
fn is_template(schema: &JSONSchemaProps) -> bool {
    let template = property(schema, "spec").and_then(|spec| property(spec, "template"));
    template.is_some_and(|template| {
        let is_open = template.x_kubernetes_preserve_unknown_fields == Some(true);
        property(template, "spec").is_some() || template.properties.is_none() && is_open
    })
}

fn has_field(schema: &JSONSchemaProps, parent: &str, field: &str) -> bool {
    property(schema, parent).and_then(|parent| property(parent, field)).is_some()
}

fn property<'a>(schema: &'a JSONSchemaProps, name: &str) -> Option<&'a JSONSchemaProps> {
    schema.properties.as_ref()?.get(name)
}

fn leaves_open(schema: &JSONSchemaProps, parent: &str) -> bool {
    let declared = schema.properties.as_ref().and_then(|properties| properties.get(parent));
    declared.unwrap_or(schema).x_kubernetes_preserve_unknown_fields == Some(true)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn definition(labels: &Value, spec: &[&str], status: &[&str]) -> CustomResourceDefinition {
        let object = |fields: &[&str]| {
            let fields: serde_json::Map<_, _> =
                fields.iter().map(|field| ((*field).to_owned(), json!({"type": "string"}))).collect();
            json!({"type": "object", "properties": fields})
        };
        serde_json::from_value(json!({
            "metadata": {"name": "things.infrastructure.cluster.x-k8s.io", "labels": labels},
            "spec": {
                "group": "infrastructure.cluster.x-k8s.io", "scope": "Namespaced",
                "names": {"kind": "Thing", "plural": "things"},
                "versions": [
                    {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                        "type": "object",
                        "properties": {"spec": object(spec), "status": object(status)},
                    }}},
                    {"name": "v1alpha1", "served": false, "storage": false},
                ],
            },
        }))
        .unwrap()
    }

    fn labels() -> Value {
        json!({"cluster.x-k8s.io/v1beta1": "v1"})
    }

    fn refused(role: Role, labels: &Value, spec: &[&str], status: &[&str]) -> String {
        verdict(role, &definition(labels, spec, status), "v1").unwrap_err()
    }

    #[test]
    fn a_kind_is_what_its_contract_fields_say() {
        let machine = definition(&labels(), &["providerID"], &["addresses"]);
        assert_eq!(verdict(Role::Infrastructure, &machine, "v1"), Ok(()));
        let bootstrap = definition(&labels(), &["files"], &["dataSecretName"]);
        assert_eq!(verdict(Role::Bootstrap, &bootstrap, "v1"), Ok(()));
        assert!(verdict(Role::Bootstrap, &machine, "v1").unwrap_err().contains("not a bootstrap config"));
        assert!(verdict(Role::Infrastructure, &bootstrap, "v1").unwrap_err().contains("spec.providerID"));
    }

    #[test]
    fn clusters_pools_templates_and_credentials_are_no_machines() {
        let refused = |spec: &[&str]| refused(Role::Infrastructure, &labels(), spec, &[]);
        assert!(refused(&["controlPlaneEndpoint"]).contains("is a cluster"));
        assert!(refused(&["controlPlaneEndpoint", "providerID"]).contains("is a cluster"));
        assert!(refused(&["providerIDList", "providerID"]).contains("is a pool"));
        assert!(refused(&["secretRef"]).contains("not an infrastructure machine"));
    }

    #[test]
    fn a_template_has_a_whole_spec_inside_and_a_machine_may_name_one() {
        let text = json!({"type": "string"});
        let with = |template: Value| {
            let mut machine = definition(&labels(), &["providerID", "template"], &["dataSecretName"]);
            let schema =
                machine.spec.versions[0].schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
            let spec = schema.properties.as_mut().unwrap().get_mut("spec").unwrap();
            let place = spec.properties.as_mut().unwrap().get_mut("template").unwrap();
            *place = serde_json::from_value(template).unwrap();
            [Role::Infrastructure, Role::Bootstrap].map(|role| verdict(role, &machine, "v1"))
        };
        let object = |fields: Value| json!({"type": "object", "properties": fields});
        let of = object(json!({"providerID": text}));
        for whole in [
            object(json!({"spec": of, "metadata": {"type": "object"}})),
            object(json!({"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}})),
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
        ] {
            for refused in with(whole) {
                assert!(refused.unwrap_err().contains("is a template"));
            }
        }
        // vSphere's, CloudStack's.
        for named in [text.clone(), object(json!({"id": text, "name": text}))] {
            assert_eq!(with(named), [Ok(()), Ok(())]);
        }
    }

    #[test]
    fn an_open_schema_is_trusted_in_a_bootstrap_group_alone() {
        let mut open = definition(&labels(), &[], &[]);
        let schema = open.spec.versions[0].schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
        *schema =
            serde_json::from_value(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}))
                .unwrap();
        assert!(verdict(Role::Bootstrap, &open, "v1").is_err());
        assert!(verdict(Role::Infrastructure, &open, "v1").is_err());
        open.spec.group = "bootstrap.cluster.x-k8s.io".into();
        assert_eq!(verdict(Role::Bootstrap, &open, "v1"), Ok(()));
        assert!(verdict(Role::Infrastructure, &open, "v1").is_err());
    }

    #[test]
    fn a_kind_without_a_contract_or_in_a_version_not_served_is_refused() {
        for labels in
            [json!({}), json!({"cluster.x-k8s.io/v1beta2": ""}), json!({"cluster.x-k8s.io/v1alpha3": "v1"})]
        {
            assert!(
                refused(Role::Infrastructure, &labels, &["providerID"], &[])
                    .contains("no Cluster API contract")
            );
        }
        let machine = definition(&labels(), &["providerID"], &[]);
        for version in ["v1alpha1", "v2"] {
            assert!(verdict(Role::Infrastructure, &machine, version).unwrap_err().contains("no schema"));
        }
    }
}
