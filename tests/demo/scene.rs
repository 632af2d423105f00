//! What the story needs: control planes, CRDs, a Cluster, the controller.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use kube::api::ApiResource;
use serde_json::json;

use crate::harness::{self, ControlPlanes, Controller, Result, Tenant, manifests, provider};

/// User of the controller, and of its workload connection.
pub const CONTROLLER: &str = "5spot-controller";
/// The machine.
pub const MACHINE: &str = "ws-17";

pub const ON_YOUR_OWN: &str = "
On your own cluster (the one that Cluster API runs in):

  cargo install --path .                                      # the 5spot binary
  kubectl apply -k manifests/crd                              # the definitions; docs/install.md runs it in the cluster
  5spot controller --log-format text                          # with your kubeconfig, from anywhere
  kubectl apply -f manifests/examples/weekday-hours.yaml      # edit clusterName and the two templates first
  kubectl get scheduledmachines --watch
";

/// Everything that runs.
pub struct Scene {
    pub tenant: Tenant,
    pub controller: Controller,
    pub opens: Timestamp,
    pub closes: Timestamp,
    planes: &'static ControlPlanes,
}

impl Scene {
    pub async fn set() -> Result<Self> {
        let planes = harness::shared().await;
        println!("Installing the CRDs:  5spot crd print | kubectl apply -f -");
        install_crds(planes)?;
        install_role(planes).await?;
        println!("Making a Cluster; Cluster API connects to the workload API server ...");
        let tenant = planes.tenant("demo").await;
        println!("Starting the controller:  5spot controller");
        let kubeconfig = planes.management().issue_kubeconfig(CONTROLLER, &[CONTROLLER]);
        let controller = Controller::setup(planes, &kubeconfig).env("POD_NAME", "demo").start();
        let (opens, closes) = window();
        Ok(Self { tenant, controller, opens, closes, planes })
    }

    pub fn scheduled_machine() -> ApiResource {
        provider::kind("5spot.finos.org", "v1alpha1", "ScheduledMachine")
    }

    /// The ScheduledMachine, as one would write it.
    pub fn manifest(&self) -> String {
        let (config, machine) = (provider::bootstrap(), provider::infrastructure("StubMachine"));
        let (from, to) = (clock(self.opens), clock(self.closes));
        format!(
            r#"apiVersion: 5spot.finos.org/v1alpha1
kind: ScheduledMachine
metadata:
  name: {MACHINE}
  namespace: {namespace}
spec:
  clusterName: {cluster}
  schedule:
    timezone: UTC
    windows:
      - {{days: [mon-sun], from: "{from}", to: "{to}"}}
  gracefulShutdownTimeout: 5s
  nodeDrainTimeout: 30s
  bootstrapSpec:
    apiVersion: {config}
    kind: {config_kind}
    spec: {{}}
  infrastructureSpec:
    apiVersion: {machine}
    kind: {machine_kind}
    spec: {{}}
"#,
            namespace = self.tenant.namespace,
            cluster = self.tenant.cluster,
            config = config.api_version,
            config_kind = config.kind,
            machine = machine.api_version,
            machine_kind = machine.kind,
        )
    }

    /// `kubectl apply -f -`.
    pub fn apply(&self, manifest: &str) -> Result<()> {
        kubectl(self.planes, manifest)
    }

    pub fn last_lines(&self) -> String {
        let log = self.controller.log();
        let tail: Vec<&str> = log.lines().rev().take(15).collect();
        tail.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Leaves everything running, with a process that plays the hosts.
    pub fn keep(&self) -> Result<()> {
        let (management, workload) =
            (self.planes.management().kubeconfig(), self.planes.workload().kubeconfig());
        let hosts = harness::controller::Setup::of(self.planes, "hosts", std::env::current_exe()?)
            .arg("--play-hosts")
            .arg(&management.display().to_string())
            .arg(&workload.display().to_string())
            .start();
        hosts.keep();
        self.controller.keep();
        let stop = self.planes.keep()?;
        println!("\nLeft running:");
        println!("  export KUBECONFIG={}     # management", management.display());
        println!("  export KUBECONFIG={}       # workload", workload.display());
        println!(
            "  {} -n {} get scheduledmachines",
            kubectl_path(self.planes).display(),
            self.tenant.namespace
        );
        println!("  {}     # stops everything and removes it", stop.display());
        Ok(())
    }
}

/// Opens at the next full minute that leaves time to look, for one minute.
fn window() -> (Timestamp, Timestamp) {
    let earliest = Timestamp::now().as_second() + 8;
    let opens = Timestamp::from_second((earliest + 59) / 60 * 60).expect("within range");
    (opens, opens + SignedDuration::from_mins(1))
}

fn clock(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%H:%M").to_string()
}

fn kubectl_path(planes: &ControlPlanes) -> std::path::PathBuf {
    planes.binaries().kubectl.clone()
}

fn install_crds(planes: &ControlPlanes) -> Result<()> {
    let printed = Command::new(env!("CARGO_BIN_EXE_5spot")).args(["crd", "print"]).output()?;
    if !printed.status.success() {
        return Err(format!("5spot crd print: {}", String::from_utf8_lossy(&printed.stderr)).into());
    }
    kubectl(planes, &String::from_utf8(printed.stdout)?)?;
    let mut wait = Command::new(kubectl_path(planes));
    wait.arg("--kubeconfig").arg(planes.management().kubeconfig());
    let names = ["crd/scheduledmachines.5spot.finos.org", "crd/machineholds.5spot.finos.org"];
    let done = wait.args(["wait", "--for=condition=Established", "--timeout=30s"]).args(names).output()?;
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into()) }
}

fn kubectl(planes: &ControlPlanes, manifest: &str) -> Result<()> {
    let mut apply = Command::new(kubectl_path(planes))
        .arg("--kubeconfig")
        .arg(planes.management().kubeconfig())
        .args(["apply", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    apply.stdin.take().ok_or("no stdin")?.write_all(manifest.as_bytes())?;
    let done = apply.wait_with_output()?;
    for line in String::from_utf8_lossy(&done.stdout).lines() {
        println!("  {line}");
    }
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into()) }
}

/// The rights that are shipped, and no others.
async fn install_role(planes: &ControlPlanes) -> Result<()> {
    let role = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/controller/role.yaml");
    let mut objects = manifests::documents(&std::fs::read_to_string(role)?)?;
    objects.push(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "5spot-controller"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "5spot-controller"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": CONTROLLER}],
    }));
    manifests::install(&planes.management().client().await, objects).await
}
