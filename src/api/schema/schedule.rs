//! The grammar of `spec.schedule`, as far as a single look at the text can tell. That a zone or a day of February exists
//! is the schedule engine's to say.

use kube::core::Rule;
use schemars::{Schema, SchemaGenerator};

use super::{add_rules, atomic_list, rule, ruled_text, text};

const DAY: &str = "(mon|tue|wed|thu|fri|sat|sun)";
const HOUR: &str = "([01]?[0-9]|2[0-3])";
/// 00:00 to 23:59.
const CLOCK: &str = "([01][0-9]|2[0-3]):[0-5][0-9]";
/// The days that each month has at most.
const DATE: &str = "[0-9]{4}-(02-(0[1-9]|[12][0-9])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|\
     (0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01]))";

/// Spans whose ends are one minute of the week, written in two ways.
const WHOLE_WEEKS: &str = "mon 00:00/sun 24:00|tue 00:00/mon 24:00|wed 00:00/tue 24:00|thu 00:00/wed 24:00|\
     fri 00:00/thu 24:00|sat 00:00/fri 24:00|sun 00:00/sat 24:00";

/// IANA name; the pattern is as wide as names are.
pub(in crate::api) fn timezone(_: &mut SchemaGenerator) -> Schema {
    ruled_text(
        64,
        [rule(
            r"self.matches(r'^[A-Za-z][A-Za-z0-9_+\-/]*$')",
            "must be the name of a time zone, like Europe/London or UTC",
        )],
    )
}

/// Day names, ranges and comma lists of them.
pub(in crate::api) fn days(_: &mut SchemaGenerator) -> Schema {
    let part = format!("{DAY}(-{DAY})?");
    let day = ruled_text(
        128,
        [rule(
            format!("self.matches('^{part}(,{part})*$')"),
            "must be days in lower case without blanks: mon, mon-fri, fri-mon or mon,wed",
        )],
    );
    atomic_list(32, &day)
}

/// Hours, ranges and comma lists of them.
pub(in crate::api) fn hours(_: &mut SchemaGenerator) -> Schema {
    let part = format!("{HOUR}(-{HOUR})?");
    let hour = ruled_text(
        128,
        [rule(
            format!("self.matches('^{part}(,{part})*$')"),
            "must be hours from 0 to 23 without blanks: \"9\", \"9-17\", \"22-6\" or \"8,12-14\" (use windows for minutes)",
        )],
    );
    atomic_list(32, &hour)
}

/// Start of a window.
pub(in crate::api) fn window_from(_: &mut SchemaGenerator) -> Schema {
    ruled_text(
        16,
        [rule(
            format!("self.matches('^({DAY} )?{CLOCK}$')"),
            "must be a clock time like \"19:00\" (00:00 to 23:59), or a weekday and a time like \"fri 19:00\"",
        )],
    )
}

/// End of a window; here `24:00` is midnight at the end of the day.
pub(in crate::api) fn window_to(_: &mut SchemaGenerator) -> Schema {
    ruled_text(
        16,
        [rule(
            format!("self.matches('^({DAY} )?({CLOCK}|24:00)$')"),
            "must be a clock time like \"07:00\" (00:01 to 24:00), or a weekday and a time like \"mon 07:00\"",
        )],
    )
}

/// A civil date.
pub(in crate::api) fn date(_: &mut SchemaGenerator) -> Schema {
    ruled_text(
        16,
        [rule(format!("self.matches('^{DATE}$')"), "must be a day of the calendar like \"2026-12-28\"")],
    )
}

/// A civil date and time.
pub(in crate::api) fn date_time(_: &mut SchemaGenerator) -> Schema {
    ruled_text(
        25,
        [rule(
            format!("self.matches('^{DATE}T{CLOCK}$')"),
            "must be a date and a time like \"2026-12-24T18:00\", without seconds and without a zone: the schedule's counts",
        )],
    )
}

/// A sentence for people.
pub(in crate::api) fn reason(_: &mut SchemaGenerator) -> Schema {
    text(0, 512)
}

