//! `5spot crd print | kubectl apply -f -`, in every form in which people type it, and what kubectl then shows.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::harness::wait::asked_until;

use super::{api, cases, create, kubectl, kubectl_apply_printed, namespace, said, server};

/// What Kubernetes allows all annotations of an object together.
const ANNOTATIONS_LIMIT: usize = 256 * 1024;

/// Two kubectls that apply the same definitions at one time see each other's half-done work, and warn of it.
static APPLYING: Mutex<()> = Mutex::const_new(());

#[tokio::test]
async fn printed_definitions_apply_in_both_formats_client_side_and_server_side_and_again() {
    let planes = server().await;
    let _alone = APPLYING.lock().await;
    for (format, flags) in [
        ("yaml", &[][..]),
        ("json", &[][..]),
        ("yaml", &["--server-side"][..]),
        ("json", &["--server-side"][..]),
        ("yaml", &[][..]),
    ] {
        let applied = kubectl_apply_printed(planes, format, flags);
        let said = said(&applied);
        assert!(applied.status.success(), "{format} {flags:?}: {said}");
        assert_eq!(said.lines().filter(|line| line.contains(".5spot.finos.org")).count(), 2, "{said}");
        assert!(!said.contains("Warning"), "{format} {flags:?}: {said}");
    }
    let wait = ["wait", "--for=condition=Established", "--timeout=30s"];
    let names = ["crd/scheduledmachines.5spot.finos.org", "crd/machineholds.5spot.finos.org"];
    let waited = kubectl(planes).args(wait).args(names).output().unwrap();
    assert!(waited.status.success(), "{}", said(&waited));

    let crds: Api<CustomResourceDefinition> = Api::all(planes.management().client().await);
    for name in ["scheduledmachines.5spot.finos.org", "machineholds.5spot.finos.org"] {
        let crd = crds.get(name).await.unwrap();
        let annotations = crd.metadata.annotations.unwrap_or_default();
        let size: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert!(size > 0 && size < ANNOTATIONS_LIMIT / 2, "{name} carries {size} bytes of annotations");
        let status = crd.status.and_then(|status| status.conditions).unwrap_or_default();
        let structural = status.iter().find(|condition| condition.type_ == "NonStructuralSchema");
        assert!(structural.is_none(), "{name}: {structural:?}");
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let mut print = Command::new(env!("CARGO_BIN_EXE_5spot"))
        .args(["crd", "print"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 4];
    let mut printed = print.stdout.take().unwrap();
    printed.read_exact(&mut first).unwrap();
    drop(printed);
    let ended = print.wait_with_output().unwrap();
    assert_eq!(&first, b"---\n");
    assert!(ended.status.success() && ended.stderr.is_empty(), "{}", said(&ended));
}

#[test]
fn a_wrong_call_is_status_2_and_says_so_on_stderr() {
    for call in
        [&["crd", "print", "--format", "toml"][..], &["crd", "show"][..], &["crd"][..], &["--what"][..]]
    {
        let ended = Command::new(env!("CARGO_BIN_EXE_5spot")).args(call).output().unwrap();
        assert_eq!(ended.status.code(), Some(2), "{call:?}");
        assert!(ended.stdout.is_empty() && !ended.stderr.is_empty(), "{call:?}: {}", said(&ended));
    }
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let print =
        Command::new(env!("CARGO_BIN_EXE_5spot")).args(["crd", "print"]).stdout(full).output().unwrap();
    assert_eq!(print.status.code(), Some(1), "{}", said(&print));
}

/// Every field of the status, at values that no default would give.
fn whole_status() -> Value {
    let at = "2026-11-23T07:00:00Z";
    let taint = json!({"key": "lent", "value": "true", "effect": "NoSchedule"});
    let reference = |kind: &str| json!({"apiVersion": "x.example/v1", "kind": kind, "name": "n", "namespace": "ns", "uid": "u"});
    json!({
        "observedGeneration": 3, "phase": "ShuttingDown", "message": "lent", "inSchedule": true,
        "nextActivation": at, "nextCleanup": at, "handBackBy": at, "lastScheduledTime": at,
        "next": {"at": at, "state": "Inactive", "rule": "OutsideWindows", "blockedBy": "a hold"},
        "nextText": "leaves Mon 07:00 GMT",
        "decision": {
            "state": "Active", "rule": "Window", "since": at, "ruleSince": at, "until": at, "manner": "Graceful",
            "source": {"kind": "ScheduledMachine", "name": "n", "uid": "u", "fieldPath": "spec.schedule.windows[0]"},
            "message": "window 1",
        },
        "timers": {"openStartedAt": at, "shutdownStartedAt": at, "drainStartedAt": at, "ejectStartedAt": at,
                   "reclaimedAt": at},
        "leaving": {
            "since": at, "stage": "Drain", "graceEndsAt": at, "drainEndsAt": at, "goneBy": at,
            "blockedBy": [{"kind": "Pod", "namespace": "ns", "name": "n", "reason": "budget"}],
        },
        "lastRun": {
            "openedAt": at, "readyAt": at, "closedAt": at, "goneAt": at, "node": "n", "providerID": "p://n",
            "endedBy": "Reclaim", "lateBySeconds": 5,
        },
        "reclaim": {"at": at, "node": "n", "matched": "idea", "last24h": 2},
        "machineRef": reference("Machine"), "bootstrapRef": reference("K0sWorkerConfig"),
        "infrastructureRef": reference("RemoteMachine"),
        "nodeRef": {"apiVersion": "v1", "kind": "Node", "name": "node-17", "uid": "u"},
        "providerID": "p://n", "appliedNodeTaints": [taint],
        "conditions": [{
            "type": "Ready", "status": "True", "observedGeneration": 3, "lastTransitionTime": at,
            "reason": "Active", "message": "",
        }],
    })
}

#[tokio::test]
async fn kubectl_shows_the_columns_and_the_status_is_kept_whole() {
    let planes = server().await;
    let client = planes.management().client().await;
    namespace(&client, "shown").await;
    create(&client, "shown", &cases::good("ScheduledMachine"), false).await.unwrap();
    create(&client, "shown", &cases::good("MachineHold"), false).await.unwrap();
    let machines = api(&client, "shown", "ScheduledMachine");
    let patch = Patch::Merge(json!({ "status": whole_status() }));
    machines.patch_status("good", &PatchParams::default(), &patch).await.unwrap();
    let stored = serde_json::to_value(machines.get("good").await.unwrap()).unwrap();
    assert_eq!(stored["status"], whole_status(), "nothing is pruned");
    super::accepted::assert_decodes::<fivespot::api::scheduled_machine::ScheduledMachine>("status", &stored);

    let table = |what: &str| {
        let shown = kubectl(planes).args(["get", what, "-n", "shown", "-o", "wide"]).output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        let mut lines =
            shown.lines().map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()));
        let header: Vec<_> = lines.next().unwrap().map(str::to_owned).collect();
        let row: Vec<_> = lines.next().unwrap().map(str::to_owned).collect();
        (header.join(" "), row)
    };
    let (header, row) = table("sm");
    assert_eq!(header, "NAME PHASE READY RULE ENABLED CLUSTER NODE NEXT AGE INSCHEDULE DAYS HOURS ZONE");
    assert_eq!(
        row[..8].join("|"),
        "good|ShuttingDown|True|Window|true|risk-grid|node-17|leaves Mon 07:00 GMT"
    );
    assert_eq!(row[9..].join("|"), r#"true|["mon-fri"]|["9-17"]|UTC"#);
    let (header, row) = table("mh");
    assert!(header.starts_with("NAME STATE MACHINE"), "{header}");
    assert_eq!(row[..3].join("|"), "good|Inactive|ws-17");
    let category =
        kubectl(planes).args(["get", "cluster-api", "-n", "shown", "-o", "name"]).output().unwrap();
    assert_eq!(said(&category).lines().count(), 2, "{}", said(&category));

    for (selector, found) in [("spec.clusterName=risk-grid", 1), ("spec.clusterName=other", 0)] {
        let list = machines.list(&ListParams::default().fields(selector)).await.unwrap();
        assert_eq!(list.items.len(), found, "{selector}");
    }
}

/// As the predecessor has it: it knows no windows.
fn the_predecessors_policy() -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": "scheduledmachine-validation"},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": ["5spot.finos.org"], "apiVersions": ["v1alpha1"], "resources": ["scheduledmachines"],
                    "operations": ["CREATE", "UPDATE"],
                }]},
                "validations": [{"expression": "has(object.spec.schedule.daysOfWeek)", "message": "days are required"}],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": "scheduledmachine-validation-binding"},
            // Other tests are on this server too.
            "spec": {
                "policyName": "scheduledmachine-validation", "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "replaced"}}},
            },
        },
    ]})
}

