//! Where the binaries are.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::build::{self, CAPI_V1_10, CAPI_V1_10_PACKAGE, CONTROL_PLANES, PACKAGES};
use super::{Result, say};

/// The binaries of a pair of control planes, and what of Cluster API and kwok is data.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// etcd.
    pub etcd: PathBuf,
    /// kube-apiserver.
    pub kube_apiserver: PathBuf,
    /// kube-controller-manager.
    pub kube_controller_manager: PathBuf,
    /// kubectl, for demonstrations.
    pub kubectl: PathBuf,
    /// kwok.
    pub kwok: PathBuf,
    /// Today's Cluster API.
    pub capi: ClusterApi,
    data: PathBuf,
}

/// A release of Cluster API: its core manager and its manifests.
#[derive(Clone, Debug)]
pub struct ClusterApi {
    /// The manager.
    pub program: PathBuf,
    data: PathBuf,
}

impl ClusterApi {
    /// Its CRDs, with the contract labels and the conversion stanza.
    pub fn crds(&self) -> Result<Vec<Value>> {
        Ok(serde_json::from_slice(&std::fs::read(self.data.join(build::CAPI_CRDS))?)?)
    }

    /// Its webhook configurations.
    pub fn webhooks(&self) -> Result<Vec<Value>> {
        Ok(serde_json::from_slice(&std::fs::read(self.data.join(build::CAPI_WEBHOOKS))?)?)
    }
}

/// Binaries that the user brings, as every envtest user expects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Supplied {
    /// The directory, when it holds what an envtest directory holds.
    pub dir: Option<PathBuf>,
    /// Those of our binaries that are in it.
    pub names: Vec<&'static str>,
    /// What to tell the user.
    pub note: Option<String>,
}

impl Supplied {
    /// Looks into the directory that `KUBEBUILDER_ASSETS` names. Without etcd and kube-apiserver it is of no
    /// use: then everything is built, and the note says why.
    pub fn look(assets: Option<&Path>) -> Self {
        let Some(dir) = assets.filter(|dir| !dir.as_os_str().is_empty()) else {
            return Self::default();
        };
        let here = |name: &str| dir.join(name).is_file();
        let names: Vec<_> = ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"]
            .into_iter()
            .filter(|name| here(name))
            .collect();
        let shown = dir.display();
        if !here("etcd") || !here("kube-apiserver") {
            let note = format!("KUBEBUILDER_ASSETS={shown} lacks etcd or kube-apiserver: not used");
            return Self { dir: None, names: Vec::new(), note: Some(note) };
        }
        let note = format!("from KUBEBUILDER_ASSETS={shown}: {}", names.join(", "));
        Self { dir: Some(dir.to_path_buf()), names, note: Some(note) }
    }
}

impl Binaries {
    /// Finds them: in `KUBEBUILDER_ASSETS`, else in the cache, else builds them into the cache. Blocks, the
    /// first time for minutes.
    pub fn locate() -> Result<Self> {
        let supplied = Supplied::look(std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from).as_deref());
        if let Some(note) = &supplied.note {
            say(note);
        }
        let missing: Vec<_> = PACKAGES.iter().filter(|p| !supplied.names.contains(&p.name)).collect();
        let kubectl = supplied.dir.as_ref().filter(|_| supplied.names.contains(&"kubectl"));
        let kubectl = kubectl.map(|dir| dir.join("kubectl"));
        let built = build::ensure(&cache_root()?, &CONTROL_PLANES, &missing, kubectl.as_deref())?;
        let path = |name: &'static str| match &supplied.dir {
            Some(dir) if supplied.names.contains(&name) => dir.join(name),
            _ => built.join(name),
        };
        Ok(Self {
            etcd: path("etcd"),
            kube_apiserver: path("kube-apiserver"),
            kube_controller_manager: path("kube-controller-manager"),
            kubectl: path("kubectl"),
            kwok: path("kwok"),
            capi: ClusterApi { program: path("capi-core"), data: built.clone() },
            data: built,
        })
    }

    /// Cluster API 1.10. Blocks, the first time for minutes.
    pub fn capi_v1_10(&self) -> Result<ClusterApi> {
        let built = build::ensure(&cache_root()?, &CAPI_V1_10, &[&CAPI_V1_10_PACKAGE], Some(&self.kubectl))?;
        Ok(ClusterApi { program: built.join(CAPI_V1_10_PACKAGE.name), data: built })
    }

    /// kwok's stages for Nodes and pods.
    pub fn kwok_stages(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.data.join(build::KWOK_STAGES))?)
    }
}

fn cache_root() -> Result<PathBuf> {
    let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let cache = match named {
        Some(dir) => dir,
        None => {
            std::env::home_dir().ok_or("no home directory to keep built control planes in")?.join(".cache")
        }
    };
    Ok(cache.join("5spot").join("control-planes"))
}
