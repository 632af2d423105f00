//! What kstatus makes of an object of a kind that it does not know: the rules of `sigs.k8s.io/cli-utils`, by which Flux,
//! Argo and kpt tell whether an apply has ended. An end-to-end test holds this reading against the library itself.

use serde_json::Value;

/// `Current`, `InProgress`, `Failed` or `Terminating`.
pub(crate) fn verdict(object: &Value) -> &'static str {
    if object.pointer("/metadata/deletionTimestamp").is_some_and(|at| at != "") {
        return "Terminating";
    }
    let observed = object.pointer("/status/observedGeneration");
    if observed.is_some() && observed != object.pointer("/metadata/generation") {
        return "InProgress";
    }
    let said = |condition: &Value, kind: &str, status: &str| {
        condition["type"] == kind && condition["status"] == status
    };
    let none = Vec::new();
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array).unwrap_or(&none);
    // The first of the two in the list decides.
    for condition in conditions {
        if said(condition, "Reconciling", "True") {
            return "InProgress";
        }
        if said(condition, "Stalled", "True") {
            return "Failed";
        }
    }
    match conditions.iter().find(|condition| condition["type"] == "Ready") {
        Some(ready) if ready["status"] == "False" || ready["status"] == "Unknown" => "InProgress",
        _ => "Current",
    }
}
