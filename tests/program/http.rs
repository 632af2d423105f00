//! Metrics and health over HTTP, and what strangers may try with them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::time::{Duration, Instant};

use crate::program::{PATIENCE, Program, connect, exchange, get, request};

#[test]
fn both_families_of_addresses_are_served() {
    let program = Program::serving(&[]);
    assert_eq!(request(Ipv4Addr::LOCALHOST, program.health, "GET", "/healthz").unwrap().status, 200);
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        eprintln!("NOT TRIED: this host has no IPv6");
        return;
    }
    for (port, path) in [(program.health, "/healthz"), (program.metrics, "/metrics")] {
        assert_eq!(request(Ipv6Addr::LOCALHOST, port, "GET", path).unwrap().status, 200, "{path}");
    }
}

#[test]
fn each_port_has_its_paths_and_answers_get_and_head_alone() {
    let program = Program::serving(&[]);
    let (metrics, health) = (program.metrics, program.health);
    for (port, method, path, status) in [
        (metrics, "GET", "/metrics", 200),
        (metrics, "HEAD", "/metrics", 200),
        (metrics, "GET", "/metrics?name=x", 200),
        (metrics, "POST", "/metrics", 405),
        (metrics, "DELETE", "/metrics", 405),
        (metrics, "GET", "/", 404),
        (metrics, "GET", "/healthz", 404),
        (health, "GET", "/healthz", 200),
        (health, "HEAD", "/healthz", 200),
        (health, "GET", "/readyz", 503),
        (health, "GET", "/health/status", 200),
        (health, "PUT", "/healthz", 405),
        (health, "GET", "/healthz/", 404),
        (health, "GET", "/health", 404),
        (health, "GET", "/metrics", 404),
        (health, "GET", "/../../etc/passwd", 404),
    ] {
        let answer = request(Ipv4Addr::LOCALHOST, port, method, path).unwrap();
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert!(method != "HEAD" || answer.body.is_empty(), "{path}: {answer:?}");
        assert_eq!(status == 405, answer.head.contains("\r\nallow: get, head"), "{answer:?}");
    }
    let scraped = get(metrics, "/metrics").unwrap();
    assert!(
        scraped.head.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{scraped:?}"
    );
}

#[test]
fn without_an_api_server_it_is_alive_and_not_ready_and_says_what_is_missing() {
    let mut program = Program::serving(&[]);
    program.until("a call has failed", |program| {
        get(program.metrics, "/metrics").unwrap().body.lines().any(|line| {
            line.starts_with("fivespot_api_requests_total")
                && line.contains("\"none\"")
                && !line.ends_with(" 0")
        })
    });
    let ready = get(program.health, "/readyz").unwrap();
    assert_eq!((get(program.health, "/healthz").unwrap().status, ready.status), (200, 503));
    for missing in [
        "cache of scheduledmachines: not listed yet\n",
        "cache of machineholds: not listed yet\n",
        "Cluster API: not known yet which version is served, or not listed yet\n",
        "API server: the API server has not answered yet\n",
    ] {
        assert!(ready.body.contains(missing), "{missing} in {}", ready.body);
    }
    let status = get(program.health, "/health/status").unwrap();
    assert!(status.head.contains("content-type: application/json"), "{status:?}");
    let status: serde_json::Value = serde_json::from_str(&status.body).unwrap();
    assert_eq!((&status["alive"], &status["ready"]), (&true.into(), &false.into()), "{status}");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["missing"].as_array().unwrap().len(), ready.body.lines().count(), "{status}");
    assert_eq!(status["clusterApi"]["state"], "resolving", "{status}");
}

/// Names of the contract, as scraped.
const NAMES: [&str; 24] = [
    "fivespot_reconciliations_total",
    "fivespot_reconciliation_duration_seconds",
    "fivespot_machines_active",
    "fivespot_machines_by_phase",
    "fivespot_schedule_evaluations_total",
    "fivespot_kill_switch_activations_total",
    "fivespot_controller_info",
    "fivespot_is_leader",
    "fivespot_shards",
    "fivespot_shards_held",
    "fivespot_errors_total",
    "fivespot_node_drains_total",
    "fivespot_pod_evictions_total",
    "fivespot_finalizer_cleanup_timeouts_total",
    "fivespot_emergency_drain_duration_seconds",
    "fivespot_emergency_reclaims_total",
    "fivespot_rapid_re_reclaims_total",
    "fivespot_edge_lag_seconds",
    "fivespot_ready_after_edge_seconds",
    "fivespot_handback_seconds",
    "fivespot_reclaim_stage_seconds",
    "fivespot_machines_overdue",
    "fivespot_workload_clusters",
    "fivespot_api_requests_total",
];

