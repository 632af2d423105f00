//! Runs a candidate: watches its Lease, makes its calls, and keeps its proof.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::PostParams;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Config;
use nix::sys::utsname::uname;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::candidate::{Bid, Candidate, Moment, Terms, Wish};
use super::claim::Proof;
use super::{clock, lease};
use crate::api::names::FIELD_MANAGER;
use crate::watch::{Notice, Outage, follow};

/// Of the renew deadline, what one call may take: three of them fit.
const CALLS_BEFORE_DEADLINE: u32 = 3;

/// What a candidate is called: its pod, or else its host, and something that no process before it was called.
pub fn holder(pod: Option<&str>) -> String {
    let host = || uname().map(|host| host.nodename().to_string_lossy().into_owned()).unwrap_or_default();
    let name = pod.map_or_else(host, str::to_owned);
    format!("{name}_{:010x}", rand::random_range(0..1_u64 << 40))
}

/// The election for one Lease.
pub struct Elector {
    api: Api<Lease>,
    name: String,
    me: String,
    terms: Terms,
    proof: Proof,
}

/// What the watch of the Lease said.
type Told = Option<Lease>;

impl Elector {
    /// A candidate called `me` for the Lease of that name, through a client of its own: renewals must not stand in line
    /// behind other calls.
    pub fn new(api: Api<Lease>, name: String, me: String, terms: Terms) -> Self {
        Self { api, name, me, terms, proof: Proof::of(terms) }
    }

    /// What proves, now and later, that it has the Lease.
    pub fn proof(&self) -> Proof {
        self.proof.clone()
    }

    /// Stands for election until `stop`; then lets the Lease go, if it has it, and ends. `leads` is told of every change.
    ///
    /// `stop` must resolve only when nothing is written any more.
    pub async fn run(self, stop: impl Future<Output = ()>, leads: impl Fn(bool)) {
        let (news, told) = unbounded_channel::<Told>();
        let config = Config::default().fields(&format!("metadata.name={}", self.name));
        let watching = follow(self.api.clone(), config, Writer::default(), move |notice| {
            // The receiver lives as long as this.
            let _ = match notice {
                Notice::Changed(lease) => news.send(Some(lease)),
                Notice::Gone(_) => news.send(None),
                Notice::Synced | Notice::Failing(_) | Notice::Recovered => Ok(()),
            };
        });
        tokio::select! {
            () = watching => {}
            () = self.stand(told, stop, leads) => {}
        }
    }

    async fn stand(
        &self,
        mut told: UnboundedReceiver<Told>,
        stop: impl Future<Output = ()>,
        leads: impl Fn(bool),
    ) {
        let mut candidate = Candidate::new(self.me.clone(), self.terms);
        let mut known = Known::default();
        let (mut stop, mut is_stopping) = (pin!(stop), false);
        let mut said = false;
        loop {
            let now = clock::now();
            let proof = candidate.proof(now);
            self.proof.prove(proof);
            if said != proof.is_some() {
                said = proof.is_some();
                self.tell(said, &candidate, is_stopping);
                leads(said);
            }
            self.tell_of_another(&candidate, &mut known);
            match candidate.next(now) {
                Wish::Rest => return,
                Wish::Read => self.look(&mut candidate, &mut known).await,
                Wish::Write(bid) => self.bid(&mut candidate, &mut known, &bid).await,
                Wish::Wait(until) => tokio::select! {
                    () = &mut stop, if !is_stopping => {
                        is_stopping = true;
                        candidate.leave();
                    }
                    Some(lease) = told.recv() => {
                        candidate.told(lease.as_ref().map(lease::read), clock::now());
                        known.lease = lease;
                    }
                    () = sleep(until.since(now)) => {}
                    // Our right may end before the next attempt is due.
                    () = self.end(proof, now), if proof.is_some() => {}
                },
            }
        }
    }

    async fn end(&self, proof: Option<Moment>, now: Moment) {
        if let Some(sent) = proof {
            sleep(sent.after(self.terms.renew_deadline).since(now)).await;
        }
    }

    fn tell(&self, leads: bool, candidate: &Candidate, is_stopping: bool) {
        let (lease, me) = (&self.name, &self.me);
        if leads {
            info!(lease, holder = me, "leads");
        } else if is_stopping {
            info!(lease, "leads no longer: stopping");
        } else {
            warn!(
                lease,
                holder = candidate.holder(),
                "leads no longer: the Lease could not be renewed in time"
            );
        }
    }

    /// Once for each holder.
    fn tell_of_another(&self, candidate: &Candidate, known: &mut Known) {
        if candidate.holder() == known.holder.as_deref() {
            return;
        }
        known.holder = candidate.holder().map(str::to_owned);
        if let Some(holder) = known.holder.as_ref().filter(|holder| **holder != self.me) {
            info!(lease = self.name, holder, "stands by");
        }
    }

    fn patience(&self) -> Duration {
        self.terms.renew_deadline / CALLS_BEFORE_DEADLINE
    }

    async fn look(&self, candidate: &mut Candidate, known: &mut Known) {
        match timeout(self.patience(), self.api.get_opt(&self.name)).await {
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
        let lease = lease::write(before, &self.name, &self.me, self.terms, bid, shown);
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        candidate.sending(clock::now());
        let call = async {
            match bid.base {
                Some(_) => self.api.replace(&self.name, &params, &lease).await,
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
                debug!(lease = self.name, "the Lease has changed meanwhile");
                candidate.refused();
            }
            Ok(Err(error)) => self.fail(candidate, known, "write", &Outage::from(&error).message),
            Err(_elapsed) => self.fail(candidate, known, "write", "no answer in time"),
        }
    }

    /// Said once per outage: attempts are many.
    fn fail(&self, candidate: &mut Candidate, known: &mut Known, what: &str, why: &str) {
        if !known.failing {
            warn!(lease = self.name, "cannot {what} the Lease: {why}");
        }
        known.failing = true;
        candidate.failed(clock::now());
    }
}

/// The namespace of the Lease is not there, which no second attempt mends soon.
fn is_absent(status: &kube::core::Status) -> bool {
    status.details.as_ref().is_some_and(|details| details.kind == "namespaces")
}

/// The Lease as a whole, so that a write keeps what others put into it.
#[derive(Default)]
struct Known {
    lease: Option<Lease>,
    /// Who was told of last as having it.
    holder: Option<String>,
    failing: bool,
}
