//! Runs a candidate for one Lease: makes its calls, and keeps its proof.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::PostParams;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::candidate::{Bid, Candidate, Moment, Wish};
use super::claim::Proof;
use super::clock;
use super::gate::Gate;
use super::lease::{self, Form};
use crate::api::names::FIELD_MANAGER;
use crate::watch::Outage;

/// Of the renew deadline, what one call may take: three of them fit.
const CALLS_BEFORE_DEADLINE: u32 = 3;
/// Whoever has so many shards lets others go first for so long, for each: enough to be seen by all that watch.
const RELUCTANCE: Duration = Duration::from_millis(150);
/// Bound on that: nobody's objects wait for good manners.
const MOST_RELUCTANCE: Duration = Duration::from_millis(900);
/// From when nobody of another count acts any more until one stands for a Lease again, at most.
const COMING_FORWARD: Duration = Duration::from_millis(100);

/// The candidate for one Lease of an election.
pub(super) struct Elector {
    pub api: Api<Lease>,
    pub form: Form,
    /// Nobody else is called so.
    pub me: String,
    pub proof: Proof,
    /// What keeps two counts apart.
    pub gate: Arc<Gate>,
    /// How many Leases this replica has, all together.
    pub held: Arc<AtomicU32>,
    pub stake: Stake,
}

/// Whose the shard of a Lease is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stake {
    /// There is one for all objects, and everybody's alike.
    Everybodys,
    /// This replica has its number; others only stand in.
    Own,
    /// Another's, for which this one stands in.
    Anothers,
}

/// What the watch said.
pub(super) enum Told {
    /// This Lease is so; `None`: it is gone.
    Lease(Box<Option<Lease>>),
    /// Something about Leases of other counts.
    Others,
}

impl Elector {
    /// Stands for election until `stop`; then lets the Lease go, if it has it, and ends. `changed` is told of every win and
    /// every loss.
    ///
    /// `stop` must resolve only when nothing is written any more.
    pub(super) async fn stand(
        &self,
        mut told: UnboundedReceiver<Told>,
        stop: impl Future<Output = ()>,
        changed: &(impl Fn() + Sync),
    ) {
        let mut candidate = Candidate::new(self.me.clone(), self.form.terms);
        let mut known = Known::default();
        let (mut stop, mut is_stopping) = (pin!(stop), false);
        loop {
            if !known.leads && !is_stopping {
                self.keep_counts_apart(&mut candidate, &mut known).await;
            }
            let now = clock::now();
            let proof = candidate.proof(now);
            self.proof.prove(proof);
            if known.leads != proof.is_some() {
                known.leads = proof.is_some();
                self.tell(known.leads, &candidate, is_stopping || known.back == Back::ForAnother);
                known.back = Back::Not;
                changed();
            }
            self.tell_of_another(&candidate, &mut known);
            if known.leads && self.stake == Stake::Anothers && self.is_asked_for(&known) {
                known.back = Back::ForAnother;
                self.give_back(&mut candidate, proof).await;
                continue;
            }
            candidate.be_reluctant(self.reluctance());
            match candidate.next(now) {
                Wish::Rest => return,
                Wish::Read => self.look(&mut candidate, &mut known).await,
                Wish::Write(bid) => self.bid(&mut candidate, &mut known, &bid).await,
                Wish::Wait(until) => tokio::select! {
                    () = &mut stop, if !is_stopping => {
                        is_stopping = true;
                        candidate.leave();
                    }
                    Some(news) = told.recv() => if let Told::Lease(lease) = news {
                        candidate.told(lease.as_ref().as_ref().map(lease::read), clock::now());
                        self.ask(&known, lease.as_ref().as_ref()).await;
                        known.lease = *lease;
                    },
                    () = sleep(until.since(now)) => {}
                    // Our right may end before the next attempt is due.
                    () = self.end(proof, now), if proof.is_some() => {}
                },
            }
        }
    }

    /// While others may act under another count nothing is stood for; and what was just won lets act only once a live look
    /// has shown that none does.
    async fn keep_counts_apart(&self, candidate: &mut Candidate, known: &mut Known) {
        let now = clock::now();
        let taken_until = match self.gate.taken_until(now) {
            None if candidate.proof(now).is_some() => self.gate.look(self.patience()).await,
            known => known,
        };
        if let Some(until) = taken_until {
            if known.back != Back::ForAnotherCount {
                info!(lease = self.form.name, "stands back: replicas of another instance count may act");
            }
            known.back = Back::ForAnotherCount;
            candidate.stand_back(until);
        } else if known.back == Back::ForAnotherCount {
            known.back = Back::Not;
            // Two counts that stood back for each other do not come forward together.
            candidate.stand_back(now.after(COMING_FORWARD.mul_f64(rand::random_range(0.0..1.0))));
        }
    }

    async fn end(&self, proof: Option<Moment>, now: Moment) {
        if let Some(sent) = proof {
            sleep(sent.after(self.form.terms.renew_deadline).since(now)).await;
        }
    }

    fn reluctance(&self) -> Duration {
        if self.stake != Stake::Anothers {
            return Duration::ZERO;
        }
        let held = self.held.load(Ordering::Relaxed);
        RELUCTANCE.saturating_mul(held.saturating_add(1)).min(MOST_RELUCTANCE)
    }

