//! Stored JSON as the types have it, field by field: an object may be older than today's schema, and one item of the
//! wrong shape must not hide the faults of the others.
//!
//! Where the shape is wrong a stand-in without fault takes its place, so that nothing else is said about it. A schedule
//! with a fault is never used, and so no stand-in ever is.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Fault;
use crate::api::schedule as raw;

/// The schedule, and where it has not the shape it should.
pub(super) fn read(stored: &Value) -> (raw::Schedule, Vec<Fault>) {
    let window =
        raw::Window { days: vec!["mon".to_owned()], from: "00:00".to_owned(), to: "24:00".to_owned() };
    let exception = raw::Exception {
        date: Some("2026-12-28".to_owned()),
        state: raw::ExceptionState::Active,
        ..raw::Exception::default()
    };
    let utc = "UTC".to_owned();
    let mut faults = Vec::new();
    if !stored.is_object() {
        let message = "must be an object with windows, daysOfWeek and hoursOfDay, or exceptions".to_owned();
        faults.push(Fault { path: "spec.schedule".to_owned(), message });
        let stand_in = raw::Schedule { timezone: utc, windows: vec![window], ..raw::Schedule::default() };
        return (stand_in, faults);
    }
    let schedule = raw::Schedule {
        enabled: true,
        timezone: field(stored, "timezone", &utc, &mut faults).unwrap_or_else(|| utc.clone()),
        days_of_week: list(stored, "daysOfWeek", &"mon".to_owned(), &mut faults),
        hours_of_day: list(stored, "hoursOfDay", &"9".to_owned(), &mut faults),
        windows: list(stored, "windows", &window, &mut faults),
        exceptions: list(stored, "exceptions", &exception, &mut faults),
    };
    (schedule, faults)
}

/// Null is absent.
fn field<T: Clone + DeserializeOwned>(
    stored: &Value,
    name: &str,
    stand_in: &T,
    faults: &mut Vec<Fault>,
) -> Option<T> {
    let value = stored.get(name).filter(|value| !value.is_null())?;
    Some(shaped(value, format!("spec.schedule.{name}"), stand_in, faults))
}

fn list<T: Clone + DeserializeOwned>(
    stored: &Value,
    name: &str,
    stand_in: &T,
    faults: &mut Vec<Fault>,
) -> Vec<T> {
    let Some(Value::Array(items)) = stored.get(name) else {
        return field(stored, name, &vec![stand_in.clone()], faults).unwrap_or_default();
    };
    let path = |index| format!("spec.schedule.{name}[{index}]");
    items.iter().enumerate().map(|(index, item)| shaped(item, path(index), stand_in, faults)).collect()
}

fn shaped<T: Clone + DeserializeOwned>(
    value: &Value,
    path: String,
    stand_in: &T,
    faults: &mut Vec<Fault>,
) -> T {
    T::deserialize(value).unwrap_or_else(|error| {
        faults.push(Fault { path, message: error.to_string() });
        stand_in.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::super::Schedule;
    use serde_json::{Value, json};

    fn paths(stored: &Value) -> Vec<String> {
        Schedule::read(stored).unwrap_err().into_iter().map(|fault| fault.path).collect()
    }

    #[test]
    fn every_item_of_the_wrong_shape_is_named_beside_every_wrong_word_and_nothing_else_is() {
        let stored = json!({
            "enabled": "yes",
            "timezone": 1,
            "daysOfWeek": ["mon", 2, "someday"],
            "hoursOfDay": "9-17",
            "windows": ["always", {"days": ["mon"], "from": "09:00"}, {"from": "fri 19:00", "to": "25:00"}],
            "exceptions": [{"date": "2026-12-28", "state": "Perhaps"}, {"date": "2026-13-28", "state": "Active"}],
        });
        assert_eq!(
            paths(&stored),
            [
                "spec.schedule.timezone",
                "spec.schedule.daysOfWeek[1]",
                "spec.schedule.hoursOfDay",
                "spec.schedule.windows[0]",
                "spec.schedule.windows[1]",
                "spec.schedule.exceptions[0]",
                "spec.schedule.daysOfWeek[2]",
                "spec.schedule.windows[2].to",
                "spec.schedule.exceptions[1].date",
            ]
        );
    }

    #[test]
    fn what_is_no_object_is_one_fault() {
        for stored in [json!("always"), json!([]), json!(7)] {
            assert_eq!(paths(&stored), ["spec.schedule"], "{stored}");
        }
    }

    #[test]
    fn null_is_absent() {
        let stored = json!({"timezone": null, "daysOfWeek": ["mon"], "hoursOfDay": ["9"], "windows": null});
        assert_eq!(Schedule::read(&stored).unwrap().time_zone_name(), "UTC");
    }
}
