use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde_json::json;
use tokio::sync::oneshot;

use super::Entry;

/// When a trap springs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The API server does not see the write.
    Before,
    /// The API server has done it; the client does not hear of it.
    After,
}

/// What is called when a trap springs.
pub type Strike = Box<dyn FnOnce() + Send>;
/// Picks requests.
pub type Matching = Box<dyn Fn(&Entry) -> bool + Send>;

/// A trap that has sprung.
pub struct Sprung {
    pub when: When,
    pub strike: Strike,
    pub tell: oneshot::Sender<Entry>,
}

struct Trap {
    left: usize,
    sprung: Sprung,
}

struct Answer {
    left: usize,
    given: Given,
    matching: Matching,
}

/// An answer that is not the API server's.
#[derive(Clone)]
pub struct Given {
    pub status: StatusCode,
    pub body: Bytes,
    pub forward: bool,
}

/// What goes wrong next.
#[derive(Default)]
pub struct Plan {
    trap: Option<Trap>,
    answers: Vec<Answer>,
    delays: Vec<(Duration, Matching)>,
    /// A trap has sprung and its strike has not returned.
    pub held: bool,
}

/// What to do with a request.
pub enum Verdict {
    Pass,
    Delay(Duration),
    Hold,
    Spring(Sprung),
    Give(Given),
}

impl Plan {
    pub fn set_trap(&mut self, n: usize, when: When, strike: Strike, tell: oneshot::Sender<Entry>) {
        assert!(n > 0, "writes count from 1");
        self.trap = Some(Trap { left: n, sprung: Sprung { when, strike, tell } });
    }

    pub fn add_answer(&mut self, times: usize, status: u16, body: String, forward: bool, matching: Matching) {
        let status = StatusCode::from_u16(status).expect("an HTTP status");
        let given = Given { status, body: body.into(), forward };
        self.answers.push(Answer { left: times, given, matching });
    }

    pub fn add_delay(&mut self, by: Duration, matching: Matching) {
        self.delays.push((by, matching));
    }

    pub fn answers_left(&self) -> usize {
        self.answers.iter().map(|answer| answer.left).sum()
    }

    /// Decides on a request, in the order in which they come.
    pub fn judge(&mut self, entry: &Entry) -> Verdict {
        if self.held {
            return Verdict::Hold;
        }
        if entry.is_write()
            && let Some(mut trap) = self.trap.take()
        {
            trap.left -= 1;
            if trap.left == 0 {
                self.held = true;
                return Verdict::Spring(trap.sprung);
            }
            self.trap = Some(trap);
        }
        let answer = self.answers.iter_mut().find(|answer| answer.left > 0 && (answer.matching)(entry));
        if let Some(answer) = answer {
            answer.left -= 1;
            return Verdict::Give(answer.given.clone());
        }
        let delay = self.delays.iter().find(|(_, matching)| matching(entry));
        delay.map_or(Verdict::Pass, |(by, _)| Verdict::Delay(*by))
    }
}

/// A `Status` as API servers answer with: `status_body(409, "Conflict", "the object has been modified")`.
pub fn status_body(code: u16, reason: &str, message: &str) -> String {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": message,
    });
    status.to_string()
}
