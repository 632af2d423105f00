//! Puts the owner's request on the Node: looked at and proven to be ours before each write, tried until it stands.

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use tokio::sync::{mpsc::UnboundedSender, watch};
use tokio::time::{sleep, timeout};

use crate::agent::error::{ReportError, Step, Trouble};
use crate::agent::identity::Identity;
use crate::agent::measure::Stages;
use crate::agent::session::{News, Request, Sight};
use crate::agent::wall_clock;
use crate::api::names::AGENT_FIELD_MANAGER;
use crate::watch::{Backoff, Outage};

/// For one answer. The owner is waiting: a connection that has died is given up soon, and a server that is only slow
/// meets the same request again, which changes nothing.
pub(super) const ANSWER: Duration = Duration::from_secs(3);
/// Within this an attempt that failed is repeated for the first time, and at most so much later from then on.
const FIRST_PAUSE: Duration = Duration::from_millis(80);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// After the request was found to stand already: programs that start by the hundred are not to ask by the hundred.
const BREATH: Duration = Duration::from_secs(1);

/// Our Node in the cluster.
#[derive(Clone)]
pub struct Place {
    nodes: Api<Node>,
    name: String,
    identity: Identity,
}

/// What became of a request.
enum Asked {
    /// It stands now.
    Written,
    /// It, or an earlier one, has stood already; its time is not moved on.
    Standing,
}

impl Place {
    /// The Node of that name.
    pub fn new(client: Client, name: &str, identity: Identity) -> Self {
        Self { nodes: Api::all(client), name: name.to_owned(), identity }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads the Node, and proves that this host is it. Goes before each write.
    ///
    /// # Errors
    /// It cannot be read, or this host is not it.
    pub async fn look(&self) -> Result<Sight, ReportError> {
        let node = match bounded(Step::Look, self.nodes.get(&self.name)).await? {
            Ok(node) => node,
            Err(kube::Error::Api(status)) if status.code == 404 => {
                return Err(ReportError::NoNode(self.name.clone()));
            }
            Err(error) => return Err(refused(Step::Look, &error)),
        };
        let sight = Sight::of(&node);
        self.identity.prove(&self.name, &sight)?;
        Ok(sight)
    }

    async fn ask(&self, request: &Request) -> Result<Asked, ReportError> {
        let sight = self.look().await?;
        if sight.is_asked {
            return Ok(Asked::Standing);
        }
        let patch = Patch::Merge(request.patch(&sight));
        let params =
            PatchParams { field_manager: Some(AGENT_FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        match bounded(Step::Ask, self.nodes.patch(&self.name, &params, &patch)).await? {
            Ok(_) => Ok(Asked::Written),
            Err(error) => Err(refused(Step::Ask, &error)),
        }
    }
}

pub(super) async fn bounded<T>(step: Step, call: impl Future<Output = T>) -> Result<T, ReportError> {
    timeout(ANSWER, call).await.map_err(|_elapsed| ReportError::Late { step, limit: ANSWER })
}

pub(super) fn refused(step: Step, error: &kube::Error) -> ReportError {
    ReportError::Call { step, why: Outage::from(error) }
}

/// Asks for what is wanted, each until it stands or is wanted no more; tells of each that stands. Ends when nobody can
/// want anything any more.
pub async fn ask(
    place: Place,
    mut wanted: watch::Receiver<Option<Request>>,
    tell: UnboundedSender<News>,
    stages: Stages,
) {
    let mut trouble = Trouble::default();
    loop {
        let Ok(request) = wanted.wait_for(Option::is_some).await.map(|wanted| wanted.clone()) else { return };
        let Some(request) = request else { continue };
        let is_over = |wanted: &Option<Request>| wanted.as_ref() != Some(&request);
        let mut ended = wanted.clone();
        let asked = tokio::select! {
            asked = until_it_stands(&place, &request, &mut trouble, &stages) => asked,
            _ = ended.wait_for(is_over) => continue,
        };
        // Who would hear it ends this task as well.
        let _ = tell.send(News::Stands(request.clone()));
        if wanted.wait_for(is_over).await.is_err() {
            return;
        }
        if matches!(asked, Asked::Standing) {
            sleep(BREATH).await;
        }
    }
}

async fn until_it_stands(place: &Place, request: &Request, trouble: &mut Trouble, stages: &Stages) -> Asked {
    let mut backoff = Backoff::starting_at(FIRST_PAUSE);
    loop {
        match place.ask(request).await {
            Ok(asked) => {
                let failed_attempts = trouble.over();
                if matches!(asked, Asked::Written) {
                    let took = wall_clock().duration_since(request.at);
                    // A clock that was set back in between has nothing to say.
                    stages.annotated(Duration::try_from(took).unwrap_or_default());
                    tracing::info!(
                        reason = request.reason,
                        failed_attempts,
                        milliseconds = took.as_millis(),
                        "the owner's request stands on the Node"
                    );
                }
                return asked;
            }
            Err(error) => {
                trouble.failed(&error);
                sleep(backoff.pause(LONGEST_PAUSE)).await;
            }
        }
    }
}
