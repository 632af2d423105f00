//! The right to write: proven by a Lease, or given once and for all where nobody is elected.
//!
//! A claim is read from the clock each time it is asked, so that whoever was stopped, starved or asleep learns at its next
//! write that its time is over, and not when a task gets round to saying so.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::candidate::{Moment, Terms};
use super::clock;

tokio::task_local! {
    static CLAIM: Claim;
}

/// No renewal was acknowledged.
const NEVER: u64 = 0;

/// The right to write for some part of the objects.
#[derive(Clone, Debug)]
pub struct Claim(Option<Arc<Proof>>);

#[derive(Debug)]
struct Proof {
    terms: Terms,
    /// When the last renewal that was acknowledged was sent: milliseconds, and one more.
    sent: AtomicU64,
}

impl Claim {
    /// Nobody is elected: it always holds.
    pub fn unconditional() -> Self {
        Self(None)
    }

    /// Holds for as long as a Lease is proven to be ours; not yet.
    pub fn leased(terms: Terms) -> Self {
        Self(Some(Arc::new(Proof { terms, sent: AtomicU64::new(NEVER) })))
    }

    /// What proves it now; `None`: nothing does.
    pub(super) fn prove(&self, sent: Option<Moment>) {
        if let Some(proof) = &self.0 {
            // Whole milliseconds, rounded down: never later than it was.
            let millis = sent.map(|sent| u64::try_from(sent.0.as_millis()).unwrap_or(u64::MAX - 1) + 1);
            proof.sent.store(millis.unwrap_or(NEVER), Ordering::SeqCst);
        }
    }

    /// A write may begin.
    pub fn holds(&self) -> bool {
        match &self.0 {
            None => true,
            Some(proof) => proof.left(proof.terms.renew_deadline).is_some(),
        }
    }

    /// How long a write that has begun may wait for its answer; `None`: for as long as it likes. It is given up half way
    /// between the end of our right and the beginning of anybody else's, so that no clock that is a little slow matters.
    pub fn answer_within(&self) -> Option<Duration> {
        let proof = self.0.as_ref()?;
        let Terms { duration, renew_deadline, .. } = proof.terms;
        let given_up = renew_deadline + duration.saturating_sub(renew_deadline) / 2;
        Some(proof.left(given_up).unwrap_or_default())
    }

    /// Runs something under this claim: its writes are let through while it holds.
    pub async fn cover<T>(&self, work: impl Future<Output = T>) -> T {
        CLAIM.scope(self.clone(), work).await
    }

    /// The one that what runs now is under.
    pub fn current() -> Option<Self> {
        CLAIM.try_with(Clone::clone).ok()
    }
}

impl Proof {
    fn left(&self, span: Duration) -> Option<Duration> {
        let sent = self.sent.load(Ordering::SeqCst).checked_sub(1)?;
        let end = Moment(Duration::from_millis(sent)).after(span);
        Some(end.since(clock::now())).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms {
        duration: Duration::from_secs(15),
        renew_deadline: Duration::from_secs(10),
        retry_period: Duration::from_secs(2),
    };

    fn sent_before(seconds: u64) -> Claim {
        let claim = Claim::leased(TERMS);
        claim.prove(Some(Moment(clock::now().0.saturating_sub(Duration::from_secs(seconds)))));
        claim
    }

    #[test]
    fn a_claim_holds_from_a_proof_until_the_deadline() {
        assert!(!Claim::leased(TERMS).holds());
        assert!(sent_before(9).holds());
        assert!(!sent_before(10).holds());
        let claim = sent_before(0);
        claim.prove(None);
        assert!(!claim.holds());
    }

    #[test]
    fn a_write_that_has_begun_is_given_up_before_anybody_else_may_begin() {
        let left = sent_before(10).answer_within().unwrap();
        assert!(left > Duration::from_secs(2) && left <= Duration::from_millis(2_501), "{left:?}");
        assert_eq!(sent_before(13).answer_within(), Some(Duration::ZERO));
    }

    #[test]
    fn where_nobody_is_elected_it_always_holds() {
        assert!(Claim::unconditional().holds());
        assert_eq!(Claim::unconditional().answer_within(), None);
    }

    #[tokio::test]
    async fn work_knows_its_claim_and_what_it_starts_does_not() {
        assert!(Claim::current().is_none());
        Claim::unconditional().cover(async { assert!(Claim::current().is_some()) }).await;
        assert!(Claim::current().is_none());
    }
}
