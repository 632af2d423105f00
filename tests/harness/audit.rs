//! The audit log of an API server: every call, by whom, and how it ended.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;

/// A plane's audit log.
#[derive(Clone, Debug)]
pub struct Audit {
    path: PathBuf,
}

/// A place in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark(pub u64);

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// When the server received it.
    pub received: Timestamp,
    /// When it was answered; for a watch, when it began.
    pub ended: Timestamp,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// The common name of the caller's certificate.
    pub user: String,
    /// What the caller says it is.
    pub user_agent: String,
    /// API group; empty for the core group.
    pub group: String,
    /// Resource, with its subresource: `pods/eviction`.
    pub resource: String,
    /// Empty for what has none.
    pub namespace: String,
    /// Empty for lists.
    pub name: String,
    /// The answer.
    pub code: u16,
    /// Path and query.
    pub uri: String,
}

impl Call {
    /// Whether it asks for a change; reviews are created, but change nothing.
    pub fn is_write(&self) -> bool {
        let writes = ["create", "update", "patch", "delete", "deletecollection"];
        writes.contains(&self.verb.as_str()) && !self.resource.ends_with("reviews")
    }

    /// Each call is one line: that of its answer, or of its beginning if it is a watch.
    fn parse(line: &str) -> Option<Self> {
        let event: Value = serde_json::from_str(line).ok()?;
        let text =
            |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let verb = text("/verb");
        let wanted = if verb == "watch" { "ResponseStarted" } else { "ResponseComplete" };
        let stage = text("/stage");
        if stage != wanted && stage != "Panic" {
            return None;
        }
        let mut resource = text("/objectRef/resource");
        let subresource = text("/objectRef/subresource");
        if !subresource.is_empty() {
            resource = format!("{resource}/{subresource}");
        }
        Some(Self {
            received: text("/requestReceivedTimestamp").parse().ok()?,
            ended: text("/stageTimestamp").parse().ok()?,
            verb,
            user: text("/user/username"),
            user_agent: text("/userAgent"),
            group: text("/objectRef/apiGroup"),
            resource,
            namespace: text("/objectRef/namespace"),
            name: text("/objectRef/name"),
            code: event
                .pointer("/responseStatus/code")
                .and_then(Value::as_u64)
                .map_or(0, |c| c.try_into().unwrap_or(0)),
            uri: text("/requestURI"),
        })
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { received, verb, user, resource, namespace, name, code, .. } = self;
        let object = if resource.is_empty() { &self.uri } else { resource };
        let time = received.strftime("%H:%M:%S%.3f");
        write!(f, "{time} {user:<24} {verb:<7} {code} {object} {namespace}/{name}")
    }
}

/// Calls, in the order in which they were answered. Each filter narrows them.
#[derive(Clone, Debug, Default)]
pub struct Calls(pub Vec<Call>);

impl Calls {
    /// Those that satisfy `keep`.
    #[must_use]
    pub fn only(&self, keep: impl Fn(&Call) -> bool) -> Self {
        Self(self.0.iter().filter(|call| keep(call)).cloned().collect())
    }

    /// By that user.
    #[must_use]
    pub fn by(&self, user: &str) -> Self {
        self.only(|call| call.user == user)
    }

    /// Of that verb.
    #[must_use]
    pub fn verb(&self, verb: &str) -> Self {
        self.only(|call| call.verb == verb)
    }

    /// Of that resource: `machines` takes in `machines/status`, which alone is named in full.
    #[must_use]
    pub fn on(&self, resource: &str) -> Self {
        self.only(|call| call.resource == resource || call.resource.split('/').next() == Some(resource))
    }

    /// In that namespace.
    #[must_use]
    pub fn within(&self, namespace: &str) -> Self {
        self.only(|call| call.namespace == namespace)
    }

