//! The agent's sign of life: its Lease, and on it how it fares.
//!
//! Every ten seconds, for forty: as kubelets do with theirs, so that who knows the ones knows the others. Each time
//! the Node is read first, to prove that it is ours; what is seen of it also tells that a request was answered.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::{mpsc::UnboundedSender, watch};
use tokio::time::sleep;

use crate::agent::book::Book;
use crate::agent::error::{ReportError, Step, Trouble};
use crate::agent::report::{Place, bounded, refused};
use crate::agent::session::{News, Sight};
use crate::agent::wall_clock;
use crate::api::names::{
    AGENT_FIELD_MANAGER, AGENT_NAMESPACE, ANNOTATION_AGENT_DETECTOR, ANNOTATION_AGENT_FALLBACK,
    ANNOTATION_AGENT_RULES, agent_object,
};
use crate::detector::Health;
use crate::watch::Backoff;

/// From one renewal to the next.
const RENEW: Duration = Duration::from_secs(10);
/// How long a renewal speaks for the agent.
const DURATION_SECONDS: i32 = 40;
/// Changes that come within this are told together.
const BREATH: Duration = Duration::from_millis(500);

/// How the agent fares, in the words of the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    detector: &'static str,
    fallback: Option<&'static str>,
    rules: String,
    is_faulty: bool,
}

impl Said {
    /// Of detectors, and of rules.
    ///
    /// Who sees nobody but itself has no detector to speak of: processes are hidden from it, or the proc file system is
    /// not the host's.
    pub fn new(health: &Health, rules: &Book) -> Self {
        let source = health.source.filter(|_| !health.blind);
        let blind = health.blind.then_some("blind");
        Self {
            detector: source.map_or("none", crate::detector::Source::word),
            fallback: blind.or(health.fallback.map(crate::detector::FallbackReason::word)),
            rules: rules.word(),
            is_faulty: rules.is_faulty(),
        }
    }

    /// In one sentence; `ok` while they are in force.
    pub fn rules(&self) -> &str {
        &self.rules
    }

    /// What is wrong with the rules, if they were read and something is.
    pub fn rules_at_fault(&self) -> Option<&str> {
        self.is_faulty.then_some(&self.rules)
    }

    fn annotations(&self) -> Value {
        json!({
            ANNOTATION_AGENT_DETECTOR: self.detector,
            ANNOTATION_AGENT_FALLBACK: self.fallback,
            ANNOTATION_AGENT_RULES: self.rules,
        })
    }

    /// The merge patch that renews a Lease; a null takes away what is no more.
    fn renewal(&self, node: &str, now: Timestamp) -> Value {
        json!({
            "metadata": {"annotations": self.annotations()},
            "spec": {
                "holderIdentity": node,
                "leaseDurationSeconds": DURATION_SECONDS,
                "renewTime": format!("{now:.6}"),
            },
        })
    }

    /// The Lease as it is made. It belongs to the Node, and goes with it.
    fn lease(&self, node: &str, of: &Sight, now: Timestamp) -> Value {
        let mut lease = self.renewal(node, now);
        if let Some(annotations) = lease.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
            annotations.retain(|_, value| !value.is_null());
        }
        lease["apiVersion"] = json!("coordination.k8s.io/v1");
        lease["kind"] = json!("Lease");
        lease["metadata"]["name"] = json!(agent_object(node));
        lease["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "v1", "kind": "Node", "name": node, "uid": of.uid}]);
        lease["spec"]["acquireTime"] = json!(format!("{now:.6}"));
        lease
    }
}

