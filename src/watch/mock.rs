//! An API server of a few lines for tests: answers by a closure, watches as streams the test holds open.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::{
    StreamExt,
    channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded},
};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use serde_json::{Value, json};

/// What the scripted server says to one request.
pub(crate) enum Answer {
    /// A body of JSON with this status code.
    Json(u16, Value),
    /// A watch whose lines come from the test; it ends when the sender is dropped.
    Watch(UnboundedReceiver<Bytes>),
    /// Nothing, ever: a half-open connection.
    Silence,
}

impl Answer {
    pub(crate) fn failure(code: u16) -> Self {
        Self::Json(code, json!({"kind": "Status", "status": "Failure", "code": code, "reason": "Scripted"}))
    }

    /// A list of `items` at `version`, with a continue token if there is another page.
    pub(crate) fn list(version: &str, token: &str, items: &[Value]) -> Self {
        Self::Json(
            200,
            json!({
                "apiVersion": "v1", "kind": "List",
                "metadata": {"resourceVersion": version, "continue": token},
                "items": items,
            }),
        )
    }

    pub(crate) fn watch() -> (UnboundedSender<Bytes>, Self) {
        let (sender, receiver) = unbounded();
        (sender, Self::Watch(receiver))
    }
}

/// One line of a watch.
pub(crate) fn event(kind: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{}\n", json!({"type": kind, "object": object})))
}

/// A Node as a list carries it.
pub(crate) fn node(name: &str, version: &str) -> Value {
    json!({"metadata": {"name": name, "uid": format!("uid-{name}"), "resourceVersion": version,
                        "managedFields": [{"manager": "kubelet"}]}})
}

/// The requests seen so far, as `METHOD path?query`.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn entries(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, part: &str) -> usize {
        self.entries().iter().filter(|entry| entry.contains(part)).count()
    }
}

/// A client whose requests `answer` gets as `METHOD path?query`.
pub(crate) fn client(mut answer: impl FnMut(&str) -> Answer + Send + 'static) -> (kube::Client, Log) {
    let log = Log::default();
    let seen = log.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        assert_eq!(request.method(), Method::GET, "these parts only read");
        let line = format!("{} {}", request.method(), request.uri());
        let said = answer(&line);
        seen.0.lock().unwrap().push(line);
        async move {
            let (code, body) = match said {
                Answer::Silence => return futures::future::pending().await,
                Answer::Json(code, value) => {
                    (code, Full::from(value.to_string()).map_err(|e| match e {}).boxed_unsync())
                }
                Answer::Watch(lines) => {
                    let frames = lines.map(|line| Ok::<_, std::io::Error>(Frame::data(line)));
                    (200, BodyExt::boxed_unsync(StreamBody::new(frames)))
                }
            };
            Response::builder().status(code).body(body).map_err(tower::BoxError::from)
        }
    });
    (kube::Client::new(service, "default"), log)
}
