//! How long a client waits for the head of an answer.

use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Request};
use tower::timeout::error::Elapsed;
use tower::{BoxError, Layer, Service};

use super::long::LONGEST;

/// From sending a GET to the head of its answer, watches included: theirs comes at once.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Bounds every answer; that of a write, which passes admission webhooks, a little later than who waits for it does.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnswerTimeout;

/// See [`AnswerTimeout`].
#[derive(Clone, Debug)]
pub(super) struct Bounded<S>(S);

impl<S> Layer<S> for AnswerTimeout {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded(inner)
    }
}

fn bound(method: &Method) -> Duration {
    if *method == Method::GET { ANSWER_TIMEOUT } else { LONGEST.saturating_add(ANSWER_TIMEOUT) }
}

impl<S, B> Service<Request<B>> for Bounded<S>
where
    S: Service<Request<B>, Future: Send + 'static, Error: Into<BoxError>>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let bound = bound(request.method());
        let answer = tokio::time::timeout(bound, self.0.call(request));
        answer.map(|answer| answer.map_err(|_late| Elapsed::new())?.map_err(Into::into)).boxed()
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests read clocks")]
mod tests {
    use futures::future::pending;
    use tokio::time::Instant;
    use tower::{ServiceExt, service_fn};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_may_take_what_webhooks_take_and_a_read_may_not() {
        let silent = service_fn(|_: Request<()>| pending::<Result<(), BoxError>>());
        for (method, seconds) in [(Method::GET, 10), (Method::POST, 45), (Method::DELETE, 45)] {
            let began = Instant::now();
            let request = Request::builder().method(&method).body(()).unwrap();
            let answer = AnswerTimeout.layer(silent).oneshot(request).await;
            assert!(answer.unwrap_err().is::<Elapsed>(), "{method}");
            assert_eq!(began.elapsed(), Duration::from_secs(seconds), "{method}");
        }
    }
}
