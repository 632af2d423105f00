//! stub
#![allow(missing_docs)]
use kube::core::{ApiResource, DynamicObject, PartialObjectMeta};
use kube::runtime::reflector;
use tokio::sync::mpsc;
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    Bootstrap,
    Infrastructure,
}
#[derive(Clone)]
pub struct Kinds;
impl Kinds {
    pub fn new(
        _client: kube::Client,
        _namespace: Option<String>,
        _allowed_groups: Vec<String>,
        _notices: mpsc::UnboundedSender<KindNotice>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        (Self, std::future::pending())
    }
    pub fn view(&self, _role: Role, _api_version: &str, _kind: &str) -> KindView {
        KindView::Resolving
    }
}
#[derive(Clone)]
pub enum KindView {
    Resolving,
    NotServed(String),
    NotAllowed(String),
    Unreachable(String),
    Served { resource: ApiResource, children: reflector::Store<PartialObjectMeta<DynamicObject>> },
}
pub enum KindNotice {
    Kind { role: Role, api_version: String, kind: String },
    Child { namespace: String, name: String, scheduled_machine: String },
}
