//! What an evaluation costs: `is_active` and `next_edge` for four kinds of schedules. `just bench-schedule`.

#![expect(clippy::unwrap_used, reason = "a bench is no library")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use fivespot::api::schedule as raw;
use fivespot::schedule::Schedule;
use jiff::Timestamp;

fn schedule(json: &str) -> Schedule {
    let raw: raw::Schedule = serde_json::from_str(json).unwrap();
    Schedule::parse(&raw).unwrap()
}

/// A quarter of working days off, each named, over working hours.
fn twenty_exceptions() -> Schedule {
    let date = |day: i64| jiff::civil::date(2026, 10, 1).saturating_add(jiff::Span::new().days(3 * day));
    let exceptions: Vec<String> = (0..20)
        .map(|day| format!(r#"{{"date": "{}", "state": "Inactive", "reason": "day off"}}"#, date(day)))
        .collect();
    schedule(&format!(
        r#"{{"timezone": "Europe/London", "daysOfWeek": ["mon-fri"], "hoursOfDay": ["9-17"], "exceptions": [{}]}}"#,
        exceptions.join(",")
    ))
}

fn schedules(c: &mut Criterion) {
    let kinds = [
        (
            "weekday hours",
            schedule(r#"{"timezone": "Europe/London", "daysOfWeek": ["mon-fri"], "hoursOfDay": ["9-17"]}"#),
        ),
        (
            "overnight windows",
            schedule(
                r#"{"timezone": "America/New_York", "windows": [
                    {"days": ["mon-thu"], "from": "19:00", "to": "07:00"}, {"days": ["sat"], "from": "12:30", "to": "09:15"}]}"#,
            ),
        ),
        (
            "span of the week",
            schedule(r#"{"timezone": "Asia/Tokyo", "windows": [{"from": "fri 19:00", "to": "mon 07:00"}]}"#),
        ),
        ("twenty exceptions", twenty_exceptions()),
    ];
    // 7 919 minutes are five and a half days: the instants fall everywhere in week, year and daylight saving.
    let start = Timestamp::from_second(1_790_000_000).unwrap();
    let instants: Vec<Timestamp> =
        (0..1024).map(|step| start + jiff::SignedDuration::from_mins(7_919 * step)).collect();
    for (name, schedule) in &kinds {
        let mut at = instants.iter().cycle();
        let mut next = move || *at.next().unwrap();
        c.bench_function(&format!("is_active/{name}"), |b| b.iter(|| schedule.is_active(black_box(next()))));
        let mut at = instants.iter().cycle();
        let mut next = move || *at.next().unwrap();
        c.bench_function(&format!("next_edge/{name}"), |b| b.iter(|| schedule.next_edge(black_box(next()))));
    }
}

criterion_group!(benches, schedules);
criterion_main!(benches);