    /// Of that object.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        self.only(|call| call.name == name)
    }

    /// Received at that instant or later.
    #[must_use]
    pub fn since(&self, from: Timestamp) -> Self {
        self.only(|call| call.received >= from)
    }

    /// Answered before that instant.
    #[must_use]
    pub fn until(&self, end: Timestamp) -> Self {
        self.only(|call| call.ended < end)
    }

    /// All but watches, which cost one call however long they last.
    #[must_use]
    pub fn calls(&self) -> Self {
        self.only(|call| call.verb != "watch")
    }

    /// What asked for a change.
    #[must_use]
    pub fn writes(&self) -> Self {
        self.only(Call::is_write)
    }

    /// What succeeded.
    #[must_use]
    pub fn accepted(&self) -> Self {
        self.only(|call| call.code < 300)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One by one.
    pub fn iter(&self) -> std::slice::Iter<'_, Call> {
        self.0.iter()
    }
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} calls:", self.len())?;
        self.iter().try_for_each(|call| writeln!(f, "  {call}"))
    }
}

impl Audit {
    /// Of that file.
    pub fn of(path: PathBuf) -> Self {
        Self { path }
    }

    /// Everything so far.
    pub fn all(&self) -> Calls {
        self.after(Mark::default())
    }

    /// The end of the log as it is now.
    pub fn mark(&self) -> Mark {
        Mark(std::fs::metadata(&self.path).map_or(0, |file| file.len()))
    }

    /// What came after that place. A line that is still being written is left for later.
    pub fn after(&self, mark: Mark) -> Calls {
        Calls(self.read(mark).0)
    }

    /// The calls from there on, and where to go on reading.
    fn read(&self, mark: Mark) -> (Vec<Call>, Mark) {
        let mut bytes = Vec::new();
        if let Ok(mut file) = File::open(&self.path) {
            file.seek(SeekFrom::Start(mark.0)).expect("an audit log to read");
            file.read_to_end(&mut bytes).expect("an audit log to read");
        }
        let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let text = String::from_utf8_lossy(&bytes[..complete]);
        (text.lines().filter_map(Call::parse).collect(), Mark(mark.0 + complete as u64))
    }

    /// Reads on until `found` holds for the calls after `mark`, and returns them. The line of a call may come
    /// a moment after its answer. Panics after `patience` with the calls that it saw.
    #[track_caller]
    pub fn until(
        &self,
        mark: Mark,
        what: &str,
        patience: Duration,
        found: impl Fn(&Calls) -> bool,
    ) -> impl Future<Output = Calls> {
        let (caller, audit, what) = (std::panic::Location::caller(), self.clone(), what.to_owned());
        let deadline = Instant::now() + patience;
        async move {
            // Each line is parsed once: a log read over and over takes the processor from what is being tested.
            let (mut calls, mut read_to) = (Calls::default(), mark);
            loop {
                let (more, end) = audit.read(read_to);
                let has_news = !more.is_empty() || read_to == mark;
                calls.0.extend(more);
                read_to = end;
                if has_news && found(&calls) {
                    return calls;
                }
                assert!(Instant::now() < deadline, "{caller}: not {what} after {patience:?}; {calls}");
                // A file tells nobody of each line but those who ask for every write of it, hundreds in a second.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Watches over a stretch in which nothing of that kind may be called; panics at the first call, with what it was.
    #[track_caller]
    pub fn silent(
        &self,
        mark: Mark,
        what: &str,
        stretch: Duration,
        heard: impl Fn(&Calls) -> Calls,
    ) -> impl Future<Output = ()> {
        let (caller, audit, what) = (std::panic::Location::caller(), self.clone(), what.to_owned());
        let end = Instant::now() + stretch;
        async move {
            let mut read_to = mark;
            loop {
                // Asked before the reading: what comes up to the very end is read as well.
                let is_over = Instant::now() >= end;
                let (more, so_far) = audit.read(read_to);
                read_to = so_far;
                let calls = heard(&Calls(more));
                assert!(calls.is_empty(), "{caller}: {what} called: {calls}");
                if is_over {
                    return;
                }
                // Only to fail early; the stretch itself is what is waited for.
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}
