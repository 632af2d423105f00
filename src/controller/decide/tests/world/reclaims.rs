//! Owners who take the machine back, in the simulated world: each time one hold, whatever fails in between.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::model::World;
use crate::controller::hold::{Entry, Hold};
use crate::controller::reclaim::request::Note;
use crate::controller::reclaim::wish::{Tried, Wish};
use crate::controller::report::{Failure, Recorded};

/// The server may still be at a call that was not answered.
const AGAIN: SignedDuration = SignedDuration::from_secs(36);

/// What became of reclaims.
#[derive(Clone, Debug, Default)]
pub(super) struct Reclaims {
    /// What the process remembers of the last try.
    pub(super) tried: Option<Tried>,
    /// What the agents wrote.
    asked: BTreeSet<String>,
    /// What a hold was made for, of those with a time.
    made: BTreeSet<String>,
}

impl World {
    /// As an agent does: once, until it is answered.
    pub(super) fn ask(&mut self, is_timed: bool) {
        let (version, at) = (self.uid(), self.wall());
        let at = Timestamp::from_millisecond(at.as_millisecond()).unwrap();
        let is_joined = self.live.host.as_ref().is_some_and(|host| host.machine.node.is_some());
        let Some(node) = self.live.node.as_mut().filter(|node| is_joined && node.reclaim.is_none()) else {
            return;
        };
        let requested_at = if is_timed { at.to_string() } else { String::new() };
        self.reclaims.asked.insert(requested_at.clone());
        node.reclaim = Some(Note { reason: "process-match: java".to_owned(), requested_at });
        node.resource_version = version;
    }

    /// Somebody asked for it, and it is not made for the second time.
    pub(super) fn is_asked_for(&self, wish: &Wish) {
        let (_, time) = wish.asked.request.split_once('/').unwrap();
        let time = if time == "no-time" { "" } else { time };
        assert!(self.reclaims.asked.contains(time), "nobody asked: {wish:?}");
        let is_again = self.reclaims.made.contains(&wish.asked.request) && self.stale.is_none();
        let is_shown = self.live.holds.iter().any(|hold| request(hold) == Some(&wish.asked.request));
        assert!(!is_again || !is_shown, "a second hold: {wish:?}");
    }

    pub(super) fn write_hold(&mut self, wish: &Wish) {
        let request = wish.asked.request.clone();
        let is_timed = !request.ends_with("/no-time");
        assert!(!is_timed || self.reclaims.made.insert(request), "a second hold: {wish:?}");
        let mut object = wish.hold.as_ref().clone();
        let uid = self.uid();
        object.metadata.name = object.metadata.generate_name.take().map(|prefix| format!("{prefix}{uid}"));
        object.metadata.uid = Some(uid);
        let created = Timestamp::from_second(self.real.as_second()).unwrap();
        object.metadata.creation_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(created));
        let entry = Entry::read(&object);
        let hold = entry.over("ws-1", &std::collections::BTreeMap::new());
        self.live.holds.push(hold.expect("it covers its object").clone());
    }

    pub(super) fn recorded(&mut self, wish: &Wish, failure: Option<Failure>) -> Recorded {
        let request = wish.asked.request.clone();
        let failure = failure.map(|failure| failure.message);
        let again_at = self.wall() + AGAIN;
        self.reclaims.tried = failure.clone().map(|message| Tried { request, message, again_at });
        Recorded { asked: wish.asked.clone(), failure }
    }
}

fn request(hold: &Hold) -> Option<&String> {
    hold.reclaim.as_ref()?.request.as_ref()
}
