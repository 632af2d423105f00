//! Log lines, to stderr: one JSON object a line, or text.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::panic::PanicHookInfo;

use jiff::Timestamp;
use serde::Serializer;
use serde::ser::SerializeMap;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::registry::{LookupSpan, Scope};
use tracing_subscriber::{EnvFilter, fmt as layer};

use crate::config::{LogFormat, Logs};

/// Keys of every line. A field of such a name, which libraries have, gets a `_` behind it.
const OF_EVERY_LINE: [&str; 4] = ["timestamp", "level", "target", "message"];

/// RFC 3339, UTC, milliseconds.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{:.3}", now())
    }
}

#[expect(clippy::disallowed_methods, reason = "a log line has the time it was written")]
fn now() -> Timestamp {
    Timestamp::now()
}

/// Sends log lines to stderr from here on.
///
/// # Errors
/// When the filter cannot be read.
pub fn start(logs: &Logs) -> Result<(), ParseError> {
    let filter = EnvFilter::builder().parse(&logs.filter)?;
    let lines = layer().with_env_filter(filter).with_timer(Utc).with_writer(std::io::stderr);
    match logs.format {
        LogFormat::Json => lines.fmt_fields(JsonFields::new()).event_format(Json).init(),
        LogFormat::Text => lines.init(),
    }
    Ok(())
}

/// From here on a panic anywhere is a log line, and the end of the process with status 1: what has panicked is in no state
/// to go on, and nothing may be half alive.
pub fn end_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let (place, message) = (panic.location().map(ToString::to_string), words(panic));
        tracing::error!(place, panic = message, "a mistake in 5spot: it ends itself, to be started anew");
        std::process::exit(1);
    }));
}

fn words<'p>(panic: &'p PanicHookInfo<'_>) -> &'p str {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}

/// One flat object a line: time, level, target, message; then what the spans say of it, the outermost first, and its own
/// fields. Flat, so that whoever searches for an object's name need not know where in the code a line was written.
struct Json;

impl<S> FormatEvent<S, JsonFields> for Json
where
    S: Subscriber + for<'s> LookupSpan<'s>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        for span in context.event_scope().into_iter().flat_map(Scope::from_root) {
            let extensions = span.extensions();
            let text = extensions.get::<FormattedFields<JsonFields>>().map(|fields| fields.as_str());
            // What it has written itself can be read; a span without fields has written nothing.
            let of_span = text.and_then(|text| serde_json::from_str::<Map<String, Value>>(text).ok());
            of_span.into_iter().flatten().for_each(|(name, value)| fields.put(&name, value));
        }
        event.record(&mut fields);
        let line = fields.line(&now(), event.metadata()).map_err(|_error| fmt::Error)?;
        writeln!(writer, "{line}")
    }
}

#[derive(Default)]
struct Fields {
    message: Option<Value>,
    others: BTreeMap<String, Value>,
}

impl Fields {
    fn put(&mut self, name: &str, value: Value) {
        if name == "message" && self.message.is_none() {
            self.message = Some(value);
        } else if OF_EVERY_LINE.contains(&name) {
            self.others.insert(format!("{name}_"), value);
        } else {
            self.others.insert(name.to_owned(), value);
        }
    }

    fn line(&self, at: &Timestamp, of: &tracing::Metadata<'_>) -> serde_json::Result<String> {
        let mut line = Vec::new();
        let mut serializer = serde_json::Serializer::new(&mut line);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("timestamp", &format!("{at:.3}"))?;
        map.serialize_entry("level", of.level().as_str())?;
        map.serialize_entry("target", of.target())?;
        if let Some(message) = &self.message {
            map.serialize_entry("message", message)?;
        }
        for (name, value) in &self.others {
            map.serialize_entry(name, value)?;
        }
        map.end()?;
        Ok(String::from_utf8_lossy(&line).into_owned())
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            let words = error.to_string();
            // Most of ours say their cause themselves.
            if !text.contains(&words) {
                text = format!("{text}: {words}");
            }
            cause = error.source();
        }
        self.put(field.name(), text.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), format!("{value:?}").into());
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Written {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn lines(of: impl FnOnce()) -> Vec<String> {
        let written = Written::default();
        let lines = layer().fmt_fields(JsonFields::new()).event_format(Json).with_writer(written.clone());
        tracing::subscriber::with_default(lines.finish(), of);
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        text.lines().map(ToOwned::to_owned).collect()
    }

    #[derive(Debug, thiserror::Error)]
    #[error("the pass failed")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("no answer")]
    struct Inner;

    #[test]
    fn a_line_is_one_flat_object_that_begins_with_what_every_line_has() {
        let all = lines(|| {
            let span =
                tracing::info_span!("reconcile", namespace = "lab", name = "ws-1", reconcile_id = "0a");
            let _in = span.enter();
            let error: &(dyn Error + 'static) = &Outer(Inner);
            tracing::info!(count = 3, is_late = true, share = 0.5, error, "two\nlines, one \"line\"");
        });
        assert_eq!(all.len(), 1, "{all:?}");
        let line = all[0].strip_prefix("{\"timestamp\":\"").unwrap();
        let (time, rest) = line.split_once('"').unwrap();
        assert!(time.len() == "2026-11-02T17:00:00.000Z".len() && time.ends_with('Z'), "{time}");
        time.parse::<Timestamp>().unwrap();
        assert_eq!(
            rest,
            ",\"level\":\"INFO\",\"target\":\"fivespot::telemetry::logs::tests\",\"message\":\"two\\nlines, one \\\"line\\\"\",\
             \"count\":3,\"error\":\"the pass failed: no answer\",\"is_late\":true,\"name\":\"ws-1\",\"namespace\":\"lab\",\
             \"reconcile_id\":\"0a\",\"share\":0.5}"
        );
    }

    #[test]
    fn what_is_nearer_counts_and_no_field_takes_the_place_of_what_every_line_has() {
        let all = lines(|| {
            let outer = tracing::info_span!("outer", name = "far", of = "outer");
            let _in = outer.enter();
            let inner = tracing::info_span!("inner", name = "near");
            let _further = inner.enter();
            tracing::warn!(target = "a field", level = 7, "words");
        });
        let line: Value = serde_json::from_str(&all[0]).unwrap();
        assert_eq!(
            (&line["name"], &line["of"], &line["level"]),
            (&"near".into(), &"outer".into(), &"WARN".into())
        );
        assert_eq!(
            (&line["target_"], &line["level_"], &line["message"]),
            (&"a field".into(), &7.into(), &"words".into())
        );
    }
}
