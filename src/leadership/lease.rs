//! A Lease as the election reads and writes it.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::core::ObjectMeta;

use super::candidate::{Bid, Record, Terms};

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

/// The Lease that a bid asks for; everything else that stands in it stays.
pub(super) fn write(
    before: Option<&Lease>,
    name: &str,
    me: &str,
    terms: Terms,
    bid: &Bid,
    now: Timestamp,
) -> Lease {
    let mut lease = before.cloned().unwrap_or_default();
    if before.is_none() {
        lease.metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
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

    const TERMS: Terms = Terms {
        duration: Duration::from_secs(15),
        renew_deadline: Duration::from_secs(10),
        retry_period: Duration::from_secs(2),
    };

    fn bid(base: Option<&str>, is_release: bool, is_transition: bool) -> Bid {
        Bid { base: base.map(str::to_owned), is_release, is_transition }
    }

    #[test]
    fn what_is_written_is_read_back_and_a_release_is_nobodys() {
        let at = Timestamp::from_second(1_800_000_000).unwrap();
        let mut first = write(None, "5spot-leader", "a_1", TERMS, &bid(None, false, true), at);
        assert_eq!(first.metadata.resource_version, None);
        first.metadata.resource_version = Some("7".to_owned());
        let expected =
            Record { holder: Some("a_1".to_owned()), duration: TERMS.duration, version: "7".to_owned() };
        assert_eq!(read(&first), expected);

        let later = at + Duration::from_secs(2);
        let renewed = write(Some(&first), "5spot-leader", "a_1", TERMS, &bid(Some("7"), false, false), later);
        let (before, after) = (first.spec.clone().unwrap(), renewed.spec.clone().unwrap());
        assert_eq!((after.acquire_time, after.lease_transitions), (before.acquire_time, Some(1)));
        assert_eq!(after.renew_time, Some(MicroTime(later)));

        let released =
            write(Some(&renewed), "5spot-leader", "a_1", TERMS, &bid(Some("8"), true, false), later);
        assert_eq!(read(&released).holder, None);
        let taken = write(Some(&released), "5spot-leader", "b_1", TERMS, &bid(Some("9"), false, true), later);
        assert_eq!(taken.spec.unwrap().lease_transitions, Some(2));
    }

    #[test]
    fn what_others_wrote_into_it_stays() {
        let mut stored = Lease::default();
        stored.metadata.labels = Some([("team".to_owned(), "night".to_owned())].into());
        let written =
            write(Some(&stored), "l", "a", TERMS, &bid(Some("1"), false, true), Timestamp::UNIX_EPOCH);
        assert_eq!(written.metadata.labels, stored.metadata.labels);
    }
}