/// Renews the Lease for ever, at once when there is something else to say; tells what was seen of the Node.
pub async fn renew(
    place: Place,
    client: Client,
    mut said: watch::Receiver<Said>,
    tell: UnboundedSender<News>,
) {
    let leases: Api<Lease> = Api::namespaced(client, AGENT_NAMESPACE);
    let (mut trouble, mut backoff) = (Trouble::default(), Backoff::default());
    loop {
        let now = said.borrow_and_update().clone();
        let pause = match renew_once(&place, &leases, &now, &tell).await {
            Ok(()) => {
                trouble.over();
                backoff.reset();
                RENEW
            }
            Err(error) => {
                trouble.failed(&error);
                backoff.pause(RENEW)
            }
        };
        sleep(BREATH).await;
        tokio::select! {
            () = sleep(pause.saturating_sub(BREATH)) => {}
            changed = said.changed() => if changed.is_err() { return },
        }
    }
}

async fn renew_once(
    place: &Place,
    leases: &Api<Lease>,
    said: &Said,
    tell: &UnboundedSender<News>,
) -> Result<(), ReportError> {
    let sight = place.look().await?;
    // Who would hear it ends this task as well.
    let _ = tell.send(News::Seen(sight.clone()));
    let (node, now) = (place.name(), wall_clock());
    let manager = Some(AGENT_FIELD_MANAGER.to_owned());
    let params = PatchParams { field_manager: manager.clone(), ..PatchParams::default() };
    let patch = Patch::Merge(said.renewal(node, now));
    match bounded(Step::Renew, leases.patch(&agent_object(node), &params, &patch)).await? {
        Ok(_) => return Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(refused(Step::Renew, &error)),
    }
    let lease = serde_json::from_value(said.lease(node, &sight, now));
    let lease: Lease = lease.map_err(|error| refused(Step::Renew, &kube::Error::SerdeError(error)))?;
    let params = PostParams { field_manager: manager, ..PostParams::default() };
    match bounded(Step::Renew, leases.create(&params, &lease)).await? {
        Ok(_) => Ok(()),
        Err(error) => Err(refused(Step::Renew, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::{FallbackReason, Source};

    fn health(source: Option<Source>, fallback: Option<FallbackReason>, blind: bool) -> Health {
        Health { source, fallback, blind, proof_age: None, processes: 7, walk_time: Duration::ZERO }
    }

    fn good() -> Book {
        let mut book = Book::new();
        book.take("ws-17", Some("match_commands = [\"idea\"]"));
        book
    }

    #[test]
    fn the_lease_says_how_the_agent_fares() {
        let (netlink, poll) = (Some(Source::Netlink), Some(Source::Poll));
        let deaf = Some(FallbackReason::Deaf);
        for (health, detector, fallback) in [
            (health(netlink, None, false), "netlink", json!(null)),
            (health(poll, None, false), "poll", json!(null)),
            (health(poll, deaf, false), "poll", json!("deaf")),
            (health(None, deaf, false), "none", json!("deaf")),
            (health(netlink, None, true), "none", json!("blind")),
        ] {
            let patch = Said::new(&health, &good()).renewal("ws-17", Timestamp::UNIX_EPOCH);
            let annotations = &patch["metadata"]["annotations"];
            assert_eq!(annotations[ANNOTATION_AGENT_DETECTOR], detector);
            assert_eq!(annotations[ANNOTATION_AGENT_FALLBACK], fallback);
            assert_eq!(annotations[ANNOTATION_AGENT_RULES], "ok");
            assert_eq!(patch["spec"]["renewTime"], "1970-01-01T00:00:00.000000Z");
        }
    }

    #[test]
    fn a_new_lease_belongs_to_its_node() {
        let uid = "u-1".to_owned();
        let node = Sight { uid, created: None, is_asked: false, machine_id: String::new() };
        let said = Said::new(&health(Some(Source::Poll), None, false), &good());
        let lease = said.lease("ws-17", &node, Timestamp::UNIX_EPOCH);
        let lease: Lease = serde_json::from_value(lease).unwrap();
        assert_eq!(lease.metadata.name.as_deref(), Some("reclaim-agent-ws-17"));
        let owner = &lease.metadata.owner_references.as_ref().unwrap()[0];
        assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("Node", "u-1"));
        assert_eq!(lease.metadata.annotations.unwrap().len(), 2);
    }
}
