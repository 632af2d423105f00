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
    #[error("not sent: this replica does not hold the Lease, or cannot prove that it does")]
    NotHeld,
    /// The Lease ended before the answer came.
    #[error("given up: the Lease ended before the answer came; whether it was done is not known")]
    Ended,
    /// Nobody said for which object it is. A mistake in the program.
    #[error("not sent: the write is not covered by any claim")]
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
        let is_write = is_write(&request);
        // It does nothing until it is polled; and that happens where the caller is, who knows the claim.
        let call = self.inner.call(request);
        Box::pin(async move {
            if !is_write {
                return call.await.map_err(Into::into);
            }
            let claim = Claim::current().ok_or(Fenced::Uncovered)?;
            if !claim.holds() {
                return Err(Fenced::NotHeld.into());
            }
            tokio::select! {
                answer = call => answer.map_err(Into::into),
                () = ended(&claim) => Err(Fenced::Ended.into()),
            }
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