#[tokio::test]
async fn the_default_install_replaces_the_predecessors_policy() {
    let planes = server().await;
    let client = planes.management().client().await;
    namespace(&client, "replaced").await;
    let file = planes.dir().join("predecessors-policy.json");
    std::fs::write(&file, the_predecessors_policy().to_string()).unwrap();
    let applied = kubectl(planes).args(["apply", "-f"]).arg(&file).output().unwrap();
    assert!(applied.status.success(), "{}", said(&applied));
    let mut windows = cases::good("ScheduledMachine");
    windows["spec"]["schedule"] = json!({"windows": [{"days": ["mon"], "from": "19:00", "to": "07:00"}]});
    let patience = Duration::from_secs(30);
    asked_until("refused by the predecessor's", patience, async || {
        let outcome = create(&client, "replaced", &windows, true).await;
        outcome.is_err_and(|refusal| refusal.to_string().contains("days are required"))
    })
    .await;

    let manifests = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    let _alone = APPLYING.lock().await;
    for _ in 0..2 {
        let applied = kubectl(planes).args(["apply", "-k"]).arg(&manifests).output().unwrap();
        assert!(applied.status.success(), "{}", said(&applied));
    }
    asked_until("taken", patience, async || create(&client, "replaced", &windows, true).await.is_ok()).await;
}
