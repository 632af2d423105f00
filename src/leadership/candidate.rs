//! One candidate for one Lease: what it knows, and what it wants to do next. Pure; whoever runs it reads the clock and makes
//! the calls.
//!
//! Two rules keep two candidates from leading at once, whatever becomes of messages and however their clocks are set:
//!
//! 1. A leader may act until `renew_deadline` after it *sent* the last renewal that was acknowledged.
//! 2. Nobody takes a Lease that another one holds before it has been seen unchanged, on one's own clock, for as long as the
//!    Lease itself says; and each write carries the version it was decided on, so that of several one goes through.
//!
//! The renewal was stored after it was sent, so the second span begins after the first, and it is longer. Clocks may be set
//! as they like; they may differ in speed by less than `duration / renew_deadline`. client-go counts its first span from the
//! answer, which may come late: <https://github.com/kubernetes/kubernetes/issues/44887>.

use std::time::Duration;

/// A reading of a clock that only goes forward, also while the machine is suspended; since some beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub Duration);

impl Moment {
    /// So much later.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// How long after another; zero if before it.
    pub fn since(self, other: Self) -> Duration {
        self.0.saturating_sub(other.0)
    }
}

/// Terms of an election: `retry_period < renew_deadline < duration`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Terms {
    /// Others wait this long after the last change that they saw.
    pub duration: Duration,
    /// The leader stops this long after it sent the last renewal that went through.
    pub renew_deadline: Duration,
    /// From one renewal to the next, and between attempts.
    pub retry_period: Duration,
}

/// Those of the shipped configuration, for tests.
#[cfg(test)]
pub(super) const TERMS: Terms = Terms {
    duration: Duration::from_secs(15),
    renew_deadline: Duration::from_secs(10),
    retry_period: Duration::from_secs(2),
};

/// What a stored Lease says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// Who has it; `None` after a release.
    pub holder: Option<String>,
    /// For how long after its last change it must be left alone.
    pub duration: Duration,
    /// Its resource version; compared for equality only.
    pub version: String,
}

/// A write to the Lease. With `base` it replaces that version and no other, without it creates.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bid {
    /// The version it was decided on.
    pub base: Option<String>,
    /// Lets the Lease go; otherwise takes or renews it.
    pub is_release: bool,
    /// The holder becomes another one.
    pub is_transition: bool,
}

/// What a candidate wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing until this moment, or until the Lease changes.
    Wait(Moment),
    /// Read the Lease from the server, then call [`Candidate::read`] or [`Candidate::failed`].
    Read,
    /// Write it, then call [`Candidate::accepted`], [`Candidate::refused`] or [`Candidate::failed`].
    Write(Bid),
    /// It has left; nothing more.
    Rest,
}

/// The Lease as last seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Seen {
    lease: Option<Record>,
    /// When somebody else may take it.
    free_at: Moment,
}

/// One candidate for one Lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    me: String,
    terms: Terms,
    seen: Option<Seen>,
    /// What was seen may be old.
    is_in_doubt: bool,
    /// When the last renewal that was acknowledged was sent.
    proven_at: Option<Moment>,
    /// When the write that is not answered yet was sent.
    sent_at: Option<Moment>,
    /// No call before this.
    not_before: Moment,
    /// Before this it does not want the Lease.
    back_until: Moment,
    /// Others go first: it bids so much later than it may.
    reluctance: Duration,
    is_leaving: bool,
}

impl Candidate {
    /// A candidate that has seen nothing. `me` must be nobody else's, not even of an earlier process of the same name.
    pub fn new(me: String, terms: Terms) -> Self {
        Self {
            me,
            terms,
            seen: None,
            is_in_doubt: true,
            proven_at: None,
            sent_at: None,
            not_before: Moment::default(),
            back_until: Moment::default(),
            reluctance: Duration::ZERO,
            is_leaving: false,
        }
    }

    /// When the last renewal that went through was sent, for as long as that lets us act.
    pub fn proof(&self, now: Moment) -> Option<Moment> {
        self.proven_at.filter(|sent| now < sent.after(self.terms.renew_deadline))
    }

    /// Who holds it, as last seen.
    pub fn holder(&self) -> Option<&str> {
        self.seen.as_ref()?.lease.as_ref()?.holder.as_deref()
    }

    /// Wants to lead no longer, and lets go what it has. Whoever calls this acts no more.
    pub fn leave(&mut self) {
        self.is_leaving = true;
        self.proven_at = None;
        self.not_before = Moment::default();
    }

