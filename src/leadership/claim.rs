//! The right to write: proven by a Lease, or given once and for all where nobody is elected.
//!
//! A claim is read from the clock each time it is asked, so that whoever was stopped, starved or asleep learns at its next
//! write that its time is over, and not when a task gets round to saying so. It is for one term: what was begun in a former
//! one writes nothing in the next, for somebody else may have written in between.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::candidate::{Moment, Terms};
use super::clock;

tokio::task_local! {
    static CLAIM: Claim;
}

/// No renewal was acknowledged.
const NEVER: u64 = 0;

/// The right to write for some part of the objects.
#[derive(Clone, Debug)]
pub struct Claim(Option<InTerm>);

/// A Lease, and the term in which the right was had.
#[derive(Clone, Debug)]
struct InTerm {
    proof: Proof,
    term: u64,
}

/// What proves that a Lease is ours. Clones are the same.
#[derive(Clone, Debug)]
pub struct Proof(Arc<State>);

#[derive(Debug)]
struct State {
    terms: Terms,
    /// When the last renewal that was acknowledged was sent: milliseconds, and one more.
    sent: AtomicU64,
    /// Another one with every time that the Lease was won.
    term: AtomicU64,
    /// When it was won last, in milliseconds.
    won: AtomicU64,
    /// Writes that have begun and are not answered.
    out: watch::Sender<usize>,
}

/// A write that has begun; until this is dropped.
#[derive(Debug)]
pub(super) struct Writing(Proof);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.0.out.send_modify(|out| *out -= 1);
    }
}

impl Proof {
    /// Of a Lease that is not ours yet.
    pub fn of(terms: Terms) -> Self {
        let (sent, term, won) = (AtomicU64::new(NEVER), AtomicU64::new(0), AtomicU64::new(0));
        Self(Arc::new(State { terms, sent, term, won, out: watch::Sender::new(0) }))
    }

    /// What proves it now; `None`: nothing does. Called by one task alone.
    pub(super) fn prove(&self, sent: Option<Moment>) {
        // Whole milliseconds, rounded down: never later than it was.
        let millis = sent.map(|sent| u64::try_from(sent.0.as_millis()).unwrap_or(u64::MAX - 1) + 1);
        if millis.is_some() && self.0.sent.load(Ordering::SeqCst) == NEVER {
            // Before the proof: whoever sees that sees the new term as well.
            let won = u64::try_from(clock::now().0.as_millis()).unwrap_or(u64::MAX);
            self.0.won.store(won, Ordering::SeqCst);
            self.0.term.fetch_add(1, Ordering::SeqCst);
        }
        self.0.sent.store(millis.unwrap_or(NEVER), Ordering::SeqCst);
    }

    /// The right to write in the present term, if there is one.
    pub fn claim(&self) -> Option<Claim> {
        let term = self.0.term.load(Ordering::SeqCst);
        let claim = Claim(Some(InTerm { proof: self.clone(), term }));
        claim.holds().then_some(claim)
    }

    /// Returns once no write that has begun is unanswered. Called when none may begin.
    pub(super) async fn all_answered(&self) {
        // The sender lives as long as we do.
        let _ = self.0.out.subscribe().wait_for(|out| *out == 0).await;
    }

    fn left(&self, term: u64, span: Duration) -> Option<Duration> {
        let sent = self.0.sent.load(Ordering::SeqCst).checked_sub(1)?;
        if self.0.term.load(Ordering::SeqCst) != term {
            return None;
        }
        let end = Moment(Duration::from_millis(sent)).after(span);
        Some(end.since(clock::now())).filter(|left| !left.is_zero())
    }
}

impl Claim {
    /// Nobody is elected: it always holds.
    pub fn unconditional() -> Self {
        Self(None)
    }

    /// A write may begin.
    pub fn holds(&self) -> bool {
        match &self.0 {
            None => true,
            Some(InTerm { proof, term }) => proof.left(*term, proof.0.terms.renew_deadline).is_some(),
        }
    }

    /// The Lease was won less than that ago.
    pub fn is_younger_than(&self, age: Duration) -> bool {
        self.0.as_ref().is_some_and(|InTerm { proof, .. }| {
            let won = Moment(Duration::from_millis(proof.0.won.load(Ordering::SeqCst)));
            clock::now().since(won) < age
        })
    }

    /// A write is about to begin: to be called before [`Claim::holds`], so that whoever ends the claim and then looks sees
    /// either none or this one.
    pub(super) fn begins(&self) -> Option<Writing> {
        let InTerm { proof, .. } = self.0.as_ref()?;
        proof.0.out.send_modify(|out| *out += 1);
        Some(Writing(proof.clone()))
    }

