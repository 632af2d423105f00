//! All Leases that a replica stands for: one for all objects, or one for each shard.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use futures::FutureExt;
use futures::future::join_all;
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Config;
use kube::{Api, ResourceExt};
use nix::sys::utsname::uname;
use tokio::sync::mpsc::unbounded_channel;

use super::candidate::Terms;
use super::claim::Proof;
use super::elector::{Elector, Stake, Told};
use super::gate::Gate;
use super::lease::Form;
use crate::api::names::{LABEL_ELECTION, LABEL_SHARDS};
use crate::watch::{Notice, follow};

/// What a candidate is called: its pod, or else its host, and something that no process before it was called.
pub fn holder(pod: Option<&str>) -> String {
    let host = || uname().map(|host| host.nodename().to_string_lossy().into_owned()).unwrap_or_default();
    let name = pod.map_or_else(host, str::to_owned);
    format!("{name}_{:010x}", rand::random_range(0..1_u64 << 40))
}

/// One replica's part in an election.
pub struct Election {
    api: Api<Lease>,
    selector: String,
    gate: Arc<Gate>,
    electors: Vec<Elector>,
}

/// What is shared out, and which part is a replica's own.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// From 0; of those that others have it takes over what is nobody's.
    pub own: u16,
    /// At least 1.
    pub count: u16,
}

impl Election {
    /// A candidate called `me` for the Leases whose names begin with `name`, through a client of its own: renewals must not
    /// stand in line behind other calls.
    pub fn new(api: Api<Lease>, name: &str, me: &str, terms: Terms, part: Share) -> Self {
        let Share { own, count } = part;
        let selector = format!("{LABEL_ELECTION}={name}");
        let gate = Arc::new(Gate::new(api.clone(), selector.clone(), count));
        let held = Arc::new(AtomicU32::new(0));
        let labels: BTreeMap<String, String> =
            [(LABEL_ELECTION, name.to_owned()), (LABEL_SHARDS, count.to_string())]
                .map(|(key, value)| (key.to_owned(), value))
                .into();
        let elector = |shard: u16| Elector {
            api: api.clone(),
            form: Form { name: lease_name(name, shard, count), labels: labels.clone(), terms },
            me: me.to_owned(),
            proof: Proof::of(terms),
            gate: gate.clone(),
            held: held.clone(),
            stake: match shard {
                _ if count == 1 => Stake::Everybodys,
                shard if shard == own => Stake::Own,
                _ => Stake::Anothers,
            },
        };
        let electors = (0..count.max(1)).map(elector).collect();
        Self { api, selector, gate, electors }
    }

    /// What proves, now and later, that it has each shard.
    pub fn proofs(&self) -> Vec<Proof> {
        self.electors.iter().map(|elector| elector.proof.clone()).collect()
    }

    /// Stands for election until `stop`; then lets go what it has, and ends. `changed` is told of every win and every loss.
    ///
    /// `stop` must resolve only when nothing is written any more.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + Sync, changed: impl Fn() + Send + Sync) {
        let Self { api, selector, gate, electors } = self;
        let mut tell = HashMap::new();
        let mut hear = Vec::new();
        for elector in &electors {
            let (news, told) = unbounded_channel();
            tell.insert(elector.form.name.clone(), news);
            hear.push(told);
        }
        let to_all = |news: &HashMap<String, tokio::sync::mpsc::UnboundedSender<Told>>| {
            for news in news.values() {
                // The receivers live as long as this.
                let _ = news.send(Told::Others);
            }
        };
        let config = Config::default().labels(&selector);
        let watching = follow(api, config, Writer::<Lease>::default(), move |notice| {
            let (lease, is_there) = match notice {
                Notice::Changed(lease) => (lease, true),
                Notice::Gone(lease) => (lease, false),
                Notice::Synced | Notice::Failing(_) | Notice::Recovered => return,
            };
            if is_there && gate.note(&lease) {
                return to_all(&tell);
            }
            if let Some(news) = tell.get(&lease.name_any()) {
                // As above.
                let _ = news.send(Told::Lease(Box::new(is_there.then_some(lease))));
            }
        });
        let stop = stop.shared();
        let standing =
            electors.iter().zip(hear).map(|(elector, told)| elector.stand(told, stop.clone(), &changed));
        tokio::select! {
            () = watching => {}
            _ = join_all(standing) => {}
        }
    }
}

fn lease_name(election: &str, shard: u16, count: u16) -> String {
    if count == 1 { election.to_owned() } else { format!("{election}-{shard}-of-{count}") }
}
