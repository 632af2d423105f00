//! `spec.schedule` as the user wrote it. What it *means* is the business of [`crate::schedule`] alone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::schedule as schema;

/// When the machine belongs to its cluster: weekly windows, in one time zone, and dated exceptions to them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::schedule)]
pub struct Schedule {
    /// `false`: be off, gracefully.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// IANA name, exact case, of the database bundled in the release.
    #[serde(default = "utc")]
    #[schemars(schema_with = "schema::timezone")]
    pub timezone: String,
    /// Days for `hoursOfDay`: `mon`, `mon-fri`, `fri-mon`, `mon,wed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::days")]
    pub days_of_week: Vec<String>,
    /// Hours 0-23, the last one included whole: `9-17` closes at 18:00. `22-6` runs into the next day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::hours")]
    pub hours_of_day: Vec<String>,
    /// Windows to the minute.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::windows")]
    pub windows: Vec<Window>,
    /// Dates and spans that overrule the windows; of several, the one furthest down the list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::exceptions")]
    pub exceptions: Vec<Exception>,
}

/// A daily window (`days` and two clock times) or a span of the week (weekday and time at both ends, no `days`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::window)]
pub struct Window {
    /// Days on which a clock-time window starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::days")]
    pub days: Vec<String>,
    /// `19:00`, or `fri 19:00`.
    #[schemars(schema_with = "schema::window_from")]
    pub from: String,
    /// `07:00` (before `from`: next day), `24:00`, or `mon 07:00`.
    #[schemars(schema_with = "schema::window_to")]
    pub to: String,
}

/// Overrules the windows for a whole civil day (`date`) or a stretch (`from`, `to`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::exception)]
pub struct Exception {
    /// `2026-12-28`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::date")]
    pub date: Option<String>,
    /// `2026-12-24T18:00`, civil time in the schedule's zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::date_time")]
    pub from: Option<String>,
    /// Exclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::date_time")]
    pub to: Option<String>,
    /// What holds during it.
    pub state: ExceptionState,
    /// Shown wherever the exception decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::reason")]
    pub reason: Option<String>,
}

/// What an exception makes of its interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExceptionState {
    /// In the cluster.
    Active,
    /// With its owner.
    #[default]
    Inactive,
}

fn enabled() -> bool {
    true
}

fn utc() -> String {
    "UTC".to_owned()
}