    /// How long a write that has begun may wait for its answer; `None`: for as long as it likes. It is given up half way
    /// between the end of our right and the beginning of anybody else's, so that no clock that is a little slow matters.
    pub fn answer_within(&self) -> Option<Duration> {
        let InTerm { proof, term } = self.0.as_ref()?;
        let Terms { duration, renew_deadline, .. } = proof.0.terms;
        let given_up = renew_deadline + duration.saturating_sub(renew_deadline) / 2;
        Some(proof.left(*term, given_up).unwrap_or_default())
    }

    /// Runs something under this claim: its writes are let through while it holds.
    pub async fn cover<T>(&self, work: impl Future<Output = T>) -> T {
        CLAIM.scope(self.clone(), work).await
    }

    /// The one that what runs now is under.
    pub fn current() -> Option<Self> {
        CLAIM.try_with(Clone::clone).ok()
    }

    /// Something that goes on elsewhere, under the claim that what runs now is under.
    pub fn handed_on<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
        let claim = Self::current();
        async move {
            match claim {
                Some(claim) => claim.cover(work).await,
                None => work.await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;
    use crate::leadership::candidate::TERMS;

    fn before(seconds: u64) -> Moment {
        Moment(clock::now().0.saturating_sub(Duration::from_secs(seconds)))
    }

    #[test]
    fn a_claim_holds_from_a_proof_until_the_deadline() {
        let proof = Proof::of(TERMS);
        assert!(proof.claim().is_none());
        proof.prove(Some(before(9)));
        let claim = proof.claim().unwrap();
        assert!(claim.is_younger_than(Duration::from_secs(60)) && !claim.is_younger_than(Duration::ZERO));
        proof.prove(Some(before(10)));
        assert!(!claim.holds() && proof.claim().is_none());
        proof.prove(Some(before(0)));
        assert!(claim.holds(), "renewed, and nobody said that it was lost");
        proof.prove(None);
        assert!(!claim.holds() && proof.claim().is_none());
    }

    #[test]
    fn what_was_begun_in_a_former_term_writes_nothing_in_the_next() {
        let proof = Proof::of(TERMS);
        proof.prove(Some(before(0)));
        let former = proof.claim().unwrap();
        proof.prove(None);
        proof.prove(Some(before(0)));
        assert!(proof.claim().unwrap().holds());
        assert!(!former.holds());
        assert_eq!(former.answer_within(), Some(Duration::ZERO));
    }

    #[test]
    fn a_write_that_has_begun_is_given_up_before_anybody_else_may_begin() {
        let proof = Proof::of(TERMS);
        proof.prove(Some(before(0)));
        let claim = proof.claim().unwrap();
        proof.prove(Some(before(10)));
        let left = claim.answer_within().unwrap();
        assert!(left > Duration::from_secs(2) && left <= Duration::from_millis(2_501), "{left:?}");
        proof.prove(Some(before(13)));
        assert_eq!(claim.answer_within(), Some(Duration::ZERO));
    }

    #[tokio::test]
    async fn whoever_ends_a_claim_can_wait_for_the_writes_that_have_begun() {
        let proof = Proof::of(TERMS);
        proof.prove(Some(before(0)));
        let writing = proof.claim().unwrap().begins();
        proof.prove(None);
        let soon = Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, proof.all_answered()).await.is_err());
        drop(writing);
        proof.all_answered().await;
    }

    #[test]
    fn where_nobody_is_elected_it_always_holds() {
        assert!(Claim::unconditional().holds());
        assert!(!Claim::unconditional().is_younger_than(Duration::MAX));
        assert_eq!(Claim::unconditional().answer_within(), None);
    }

    #[tokio::test]
    async fn work_knows_its_claim_and_what_it_starts_does_not_unless_it_is_handed_on() {
        let is_covered = || async { Claim::current().is_some() };
        assert!(!is_covered().await && !Claim::handed_on(is_covered()).await);
        let (mut alone, mut handed_on) = (JoinSet::new(), JoinSet::new());
        let both = async {
            alone.spawn(is_covered());
            handed_on.spawn(Claim::handed_on(is_covered()));
        };
        Claim::unconditional().cover(both).await;
        assert!(!alone.join_next().await.unwrap().unwrap());
        assert!(handed_on.join_next().await.unwrap().unwrap());
        assert!(Claim::current().is_none());
    }
}
