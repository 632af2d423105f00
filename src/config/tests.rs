//! Every key from every source, with good values and bad ones.

use std::ffi::OsString;
use std::io::Write;

use tempfile::NamedTempFile;

use super::*;
use crate::cli::{self, Call};
use crate::config::keys::Key;

/// One row: the key, a value that is not its default, what the checked struct then shows, and values of no use.
type Row<C> = (&'static str, &'static str, fn(&C) -> String, &'static [&'static str]);

fn of_controller() -> Vec<Row<ControllerConfig>> {
    vec![
        ("instance-id", "0", |c| c.shard.id.to_string(), &["", "-1", "x", "1", "99999", "1.5"]),
        ("instance-count", "2", |c| c.shard.count.to_string(), &["", "0", "-1", "two", "1025"]),
        (
            "metrics-port",
            "9100",
            |c| c.metrics_port.to_string(),
            &["", "0", "65536", "+9", "http", " 9100", "tcp://10.0.0.1:8080"],
        ),
        ("health-port", "9101", |c| c.health_port.to_string(), &["", "0", "65536", "8080", "0x1f"]),
        ("log-format", "TEXT", |c| format!("{:?}", c.logs.format).to_uppercase(), &["", "xml", "json,text"]),
        (
            "log-filter",
            "warn",
            |c| c.logs.filter.rsplit(',').next().unwrap().to_owned(),
            &["", "info,fivespot=loud", "=x"],
        ),
        (
            "verbose",
            "true",
            |c| c.logs.filter.contains("fivespot=debug").to_string(),
            &["", "yes", "on", "2"],
        ),
        ("pod-name", "5", |c| c.instance.clone(), &["", "Five Spot", "-x", "a..b"]),
        ("enable-leader-election", "true", |c| c.is_elected.to_string(), &["", "yes", "enabled"]),
        ("lease-name", "night-shift.1", |c| c.election.lease_name.clone(), &["", "Night", "a/b"]),
        ("lease-namespace", "1030", |c| c.election.lease_namespace.clone(), &["", "a.b", "_"]),
        (
            "lease-duration-secs",
            "20",
            |c| c.election.duration.as_secs().to_string(),
            &["", "abc", "0", "1", "15s", "3601", "10", "-5"],
        ),
        (
            "lease-renew-deadline-secs",
            "11",
            |c| c.election.renew_deadline.as_secs().to_string(),
            &["", "abc", "0", "15", "16", "2"],
        ),
        (
            "lease-retry-period-secs",
            "3",
            |c| c.election.retry_period.as_secs().to_string(),
            &["", "abc", "0", "10", "11"],
        ),
        ("watch-namespace", "machines", |c| c.watch_namespace.clone().unwrap(), &["a.b", "Machines", "a,b"]),
        (
            "allowed-api-groups",
            "a.example,b.example",
            |c| c.allowed_groups[3..].join(","),
            &["example", "a.example b.example", "A.example"],
        ),
        (
            "max-concurrent-creates",
            "2",
            |c| c.concurrent_creates.to_string(),
            &["", "0", "-1", "many", "1001", "70000"],
        ),
    ]
}

fn of_agent() -> Vec<Row<AgentConfig>> {
    vec![
        (
            "node-name",
            "ws-17.example",
            |c| format!("{:?}", c.task).split('"').nth(1).unwrap().to_owned(),
            &["", "WS 17", "a/b"],
        ),
        ("proc-root", "/host/proc", |c| c.proc_root.display().to_string(), &["", "proc"]),
        (
            "detector",
            "POLL",
            |c| format!("{:?}", c.detector).to_uppercase(),
            &["", "inotify", "netlink,poll"],
        ),
        (
            "machine-id-path",
            "/host/etc/machine-id",
            |c| c.machine_id_path.display().to_string(),
            &["", "machine-id"],
        ),
        ("skip-host-id-check", "1", |c| u8::from(c.skip_host_id_check).to_string(), &["", "yes", "2"]),
        ("metrics-port", "9100", |c| c.metrics_port.unwrap().to_string(), &["", "0", "65536", "off"]),
        ("health-port", "9101", |c| c.health_port.unwrap().to_string(), &["", "0", "65536", "off"]),
        ("log-format", "TEXT", |c| format!("{:?}", c.logs.format).to_uppercase(), &["", "xml"]),
        ("log-filter", "warn", |c| c.logs.filter.rsplit(',').next().unwrap().to_owned(), &["", "=x"]),
        ("verbose", "true", |c| c.logs.filter.contains("fivespot=debug").to_string(), &["", "yes"]),
    ]
}