#[test]
fn the_first_scrape_has_every_series_and_no_scrape_has_fewer() {
    let program = Program::serving(&[("OPERATOR_INSTANCE_ID", "0")]);
    let body = get(program.metrics, "/metrics").unwrap().body;
    for name in NAMES {
        let is_of = |line: &&str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']) || rest.starts_with("_count"))
        };
        assert!(body.lines().any(|line| is_of(&line)), "{name} in {body}");
    }
    for series in [
        format!("fivespot_controller_info{{version=\"{}\",instance_id=\"0\"}} 1", env!("CARGO_PKG_VERSION")),
        "fivespot_is_leader 1".to_owned(),
        "fivespot_reconciliations_total{phase=\"EmergencyRemove\",result=\"failure\"} 0".to_owned(),
        "fivespot_machines_by_phase{phase=\"Terminated\"} 0".to_owned(),
        "fivespot_machines_overdue{direction=\"out\"} 0".to_owned(),
        "fivespot_workload_clusters{state=\"unauthorized\"} 0".to_owned(),
        "fivespot_handback_seconds_count{path=\"eject\"} 0".to_owned(),
        "fivespot_api_requests_total{verb=\"create\",resource=\"machines\",code=\"201\"} 0".to_owned(),
        "# TYPE fivespot_kill_switch_activations counter".to_owned(),
    ] {
        assert!(body.lines().any(|line| line == series), "{series} in {body}");
    }
    assert!(body.ends_with("# EOF\n"));
}

#[test]
fn garbage_and_what_is_too_large_do_no_harm() {
    let program = Program::serving(&[]);
    let long_line = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20));
    let long_header = format!("GET /healthz HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let many_headers = format!("GET /healthz HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(1000));
    let long_body = format!(
        "POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{}",
        "x".repeat(1 << 20)
    );
    let odd_body = "GET /healthz HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n";
    let noise: Vec<u8> =
        (0..100_000_u32).map(|n| u8::try_from((n * 7919 + n / 251) % 256).unwrap()).collect();
    for (what, sent, status) in [
        ("nothing", &b""[..], None),
        ("noise", &noise, Some("400")),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", None),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", None),
        ("half a request", b"GET /heal", None),
        ("a long line", long_line.as_bytes(), Some("4")),
        ("a long header", long_header.as_bytes(), Some("431")),
        ("many headers", many_headers.as_bytes(), Some("431")),
        ("a long body", long_body.as_bytes(), Some("405")),
        ("an odd body", odd_body.as_bytes(), None),
    ] {
        let back = exchange(program.health, sent);
        let back = String::from_utf8_lossy(&back);
        if let Some(status) = status {
            // One that is closed while more of it is on its way may be reset before the answer is read.
            assert!(back.is_empty() || back.starts_with(&format!("HTTP/1.1 {status}")), "{what}: {back}");
        }
        assert_eq!(get(program.health, "/healthz").unwrap().status, 200, "after {what}");
    }
}

#[test]
fn whoever_is_slow_keeps_no_probe_waiting_and_is_sent_away() {
    let program = Program::serving(&[]);
    let began = Instant::now();
    let mut slow: Vec<_> = (0..200)
        .map(|_| {
            let mut stream = connect(Ipv4Addr::LOCALHOST, program.health).unwrap();
            stream.write_all(b"GET /healthz HTTP/1.1\r\nX-").unwrap();
            stream
        })
        .collect();
    let asked = Instant::now();
    assert_eq!(get(program.health, "/healthz").unwrap().status, 200);
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    let mut buffer = [0; 1024];
    for stream in &mut slow {
        // The end, perhaps after an answer that says why; or a reset.
        while let Ok(1..) = stream.read(&mut buffer) {}
    }
    assert!(began.elapsed() < PATIENCE / 2, "sent away after {:?}", began.elapsed());
}

#[test]
fn a_port_that_is_taken_ends_it_with_words() {
    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let free = crate::harness::ports::free();
    for (metrics, health, setting) in
        [(port, free, "--metrics-port or METRICS_PORT"), (free, port, "--health-port or HEALTH_PORT")]
    {
        let mut program = Program::with_ports(metrics, health, &[]);
        assert_eq!(program.exit_code(), Some(1), "{}", program.component.log());
        let log = program.component.log();
        assert!(log.contains(&format!("port {port} cannot be listened on: Address already in use")), "{log}");
        assert!(log.contains(setting), "{log}");
    }
}
