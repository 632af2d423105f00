//! A lent machine with its owner at the desk: a Node, an agent with a token of its pod, and programs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use super::programs::Programs;
use crate::harness::audit::Calls;
use crate::harness::controller::Setup;
use crate::harness::plane::client_from;
use crate::harness::wait::asked_until;
use crate::harness::{self, ControlPlanes, Controller, Mark, eventually, manifests};

/// Longer than anything here takes on a loaded machine; a deadline, not a wait.
pub const PATIENCE: Duration = Duration::from_secs(120);
pub const NAMESPACE: &str = "5spot-system";
pub const ACCOUNT: &str = "5spot-reclaim-agent";
pub const USER: &str = "system:serviceaccount:5spot-system:5spot-reclaim-agent";
pub const REQUESTED: &str = "5spot.finos.org/reclaim-requested";
pub const REASON: &str = "5spot.finos.org/reclaim-reason";
pub const REQUESTED_AT: &str = "5spot.finos.org/reclaim-requested-at";

static COUNT: AtomicU32 = AtomicU32::new(0);

pub struct Desk {
    pub planes: &'static ControlPlanes,
    /// As `admin`.
    pub admin: Client,
    /// Name of the Node.
    pub node: String,
    /// Of the agent's pod.
    pub token: String,
    pub mark: Mark,
    pub programs: Programs,
    dir: TempDir,
}

