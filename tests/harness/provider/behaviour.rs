use std::time::Duration;

use serde_json::Value;

use crate::harness::Result;

/// How the provider treats machines.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a thing of its own that goes wrong")]
pub struct Behaviour {
    /// Time from bootstrap data to Node.
    pub provision_after: Duration,
    /// Time from a machine's deletion to the end of its host.
    pub deprovision_after: Duration,
    /// The machine is never provisioned, and its condition `Ready` says so with this message.
    pub fail: Option<String>,
    /// The machine is never provisioned, without a word.
    pub never_provisions: bool,
    /// The Node registers but has no kubelet, so it is never Ready.
    pub never_ready: bool,
    /// The host never ends: the finalizer stays.
    pub hold_finalizer: bool,
    /// The Node object ends with the host; otherwise Cluster API deletes it, as with most real providers.
    pub deletes_node: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        let short = Duration::from_millis(200);
        Self {
            provision_after: short,
            deprovision_after: short,
            fail: None,
            never_provisions: false,
            never_ready: false,
            hold_finalizer: false,
            deletes_node: false,
        }
    }
}

impl Behaviour {
    /// This, with what an object says for itself in `spec.stub`.
    pub fn with(mut self, stub: &Value) -> Result<Self> {
        let duration = |field: &str| -> Result<Option<Duration>> {
            let Some(text) = stub[field].as_str() else { return Ok(None) };
            Ok(Some(text.parse::<jiff::SignedDuration>()?.try_into()?))
        };
        let set = |field: &mut bool, name: &str| *field = stub[name].as_bool().unwrap_or(*field);
        self.provision_after = duration("provisionAfter")?.unwrap_or(self.provision_after);
        self.deprovision_after = duration("deprovisionAfter")?.unwrap_or(self.deprovision_after);
        self.fail = stub["fail"].as_str().map(str::to_owned).or(self.fail);
        set(&mut self.never_provisions, "neverProvisions");
        set(&mut self.never_ready, "neverReady");
        set(&mut self.hold_finalizer, "holdFinalizer");
        set(&mut self.deletes_node, "deletesNode");
        Ok(self)
    }
}
