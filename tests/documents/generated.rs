//! Reference pages that are made from the code. `just generate` writes them, a test finds them stale.

use std::fmt::Write as _;

use fivespot::api::crd;
use fivespot::config::keys::{self, Key};
use serde_json::{Value, json};

use crate::{path, read};

/// Holds what stands between two marks of a page against what it should be.
fn hold(page: &str, mark: &str, today: &str) {
    let (begin, end) = (format!("<!-- generated: {mark} -->\n"), "<!-- end -->");
    let committed = read(page);
    let (before, rest) = committed.split_once(&begin).unwrap_or_else(|| panic!("{page} has no {begin}"));
    let (found, after) = rest.split_once(end).unwrap();
    if std::env::var_os("REGENERATE").is_some() {
        std::fs::write(path(page), format!("{before}{begin}{today}{end}{after}")).unwrap();
    } else {
        assert!(found == today, "{page} ({mark}) is stale: run `just generate`");
    }
}

/// A text within a cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn settings(keys: &[Key]) -> String {
    let mut table = "| flag | variable | default | meaning |\n|---|---|---|---|\n".to_owned();
    for key in keys.iter().chain([&keys::CONFIG]) {
        let short = key.short.map(|letter| format!("`-{letter}`, ")).unwrap_or_default();
        let default = key.default.map(|default| format!("`{default}`")).unwrap_or_default();
        let value = key.value.map(|value| format!(" {value}")).unwrap_or_default();
        let help = cell(key.help);
        writeln!(table, "| {short}`--{}{value}` | `{}` | {default} | {help} |", key.name, key.variable)
            .unwrap();
    }
    table
}

#[test]
fn the_page_on_settings_has_every_flag_and_variable() {
    hold("docs/settings.md", "controller", &settings(&keys::CONTROLLER));
    hold("docs/settings.md", "agent", &settings(&keys::AGENT));
}

/// What a schema says of the form of a value, in a few words.
fn form(schema: &Value) -> String {
    let mut form = match schema["type"].as_str() {
        Some("array") => format!("list of {}", form(&schema["items"])),
        Some("object") if schema["additionalProperties"].is_object() => {
            format!("map of {}", form(&schema["additionalProperties"]))
        }
        Some(kind) => kind.to_owned(),
        None => "any".to_owned(),
    };
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
        form = values.join(", ");
    }
    let bound = |least: &str, most: &str| match (schema[least].as_i64(), schema[most].as_i64()) {
        (None, None) => String::new(),
        (least, most) => {
            let text = |bound: Option<i64>| bound.map(|bound| bound.to_string()).unwrap_or_default();
            format!(", {}..{}", text(least), text(most))
        }
    };
    form + &bound("minimum", "maximum")
}

/// A line for each field below this one, as `parent.child`, depth first.
fn fields(table: &mut String, at: &str, schema: &Value) {
    let inner = if schema["type"] == "array" { &schema["items"] } else { schema };
    let required = inner["required"].as_array().cloned().unwrap_or_default();
    for (name, field) in inner["properties"].as_object().into_iter().flatten() {
        let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        let default = match &field["default"] {
            Value::Null if required.contains(&json!(name)) => "*required*".to_owned(),
            Value::Null => String::new(),
            default => format!("`{default}`"),
        };
        let meaning = cell(field["description"].as_str().unwrap_or_default());
        let many = if field["type"] == "array" { "[]" } else { "" };
        writeln!(table, "| `{at}{many}` | {} | {default} | {meaning} |", cell(&form(field))).unwrap();
        fields(table, &format!("{at}{many}"), field);
    }
}

#[test]
fn the_page_on_fields_has_every_field_of_both_kinds() {
    for crd in crd::definitions() {
        let kind = crd.spec.names.kind.clone();
        let schema = json!(crd.spec.versions[0].schema);
        for part in ["spec", "status"] {
            let mut table = "| field | form | default | meaning |\n|---|---|---|---|\n".to_owned();
            fields(&mut table, "", &schema["openAPIV3Schema"]["properties"][part]);
            assert!(table.lines().count() > 3, "{kind}.{part}: {table}");
            hold("docs/fields.md", &format!("{kind}.{part}"), &table);
        }
    }
}