/// Rules of the schedule as a whole.
pub(in crate::api) fn schedule(schema: &mut Schema) {
    let filled = |field: &str| format!("(has(self.{field}) && size(self.{field}) > 0)");
    let (days, hours) = (filled("daysOfWeek"), filled("hoursOfDay"));
    let windows = filled("windows");
    add_rules(
        schema,
        [
            rule(
                format!("!{days} || {hours}"),
                "daysOfWeek needs hoursOfDay: add hoursOfDay, like [\"9-17\"], or write windows instead",
            )
            .field_path(".hoursOfDay"),
            rule(
                format!("!{hours} || {days}"),
                "hoursOfDay needs daysOfWeek: add daysOfWeek, like [mon-fri], or write windows instead",
            )
            .field_path(".daysOfWeek"),
            rule(
                format!(
                    "{days} || {hours} || {windows} || \
                     (has(self.exceptions) && self.exceptions.exists(e, e.state == 'Active'))"
                ),
                "the schedule never opens: add daysOfWeek with hoursOfDay, a window, or an exception with state Active",
            ),
        ],
    );
}

/// Rules of one window. Each speaks only where both ends can be read, so that a slip gets one message.
pub(in crate::api) fn window(schema: &mut Schema) {
    let span = |end: &str| format!("self.{end}.contains(' ')");
    let (from, to) = (span("from"), span("to"));
    // That both are required does not save an object stored without: an error inside a rule is forgiven to nobody, and
    // not even its status could be written any more.
    let half = "!(has(self.from) && has(self.to))";
    let days = "(has(self.days) && size(self.days) > 0)";
    add_rules(
        schema,
        [
            rule(
                format!("{half} || {from} == {to}"),
                "from and to must be of one form: two clock times (\"19:00\", \"07:00\") with days, or two weekdays with \
                 times (\"fri 19:00\", \"mon 07:00\") without",
            )
            .field_path(".to"),
            rule(
                format!("{half} || {from} || {to} || {days}"),
                "clock times need days: add days, like [mon-fri], or write the weekday into from and to (\"fri 19:00\")",
            )
            .field_path(".days"),
            rule(
                format!("{half} || !({from} && {to}) || !{days}"),
                "a span of the week has its weekdays in from and to: remove days",
            )
            .field_path(".days"),
            rule(
                format!(
                    "{half} || \
                     (self.from != self.to && !(self.from + '/' + self.to).matches('^({WHOLE_WEEKS})$'))"
                ),
                "from and to must differ: for whole days write days with from: \"00:00\", to: \"24:00\"",
            )
            .field_path(".to"),
        ],
    );
}

/// Rules of one exception.
pub(in crate::api) fn exception(schema: &mut Schema) {
    add_rules(schema, exception_rules());
}

fn exception_rules() -> [Rule; 4] {
    [
        rule(
            "has(self.date) || has(self.from) || has(self.to)",
            "an exception needs date (a whole day), or from and to",
        ),
        rule(
            "!has(self.date) || (!has(self.from) && !has(self.to))",
            "date stands for a whole day: remove from and to, or remove date",
        )
        .field_path(".date"),
        rule(
            "has(self.date) || has(self.from) == has(self.to)",
            "from and to come together: add the one that is missing, or write date for a whole day",
        ),
        rule(
            "!has(self.from) || !has(self.to) || self.from < self.to",
            "from must be before to: to is the first minute that the exception no longer covers",
        )
        .field_path(".to"),
    ]
}

/// The list of exceptions: its order counts.
pub(in crate::api) fn exceptions(generator: &mut SchemaGenerator) -> Schema {
    let exception = generator.subschema_for::<crate::api::schedule::Exception>();
    atomic_list(256, &exception)
}

/// The list of windows.
pub(in crate::api) fn windows(generator: &mut SchemaGenerator) -> Schema {
    let window = generator.subschema_for::<crate::api::schedule::Window>();
    atomic_list(64, &window)
}
