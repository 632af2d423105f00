//! The container image: built by its Containerfile with buildah, and run with it. No control plane.
//!
//! No registry is asked. In the builder's place stands this machine's own toolchain, mounted into an empty image; in the
//! base's place this machine's C library, copied into one. The instructions of the Containerfile are all carried out; only
//! the profile is `dev`, which is compiled in a quarter of the time (`just image-twice` builds the real one, twice).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "these are tests, and so are the functions they share"
)]
#![allow(clippy::disallowed_methods, reason = "tests read clocks and the environment")]
#![allow(clippy::print_stderr, reason = "a test tells what it measured, and what it could not try")]

mod names;
#[path = "../skips.rs"]
mod skips;
mod workshop;

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::workshop::{Image, image};

#[test]
fn both_roles_answer_by_their_names() {
    let Some(image) = image() else { return };
    let (version, container) = (env!("CARGO_PKG_VERSION"), image.container(None));
    for name in ["5spot", "5spot-controller", "5spot-reclaim-agent"] {
        // As the manifests call it: by a name that is looked up in the image's PATH.
        assert_eq!(container.run(&[], &[name, "--version"]).text(), format!("{name} {version}\n"));
    }
    let printed = container.run(&[], &["5spot", "crd", "print"]).text();
    assert!(printed == include_str!("../../manifests/crd/definitions.yaml"), "{} bytes", printed.len());
}

#[test]
fn it_holds_the_program_and_nothing_to_break_in_with() {
    let Some(image) = image() else { return };
    let container = image.container(None);
    let mut added: Vec<String> = container.files();
    added.retain(|file| !image.files_of_the_base.contains(file));
    assert_eq!(
        added,
        ["usr/local/bin/5spot", "usr/local/bin/5spot-controller", "usr/local/bin/5spot-reclaim-agent"]
    );
    let shell = container.run(&[], &["sh", "-c", "true"]);
    assert_ne!(shell.status, Some(0));
    assert!(shell.stderr.contains("executable file not found"), "{}", shell.stderr);
}

#[test]
fn it_says_what_it_is_and_runs_as_nobody_in_particular() {
    let Some(image) = image() else { return };
    let config = &image.inspect()["OCIv1"]["config"];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Entrypoint"], serde_json::json!(["/usr/local/bin/5spot"]));
    for (label, value) in [
        ("title", "5spot"),
        ("licenses", env!("CARGO_PKG_LICENSE")),
        ("version", env!("CARGO_PKG_VERSION")),
        ("description", env!("CARGO_PKG_DESCRIPTION")),
    ] {
        assert_eq!(config["Labels"][format!("org.opencontainers.image.{label}")], value);
    }
}

#[test]
fn the_agent_sees_the_hosts_programs_from_inside_it() {
    let Some(image) = image() else { return };
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("owners-tool");
    std::fs::copy("/bin/sleep", &program).unwrap();
    let mut started = std::process::Command::new(&program).arg("300").spawn().unwrap();
    let rules = dir.path().join("reclaim.toml");
    std::fs::write(&rules, "match_commands = [\"owners-tool\"]\npoll_interval_ms = 250\n").unwrap();
    let mounted = format!("{}:/reclaim.toml:ro", rules.display());
    // As the DaemonSet has it.
    let pod = ["--user", "0:0", "--cap-drop", "all", "--cap-add", "CAP_NET_ADMIN", "--volume", &mounted];
    let line = ["5spot-reclaim-agent", "--oneshot", "--rules", "/reclaim.toml"];
    let output = image.container(None).run(&pod, &line);
    started.kill().unwrap();
    started.wait().unwrap();
    let said: Value = serde_json::from_str(&output.text()).unwrap();
    assert_eq!(said["isHealthy"], true, "{said}");
    let matches = said["matches"].as_array().unwrap();
    assert!(matches.iter().any(|found| found["pid"] == started.id()), "{said}");
    eprintln!("from inside the image: {} {}", said["detector"], said["fallback"]);
}

#[test]
fn a_name_that_only_a_name_server_knows_resolves_inside_it() {
    let Some(image) = image() else { return };
    let name = "api.known-to-dns-alone.test";
    let Some(server) = names::serve(name, Ipv4Addr::LOCALHOST) else {
        return skips::skipped("a name server: port 53 of 127.0.0.53-127.0.0.77 cannot be had");
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = dir.path().join("kubeconfig");
    std::fs::write(&kubeconfig, kubeconfig_for(&format!("https://{name}:{port}"))).unwrap();
    let mounted = format!("{}:/kubeconfig:ro", kubeconfig.display());
    let container = image.container(Some(server));
    // It asks the cluster for its rules, once, and ends: whoever it comes to hangs up on it.
    let line = ["5spot-reclaim-agent", "--oneshot", "--node-name", "ws-17"];
    let mut command = container.command(&["--volume", &mounted, "--env", "KUBECONFIG=/kubeconfig"], &line);
    let running = std::thread::spawn(move || command.output().unwrap());
    let hello = names::first_bytes(&listener, Instant::now() + Duration::from_secs(60));
    drop(listener);
    let ended = running.join().unwrap();
    // It came to us, and by that name: the first message of TLS says whom it wants to speak to.
    let hello = hello.unwrap_or_else(|| panic!("nobody came\n{}", String::from_utf8_lossy(&ended.stderr)));
    assert!(hello.windows(name.len()).any(|bytes| bytes == name.as_bytes()), "{hello:?}");
}

/// With an authority of its own: the image has none.
fn kubeconfig_for(server: &str) -> String {
    let authority = rcgen::generate_simple_self_signed(vec!["test".to_owned()]).unwrap();
    let authority = STANDARD.encode(authority.cert.pem());
    format!(
        "apiVersion: v1
kind: Config
current-context: test
contexts: [{{name: test, context: {{cluster: test, user: test}}}}]
clusters: [{{name: test, cluster: {{server: \"{server}\", certificate-authority-data: {authority}}}}}]
users: [{{name: test, user: {{token: none}}}}]
"
    )
}

#[test]
fn put_together_a_second_time_it_is_the_same() {
    let Some(image) = image() else { return };
    let again: Image = image.again();
    for key in ["FromImageID", "FromImageDigest"] {
        let (one, other) = (&image.inspect()[key], &again.inspect()[key]);
        assert!(one.as_str().is_some_and(|id| id.len() >= 64) && one == other, "{key}: {one}, {other}");
    }
}
