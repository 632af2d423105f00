//! kube-apiserver and kube-controller-manager.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::Client;
use serde_json::json;

use super::Result;
use super::binaries::Binaries;
use super::pki::Authority;
use super::process::{Component, Spec, start_ready};
use super::{manifests, ports};

/// Who called what: the oracle of many tests. What the servers' own controllers and kwok read is left out. Writes are
/// told of when they come as well: a reader then knows of those whose answer is not written down yet. What a patch asks for
/// is written down where tests read it.
const AUDIT_POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- level: None
  users: [\"system:apiserver\"]
- level: None
  users: [\"system:kube-controller-manager\", kwok]
  verbs: [get, list, watch]
- level: None
  nonResourceURLs: [\"/readyz*\", \"/livez*\", \"/healthz*\"]
- level: Request
  verbs: [patch]
  resources:
  - {group: \"\", resources: [nodes]}
  - {group: cluster.x-k8s.io, resources: [machines]}
  - {group: 5spot.finos.org, resources: [scheduledmachines/status]}
- level: Metadata
  verbs: [create, update, patch, delete, deletecollection]
- level: Metadata
  omitStages: [RequestReceived]
";

/// The user that kube-controller-manager calls as.
const KCM: &str = "system:kube-controller-manager";

const CONTROLLERS: &str = "garbage-collector-controller,namespace-controller,serviceaccount-controller,\
                           serviceaccount-token-controller,root-ca-certificate-publisher-controller";
/// Without the disruption controller a budget's `disruptionsAllowed` never moves.
const NODE_CONTROLLERS: &str = "disruption-controller,taint-eviction-controller,node-lifecycle-controller,\
                                pod-garbage-collector-controller,replicaset-controller,deployment-controller,\
                                daemonset-controller,statefulset-controller,job-controller";

/// What all components of a pair share.
#[derive(Debug)]
pub struct Ground {
    /// Everything is below it.
    pub dir: PathBuf,
    /// Executables.
    pub binaries: Binaries,
    /// Signs for both.
    pub authority: Authority,
    /// etcd.
    pub etcd: String,
}

impl Ground {
    /// Prepares the files that both API servers read.
    pub fn new(dir: &Path, binaries: Binaries, etcd: String) -> Result<Self> {
        let authority = Authority::new("harness-ca")?;
        let ground = Self { dir: dir.to_path_buf(), binaries, authority, etcd };
        std::fs::write(ground.path("ca.crt"), ground.authority.certificate())?;
        let serving = ground.authority.serving()?;
        std::fs::write(ground.path("serving.crt"), serving.certificate)?;
        std::fs::write(ground.path("serving.key"), serving.key)?;
        let service_accounts = rcgen::KeyPair::generate()?;
        std::fs::write(ground.path("service-accounts.key"), service_accounts.serialize_pem())?;
        std::fs::write(ground.path("service-accounts.pub"), service_accounts.public_key_pem())?;
        std::fs::write(ground.path("audit-policy.yaml"), AUDIT_POLICY)?;
        Ok(ground)
    }

    /// A file of the pair's directory.
    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    /// Writes a kubeconfig with that identity, for a component that wants a file.
    pub fn kubeconfig(&self, file: &str, server: &str, user: &str, groups: &[&str]) -> Result<PathBuf> {
        let path = self.path(file);
        let identity = self.authority.client(user, groups)?;
        std::fs::write(&path, self.authority.kubeconfig(server, &identity))?;
        Ok(path)
    }

    fn arg(&self, flag: &str, file: &str) -> String {
        format!("--{flag}={}", self.path(file).display())
    }
}

/// Where a plane's audit log is.
pub fn audit_log(ground: &Ground, plane: &str) -> PathBuf {
    ground.path(&format!("{plane}-audit.log"))
}

/// Starts an API server; the component and its port.
pub async fn start(ground: &Ground, plane: &str, service_cidr: &str) -> Result<(Component, u16)> {
    let probe_identity = ground.authority.client("harness-probe", &["system:masters"])?;
    let spec = || {
        let port = ports::free();
        (apiserver_spec(ground, plane, service_cidr, port), port)
    };
    let probe = async |port: u16| {
        let config = ground.authority.kubeconfig(&format!("https://127.0.0.1:{port}"), &probe_identity);
        // The port first: a refused connection is cheap, and a client is not.
        ports::open(port).await && is_ready(&config).await
    };
    start_ready(&ground.dir, Duration::from_secs(90), spec, probe).await
}

/// Whether the server of this kubeconfig says that it is ready.
pub async fn is_ready(kubeconfig: &str) -> bool {
    let Ok(client) = super::plane::client_from(kubeconfig).await else { return false };
    let Ok(request) = http::Request::get("/readyz").body(Vec::new()) else { return false };
    client.request_text(request).await.is_ok()
}

fn apiserver_spec(ground: &Ground, plane: &str, service_cidr: &str, port: u16) -> Spec {
    let args = vec![
        format!("--etcd-servers={}", ground.etcd),
        format!("--etcd-prefix=/{plane}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        ground.arg("tls-cert-file", "serving.crt"),
        ground.arg("tls-private-key-file", "serving.key"),
        ground.arg("client-ca-file", "ca.crt"),
        format!("--service-account-issuer=https://127.0.0.1:{port}"),
        ground.arg("service-account-signing-key-file", "service-accounts.key"),
        ground.arg("service-account-key-file", "service-accounts.pub"),
        format!("--service-cluster-ip-range={service_cidr}"),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        // A pod would have to wait for its namespace's service account.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--etcd-compaction-interval=0".to_owned(),
        ground.arg("audit-policy-file", "audit-policy.yaml"),
        format!("--audit-log-path={}", audit_log(ground, plane).display()),
        // No call without its line, and no line lost to a rotation.
        "--audit-log-mode=blocking".to_owned(),
        "--audit-log-maxsize=4096".to_owned(),
    ];
    let (name, program) = (format!("{plane}-apiserver"), ground.binaries.kube_apiserver.clone());
    Spec { name, program, args, env: Vec::new() }
}

/// Starts the controllers of a plane: those every API server needs, and with Nodes those of a cluster.
pub async fn start_controllers(
    ground: &Ground,
    plane: &str,
    server: &str,
    client: &Client,
    with_nodes: bool,
) -> Result<Component> {
    // They run under one name of their own, not under a service account each.
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "harness-controllers"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": KCM}],
    });
    manifests::install(client, vec![binding]).await?;
    let kubeconfig = ground.kubeconfig(&format!("{plane}-controllers.kubeconfig"), server, KCM, &[])?;
    let kubeconfig = kubeconfig.display();
    let controllers =
        if with_nodes { format!("{CONTROLLERS},{NODE_CONTROLLERS}") } else { CONTROLLERS.to_owned() };
    let spec = || {
        let port = ports::free();
        let args = vec![
            format!("--kubeconfig={kubeconfig}"),
            format!("--authentication-kubeconfig={kubeconfig}"),
            format!("--authorization-kubeconfig={kubeconfig}"),
            format!("--controllers={controllers}"),
            "--leader-elect=false".to_owned(),
            "--use-service-account-credentials=false".to_owned(),
            ground.arg("service-account-private-key-file", "service-accounts.key"),
            ground.arg("root-ca-file", "ca.crt"),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={port}"),
            "--kube-api-qps=200".to_owned(),
            "--kube-api-burst=400".to_owned(),
        ];
        let program = ground.binaries.kube_controller_manager.clone();
        (Spec { name: format!("{plane}-controllers"), program, args, env: Vec::new() }, port)
    };
    let (component, _) = start_ready(&ground.dir, Duration::from_secs(180), spec, ports::open).await?;
    Ok(component)
}