    /// Whose own shard this is asks for it, once it has seen that whoever stands in is alive.
    async fn ask(&self, known: &Known, seen: Option<&Lease>) {
        let may_ask = self.stake == Stake::Own && !known.leads;
        let Some((before, seen)) = known.lease.as_ref().zip(seen).filter(|_| may_ask) else { return };
        let (was, is) = (lease::read(before), lease::read(seen));
        let is_renewed = was.version != is.version && was.holder == is.holder;
        let is_others = is.holder.as_ref().is_some_and(|holder| *holder != self.me);
        if !is_renewed || !is_others || lease::asked_for_by(seen) == Some(&self.me) {
            return;
        }
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let asked_for = lease::asked_for(seen, &self.me);
        let call = self.api.replace(&self.form.name, &params, &asked_for);
        match timeout(self.patience(), call).await {
            Ok(Ok(_)) => info!(lease = self.form.name, holder = is.holder, "asks for its own shard"),
            // It was renewed meanwhile, or nobody answers: asked again at the next renewal that is seen.
            Ok(Err(error)) => debug!(lease = self.form.name, %error, "not asked for"),
            Err(_elapsed) => debug!(lease = self.form.name, "not asked for in time"),
        }
    }

    fn is_asked_for(&self, known: &Known) -> bool {
        let by = known.lease.as_ref().and_then(lease::asked_for_by);
        by.is_some_and(|by| by != self.me)
    }

    /// Ends the right, waits for the writes that have begun, as long as nobody else may act, and lets go.
    async fn give_back(&self, candidate: &mut Candidate, proof: Option<Moment>) {
        info!(lease = self.form.name, "gives the shard back to the replica whose own it is");
        let now = clock::now();
        self.proof.prove(None);
        let left = proof.map(|sent| sent.after(self.form.terms.duration).since(now)).unwrap_or_default();
        if timeout(left, self.proof.all_answered()).await.is_err() {
            warn!(lease = self.form.name, "a write is not answered yet as the shard is given back");
        }
        candidate.stand_back(clock::now().after(self.form.terms.duration));
    }

    fn tell(&self, leads: bool, candidate: &Candidate, is_wanted: bool) {
        let (lease, me) = (&self.form.name, &self.me);
        if leads {
            self.held.fetch_add(1, Ordering::Relaxed);
            info!(lease, holder = me, "leads");
            return;
        }
        self.held.fetch_sub(1, Ordering::Relaxed);
        if is_wanted {
            info!(lease, "leads no longer");
        } else {
            let holder = candidate.holder();
            warn!(lease, holder, "leads no longer: the Lease could not be renewed in time");
        }
    }

    /// Once for each holder.
    fn tell_of_another(&self, candidate: &Candidate, known: &mut Known) {
        if candidate.holder() == known.holder.as_deref() {
            return;
        }
        known.holder = candidate.holder().map(str::to_owned);
        if let Some(holder) = known.holder.as_ref().filter(|holder| **holder != self.me) {
            info!(lease = self.form.name, holder, "stands by");
        }
    }

    fn patience(&self) -> Duration {
        self.form.terms.renew_deadline / CALLS_BEFORE_DEADLINE
    }

    async fn look(&self, candidate: &mut Candidate, known: &mut Known) {
        match timeout(self.patience(), self.api.get_opt(&self.form.name)).await {
            Ok(Ok(lease)) => {
                candidate.read(lease.as_ref().map(lease::read), clock::now());
                known.lease = lease;
                known.failing = false;
            }
            Ok(Err(error)) => self.fail(candidate, known, "read", &Outage::from(&error).message),
            Err(_elapsed) => self.fail(candidate, known, "read", "no answer in time"),
        }
    }

    async fn bid(&self, candidate: &mut Candidate, known: &mut Known, bid: &Bid) {
        let before = known.lease.as_ref().filter(|_| bid.base.is_some());
        if before.and_then(|lease| lease.metadata.resource_version.as_ref()) != bid.base.as_ref() {
            // What a watch told last is not what this is based on, and all else in it must stay as it is.
            return self.look(candidate, known).await;
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "a Lease shows people when it was renewed; nothing is decided by it"
        )]
        let shown = Timestamp::now();
        let lease = lease::write(before, &self.form, &self.me, bid, shown);
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        candidate.sending(clock::now());
        let call = async {
            match bid.base {
                Some(_) => self.api.replace(&self.form.name, &params, &lease).await,
                None => self.api.create(&params, &lease).await,
            }
        };
        match timeout(self.patience(), call).await {
            Ok(Ok(stored)) => {
                candidate.accepted(lease::read(&stored), clock::now());
                known.lease = Some(stored);
                known.failing = false;
            }
            // Somebody was faster, or deleted it.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) && !is_absent(&status) => {
                debug!(lease = self.form.name, "the Lease has changed meanwhile");
                candidate.refused();
            }
            Ok(Err(error)) => self.fail(candidate, known, "write", &Outage::from(&error).message),
            Err(_elapsed) => self.fail(candidate, known, "write", "no answer in time"),
        }
    }

    /// Said once per outage: attempts are many.
    fn fail(&self, candidate: &mut Candidate, known: &mut Known, what: &str, why: &str) {
        if !known.failing {
            warn!(lease = self.form.name, "cannot {what} the Lease: {why}");
        }
        known.failing = true;
        candidate.failed(clock::now());
    }
}

/// The namespace of the Lease is not there, which no second attempt mends soon.
fn is_absent(status: &kube::core::Status) -> bool {
    status.details.as_ref().is_some_and(|details| details.kind == "namespaces")
}

/// Why it does not stand for the Lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Back {
    /// It does.
    #[default]
    Not,
    /// It let the shard go to the replica whose own it is.
    ForAnother,
    /// Replicas of another instance count may act.
    ForAnotherCount,
}

#[derive(Default)]
struct Known {
    /// The Lease as a whole, so that a write keeps what others put into it.
    lease: Option<Lease>,
    /// Who was told of last as having it.
    holder: Option<String>,
    /// It has been told that we lead.
    leads: bool,
    back: Back,
    failing: bool,
}
