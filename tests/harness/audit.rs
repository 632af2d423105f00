//! The audit log of an API server: every call, by whom, and how it ended.

use std::collections::HashSet;
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

/// How long the answer to a write may take to stand in the log. A write that hangs, as some tests have it, is not waited for.
const ANSWERS: Duration = Duration::from_secs(2);

/// What stood in a stretch of the log.
#[derive(Default)]
struct Reading {
    calls: Vec<Call>,
    /// Writes that came.
    begun: HashSet<String>,
    /// Calls that were answered.
    answered: HashSet<String>,
    /// Where to go on.
    end: Mark,
}

/// A place in the log, and when it was the end. The line of a call comes after its effect can be seen, and so a line behind
/// the place may be that of a call from before: it belongs to what was before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// In bytes.
    pub place: u64,
    /// Calls that were received before are not among what came after.
    pub set: Timestamp,
}

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
    /// What a patch of a Machine, of a Node or of a ScheduledMachine's status asked for; null for all else.
    pub body: Value,
}

impl Call {
    /// Whether it asks for a change; reviews are created, but change nothing.
    pub fn is_write(&self) -> bool {
        let writes = ["create", "update", "patch", "delete", "deletecollection"];
        writes.contains(&self.verb.as_str()) && !self.resource.ends_with("reviews")
    }

    /// Each call is one event: that of its answer, or of its beginning if it is a watch.
    fn of(event: &Value) -> Option<Self> {
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
        let instant = |pointer: &str| {
            text(pointer).parse().unwrap_or_else(|error| panic!("no instant at {pointer}: {error}: {event}"))
        };
        Some(Self {
            received: instant("/requestReceivedTimestamp"),
            ended: instant("/stageTimestamp"),
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
            body: event["requestObject"].clone(),
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

    /// The end of the log as it is now. A line that is half written belongs to what was before, and its end is waited for.
    pub fn mark(&self) -> Mark {
        let set = Timestamp::now();
        let end = std::fs::metadata(&self.path).map_or(0, |file| file.len());
        let Some(last) = end.checked_sub(1) else { return Mark { place: 0, set } };
        let deadline = Instant::now() + ANSWERS;
        loop {
            if let Some(line_end) = self.bytes(last).iter().position(|byte| *byte == b'\n') {
                return Mark { place: last + line_end as u64 + 1, set };
            }
            assert!(Instant::now() < deadline, "a line of the audit log was begun and not ended");
            // Not a wait for the product: the rest of a line is on its way to a file.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What came after that place. What a write did can be seen before its own line: of writes that have begun the answers
    /// are waited for, for a moment.
    pub fn after(&self, mark: Mark) -> Calls {
        let mut reading = self.read(mark);
        let owed: Vec<String> = reading.begun.difference(&reading.answered).cloned().collect();
        let deadline = Instant::now() + ANSWERS;
        while owed.iter().any(|id| !reading.answered.contains(id)) && Instant::now() < deadline {
            // Not a wait for the product: the line of something that has already happened is on its way to a file.
            std::thread::sleep(Duration::from_millis(5));
            let more = self.read(reading.end);
            reading.calls.extend(more.calls);
            reading.answered.extend(more.answered);
            reading.end = more.end;
        }
        Calls(reading.calls)
    }

    fn bytes(&self, from: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        // It is there from the server's first answer on.
        let mut file = File::open(&self.path)
            .unwrap_or_else(|error| panic!("no audit log at {}: {error}", self.path.display()));
        file.seek(SeekFrom::Start(from)).expect("an audit log to read");
        file.read_to_end(&mut bytes).expect("an audit log to read");
        bytes
    }

    /// From there on. A line that is still being written is left for later.
    fn read(&self, mark: Mark) -> Reading {
        let bytes = self.bytes(mark.place);
        let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let end = Mark { place: mark.place + complete as u64, ..mark };
        let mut reading = Reading { end, ..Reading::default() };
        for line in String::from_utf8_lossy(&bytes[..complete]).lines() {
            // A line that is passed over could be the very call that a test says never came.
            let event: Value = serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("a line of the audit log cannot be read: {error}: {line}"));
            let id = event["auditID"].as_str().unwrap_or_default().to_owned();
            if event["stage"] == "RequestReceived" {
                reading.begun.insert(id);
            } else {
                reading.answered.insert(id);
            }
            reading.calls.extend(Call::of(&event).filter(|call| call.received >= mark.set));
        }
        reading
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
                let more = audit.read(read_to);
                let has_news = !more.calls.is_empty() || read_to == mark;
                calls.0.extend(more.calls);
                read_to = more.end;
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
                let more = audit.read(read_to);
                read_to = more.end;
                let calls = heard(&Calls(more.calls));
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
