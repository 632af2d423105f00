//! Counts calls to API servers, as a layer of a client: outside of all that may repeat a call, so that it counts once.
//!
//! Servers are not ours, and a workload cluster's may be anybody's: what they answer is brought into closed sets.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Method, Request, Response, Uri};
use kube::client::Body;
use tower::{Layer, Service};

use super::{Counters, Registry, counters};
use crate::telemetry::answers::Answers;

/// Resources with a word of their own; all others are [`OTHER`].
const RESOURCES: [&str; 15] = [
    "scheduledmachines",
    "scheduledmachines/status",
    "machineholds",
    "machineholds/status",
    "machines",
    "clusters",
    "machinedrainrules",
    "customresourcedefinitions",
    "secrets",
    "configmaps",
    "events",
    "leases",
    "nodes",
    "pods",
    "pods/eviction",
];
/// Kinds of bootstrap and infrastructure providers, and questions about the server itself.
const OTHER: &str = "other";

/// Status codes with a word of their own; of all others the first digit is told.
const CODES: [(u16, &str); 19] = [
    (200, "200"),
    (201, "201"),
    (202, "202"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (409, "409"),
    (410, "410"),
    (413, "413"),
    (415, "415"),
    (422, "422"),
    (429, "429"),
    (500, "500"),
    (501, "501"),
    (502, "502"),
    (503, "503"),
    (504, "504"),
];
/// No answer came: no connection, or nobody waited any longer.
const NONE: &str = "none";

/// What is called, so that these series are there before the first call.
const CALLED: [(&str, &[&str]); 8] = [
    (
        "list",
        &[
            "scheduledmachines",
            "machineholds",
            "machines",
            "clusters",
            "machinedrainrules",
            "customresourcedefinitions",
            "secrets",
            "configmaps",
            "leases",
            "nodes",
            "pods",
            OTHER,
        ],
    ),
    (
        "watch",
        &[
            "scheduledmachines",
            "machineholds",
            "machines",
            "clusters",
            "machinedrainrules",
            "customresourcedefinitions",
            "secrets",
            "configmaps",
            "leases",
            "nodes",
            "pods",
            OTHER,
        ],
    ),
    ("get", &["scheduledmachines", "machines", "clusters", "secrets", "leases", "nodes", OTHER]),
    ("create", &["machines", "machineholds", "events", "pods/eviction", "configmaps", "leases", OTHER]),
    ("update", &["leases"]),
    (
        "patch",
        &[
            "scheduledmachines",
            "scheduledmachines/status",
            "machineholds/status",
            "machines",
            "nodes",
            "configmaps",
            OTHER,
        ],
    ),
    ("delete", &["machines", "machineholds", "nodes", "pods", "configmaps", OTHER]),
    ("deletecollection", &[]),
];

/// A call that ends before this without an answer says nothing about the server: its task ended, say.
const PATIENCE: Duration = Duration::from_secs(5);

/// The layer. Clones count into the same counters.
#[derive(Clone, Debug)]
pub struct Calls {
    counters: Counters<3>,
    answers: Option<Answers>,
}

impl Calls {
    /// `fivespot_api_requests_total`, counting nothing yet.
    pub fn register(registry: &mut Registry) -> Self {
        let series = CALLED.iter().flat_map(|(verb, resources)| {
            let answered = if *verb == "create" { "201" } else { "200" };
            resources.iter().flat_map(move |resource| {
                [answered, NONE].map(|code| [("verb", *verb), ("resource", *resource), ("code", code)])
            })
        });
        let help = "Calls to API servers, management and workload, by the answer; `none`: none came. Watches \
                    count when they are opened. Of codes those that came; kinds of providers are `other`";
        let counters = counters(registry, "fivespot_api_requests_total", help, series);
        Self { counters, answers: None }
    }

    /// The same, also telling how the server answers.
    #[must_use]
    pub fn noting(&self, answers: Answers) -> Self {
        Self { answers: Some(answers), ..self.clone() }
    }

    fn begin(self, (verb, resource): (&'static str, &'static str)) -> Underway {
        #[expect(clippy::disallowed_methods, reason = "measures a call; no decision depends on it")]
        let began = Instant::now();
        Underway { calls: self, verb, resource, began, is_answered: false }
    }
}

/// A call until its answer.
struct Underway {
    calls: Calls,
    verb: &'static str,
    resource: &'static str,
    began: Instant,
    is_answered: bool,
}

impl Underway {
    fn count(&self, code: &'static str) {
        let labels = [("verb", self.verb), ("resource", self.resource), ("code", code)];
        self.calls.counters.get_or_create(&labels).inc();
    }

    fn answered(mut self, status: u16) {
        self.is_answered = true;
        self.count(code(status));
        match &self.calls.answers {
            Some(answers) if status < 500 => answers.answered(),
            Some(answers) => answers.failed(),
            None => {}
        }
        self.tell_of_watch(status < 500);
    }

    fn failed(mut self) {
        self.is_answered = true;
        self.count(NONE);
        if let Some(answers) = &self.calls.answers {
            answers.failed();
        }
        self.tell_of_watch(false);
    }

    /// Of kinds that have no word of their own one cannot be told from another.
    fn tell_of_watch(&self, is_open: bool) {
        if let Some(answers) = self.calls.answers.as_ref().filter(|_| self.verb == "watch")
            && self.resource != OTHER
        {
            answers.watched(self.resource, is_open);
        }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        if self.is_answered {
            return;
        }
        self.count(NONE);
        if let Some(answers) = self.calls.answers.as_ref().filter(|_| self.began.elapsed() > PATIENCE) {
            answers.failed();
            self.tell_of_watch(false);
        }
    }
}

impl<S> Layer<S> for Calls {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, calls: self.clone() }
    }
}

