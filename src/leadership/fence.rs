//! The fence: a layer in every client that writes, through which no write goes that no claim covers.
//!
//! What decides stands at the last moment before a call leaves, so whatever a pass believed when it began, a replica that
//! has lost its Lease, or cannot prove that it has it, changes nothing. A write that has left when the Lease ends is given up
//! before another replica may begin; one that the server has in its hands by then is bounded by uid and version alone.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Method, Request, Response};
use kube::client::Body;
use tower::{BoxError, Layer, Service};

use super::claim::Claim;

/// Why a write was not sent, or its answer not waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fenced {
    /// This replica does not lead, or cannot prove it.
    #[error("write not sent: this replica does not hold the Lease, or cannot prove that it does")]
    NotHeld,
    /// The Lease ended before the answer came.
    #[error("write given up: the Lease ended before the answer came; whether it was done is not known")]
    Ended,
    /// Nobody said for which object it is. A mistake in the program.
    #[error("write not sent: it is not covered by any claim")]
    Uncovered,
}

/// Puts the fence round a client's calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct FenceLayer;

impl<S> Layer<S> for FenceLayer {
    type Service = Fence<S>;

    fn layer(&self, inner: S) -> Fence<S> {
        Fence { inner }
    }
}

/// See [`FenceLayer`].
#[derive(Clone, Debug)]
pub struct Fence<S> {
    inner: S,
}

impl<S, B> Service<Request<Body>> for Fence<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let what = is_write(&request).then(|| format!("{} {}", request.method(), request.uri().path()));
        // It does nothing until it is polled; and that happens where the caller is, who knows the claim.
        let call = self.inner.call(request);
        Box::pin(async move {
            let Some(what) = what else { return call.await.map_err(Into::into) };
            let claim = Claim::current();
            let _begun = claim.as_ref().and_then(Claim::begins);
            let fenced = match claim {
                None => Fenced::Uncovered,
                Some(claim) if !claim.holds() => Fenced::NotHeld,
                Some(claim) => tokio::select! {
                    answer = call => return answer.map_err(Into::into),
                    () = ended(&claim) => Fenced::Ended,
                },
            };
            tracing::info!(what, "{fenced}");
            Err(fenced.into())
        })
    }
}

/// Resolves when an answer must not be waited for any longer; renewals meanwhile put that off.
async fn ended(claim: &Claim) {
    loop {
        match claim.answer_within() {
            None => return std::future::pending().await,
            Some(left) if left.is_zero() => return,
            Some(left) => tokio::time::sleep(left).await,
        }
    }
}

/// Reviews are created, and change nothing.
fn is_write<B>(request: &Request<B>) -> bool {
    let is_review = || {
        let path = request.uri().path();
        path.starts_with("/apis/authorization.k8s.io/") || path.starts_with("/apis/authentication.k8s.io/")
    };
    !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) && !is_review()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;
    use kube::api::{DeleteParams, PostParams};
    use tokio::task::JoinSet;
    use tower::service_fn;

    use super::super::candidate::Terms;
    use super::super::claim::Proof;
    use super::super::clock;
    use super::*;

    const TERMS: Terms = Terms {
        duration: Duration::from_secs(2),
        renew_deadline: Duration::from_secs(1),
        retry_period: Duration::from_millis(100),
    };

    /// What one does with a client whose server counts what reaches it, and answers or is silent.
    fn maps(is_silent: bool) -> (Api<ConfigMap>, Arc<AtomicUsize>) {
        let reached = Arc::new(AtomicUsize::new(0));
        let count = reached.clone();
        let server = service_fn(move |_: Request<Body>| {
            let count = count.clone();
            async move {
                count.fetch_add(1, Ordering::SeqCst);
                if is_silent {
                    std::future::pending::<()>().await;
                }
                let map = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}}"#;
                Ok::<_, BoxError>(Response::new(Body::from(map.as_bytes().to_vec())))
            }
        });
        // As a client is made: its buffer calls the layer in a task of its own, and polls its answer in the caller's.
        (Api::namespaced(kube::Client::new(FenceLayer.layer(server), "default"), "lab"), reached)
    }

    fn fenced<T>(answer: kube::Result<T>) -> Option<Fenced> {
        match answer {
            Err(kube::Error::Service(error)) => error.downcast_ref::<Fenced>().copied(),
            Ok(_) | Err(_) => None,
        }
    }

    #[tokio::test]
    async fn a_write_that_nobody_covers_is_not_sent_and_a_read_is() {
        let (maps, reached) = maps(false);
        let deleted = maps.delete("m", &DeleteParams::default()).await;
        assert_eq!(fenced(deleted), Some(Fenced::Uncovered));
        let created = maps.create(&PostParams::default(), &ConfigMap::default()).await;
        assert_eq!(fenced(created), Some(Fenced::Uncovered));
        assert_eq!(reached.load(Ordering::SeqCst), 0);
        assert!(maps.get("m").await.is_ok());
        assert_eq!(reached.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_covered_write_is_sent_through_a_real_client_also_from_a_task_that_it_was_handed_to() {
        let (maps, reached) = maps(false);
        let write = || {
            let maps = maps.clone();
            async move { maps.create(&PostParams::default(), &ConfigMap::default()).await.is_ok() }
        };
        let mut others = JoinSet::new();
        let both = async {
            assert!(write().await);
            others.spawn(Claim::handed_on(write()));
        };
        Claim::unconditional().cover(both).await;
        assert!(others.join_next().await.unwrap().unwrap());
        assert_eq!(reached.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_write_whose_claim_has_ended_is_not_sent() {
        let (maps, reached) = maps(false);
        let proof = Proof::of(TERMS);
        proof.prove(Some(clock::now()));
        let claim = proof.claim().unwrap();
        let write = async {
            assert!(maps.delete("m", &DeleteParams::default()).await.is_ok());
            proof.prove(None);
            maps.delete("m", &DeleteParams::default()).await
        };
        assert_eq!(fenced(claim.cover(write).await), Some(Fenced::NotHeld));
        assert_eq!(reached.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn an_answer_is_waited_for_while_the_lease_is_renewed_and_not_after_its_end() {
        let (maps, reached) = maps(true);
        let proof = Proof::of(TERMS);
        let began = clock::now();
        proof.prove(Some(began));
        let renewing = async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            proof.prove(Some(clock::now()));
            clock::now()
        };
        let claim = proof.claim().unwrap();
        let params = DeleteParams::default();
        let write = maps.delete("m", &params);
        let (answer, renewed) = tokio::join!(claim.cover(write), renewing);
        assert_eq!(fenced(answer), Some(Fenced::Ended));
        let took = clock::now().since(renewed);
        // Half way between the deadline and the duration, of the renewal.
        assert!(took >= Duration::from_millis(1490), "{took:?}");
        assert_eq!(reached.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn asking_for_a_verdict_is_no_write() {
        let is_write = |method: Method, path: &str| {
            is_write(&Request::builder().method(method).uri(path).body(()).unwrap())
        };
        assert!(!is_write(Method::POST, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"));
        assert!(!is_write(Method::GET, "/api/v1/nodes"));
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            assert!(is_write(method, "/api/v1/namespaces/lab/configmaps"));
        }
    }
}
