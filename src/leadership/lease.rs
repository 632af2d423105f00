//! A Lease as the election reads and writes it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::core::ObjectMeta;

use super::candidate::{Bid, Record, Terms};
use crate::api::names::ANNOTATION_ASKED_FOR;

/// What a Lease says to a candidate.
pub(super) fn read(lease: &Lease) -> Record {
    let spec = lease.spec.as_ref();
    let holder = spec.and_then(|spec| spec.holder_identity.clone()).filter(|holder| !holder.is_empty());
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
    Record {
        holder,
        // What says nothing of it, or nonsense, was never held by one of us; client-go would take it at once.
        duration: Duration::from_secs(u64::try_from(seconds).unwrap_or_default()),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
    }
}

/// What stays the same of a Lease, whoever has it.
#[derive(Clone, Debug)]
pub(super) struct Form {
    /// Its name.
    pub name: String,
    /// Of its election, and how many shards that has.
    pub labels: BTreeMap<String, String>,
    /// On what terms.
    pub terms: Terms,
}

/// Who asks for it, and has it not.
pub(super) fn asked_for_by(lease: &Lease) -> Option<&str> {
    lease.metadata.annotations.as_ref()?.get(ANNOTATION_ASKED_FOR).map(String::as_str)
}

/// The same Lease, asked for by somebody.
pub(super) fn asked_for(lease: &Lease, me: &str) -> Lease {
    let mut lease = lease.clone();
    lease.metadata.managed_fields = None;
    let annotations = lease.metadata.annotations.get_or_insert_default();
    annotations.insert(ANNOTATION_ASKED_FOR.to_owned(), me.to_owned());
    lease
}

/// The Lease that a bid asks for; everything else that stands in it stays. Whoever takes it is asked by nobody yet.
pub(super) fn write(before: Option<&Lease>, form: &Form, me: &str, bid: &Bid, now: Timestamp) -> Lease {
    let Form { name, labels, terms } = form;
    let mut lease = before.cloned().unwrap_or_default();
    if before.is_none() {
        lease.metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
    }
    lease.metadata.labels.get_or_insert_default().extend(labels.clone());
    if let Some(annotations) = lease.metadata.annotations.as_mut().filter(|_| bid.is_transition) {
        annotations.remove(ANNOTATION_ASKED_FOR);
    }
    lease.metadata.resource_version.clone_from(&bid.base);
    lease.metadata.managed_fields = None;
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    spec.renew_time = Some(MicroTime(now));
    if bid.is_release {
        spec.holder_identity = Some(String::new());
        // client-go does the same: whoever reads it as held waits no longer than that.
        spec.lease_duration_seconds = Some(1);
        return lease;
    }
    spec.holder_identity = Some(me.to_owned());
    spec.lease_duration_seconds = Some(i32::try_from(terms.duration.as_secs()).unwrap_or(i32::MAX));
    if bid.is_transition {
        spec.acquire_time = Some(MicroTime(now));
        spec.lease_transitions = Some(spec.lease_transitions.unwrap_or_default().saturating_add(1));
    }
    lease
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leadership::candidate::TERMS;

    fn form() -> Form {
        let labels = [("5spot.finos.org/shards".to_owned(), "1".to_owned())].into();
        Form { name: "5spot-leader".to_owned(), labels, terms: TERMS }
    }

    fn bid(base: Option<&str>, is_release: bool, is_transition: bool) -> Bid {
        Bid { base: base.map(str::to_owned), is_release, is_transition }
    }

    #[test]
    fn what_is_written_is_read_back_and_a_release_is_nobodys() {
        let at = Timestamp::from_second(1_800_000_000).unwrap();
        let mut first = write(None, &form(), "a_1", &bid(None, false, true), at);
        assert_eq!(first.metadata.resource_version, None);
        first.metadata.resource_version = Some("7".to_owned());
        let expected =
            Record { holder: Some("a_1".to_owned()), duration: TERMS.duration, version: "7".to_owned() };
        assert_eq!(read(&first), expected);

        let later = at + Duration::from_secs(2);
        let renewed = write(Some(&first), &form(), "a_1", &bid(Some("7"), false, false), later);
        let (before, after) = (first.spec.clone().unwrap(), renewed.spec.clone().unwrap());
        assert_eq!((after.acquire_time, after.lease_transitions), (before.acquire_time, Some(1)));
        assert_eq!(after.renew_time, Some(MicroTime(later)));

        let released = write(Some(&renewed), &form(), "a_1", &bid(Some("8"), true, false), later);
        assert_eq!(read(&released).holder, None);
        let taken = write(Some(&released), &form(), "b_1", &bid(Some("9"), false, true), later);
        assert_eq!(taken.spec.unwrap().lease_transitions, Some(2));
    }

    #[test]
    fn what_others_wrote_into_it_stays() {
        let mut stored = Lease::default();
        stored.metadata.labels = Some([("team".to_owned(), "night".to_owned())].into());
        let written = write(Some(&stored), &form(), "a", &bid(Some("1"), false, true), Timestamp::UNIX_EPOCH);
        let labels = written.metadata.labels.clone().unwrap();
        assert_eq!((labels["team"].as_str(), labels["5spot.finos.org/shards"].as_str()), ("night", "1"));

        let asked = asked_for(&written, "b");
        assert_eq!(asked_for_by(&asked), Some("b"));
        let at = Timestamp::UNIX_EPOCH;
        let renewed = write(Some(&asked), &form(), "a", &bid(Some("2"), false, false), at);
        assert_eq!(asked_for_by(&renewed), Some("b"), "until somebody else has it");
        let taken = write(Some(&renewed), &form(), "b", &bid(Some("3"), false, true), at);
        assert_eq!(asked_for_by(&taken), None);
    }
}
