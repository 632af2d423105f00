//! Rules and dashboard speak of metrics, labels and values that the controller shows; each alert has its page. The page on
//! metrics is held against the program by `tests/architecture.rs`.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::skips::skipped;
use crate::{path, read};

/// Of one metric: its kind, and its labels with their values (none: any).
struct Known {
    kind: String,
    labels: BTreeMap<String, Vec<String>>,
}

/// The table of `docs/metrics.md`.
fn known() -> BTreeMap<String, Known> {
    let mut known = BTreeMap::new();
    for line in read("docs/metrics.md").lines().filter(|line| line.starts_with("| `fivespot_")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let labels = cells[3].split(';').filter(|label| !label.trim().is_empty()).map(|label| {
            let (name, values) = label.split_once(':').unwrap_or((label, ""));
            let values = values.split(',').map(|value| value.trim().to_owned()).filter(|v| !v.is_empty());
            (name.trim().trim_matches('`').to_owned(), values.collect())
        });
        let metric = Known { kind: cells[2].to_owned(), labels: labels.collect() };
        known.insert(cells[1].trim_matches('`').to_owned(), metric);
    }
    assert!(known.len() > 20, "{} metrics: the table is read wrongly", known.len());
    known
}

/// What is wrong with the metrics of an expression.
fn faults(expression: &str, known: &BTreeMap<String, Known>) -> Vec<String> {
    let mut faults = Vec::new();
    for (at, _) in expression.match_indices("fivespot_") {
        let rest = &expression[at..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let found = match (known.get(name), base.and_then(|base| known.get(base))) {
            (Some(found), _) if found.kind != "histogram" => found,
            (None, Some(found)) if found.kind == "histogram" => found,
            _ => {
                faults.push(format!("there is no {name}"));
                continue;
            }
        };
        let matchers = rest.strip_prefix('{').and_then(|rest| rest.split('}').next()).unwrap_or_default();
        for matcher in matchers.split(',').filter(|matcher| !matcher.is_empty()) {
            let (label, value) = matcher.split_once(['=', '!']).unwrap();
            let values = value.trim_start_matches(['=', '~']).trim_matches('"');
            let Some(allowed) = found.labels.get(label) else {
                faults.push(format!("{name} has no label {label}"));
                continue;
            };
            // Codes are those that came.
            let is_open = allowed.is_empty() || label == "code";
            faults.extend(
                values
                    .split('|')
                    .filter(|value| !is_open && !allowed.contains(&(*value).to_owned()))
                    .map(|value| format!("{name} is never {label}={value}")),
            );
        }
    }
    faults
}

fn rules() -> Vec<Value> {
    let rules: Value = serde_saphyr::from_str(&read("manifests/monitoring/rules.yaml")).unwrap();
    rules["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap().clone())
        .collect()
}

#[test]
fn expressions_use_what_the_controller_shows() {
    let known = known();
    let mut expressions: Vec<String> =
        rules().iter().map(|rule| rule["expr"].as_str().unwrap().to_owned()).collect();
    let dashboard: Value = serde_json::from_str(&read("manifests/monitoring/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    for target in panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap()) {
        expressions.push(target["expr"].as_str().unwrap().to_owned());
    }
    let wrong: Vec<_> =
        expressions.iter().map(|e| (e, faults(e, &known))).filter(|(_, f)| !f.is_empty()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    // And nothing that is measured is shown to nobody.
    let unused: Vec<_> =
        known.keys().filter(|name| !expressions.iter().any(|e| e.contains(name.as_str()))).collect();
    assert_eq!(unused, ["fivespot_schedule_evaluations_total"]);
}

#[test]
fn a_wrong_expression_is_found() {
    let known = known();
    for (expression, fault) in [
        ("fivespot_machine_active", "there is no fivespot_machine_active"),
        ("fivespot_edge_lag_seconds > 1", "there is no fivespot_edge_lag_seconds"),
        ("fivespot_machines_overdue{way=\"in\"}", "fivespot_machines_overdue has no label way"),
        (
            "fivespot_machines_overdue{direction=~\"in|off\"}",
            "fivespot_machines_overdue is never direction=off",
        ),
    ] {
        assert_eq!(faults(expression, &known), [fault]);
    }
}

#[test]
fn every_alert_has_a_page_and_a_case_and_every_page_an_alert() {
    let cases = read("manifests/monitoring/rules.test.yaml");
    let mut pages = Vec::new();
    for rule in rules() {
        let (name, expression) = (rule["alert"].as_str().unwrap(), rule["expr"].as_str().unwrap());
        let page = rule["annotations"]["runbook"].as_str().unwrap().to_owned();
        let text = read(&page);
        assert!(text.starts_with(&format!("# {name}\n")), "{page}");
        assert!(text.contains(expression), "{page} has another expression");
        assert!(text.contains("\n## Look\n") && text.contains("\n## Mend\n"), "{page}");
        assert!(cases.contains(&format!("- name: {name}\n")), "nothing rings {name} in rules.test.yaml");
        assert!(
            cases.contains(&format!("alertname: {name}, exp_alerts: []")),
            "nothing shows that {name} is quiet"
        );
        pages.push(page);
    }
    pages.sort();
    let mut there: Vec<String> =
        crate::pages().into_iter().filter(|page| page.starts_with("docs/runbooks/")).collect();
    there.sort();
    assert_eq!(pages, there);
}

#[test]
fn alerts_ring_when_they_should_and_not_otherwise() {
    let promtool = |args: &[&str]| {
        Command::new("promtool").args(args).current_dir(path("manifests/monitoring")).output()
    };
    if !promtool(&["--version"]).is_ok_and(|output| output.status.success()) {
        return skipped("the alerts: there is no promtool (apt-get install prometheus)");
    }
    for args in [["check", "rules", "rules.yaml"], ["test", "rules", "rules.test.yaml"]] {
        let output = promtool(&args).unwrap();
        let told =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "promtool {args:?}: {told}");
    }
}
