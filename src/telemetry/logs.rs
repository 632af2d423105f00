//! Log lines, to stderr: one JSON object a line, or text.

use std::fmt;

use jiff::Timestamp;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::{EnvFilter, fmt as layer};

use crate::config::{LogFormat, Logs};

/// RFC 3339, UTC, milliseconds.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        #[expect(clippy::disallowed_methods, reason = "a log line has the time it was written")]
        let now = Timestamp::now();
        write!(writer, "{now:.3}")
    }
}

/// Sends log lines to stderr from here on.
///
/// # Errors
/// When the filter cannot be read.
pub fn start(logs: &Logs) -> Result<(), ParseError> {
    let filter = EnvFilter::builder().parse(&logs.filter)?;
    let lines = layer().with_env_filter(filter).with_timer(Utc).with_writer(std::io::stderr);
    match logs.format {
        LogFormat::Json => lines.json().flatten_event(true).init(),
        LogFormat::Text => lines.init(),
    }
    Ok(())
}