/// See [`Calls`].
#[derive(Clone, Debug)]
pub struct Counted<S> {
    inner: S,
    calls: Calls,
}

impl<S, B> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (calls, what) = (self.calls.clone(), call(request.method(), request.uri()));
        let answer = self.inner.call(request);
        Box::pin(async move {
            // What nobody ever waited for was not sent.
            let underway = calls.begin(what);
            let answer = answer.await;
            match &answer {
                Ok(response) => underway.answered(response.status().as_u16()),
                Err(_) => underway.failed(),
            }
            answer
        })
    }
}

/// Verb and resource, as the API server itself names them.
fn call(method: &Method, uri: &Uri) -> (&'static str, &'static str) {
    let mut parts = uri.path().split('/').filter(|part| !part.is_empty());
    let rest: Vec<&str> = match parts.next() {
        Some("api") => parts.skip(1).collect(),
        Some("apis") => parts.skip(2).collect(),
        _ => Vec::new(),
    };
    // Of a namespace only what is in it.
    let rest = match rest[..] {
        ["namespaces", _, _, ..] => &rest[2..],
        _ => &rest[..],
    };
    let known = |word: &str| RESOURCES.into_iter().find(|resource| *resource == word).unwrap_or(OTHER);
    let resource = match rest {
        [resource, _, part, ..] => known(&format!("{resource}/{part}")),
        [resource, ..] => known(resource),
        [] => OTHER,
    };
    let has_name = rest.len() > 1 || rest.is_empty();
    let is_watch = uri.query().is_some_and(|query| query.split('&').any(|part| part == "watch=true"));
    let verb = match method.as_str() {
        "GET" if is_watch => "watch",
        "GET" if has_name => "get",
        "GET" => "list",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" if has_name => "delete",
        "DELETE" => "deletecollection",
        _ => OTHER,
    };
    (verb, resource)
}

fn code(status: u16) -> &'static str {
    let known = CODES.into_iter().find(|(number, _)| *number == status);
    known.map_or_else(
        || match status / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        },
        |(_, word)| word,
    )
}