/// What was typed, as the command line gives it.
fn controller_typed(line: &[&str]) -> Typed {
    let line = ["5spot-controller"].iter().chain(line).map(OsString::from);
    match cli::read(line).unwrap() {
        Call::Controller(typed) => typed,
        other => panic!("{other:?}"),
    }
}

fn agent_typed(line: &[&str]) -> Typed {
    let line = ["5spot-reclaim-agent"].iter().chain(line).map(OsString::from);
    match cli::read(line).unwrap() {
        Call::Agent(typed) => typed,
        other => panic!("{other:?}"),
    }
}

fn variables(given: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    given.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn file(text: &str) -> (NamedTempFile, String) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let path = file.path().display().to_string();
    (file, path)
}

/// Reads a role's configuration.
type Load<C> = fn(&[&str], &[(&str, &str)]) -> Result<C, ConfigError>;

fn load_controller(line: &[&str], given: &[(&str, &str)]) -> Result<ControllerConfig, ConfigError> {
    controller(&controller_typed(line), variables(given))
}

fn load_agent(line: &[&str], given: &[(&str, &str)]) -> Result<AgentConfig, ConfigError> {
    agent(&agent_typed(line), variables(given))
}

/// `base`: what no configuration is without, for all rows but its own.
fn walk<C: std::fmt::Debug>(keys: &'static [Key], rows: &[Row<C>], load: Load<C>, base: &[(&str, &str)]) {
    for key in keys {
        assert!(rows.iter().any(|(name, ..)| *name == key.name), "no row for {}", key.name);
    }
    for (name, good, show, bad) in rows {
        let key = keys.iter().find(|key| key.name == *name).unwrap();
        let load = |line: &[&str], given: &[(&str, &str)]| {
            let base = base.iter().filter(|(variable, _)| *variable != key.variable);
            load(line, &base.chain(given).copied().collect::<Vec<_>>())
        };
        let shown = |line: &[&str], given: &[(&str, &str)]| show(&load(line, given).unwrap());
        let fault = |line: &[&str], given: &[(&str, &str)]| load(line, given).unwrap_err().to_string();
        let flag = |value: &str| format!("--{name}={value}");
        let in_file = |value: &str| {
            let (kept, path) = file(&format!("{name} = {value:?}"));
            (kept, format!("--config={path}"))
        };
        let (_kept, good_file) = in_file(good);
        assert_eq!(shown(&[&flag(good)], &[]), *good, "flag {name}");
        assert_eq!(shown(&[], &[(key.variable, good)]), *good, "variable {name}");
        assert_eq!(shown(&[&good_file], &[]), *good, "file {name}");
        assert_eq!(shown(&[&good_file], &[(key.variable, "")]), *good, "{name}: an empty variable is unset");
        for wrong in *bad {
            let (_kept, wrong_file) = in_file(wrong);
            let said = [fault(&[&flag(wrong)], &[]), fault(&[&wrong_file], &[])];
            assert!(said[0].contains(&format!("--{name}={wrong:?}")), "{said:?}");
            assert!(said[1].contains(&format!("{name}={wrong:?} in /")), "{said:?}");
            if !wrong.is_empty() {
                let said = fault(&[], &[(key.variable, wrong)]);
                assert!(said.contains(&format!("{}={wrong:?}", key.variable)), "{said}");
            }
            // What is said further up hides what is wrong below, and nothing below mends what is wrong above.
            assert_eq!(shown(&[&flag(good)], &[(key.variable, wrong)]), *good, "{name}");
            assert_eq!(shown(&[&wrong_file], &[(key.variable, good)]), *good, "{name}");
            assert!(load(&[&flag(wrong)], &[(key.variable, good)]).is_err(), "{name}");
        }
    }
}

