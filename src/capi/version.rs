//! The versions in which Cluster API serves Machines and Clusters, and which of them is spoken.
//!
//! Pure.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::ApiResource;

use crate::api::names::{CAPI_CLUSTERS, CAPI_GROUP, CAPI_MACHINES};

/// A version of `machines` and `clusters` in `cluster.x-k8s.io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// From Cluster API 1.11 on.
    V1Beta2,
    /// The only one up to 1.10; no longer served from 1.16 on.
    V1Beta1,
}

/// What of Cluster API there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capi {
    /// Machines and Clusters, in this version.
    Served(Version),
    /// There is no kind Machine, and so there are no Machines; in words fit for a condition.
    NotServed(String),
    /// Machines may stand, in no version that is spoken, or without Clusters; in words fit for a condition.
    Unspoken(String),
}

impl Capi {
    /// The version to speak; where none is served, that which a call will be told does not exist.
    pub fn version(&self) -> Version {
        match self {
            Self::Served(version) => *version,
            Self::NotServed(_) | Self::Unspoken(_) => Version::V1Beta2,
        }
    }
}

impl Version {
    /// The one to prefer first: the older is converted by a webhook that fails when a provider's CRD is gone.
    pub const ALL: [Self; 2] = [Self::V1Beta2, Self::V1Beta1];

    /// As it stands in an `apiVersion`.
    pub fn name(self) -> &'static str {
        match self {
            Self::V1Beta2 => "v1beta2",
            Self::V1Beta1 => "v1beta1",
        }
    }

    /// Group and version.
    pub fn api_version(self) -> String {
        format!("{CAPI_GROUP}/{}", self.name())
    }

    /// `machines.cluster.x-k8s.io`.
    pub fn machine(self) -> ApiResource {
        self.resource("Machine", "machines")
    }

    /// `clusters.cluster.x-k8s.io`.
    pub fn cluster(self) -> ApiResource {
        self.resource("Cluster", "clusters")
    }

    /// `machinedrainrules.cluster.x-k8s.io`.
    pub fn drain_rule(self) -> ApiResource {
        self.resource("MachineDrainRule", "machinedrainrules")
    }

    fn resource(self, kind: &str, plural: &str) -> ApiResource {
        ApiResource {
            group: CAPI_GROUP.to_owned(),
            version: self.name().to_owned(),
            api_version: self.api_version(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        }
    }
}

/// The versions in which a kind is served.
pub fn served(definition: &CustomResourceDefinition) -> Vec<String> {
    let served = definition.spec.versions.iter().filter(|version| version.served);
    served.map(|version| version.name.clone()).collect()
}

/// The version to speak, by the versions in which Machines and Clusters are served; `None`: no such kind. An upgrade
/// replaces the two definitions one after the other, so only what both have counts.
pub fn choose(machines: Option<&[String]>, clusters: Option<&[String]>) -> Capi {
    const ADVICE: &str = "install Cluster API 1.10 or newer";
    let (machines, clusters) = match (machines, clusters) {
        (Some(machines), Some(clusters)) => (machines, clusters),
        (None, _) => return Capi::NotServed(missing(CAPI_MACHINES, ADVICE)),
        (_, None) => return Capi::Unspoken(missing(CAPI_CLUSTERS, ADVICE)),
    };
    let is_common =
        |version: &Version| [machines, clusters].iter().all(|all| all.iter().any(|v| v == version.name()));
    match Version::ALL.into_iter().find(is_common) {
        Some(version) => Capi::Served(version),
        None => Capi::Unspoken(format!(
            "Cluster API serves {CAPI_MACHINES} in {} and {CAPI_CLUSTERS} in {}, and 5spot speaks v1beta2 and v1beta1: \
             {ADVICE}",
            listed(machines),
            listed(clusters)
        )),
    }
}

fn missing(name: &str, advice: &str) -> String {
    format!("there is no CustomResourceDefinition {name}: {advice}")
}

fn listed(versions: &[String]) -> String {
    if versions.is_empty() { "no version".to_owned() } else { versions.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(machines: &[&str], clusters: &[&str]) -> Capi {
        let owned = |list: &[&str]| list.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>();
        choose(Some(&owned(machines)), Some(&owned(clusters)))
    }

    #[test]
    fn the_newest_version_that_both_kinds_have_is_spoken() {
        use Version::{V1Beta1, V1Beta2};
        for (machines, clusters, version) in [
            (&["v1beta1", "v1beta2"][..], &["v1beta2", "v1beta1"][..], V1Beta2),
            (&["v1beta2"], &["v1beta2"], V1Beta2),
            (&["v1beta1"], &["v1beta1"], V1Beta1),
            // In the middle of an upgrade.
            (&["v1beta1", "v1beta2"], &["v1beta1"], V1Beta1),
            (&["v1alpha4", "v1beta1"], &["v1beta1", "v1beta2", "v1beta3"], V1Beta1),
        ] {
            assert_eq!(chosen(machines, clusters), Capi::Served(version), "{machines:?} {clusters:?}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_said_with_what_to_do() {
        let some = ["v1beta2".to_owned()];
        let said = |capi: Capi| match capi {
            Capi::NotServed(text) | Capi::Unspoken(text) => text,
            Capi::Served(version) => panic!("{version:?}"),
        };
        assert!(matches!(choose(None, Some(&some)), Capi::NotServed(_)), "of Machines there can be none");
        assert!(matches!(choose(Some(&some), None), Capi::Unspoken(_)), "Machines may stand");
        assert!(matches!(chosen(&["v1beta3"], &["v1beta3"]), Capi::Unspoken(_)), "Machines may stand");
        let none = said(choose(None, None));
        assert!(none.contains("machines.cluster.x-k8s.io") && none.contains("install Cluster API"), "{none}");
        let half = said(choose(Some(&some), None));
        assert!(half.contains("clusters.cluster.x-k8s.io"), "{half}");
        let old = said(chosen(&["v1alpha4"], &[]));
        assert!(old.contains("v1alpha4") && old.contains("no version"), "{old}");
        assert!(said(chosen(&["v1beta1"], &["v1beta2"])).contains("5spot speaks"));
    }
}
