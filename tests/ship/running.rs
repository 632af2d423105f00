//! The program, started by what the manifests say, in its pod's shoes: user, powers, environment, the token of its own account
//! where the kubelet would mount it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Probe, ServiceAccount};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use super::shipped::{container, environment, installed, named, pod_of, rendered};
use crate::harness::controller::{Setup, get};
use crate::harness::wait::asked_until;
use crate::harness::{ControlPlanes, Controller, ports};
use crate::world::{PATIENCE, World, is_true};

const NAMESPACE: &str = "5spot-system";
const USER: &str = "system:serviceaccount:5spot-system:5spot-controller";
const MOUNTED: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The controller's pod, on this machine.
struct Shoes {
    controller: Controller,
    /// What its ports for metrics and health are here.
    ports: (u16, u16),
    pod: k8s_openapi::api::core::v1::Pod,
    _credentials: tempfile::TempDir,
}

impl Shoes {
    async fn start(planes: &ControlPlanes) -> Self {
        let objects = rendered(planes, "manifests");
        let pod = pod_of(&named(&objects, "Deployment", "5spot-controller")["spec"]["template"]);
        let account = pod.spec.as_ref().unwrap().service_account_name.clone().unwrap();
        let credentials = credentials(planes, &account).await;
        // A pod has all ports to itself; this machine has not.
        let ports = (ports::free(), ports::free());
        let mut setup = in_shoes(planes, &pod, credentials.path());
        for (name, value) in environment(&pod, "5spot-controller-0", NAMESPACE, &objects) {
            let value = match name.as_str() {
                "METRICS_PORT" => ports.0.to_string(),
                "HEALTH_PORT" => ports.1.to_string(),
                _ => value,
            };
            setup = setup.env(&name, &value);
        }
        Self { controller: setup.start(), ports, pod, _credentials: credentials }
    }

    /// Waits until a probe of the pod passes.
    async fn until_passed(&self, probe: Option<&Probe>) {
        let http = probe.and_then(|probe| probe.http_get.clone()).expect("a probe by HTTP");
        assert_eq!(http.port, IntOrString::String("health".to_owned()));
        let path = http.path.unwrap();
        let passed = async || {
            let ended = self.controller.ended();
            assert!(ended.is_none(), "{ended:?}\n{}", self.controller.log());
            get(self.ports.1, &path).await.is_some_and(|(status, _)| (200..400).contains(&status))
        };
        asked_until(&path, PATIENCE, passed).await;
    }
}

/// The files that the kubelet mounts into a pod of that account.
async fn credentials(planes: &ControlPlanes, account: &str) -> tempfile::TempDir {
    let accounts: Api<ServiceAccount> = Api::namespaced(planes.management().client().await, NAMESPACE);
    let request = TokenRequest { spec: TokenRequestSpec::default(), ..TokenRequest::default() };
    let granted =
        Box::pin(accounts.create_token_request(account, &PostParams::default(), &request)).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for (file, content) in [
        ("token", granted.status.unwrap().token),
        ("ca.crt", planes.management().ground().authority.certificate()),
        ("namespace", NAMESPACE.to_owned()),
    ] {
        let file = dir.path().join(file);
        std::fs::write(&file, content).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    dir
}

/// In a namespace of mounts of its own: the program by the name that the pod calls it, and the credentials.
fn in_shoes(planes: &ControlPlanes, pod: &k8s_openapi::api::core::v1::Pod, credentials: &Path) -> Setup {
    let container = container(pod);
    let command = container.command.clone().unwrap();
    let [name] = &command[..] else { panic!("{command:?}") };
    let security = pod.spec.as_ref().unwrap().security_context.as_ref().unwrap();
    let (user, group) = (security.run_as_user.unwrap(), security.run_as_group.unwrap());
    let dropped = container.security_context.as_ref().unwrap().capabilities.as_ref().unwrap();
    assert_eq!((dropped.drop.as_deref(), dropped.add.as_ref()), (Some(&["ALL".to_owned()][..]), None));
    let script = format!(
        "mount -t tmpfs none /var/run && mkdir -p {MOUNTED} && mount --bind {} {MOUNTED} \
         && cp {} /var/run/{name} && chmod 755 /var/run/{name} && mount -o remount,ro /var/run \
         && exec setpriv --reuid={user} --regid={group} --clear-groups --bounding-set=-all --inh-caps=-all \
         --no-new-privs /var/run/{name} \"$@\"",
        credentials.display(),
        env!("CARGO_BIN_EXE_5spot"),
    );
    let port = planes.management().port().to_string();
    let setup =
        Setup::of(planes, "shipped", "unshare").arg("--mount").arg("sh").arg("-c").arg(&script).arg("sh");
    let setup = container.args.iter().flatten().fold(setup, |setup, arg| setup.arg(arg));
    setup.env("KUBERNETES_SERVICE_HOST", "127.0.0.1").env("KUBERNETES_SERVICE_PORT", &port)
}

/// A line of `/proc/<pid>/status`.
fn proc_status(pid: u32, name: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn the_shipped_deployment_gets_ready_and_lends_a_machine_and_is_refused_nothing() {
    if !nix::unistd::geteuid().is_root() {
        return crate::harness::skips::skipped("the controller in its pod's shoes: this needs root");
    }
    let planes = installed().await;
    let (tenant, _, _) = World::prepare("shipped").await;
    let begin = Timestamp::now();
    let shoes = Shoes::start(planes).await;
    let world = World::with(tenant, USER.to_owned(), shoes.controller.clone());
    let _log = world.log_on_panic();
    let container = container(&shoes.pod);
    shoes.until_passed(container.liveness_probe.as_ref()).await;
    shoes.until_passed(container.readiness_probe.as_ref()).await;
    let pid = shoes.controller.pid();
    assert_eq!(proc_status(pid, "Uid"), "65532 65532 65532 65532");
    assert_eq!(proc_status(pid, "CapPrm"), "0000000000000000");

    let name = world.tenant.unique("ws");
    world.create(&name, json!({})).await;
    world.until_settled(&name, "Active").await;
    world.until(&name, "reachable", |sm| is_true(sm, "WorkloadReachable")).await;
    world.edit(&name, json!({"killSwitch": true})).await;
    world.until_settled(&name, "Terminated").await;
    world.until_nothing_left(&name).await;
    // Told by its pod's name, as itself.
    let event = world.until_event(&name, "").await;
    assert_eq!(event.reporting_instance.as_deref(), Some("5spot-controller-0"));

    let (status, scrape) = get(shoes.ports.0, "/metrics").await.unwrap();
    assert!(status == 200 && scrape.contains("\nfivespot_is_leader 1\n"), "{status}: {scrape}");
    let calls = planes.management().audit().all().by(USER).since(begin);
    assert!(calls.writes().len() > 5, "the token is heard of under another name: {calls}");
    let refused = calls.only(|call| call.code == 401 || call.code == 403);
    assert!(refused.is_empty(), "{refused}");
    let memory = proc_status(pid, "VmRSS");
    let ended = shoes.controller.terminate(Duration::from_secs(8)).await;
    assert!(ended.success(), "{ended}\n{}", shoes.controller.log());
    eprintln!("the shipped Deployment: {memory} resident");
}