#[test]
fn every_key_of_the_controller_is_read_from_every_source_and_every_bad_value_names_its_own() {
    walk(&keys::CONTROLLER, &of_controller(), load_controller, &[]);
}

#[test]
fn every_key_of_the_agent_is_read_from_every_source_and_every_bad_value_names_its_own() {
    walk(&keys::AGENT, &of_agent(), load_agent, &[("NODE_NAME", "ws-1")]);
}

#[test]
fn the_controllers_defaults_are_those_that_are_promised() {
    let config = load_controller(&[], &[]).unwrap();
    let ports = (config.metrics_port.get(), config.health_port.get());
    assert_eq!((config.shard, ports), (Shard { id: 0, count: 1 }, (8080, 8081)));
    assert_eq!((config.logs.format, config.is_elected), (LogFormat::Json, false));
    assert!(config.logs.filter.ends_with(",info"), "{}", config.logs.filter);
    let election = &config.election;
    assert_eq!((&election.lease_name[..], &election.lease_namespace[..]), ("5spot-leader", "5spot-system"));
    let seconds = [election.duration, election.renew_deadline, election.retry_period].map(|d| d.as_secs());
    assert_eq!(seconds, [15, 10, 2]);
    assert_eq!((config.watch_namespace, config.allowed_groups.len()), (None, 3));
    assert_eq!((config.concurrent_creates, &config.instance[..]), (CONCURRENT_CREATES, "5spot-controller"));
}

#[test]
fn the_agents_defaults_are_those_that_are_promised() {
    let config = load_agent(&[], &[("NODE_NAME", "ws-1")]).unwrap();
    assert_eq!(config.task, AgentTask::Watch { node: "ws-1".to_owned() });
    assert_eq!((config.proc_root.to_str(), config.detector), (Some("/proc"), DetectorChoice::Auto));
    assert_eq!(
        (config.machine_id_path.to_str(), config.skip_host_id_check),
        (Some("/etc/machine-id"), false)
    );
    assert_eq!((config.metrics_port, config.health_port), (None, None), "it opens no port unasked");
}

#[test]
fn an_agent_without_a_node_can_only_look_once_by_rules_of_a_file() {
    let alone = |line: &[&str]| agent(&agent_typed(line), variables(&[]));
    for line in [&[][..], &["--oneshot"]] {
        assert_eq!(alone(line).unwrap_err().to_string(), "NODE_NAME is not set; set it, or --node-name");
    }
    let once = alone(&["--oneshot", "--rules", "r.toml"]).unwrap().task;
    assert_eq!(once, AgentTask::OnceByFile { rules: "r.toml".into() });
    let once = alone(&["--oneshot", "--node-name", "ws-1"]).unwrap().task;
    assert_eq!(once, AgentTask::OnceForNode { node: "ws-1".to_owned() });
    let line = ["5spot-reclaim-agent", "--rules", "r.toml"].map(OsString::from);
    assert!(cli::read(line).is_err(), "rules are for one look");
}

#[test]
fn a_fault_is_told_in_one_line_with_its_source_and_the_fix() {
    let said = |line: &[&str], given: &[(&str, &str)]| load_controller(line, given).unwrap_err().to_string();
    let seconds = "a whole number of seconds from 2 to 3600";
    assert_eq!(
        said(&[], &[("LEASE_DURATION_SECONDS", "abc")]),
        format!("LEASE_DURATION_SECONDS=\"abc\": {seconds}")
    );
    assert_eq!(
        said(&["--lease-duration-secs", "abc"], &[("LEASE_DURATION_SECONDS", "20")]),
        format!("--lease-duration-secs=\"abc\": {seconds}")
    );
    assert_eq!(
        said(&["--health-port", "9000"], &[("METRICS_PORT", "9000")]),
        "METRICS_PORT=\"9000\" and --health-port=\"9000\": metrics and health need a port each"
    );
    assert_eq!(
        said(&[], &[("LEASE_RENEW_DEADLINE_SECONDS", "15")]),
        "LEASE_RENEW_DEADLINE_SECONDS=\"15\" and lease-duration-secs=\"15\" (the default): the renew deadline must be \
         below the duration, or two replicas may lead at once"
    );
    let port = said(&[], &[("METRICS_PORT", "tcp://10.96.0.7:8080")]);
    assert!(port.contains("Service named \"metrics\"") && port.contains("enableServiceLinks"), "{port}");
    let long = format!("a{}", "b".repeat(63));
    assert!(said(&["--lease-name", &long], &[]).contains("at most 63"));
}

