//! A Machine that Cluster API cannot end is let go.

use kube::ResourceExt;
use kube::api::Patch;
use serde_json::json;

use super::{Apply, bounded, params};
use crate::api::names;
use crate::controller::effect::UnseenKind;
use crate::controller::error::{EffectError, is_not_found};

impl Apply<'_> {
    /// Takes Cluster API's finalizer off, and no other: only of the Machine that was decided on, while it is being deleted,
    /// and after a live look at each definition. One that is back gives Cluster API its work back.
    pub(super) async fn release(&self, uid: &str, unseen: &[UnseenKind]) -> Result<(), EffectError> {
        for kind in unseen {
            self.is_defined_no_more(&kind.group, &kind.kind).await?;
        }
        let (api, name) = (self.objects(&self.machine()), &self.snapshot.object.name);
        let failed =
            |source: kube::Error| EffectError::Patch { what: self.what("Machine"), source: source.into() };
        let live = match bounded("get", api.get(name)).await? {
            Ok(live) => live,
            Err(error) if is_not_found(&error) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        let is_the_same = live.uid().as_deref() == Some(uid) && live.metadata.deletion_timestamp.is_some();
        let rest: Vec<&String> =
            live.finalizers().iter().filter(|f| *f != names::FINALIZER_CAPI_MACHINE).collect();
        if !is_the_same || rest.len() == live.finalizers().len() {
            return Ok(());
        }
        let patch = json!({"metadata": {
            "uid": uid, "resourceVersion": live.resource_version(), "finalizers": rest,
        }});
        match bounded("patch", api.patch(name, &params(), &Patch::Merge(&patch))).await? {
            Err(error) if !is_not_found(&error) => Err(failed(error)),
            _ => {
                let kinds: Vec<_> = unseen.iter().map(|kind| kind.kind.as_str()).collect();
                tracing::warn!(
                    ?kinds,
                    "let a Machine go that Cluster API could not end: no Cluster, or no definition of these kinds"
                );
                Ok(())
            }
        }
    }
}