    /// Lets go what it has, and does not want it again before that moment. Whoever calls this acts no more meanwhile.
    pub fn stand_back(&mut self, until: Moment) {
        self.back_until = until;
        if self.proven_at.take().is_some() {
            self.not_before = Moment::default();
        }
    }

    /// From now on it lets others go first for so long.
    pub fn be_reluctant(&mut self, by: Duration) {
        self.reluctance = by;
    }

    /// What it wants now. Nothing while a write is out.
    pub fn next(&self, now: Moment) -> Wish {
        if self.sent_at.is_some() {
            return Wish::Wait(now.after(self.terms.renew_deadline));
        }
        let holds = self.holder() == Some(&self.me);
        if self.is_leaving && !holds && !self.is_in_doubt {
            return Wish::Rest;
        }
        if now < self.not_before {
            return Wish::Wait(self.not_before);
        }
        let Some(seen) = self.seen.as_ref().filter(|_| !self.is_in_doubt) else { return Wish::Read };
        let base = seen.lease.as_ref().map(|lease| lease.version.clone());
        if holds {
            let is_release = self.is_leaving || now < self.back_until;
            return Wish::Write(Bid { base, is_release, is_transition: false });
        }
        let free_at = seen.free_at.after(self.reluctance).max(self.back_until);
        if now < free_at {
            return Wish::Wait(free_at);
        }
        Wish::Write(Bid { base, is_release: false, is_transition: true })
    }

    /// A watch tells of the Lease. That may be old news: whoever leads, and is told of another holder, asks again.
    pub fn told(&mut self, lease: Option<Record>, now: Moment) {
        let is_mine = lease.as_ref().is_some_and(|lease| lease.holder.as_deref() == Some(&self.me));
        if self.proof(now).is_none() && self.sent_at.is_none() {
            self.look(lease, now);
        } else if !is_mine && !self.is_known(lease.as_ref()) {
            self.is_in_doubt = true;
        }
    }

    /// The server was asked for the Lease after the last write was over, and says this.
    pub fn read(&mut self, lease: Option<Record>, now: Moment) {
        self.is_in_doubt = false;
        self.look(lease, now);
        if self.holder() != Some(&self.me) {
            self.proven_at = None;
        }
    }

    /// The write begins; from here on counts what it proves.
    pub fn sending(&mut self, now: Moment) {
        self.sent_at = Some(now);
    }

    /// The write went through, and the Lease is now this.
    pub fn accepted(&mut self, lease: Record, now: Moment) {
        let Some(sent) = self.sent_at.take() else { return };
        let is_mine = lease.holder.as_deref() == Some(&self.me);
        self.proven_at = Some(sent).filter(|_| is_mine && !self.is_leaving && now >= self.back_until);
        self.look(Some(lease), now);
        self.not_before = sent.after(self.terms.retry_period);
    }

    /// The write was refused because the Lease is not as it was: somebody was faster, or our last write went through after all.
    pub fn refused(&mut self) {
        self.sent_at = None;
        self.is_in_doubt = true;
    }

    /// A call failed, or was not answered in time. A write may have gone through or may still do so.
    pub fn failed(&mut self, now: Moment) {
        self.sent_at = None;
        self.is_in_doubt = true;
        // Several attempts must fit between a renewal and the deadline.
        self.not_before = now.after(self.terms.retry_period / 4);
    }

    fn is_known(&self, lease: Option<&Record>) -> bool {
        let version = |lease: &Record| lease.version.clone();
        let known = self.seen.as_ref().map(|seen| seen.lease.as_ref().map(version));
        known == Some(lease.map(version))
    }