#[test]
fn a_switch_stands_alone_or_takes_a_value_in_any_case() {
    for (line, on) in [
        (&["--verbose"][..], true),
        (&["-v"], true),
        (&["--verbose=TRUE"], true),
        (&["--verbose", "1"], true),
        (&["-v", "--log-format=text"], true),
        (&["--verbose=False"], false),
        (&["--verbose", "0"], false),
    ] {
        let config = load_controller(line, &[("FIVESPOT_VERBOSE", if on { "0" } else { "true" })]).unwrap();
        assert_eq!(config.logs.filter.contains("fivespot=debug"), on, "{line:?}");
    }
}

#[test]
fn a_log_level_that_was_set_is_not_talked_over_and_libraries_stay_quiet_under_any() {
    let filter = |given: &[(&str, &str)]| load_controller(&["-v"], given).unwrap().logs.filter;
    assert_eq!(filter(&[]), "kube_client=off,kube_runtime=error,info,fivespot=debug");
    assert_eq!(filter(&[("RUST_LOG", "warn")]), "kube_client=off,kube_runtime=error,warn");
    assert!(filter(&[("RUST_LOG", "info,kube_client=debug")]).ends_with("info,kube_client=debug"));
}

#[test]
fn a_file_may_write_numbers_switches_and_lists_without_quotes() {
    let text = "metrics-port = 9100\nverbose = true\nallowed-api-groups = [\"a.example\", \"b.example\"]\n\
                lease-duration-secs = 30 # longer\n";
    let (_kept, path) = file(text);
    let config = load_controller(&[], &[("FIVESPOT_CONFIG", &path)]).unwrap();
    assert_eq!((config.metrics_port.get(), config.election.duration.as_secs()), (9100, 30));
    assert_eq!(config.allowed_groups[3..], ["a.example", "b.example"]);
    assert!(config.logs.filter.contains("fivespot=debug"));
}

#[test]
fn a_file_of_no_use_is_refused_with_its_path_and_what_is_wrong_there() {
    for (text, words) in [
        ("metrics_port = 9100", "\"metrics_port\""),
        ("config = \"/other.toml\"", "\"config\""),
        ("node-name = \"ws-1\"", "\"node-name\""),
        ("metrics-port = 9100\nmetrics-port = 9101", "line 2"),
        ("metrics-port 9100", "line 1"),
        ("metrics-port = 1.5", "a whole number"),
        ("[metrics-port]\na = 1", "a whole number"),
        ("metrics-port = [1]", "a list of texts"),
        ("metrics-port = 2026-01-01", "metrics-port"),
        ("metrics-port = -1", "metrics-port=\"-1\""),
    ] {
        let (_kept, path) = file(text);
        let said = load_controller(&["--config", &path], &[]).unwrap_err().to_string();
        assert!(said.contains(&path) && said.contains(words), "{text}: {said}");
    }
    for (line, given, name) in [
        (&["--config", "/no/such.toml"][..], &[][..], "--config=\"/no/such.toml\""),
        (&[], &[("FIVESPOT_CONFIG", "/no/such.toml")], "FIVESPOT_CONFIG=\"/no/such.toml\""),
    ] {
        let said = load_controller(line, given).unwrap_err().to_string();
        assert!(said.starts_with(name) && said.contains("No such file"), "{said}");
    }
    let (_kept, path) = file("verbose = true");
    let both = load_controller(&["--config", &path], &[("FIVESPOT_CONFIG", "/no/such.toml")]);
    assert!(both.is_ok(), "a typed file is the only one that is read");
}