#[cfg(test)]
mod tests {
    use kube::Api;
    use kube::core::DynamicObject;
    use tower::{BoxError, service_fn};

    use super::super::text;
    use super::*;

    #[test]
    fn calls_are_named_as_the_api_server_names_them() {
        for (method, uri, verb, resource) in [
            ("GET", "/apis/5spot.finos.org/v1alpha1/scheduledmachines?limit=5", "list", "scheduledmachines"),
            (
                "GET",
                "/apis/cluster.x-k8s.io/v1beta2/machines?watch=true&timeoutSeconds=60",
                "watch",
                "machines",
            ),
            ("GET", "/apis/cluster.x-k8s.io/v1beta2/namespaces/a/machines/m", "get", "machines"),
            ("GET", "/api/v1/namespaces/a/secrets?fieldSelector=x", "list", "secrets"),
            ("GET", "/api/v1/nodes", "list", "nodes"),
            ("PATCH", "/api/v1/nodes/n1", "patch", "nodes"),
            ("POST", "/api/v1/namespaces/a/pods/p/eviction?", "create", "pods/eviction"),
            ("DELETE", "/api/v1/namespaces/a/pods/p", "delete", "pods"),
            ("DELETE", "/api/v1/namespaces/a/pods", "deletecollection", "pods"),
            (
                "PATCH",
                "/apis/5spot.finos.org/v1alpha1/namespaces/a/scheduledmachines/s/status",
                "patch",
                "scheduledmachines/status",
            ),
            ("PUT", "/apis/coordination.k8s.io/v1/namespaces/a/leases/l", "update", "leases"),
            ("GET", "/apis/infrastructure.cluster.x-k8s.io/v1/namespaces/a/remotemachines", "list", "other"),
            ("GET", "/version", "get", "other"),
            ("GET", "/apis", "get", "other"),
            ("GET", "/api/v1/namespaces/a", "get", "other"),
            ("POST", "/api/v1/namespaces/a/pods/p/anything-a-tenant-likes", "create", "other"),
            ("BREW", "/api/v1/coffee", "other", "other"),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(call(&method, &uri.parse().unwrap()), (verb, resource), "{method} {uri}");
        }
    }

    #[test]
    fn a_server_may_answer_what_it_likes_and_makes_no_label_of_its_own() {
        let words: std::collections::HashSet<&str> = (100..1000).map(code).collect();
        assert_eq!(words.len(), CODES.len() + 5);
        assert_eq!((code(200), code(299), code(418), code(999)), ("200", "2xx", "4xx", "5xx"));
    }

    async fn get(status: Option<u16>) -> (String, Answers) {
        let mut registry = Registry::default();
        let answers = Answers::default();
        let calls = Calls::register(&mut registry).noting(answers.clone());
        let service = service_fn(move |_: Request<Body>| async move {
            let status = status.ok_or("no connection")?;
            Ok::<_, BoxError>(Response::builder().status(status).body(Body::empty())?)
        });
        let client = kube::Client::new(calls.layer(service), "default");
        let machines = kube::core::ApiResource::erase::<k8s_openapi::api::core::v1::Node>(&());
        let _ = Api::<DynamicObject>::all_with(client, &machines).get("n1").await;
        (text(&registry).unwrap(), answers)
    }

    #[tokio::test]
    async fn every_call_counts_once_with_its_answer_and_tells_of_the_server() {
        for (status, code, is_answer) in [
            (Some(404), "404", true),
            (Some(200), "200", true),
            (Some(503), "503", false),
            (None, "none", false),
        ] {
            let (text, answers) = get(status).await;
            let line =
                format!("fivespot_api_requests_total{{verb=\"get\",resource=\"nodes\",code=\"{code}\"}} 1\n");
            assert!(text.contains(&line), "{line} in {text}");
            assert_eq!(answers.age().is_some(), is_answer, "{status:?}");
        }
    }
}
