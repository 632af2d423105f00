//! How much is read of a workload cluster: its "API server" may be whatever a tenant put there, and without an end.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body_util::Limited;
use kube::client::Body;
use tower::{Layer, Service};

/// Objects of one kind; Kubernetes is made for a quarter of this many Nodes.
pub(super) const MOST_OBJECTS: usize = 20_000;
/// Bytes of one answer: a page of 500 Nodes with fifty images each has a tenth.
const MOST_BYTES: usize = 64 << 20;

/// Cuts answers off at [`MOST_BYTES`], watches excepted: theirs never end.
#[derive(Clone, Debug)]
pub(super) struct BoundedLayer {
    most: usize,
}

impl Default for BoundedLayer {
    fn default() -> Self {
        Self { most: MOST_BYTES }
    }
}

impl<S> Layer<S> for BoundedLayer {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded { inner, most: self.most }
    }
}

/// See [`BoundedLayer`].
#[derive(Clone, Debug)]
pub(super) struct Bounded<S> {
    inner: S,
    most: usize,
}

impl<S, B> Service<Request<Body>> for Bounded<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<Limited<B>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let is_watch =
            request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "watch=true"));
        let most = if is_watch { usize::MAX } else { self.most };
        let answer = self.inner.call(request);
        Box::pin(async move { Ok(answer.await?.map(|body| Limited::new(body, most))) })
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use k8s_openapi::api::core::v1::Node;
    use kube::Api;
    use kube::api::{ListParams, WatchParams};
    use serde_json::{Value, json};
    use tower::{BoxError, service_fn};

    use super::*;
    use crate::watch::{Cause, Outage};

    fn client(most: usize, answer: &Value) -> kube::Client {
        let text = answer.to_string();
        let service = service_fn(move |_: Request<Body>| {
            let body = Full::new(bytes::Bytes::from(text.clone()));
            async move { Ok::<_, BoxError>(Response::new(body)) }
        });
        kube::Client::new(BoundedLayer { most }.layer(service), "default")
    }

    #[tokio::test]
    async fn an_answer_without_an_end_is_an_outage_and_a_watch_is_none() {
        let list = json!({"apiVersion": "v1", "kind": "NodeList", "metadata": {"resourceVersion": "1"},
                          "items": [{"metadata": {"name": "n".repeat(200)}}]});
        let nodes = |most: usize, answer: &Value| Api::<Node>::all(client(most, answer));
        assert_eq!(nodes(1000, &list).list(&ListParams::default()).await.unwrap().items.len(), 1);
        let outage = Outage::from(&nodes(100, &list).list(&ListParams::default()).await.unwrap_err());
        assert_eq!(outage.cause, Cause::Refused);
        assert_eq!(outage.message, "the API server's answer is longer than what is read of one");
        let event = json!({"type": "ADDED", "object": {"metadata": {"name": "n".repeat(200)}}});
        let events = nodes(100, &event).watch(&WatchParams::default(), "1").await.unwrap();
        let events: Vec<_> = futures::StreamExt::collect(events).await;
        assert!(events.iter().all(Result::is_ok) && events.len() == 1, "{events:?}");
    }
}
