//! stub
#![allow(missing_docs)]
use k8s_openapi::api::core::v1::Node;
use kube::runtime::reflector;
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ConnectionKey {
    pub namespace: String,
    pub secret: String,
    pub key: String,
}
#[derive(Clone)]
pub struct Workloads;
impl Workloads {
    pub fn new(
        _management: kube::Client,
        _notices: tokio::sync::mpsc::UnboundedSender<WorkloadNotice>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        (Self, std::future::pending())
    }
    pub fn view(&self, _key: &ConnectionKey) -> View {
        View { reach: Reach::Connecting, client: None, nodes: None }
    }
    pub fn retain(&self, _wanted: impl Fn(&ConnectionKey) -> bool) {}
}
#[derive(Clone)]
pub struct View {
    pub reach: Reach,
    pub client: Option<kube::Client>,
    pub nodes: Option<reflector::Store<Node>>,
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    Connecting,
    KubeconfigMissing(String),
    KubeconfigInvalid(String),
    Unreachable(String),
    Unauthorized(String),
    Connected,
}
pub enum WorkloadNotice {
    Reach(ConnectionKey),
    Node { connection: ConnectionKey, name: String, machine: Option<(String, String)> },
}