    fn look(&mut self, lease: Option<Record>, now: Moment) {
        if self.is_known(lease.as_ref()) {
            return;
        }
        let is_others = |lease: &Record| lease.holder.as_ref().is_some_and(|holder| *holder != self.me);
        let free_at = match &lease {
            Some(lease) if is_others(lease) => now.after(lease.duration),
            Some(_) => now,
            // Somebody deleted it; whoever had it may act for as long as before.
            None => self.seen.as_ref().map_or(now, |seen| seen.free_at.max(now)),
        };
        self.seen = Some(Seen { lease, free_at });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    fn held_by(holder: &str, version: &str) -> Record {
        let holder = (!holder.is_empty()).then(|| holder.to_owned());
        Record { holder, duration: TERMS.duration, version: version.to_owned() }
    }

    fn candidate() -> Candidate {
        Candidate::new("me".to_owned(), TERMS)
    }

    /// Sent at one moment, answered at another.
    fn leading(sent: u64, answered: u64) -> Candidate {
        let mut candidate = candidate();
        candidate.read(None, at(sent));
        candidate.sending(at(sent));
        candidate.accepted(held_by("me", "1"), at(answered));
        candidate
    }

    #[test]
    fn a_leader_acts_until_the_deadline_after_it_sent_however_late_the_answer_came() {
        let candidate = leading(0, 3);
        assert_eq!(candidate.proof(at(9)), Some(at(0)));
        assert_eq!(candidate.proof(at(10)), None);
    }

    #[test]
    fn a_lease_of_another_is_left_alone_until_it_has_stood_still_for_its_own_time() {
        let mut candidate = candidate();
        assert_eq!(candidate.next(at(0)), Wish::Read);
        candidate.read(Some(held_by("other", "7")), at(0));
        assert_eq!(candidate.next(at(14)), Wish::Wait(at(15)));
        candidate.told(Some(held_by("other", "8")), at(14));
        assert_eq!(candidate.next(at(28)), Wish::Wait(at(29)));
        let bid = Bid { base: Some("8".to_owned()), is_release: false, is_transition: true };
        assert_eq!(candidate.next(at(29)), Wish::Write(bid));
        // Let go, it is there for the taking.
        candidate.told(Some(held_by("", "9")), at(20));
        assert!(matches!(candidate.next(at(20)), Wish::Write(_)));
    }

    #[test]
    fn a_leader_who_is_told_of_another_asks_before_it_believes() {
        let mut candidate = leading(0, 0);
        candidate.told(Some(held_by("other", "0")), at(3));
        assert!(candidate.proof(at(3)).is_some());
        assert_eq!(candidate.next(at(3)), Wish::Read);
        candidate.read(Some(held_by("me", "1")), at(3));
        assert!(candidate.proof(at(3)).is_some());
        candidate.read(Some(held_by("other", "2")), at(4));
        assert_eq!(candidate.proof(at(4)), None);
    }

    #[test]
    fn a_renewal_whose_answer_was_lost_proves_nothing_and_is_made_good() {
        let mut candidate = leading(0, 0);
        assert_eq!(candidate.next(at(1)), Wish::Wait(at(2)));
        candidate.sending(at(2));
        candidate.failed(at(5));
        assert_eq!(candidate.proof(at(5)), Some(at(0)));
        candidate.read(Some(held_by("me", "2")), at(6));
        let bid = Bid { base: Some("2".to_owned()), is_release: false, is_transition: false };
        assert_eq!(candidate.next(at(6)), Wish::Write(bid));
    }

    #[test]
    fn whoever_leaves_lets_go_and_rests() {
        let mut candidate = leading(0, 0);
        candidate.leave();
        assert_eq!(candidate.proof(at(0)), None);
        let bid = Bid { base: Some("1".to_owned()), is_release: true, is_transition: false };
        assert_eq!(candidate.next(at(0)), Wish::Write(bid));
        candidate.sending(at(0));
        candidate.accepted(held_by("", "2"), at(0));
        assert_eq!(candidate.next(at(0)), Wish::Rest);
    }

    #[test]
    fn whoever_stands_back_lets_go_and_wants_it_again_later() {
        let mut candidate = leading(0, 0);
        candidate.stand_back(at(20));
        assert_eq!(candidate.proof(at(0)), None);
        let bid = Bid { base: Some("1".to_owned()), is_release: true, is_transition: false };
        assert_eq!(candidate.next(at(0)), Wish::Write(bid));
        candidate.sending(at(0));
        candidate.accepted(held_by("", "2"), at(0));
        assert_eq!(candidate.next(at(3)), Wish::Wait(at(20)));
        assert!(matches!(candidate.next(at(20)), Wish::Write(bid) if !bid.is_release));
    }

    #[test]
    fn whoever_is_reluctant_lets_others_go_first() {
        let mut candidate = candidate();
        candidate.read(Some(held_by("", "7")), at(0));
        candidate.be_reluctant(Duration::from_secs(1));
        assert_eq!(candidate.next(at(0)), Wish::Wait(at(1)));
        candidate.told(Some(held_by("other", "8")), at(0));
        assert_eq!(candidate.next(at(1)), Wish::Wait(at(16)));
    }

    #[test]
    fn a_lease_that_somebody_deleted_is_still_its_holders_for_the_rest_of_its_time() {
        let mut candidate = candidate();
        candidate.read(Some(held_by("other", "7")), at(0));
        candidate.told(None, at(5));
        assert_eq!(candidate.next(at(14)), Wish::Wait(at(15)));
    }
}
