//! A MachineHold's spec.

use schemars::{Schema, SchemaGenerator, json_schema};

use super::keys::{is_qualified, label_value};
use super::{QUALIFIED_NAME_LENGTH, add_rules, atomic_list, described, map, rule, ruled_text};

/// Why a hold is there.
pub(in crate::api) fn reason(_: &mut SchemaGenerator) -> Schema {
    ruled_text(512, [rule(r"self.matches(r'\S')", "say why: the reason is shown wherever the hold decides")])
}

/// A label selector, bounded.
pub(in crate::api) fn selector(_: &mut SchemaGenerator) -> Schema {
    let key = ruled_text(
        QUALIFIED_NAME_LENGTH,
        [rule(is_qualified("self"), "must be the key of a label, like team or example.com/team")],
    );
    let expression = json_schema!({
        "type": "object",
        "description": "A requirement on one label.",
        "required": ["key", "operator"],
        "properties": {
            "key": described(key, "The label."),
            "operator": {
                "type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                "description": "How the label's value relates to `values`."
            },
            "values": described(atomic_list(64, &label_value()), "For In and NotIn."),
        },
        "x-kubernetes-validations": [
            rule(
                "!(self.operator in ['In', 'NotIn']) || (has(self.values) && size(self.values) > 0)",
                "In and NotIn need values: add at least one",
            ).field_path(".values"),
            rule(
                "self.operator in ['In', 'NotIn'] || !has(self.values) || size(self.values) == 0",
                "Exists and DoesNotExist take no values: remove them",
            ).field_path(".values"),
        ],
    });
    json_schema!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": described(map(64, &label_value()), "Labels and their values; all must match."),
            "matchExpressions": described(atomic_list(32, &expression), "Requirements; all must be met."),
        },
    })
}

/// Rules of the whole spec.
pub(in crate::api) fn spec(schema: &mut Schema) {
    add_rules(
        schema,
        [
            rule(
                "has(self.scheduledMachine) != has(self.selector)",
                "name either one scheduledMachine or a selector, not both and not neither; selector: {} covers the whole namespace",
            ),
            rule(
                "!has(self.from) || !has(self.until) || self.from < self.until",
                "until must be after from; leave until out for a hold that lasts until it is deleted",
            )
            .field_path(".until"),
            rule(
                "has(self.reclaim) == (has(self.origin) && self.origin == 'Reclaim')",
                "reclaim and origin: Reclaim come together and are the controller's: leave both out",
            )
            .field_path(".origin"),
            rule(
                "!has(self.origin) || self.origin != 'Reclaim' || self.state == 'Inactive'",
                "a reclaimed machine is with its owner: state must be Inactive",
            )
            .field_path(".state"),
        ],
    );
}
