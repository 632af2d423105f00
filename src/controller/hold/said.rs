//! The status of a hold: is it in force, is it over, and whom does it cover.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{Covers, Entry, Hold};
use crate::api::condition::types;
use crate::api::machine_hold::{HoldOrigin, HoldState, MachineHoldStatus};

/// How long a reclaim's hold is kept after its end, for people to see what happened. Those of people stay.
const KEPT_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// What is known about a hold besides its content.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its generation.
    pub generation: Option<i64>,
    /// How many ScheduledMachines it covers.
    pub matches: usize,
    /// Its status as last written.
    pub before: &'a MachineHoldStatus,
    /// The clock.
    pub now: Timestamp,
}

/// The status that a hold should have.
pub fn status(entry: &Entry, seen: &Seen<'_>) -> MachineHoldStatus {
    let (in_force, expired) = match &entry.content {
        Err(fault) => {
            let end = format!("kubectl delete machinehold -n {} {}", seen.namespace, seen.name);
            let message = format!("it holds nothing: {fault}; correct it, or remove it: {end}");
            (("False", "Invalid", message.clone()), ("False", "Invalid", message))
        }
        Ok((covers, hold)) => (in_force(entry, covers, hold, seen), expired(hold, seen.now)),
    };
    MachineHoldStatus {
        observed_generation: seen.generation,
        matches: i64::try_from(seen.matches).ok(),
        conditions: vec![stamped(seen, types::EXPIRED, expired), stamped(seen, types::IN_FORCE, in_force)],
    }
}

/// When its status is next to be looked at, if nothing happens before.
pub fn next_look(hold: &Hold, now: Timestamp) -> Option<Timestamp> {
    hold.edges_after(now).chain(disposal(hold).filter(|at| *at > now)).min()
}

/// It is the controller's own, and nobody needs it any more.
pub fn is_disposable(hold: &Hold, now: Timestamp) -> bool {
    disposal(hold).is_some_and(|at| at <= now)
}

fn disposal(hold: &Hold) -> Option<Timestamp> {
    let until = hold.until.filter(|_| hold.origin == HoldOrigin::Reclaim)?;
    until.checked_add(KEPT_AFTER).ok()
}

type Said = (&'static str, &'static str, String);

fn in_force(entry: &Entry, covers: &Covers, hold: &Hold, seen: &Seen<'_>) -> Said {
    if entry.is_ending {
        return ("False", "Deleting", "it is being deleted and holds nothing any more".to_owned());
    }
    if hold.is_expired(seen.now) {
        return ("False", "Expired", expired(hold, seen.now).2);
    }
    if seen.matches == 0 {
        return ("False", "MatchesNothing", matches_nothing(covers, hold));
    }
    let whom = match covers {
        Covers::One(name) => format!("ScheduledMachine {name}"),
        Covers::Selected(_) if seen.matches == 1 => "1 ScheduledMachine".to_owned(),
        Covers::Selected(_) => format!("{} ScheduledMachines", seen.matches),
    };
    let what = match hold.state {
        HoldState::Active => "in the cluster",
        HoldState::Inactive => "with the owner",
        HoldState::AsIs => "as it is: nothing is created, deleted, cordoned or evicted",
        HoldState::NoNew => "out if it is out: what is lent may leave, nothing may join",
    };
    let end = match hold.until {
        Some(until) => format!("until {until}"),
        None => "until it is deleted".to_owned(),
    };
    match hold.from.filter(|from| *from > seen.now) {
        Some(from) => ("False", "NotYet", format!("from {from}, {end}: {whom}, {what}")),
        None => ("True", "InForce", format!("{whom}, {what}, {end}; unless a newer hold says otherwise")),
    }
}

fn matches_nothing(covers: &Covers, hold: &Hold) -> String {
    let namespace = &hold.namespace;
    let show = |options: &str| {
        format!("kubectl get scheduledmachines -n {namespace}{options} shows those there are")
    };
    match covers {
        Covers::One(name) => format!(
            "there is no ScheduledMachine {name} in namespace {namespace}: correct spec.scheduledMachine ({}), or create it and the hold counts at once",
            show("")
        ),
        Covers::Selected(_) => format!(
            "the labels of no ScheduledMachine in namespace {namespace} match: correct spec.selector ({}), or label one and the hold counts at once",
            show(" --show-labels")
        ),
    }
}

fn expired(hold: &Hold, now: Timestamp) -> Said {
    match (hold.until, hold.origin) {
        (Some(until), HoldOrigin::User) if until <= now => {
            let message = format!("it ended {until}; it may be deleted, or extended by a later spec.until");
            ("True", "Expired", message)
        }
        (Some(until), HoldOrigin::Reclaim) if until <= now => {
            ("True", "Expired", format!("it ended {until}; it is deleted an hour later"))
        }
        (Some(until), _) => ("False", "NotExpired", format!("it ends {until}")),
        (None, _) => ("False", "NotExpired", "it lasts until it is deleted".to_owned()),
    }
}

fn stamped(seen: &Seen<'_>, kind: &str, (status, reason, message): Said) -> Condition {
    let before = seen.before.conditions.iter().find(|condition| condition.type_ == kind);
    let unchanged = before.filter(|before| before.status == status).map(|b| b.last_transition_time.clone());
    let now = Timestamp::from_second(seen.now.as_second()).unwrap_or(seen.now);
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: seen.generation,
        last_transition_time: unchanged.unwrap_or(Time(now)),
    }
}