#[test]
fn a_misspelt_variable_of_ours_is_refused_and_those_of_a_service_are_not() {
    let said = load_controller(&[], &[("FIVESPOT_CONFG", "x")]).unwrap_err().to_string();
    assert!(said.starts_with("FIVESPOT_CONFG is not a variable"), "{said}");
    let links = [("FIVESPOT_SERVICE_HOST", "10.0.0.1"), ("FIVESPOT_PORT_8080_TCP", "tcp://10.0.0.1:8080")];
    assert!(load_controller(&[], &links).is_ok());
    assert!(
        load_controller(&[], &[("NODE_NAME", "Not A Node"), ("HOME", "/")]).is_ok(),
        "not the controller's"
    );
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_text_is_named() {
    use std::os::unix::ffi::OsStringExt;
    let given = vec![("LEASE_NAME".into(), OsString::from_vec(vec![0x66, 0xff]))];
    let said = controller(&Typed::default(), given).unwrap_err().to_string();
    assert_eq!(said, "LEASE_NAME is not UTF-8");
}

#[test]
fn a_bare_call_and_one_by_name_run_the_controller_with_the_same_flags() {
    let read = |line: &[&str]| cli::read(line.iter().map(OsString::from)).unwrap();
    let expected = read(&["5spot", "controller", "--metrics-port", "9100", "-v"]);
    assert!(matches!(&expected, Call::Controller(typed) if typed.get("metrics-port") == Some("9100")));
    assert_eq!(read(&["./5spot", "--metrics-port=9100", "--verbose"]), expected);
    assert_eq!(read(&["/usr/bin/5spot-controller", "--metrics-port", "9100", "-v=true"]), expected);
    assert!(matches!(read(&["5spot", "crd", "print"]), Call::PrintDefinitions(cli::CrdFormat::Yaml)));
    for wrong in [
        &["5spot", "--metrics-port", "1", "crd", "print"][..],
        &["5spot", "crd"],
        &["5spot", "--metric-port", "1"],
        &["5spot", "--metrics-port", "1", "--metrics-port", "2"],
        &["5spot", "--metrics-port"],
        &["5spot", "fly"],
        &["5spot-controller", "controller"],
    ] {
        let error = cli::read(wrong.iter().map(OsString::from)).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{wrong:?}: {error}");
    }
}

#[test]
fn help_shows_every_setting_with_its_default_and_variable_and_two_examples() {
    let help = |line: &[&str]| cli::read(line.iter().map(OsString::from)).unwrap_err();
    let shown = help(&["5spot-controller", "--help"]);
    assert_eq!(shown.exit_code(), 0);
    let agent = help(&["5spot-reclaim-agent", "--help"]);
    for (shown, keys) in [(shown.to_string(), &keys::CONTROLLER[..]), (agent.to_string(), &keys::AGENT)] {
        // As wide as the terminal allows: lines break anywhere.
        let flat = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        for key in keys {
            assert!(flat.contains(&format!("--{}", key.name)), "{}", key.name);
            assert!(flat.contains(&format!("[env: {}]", key.variable)), "{}", key.name);
            if let Some(default) = key.default.filter(|_| !key.is_switch()) {
                assert!(flat.contains(&format!("[default: {default}]")), "{}", key.name);
            }
        }
        let examples = shown.split("Examples:\n").nth(1).unwrap();
        assert_eq!(examples.lines().take_while(|line| line.starts_with("  ")).count(), 2, "{shown}");
    }
    for (line, words) in [
        (&["5spot", "-V"][..], concat!("5spot ", env!("CARGO_PKG_VERSION"), "\n")),
        (&["5spot-controller", "--version"], concat!("5spot-controller ", env!("CARGO_PKG_VERSION"), "\n")),
    ] {
        let version = help(line);
        assert_eq!((version.exit_code(), version.to_string().as_str()), (0, words));
    }
}
