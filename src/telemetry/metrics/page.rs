//! The documentation of metrics, made of what a process shows at its first scrape.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};

use super::{Registry, text};

#[derive(Default)]
struct Row {
    kind: String,
    help: String,
    labels: BTreeMap<String, BTreeSet<String>>,
}

/// A label with more values than this is told without them.
const MOST_VALUES: usize = 10;

/// A table in Markdown with every metric of a registry: name as scraped, kind, labels with their values, meaning.
///
/// # Errors
/// As [`text`].
pub fn table(registry: &Registry) -> Result<String, fmt::Error> {
    let scraped = text(registry)?;
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    for line in scraped.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            help.trim_end_matches('.').clone_into(&mut rows.entry(name).or_default().help);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            kind.clone_into(&mut rows.entry(name).or_default().kind);
        } else if let Some((series, labels)) = line.split_once('{')
            && let Some((_, row)) = rows.iter_mut().rfind(|(name, _)| is_of(series, name))
        {
            row.read_labels(labels);
        }
    }
    let mut page = "| metric | kind | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for (name, row) in rows {
        let suffix = match row.kind.as_str() {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let labels: Vec<String> = row.labels.iter().map(|(label, values)| words(label, values)).collect();
        writeln!(page, "| `{name}{suffix}` | {} | {} | {} |", row.kind, labels.join("; "), row.help)?;
    }
    Ok(page)
}

/// A series is named as its metric, or by that and a suffix of its kind.
fn is_of(series: &str, name: &str) -> bool {
    let suffix = series.strip_prefix(name);
    suffix.is_some_and(|suffix| ["", "_total", "_info", "_bucket", "_count", "_sum"].contains(&suffix))
}

impl Row {
    /// Of what stands between braces and after them. No value of ours holds a quote.
    fn read_labels(&mut self, text: &str) {
        let Some((labels, _)) = text.rsplit_once('}') else { return };
        let mut rest = labels;
        while let Some((label, tail)) = rest.split_once("=\"") {
            let Some((value, tail)) = tail.split_once('"') else { return };
            // A bound of a histogram's bucket is no label of ours.
            if label != "le" {
                self.labels.entry(label.to_owned()).or_default().insert(value.to_owned());
            }
            rest = tail.trim_start_matches(',');
        }
    }
}

fn words(label: &str, values: &BTreeSet<String>) -> String {
    if values.len() > MOST_VALUES || matches!(label, "version" | "instance_id") {
        return format!("`{label}`");
    }
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    format!("`{label}`: {}", values.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::{ControllerMetrics, counters};
    use super::*;

    #[test]
    fn a_row_tells_name_kind_labels_and_meaning() {
        let mut registry = Registry::default();
        let series = ["b", "a"].map(|of| [("of", of)]);
        counters(&mut registry, "things_total", "Things", series);
        let page = table(&registry).unwrap();
        assert!(page.ends_with("|\n| `things_total` | counter | `of`: a, b | Things |\n"), "{page}");
    }

    #[test]
    fn every_name_of_the_controller_is_there_from_the_first_scrape_and_counters_are_counters() {
        let mut registry = Registry::default();
        ControllerMetrics::register(&mut registry, "1.2.3", "0");
        let page = table(&registry).unwrap();
        for (name, kind) in [
            ("fivespot_reconciliations_total", "counter"),
            ("fivespot_reconciliation_duration_seconds", "histogram"),
            ("fivespot_schedule_evaluations_total", "counter"),
            ("fivespot_kill_switch_activations_total", "counter"),
            ("fivespot_controller_info", "info"),
            ("fivespot_is_leader", "gauge"),
            ("fivespot_errors_total", "counter"),
            ("fivespot_node_drains_total", "counter"),
            ("fivespot_pod_evictions_total", "counter"),
            ("fivespot_finalizer_cleanup_timeouts_total", "counter"),
            ("fivespot_emergency_drain_duration_seconds", "histogram"),
            ("fivespot_emergency_reclaims_total", "counter"),
            ("fivespot_rapid_re_reclaims_total", "counter"),
            ("fivespot_edge_lag_seconds", "histogram"),
            ("fivespot_ready_after_edge_seconds", "histogram"),
            ("fivespot_handback_seconds", "histogram"),
            ("fivespot_reclaim_stage_seconds", "histogram"),
        ] {
            assert!(page.contains(&format!("| `{name}` | {kind} |")), "{name} in {page}");
        }
    }
}