pub fn shipped(path: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests").join(path);
    manifests::documents(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The namespace, the rights and the confinement, once for all tests.
async fn installed(planes: &ControlPlanes) {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    INSTALLED
        .get_or_init(|| async {
            let client = planes.workload().client().await;
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
            manifests::install(&client, vec![namespace]).await.unwrap();
            let mut objects = shipped("agent/rights.yaml");
            objects.extend(shipped("agent/confinement.yaml"));
            manifests::install(&client, objects).await.unwrap();
        })
        .await;
}

impl Desk {
    /// Nobody's yet: for a Node that is still to come.
    pub async fn empty() -> Self {
        let planes = harness::shared().await;
        installed(planes).await;
        let admin = planes.workload().client().await;
        // None is the beginning of another: calls are told apart by it.
        let node = format!("desk-{:04}", COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = tempfile::tempdir().unwrap();
        let mark = planes.workload().audit().mark();
        Self { planes, token: String::new(), programs: Programs::new(), admin, node, mark, dir }
    }

    /// A Node with an agent's pod on it; no agent runs yet.
    pub async fn new() -> Self {
        let desk = Self::empty().await;
        std::fs::write(desk.machine_id_path(), format!("{}\n", desk.machine_id())).unwrap();
        desk.make_node().await;
        let token = desk.make_token().await;
        let desk = Self { token, ..desk };
        desk.until_confined().await;
        desk
    }

    /// With a program on the list, and an agent that watches for it.
    pub async fn watched() -> (Self, PathBuf, Controller) {
        let desk = Self::new().await;
        let program = desk.program();
        desk.list(&program).await;
        let agent = desk.agent().start();
        desk.until_rules(&agent, "ok").await;
        (desk, program, agent)
    }

    pub fn machine_id(&self) -> String {
        format!("id-of-{}", self.node)
    }

    pub fn machine_id_path(&self) -> PathBuf {
        self.dir.path().join("machine-id")
    }

    pub async fn make_node(&self) {
        let info = [
            "architecture",
            "bootID",
            "containerRuntimeVersion",
            "kernelVersion",
            "kubeProxyVersion",
            "kubeletVersion",
            "operatingSystem",
            "osImage",
            "systemUUID",
        ];
        let mut info: Value = info.iter().map(|key| ((*key).to_owned(), json!("x"))).collect();
        info["machineID"] = json!(self.machine_id());
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": self.node, "labels": {"lent": "yes"}, "annotations": {"of": "somebody"}},
            "status": {"nodeInfo": info},
        }))
        .unwrap();
        self.nodes().create(&PostParams::default(), &node).await.unwrap();
    }

    /// As the kubelet has it for the agent's pod.
    pub async fn make_token(&self) -> String {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": format!("agent-on-{}-{}", self.node, COUNT.fetch_add(1, Ordering::Relaxed))},
            "spec": {
                "nodeName": self.node, "serviceAccountName": ACCOUNT,
                "tolerations": [{"operator": "Exists"}], "containers": [{"name": "agent", "image": "none"}],
            },
        }))
        .unwrap();
        let pods: Api<Pod> = Api::namespaced(self.admin.clone(), NAMESPACE);
        let pod = Box::pin(pods.create(&PostParams::default(), &pod)).await.unwrap();
        let (name, uid) = (pod.name_any(), pod.uid().unwrap());
        self.issue(json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid})).await
    }

    /// A token of the agents' account, bound to that.
    pub async fn issue(&self, bound_to: Value) -> String {
        let request: TokenRequest = serde_json::from_value(json!({
            "spec": {"audiences": [], "expirationSeconds": 3600, "boundObjectRef": bound_to},
        }))
        .unwrap();
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin.clone(), NAMESPACE);
        let issued = accounts.create_token_request(ACCOUNT, &PostParams::default(), &request).await.unwrap();
        issued.status.unwrap().token
    }

    pub fn kubeconfig(&self, token: &str, server: &str) -> String {
        let plane = self.planes.workload();
        let (head, _) = plane.admin().split_once("users:").unwrap();
        let head = head.replace(plane.server(), server);
        format!("{head}users: [{{name: test, user: {{token: {token}}}}}]\n")
    }

    /// As whoever has that token.
    pub async fn client(&self, token: &str) -> Client {
        client_from(&self.kubeconfig(token, self.planes.workload().server())).await.unwrap()
    }

    /// Roles and policies are known to the API server a moment after they were made.
    pub async fn until_confined(&self) {
        let client = self.client(&self.token).await;
        let leases: Api<Lease> = Api::namespaced(client, NAMESPACE);
        let lease: Lease = serde_json::from_value(json!({"metadata": {"name": "nobodys"}})).unwrap();
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        asked_until("confined", PATIENCE, async || match leases.create(&dry_run, &lease).await {
            Err(kube::Error::Api(status)) => status.message.contains("nothing else"),
            _ => false,
        })
        .await;
    }

    /// The agent, as the DaemonSet has it but for its paths.
    pub fn agent(&self) -> Setup {
        self.agent_through(self.planes.workload().server())
    }

    pub fn agent_through(&self, server: &str) -> Setup {
        self.agent_with(&self.kubeconfig(&self.token, server))
    }

    pub fn agent_with(&self, kubeconfig: &str) -> Setup {
        let path = self.dir.path().join("kubeconfig");
        std::fs::write(&path, kubeconfig).unwrap();
        self.told(Setup::of(self.planes, "agent", env!("CARGO_BIN_EXE_5spot")).arg("reclaim-agent"))
            .env("KUBECONFIG", path.to_str().unwrap())
    }

    /// As the DaemonSet has it: with the credentials that a kubelet mounts, and one of root's powers.
    pub fn agent_in_a_pods_shoes(&self) -> Setup {
        let mounted = "/var/run/secrets/kubernetes.io/serviceaccount";
        let secrets = self.dir.path().join("secrets");
        std::fs::create_dir(&secrets).unwrap();
        let authority = self.planes.workload().ground().authority.certificate();
        for (file, content) in
            [("token", &self.token), ("ca.crt", &authority), ("namespace", &NAMESPACE.to_owned())]
        {
            std::fs::write(secrets.join(file), content).unwrap();
        }
        let script = format!(
            "mount -t tmpfs none /var/run && mkdir -p {mounted} && mount --bind {} {mounted} \
             && exec setpriv --bounding-set=-all,+net_admin --inh-caps=-all --no-new-privs {} reclaim-agent",
            secrets.display(),
            env!("CARGO_BIN_EXE_5spot"),
        );
        let port = self.planes.workload().port().to_string();
        let setup =
            Setup::of(self.planes, "agent", "unshare").arg("--mount").arg("sh").arg("-c").arg(&script);
        self.told(setup).env("KUBERNETES_SERVICE_HOST", "127.0.0.1").env("KUBERNETES_SERVICE_PORT", &port)
    }

    fn told(&self, setup: Setup) -> Setup {
        setup
            .env("NODE_NAME", &self.node)
            .env("MACHINE_ID_PATH", self.machine_id_path().to_str().unwrap())
            .env("RUST_LOG", "info,fivespot=debug")
    }

    /// A program of the owner's, under a name that no other test has; where it is.
    pub fn program(&self) -> PathBuf {
        self.programs.waiting(format!(
            "ag-{}-{}",
            std::process::id() % 10_000,
            COUNT.fetch_add(1, Ordering::Relaxed)
        ))
    }

    pub async fn put_rules(&self, text: &str) {
        let map: ConfigMap = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": self.object()}, "data": {"reclaim.toml": text},
        }))
        .unwrap();
        let params = PatchParams::apply("test").force();
        self.maps().patch(&self.object(), &params, &Patch::Apply(&map)).await.unwrap();
    }

    /// Rules for one program.
    pub async fn list(&self, program: &Path) {
        self.put_rules(&format!("match_commands = [{:?}]", name(program))).await;
    }

    pub async fn drop_rules(&self) {
        self.maps().delete(&self.object(), &DeleteParams::default()).await.unwrap();
    }

    fn maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.admin.clone(), NAMESPACE)
    }

    /// Name of the ConfigMap and of the Lease.
    pub fn object(&self) -> String {
        format!("reclaim-agent-{}", self.node)
    }

    pub fn nodes(&self) -> Api<Node> {
        Api::all(self.admin.clone())
    }

    pub fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.admin.clone(), NAMESPACE)
    }

    /// Waits until the Lease says so of the rules.
    pub async fn until_rules(&self, agent: &Controller, says: &str) -> Lease {
        let _log = LogOnPanic(agent);
        let found = |lease: &Lease| said(lease, "rules").contains(says);
        eventually(&self.leases(), &self.object(), &format!("saying {says:?} of its rules"), PATIENCE, found)
            .await
    }

    /// Waits until a request stands on the Node that was not there at that time.
    pub async fn until_asked(&self, agent: &Controller, after: Timestamp) -> Node {
        let _log = LogOnPanic(agent);
        let found = |node: &Node| node.annotations().contains_key(REQUESTED) && asked_at(node) >= after;
        eventually(&self.nodes(), &self.node, "asked for", PATIENCE, found).await
    }

    /// Takes the request off the Node, as the controller does when it has answered.
    pub async fn answer(&self) {
        let nothing =
            json!({"metadata": {"annotations": {REQUESTED: null, REASON: null, REQUESTED_AT: null}}});
        self.nodes().patch(&self.node, &PatchParams::default(), &Patch::Merge(nothing)).await.unwrap();
    }

    /// What agents asked of the API server about this Node so far.
    pub fn calls(&self) -> Calls {
        let calls = self.planes.workload().audit().after(self.mark).by(USER);
        calls.only(|call| {
            call.name == self.node || call.name == self.object() || call.uri.contains(&self.object())
        })
    }

    /// Those that put a request on the Node.
    pub fn requests(&self) -> Calls {
        self.calls().on("nodes").writes()
    }

    pub fn start(&mut self, program: &Path) -> u32 {
        self.programs.run(&mut Command::new(program))
    }

    /// The agent's word, which has no watch.
    pub async fn until_logged(&self, agent: &Controller, words: &[&str]) {
        let _log = LogOnPanic(agent);
        asked_until(&format!("logged {words:?}"), PATIENCE, async || {
            agent.log().lines().any(|line| words.iter().all(|word| line.contains(word)))
        })
        .await;
    }
}

/// One of the annotations on an agent's Lease.
pub fn said(lease: &Lease, what: &str) -> String {
    lease.annotations().get(&format!("5spot.finos.org/agent-{what}")).cloned().unwrap_or_default()
}

pub fn name(program: &Path) -> &str {
    program.file_name().unwrap().to_str().unwrap()
}

pub fn asked_at(node: &Node) -> Timestamp {
    node.annotations()[REQUESTED_AT].parse().unwrap()
}

/// To the millisecond, as requests have it.
pub fn now() -> Timestamp {
    Timestamp::from_millisecond(Timestamp::now().as_millisecond()).unwrap()
}

/// While this lives, a failure shows the agent's log.
pub struct LogOnPanic<'a>(pub &'a Controller);

impl Drop for LogOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the agent's log\n{}", self.0.log());
        }
    }
}
