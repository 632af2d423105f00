//! Every key of the configuration, spelled once: flags, variables, keys of the file, defaults and help come from here.

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// Of the flag, without its dashes, and in the file.
    pub name: &'static str,
    /// In the environment.
    pub variable: &'static str,
    /// One letter that is the same flag.
    pub short: Option<char>,
    /// Before anybody says anything; `None`: unset.
    pub default: Option<&'static str>,
    /// What the help calls the value; a switch has none, and may stand alone.
    pub value: Option<&'static str>,
    /// What it is for, with its unit and limits.
    pub help: &'static str,
}

const fn key(name: &'static str, variable: &'static str, value: &'static str, help: &'static str) -> Key {
    Key { name, variable, short: None, default: None, value: Some(value), help }
}

const fn switch(name: &'static str, variable: &'static str, help: &'static str) -> Key {
    Key { name, variable, short: None, default: Some("false"), value: None, help }
}

impl Key {
    const fn or(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    const fn short(self, letter: char) -> Self {
        Self { short: Some(letter), ..self }
    }

    /// It is on or off.
    pub const fn is_switch(&self) -> bool {
        self.value.is_none()
    }

    /// What the help shows: meaning, default and variable.
    pub fn shown(&self) -> String {
        let default = match self.default {
            Some(default) if !self.is_switch() => format!(" [default: {default}]"),
            _ => String::new(),
        };
        format!("{}{default} [env: {}]", self.help, self.variable)
    }
}

/// Where the file is; itself not in the file.
pub const CONFIG: Key =
    key("config", "FIVESPOT_CONFIG", "FILE", "TOML file with any of these settings, by their flags' names");

const LOG_FORMAT: Key = key("log-format", "RUST_LOG_FORMAT", "FORMAT", "Log format: json or text").or("json");
const LOG_FILTER: Key = key(
    "log-filter",
    "RUST_LOG",
    "DIRECTIVES",
    "Log level (trace, debug, info, warn, error), or filter directives like info,fivespot=debug",
)
.or("info");
const VERBOSE: Key = switch(
    "verbose",
    "FIVESPOT_VERBOSE",
    "Enable verbose logging (debug lines of 5spot itself), unless a log level is set",
)
.short('v');

/// Of the controller.
pub const CONTROLLER: [Key; 17] = [
    key("instance-id", "OPERATOR_INSTANCE_ID", "ID", "Instance ID, from 0 to one less than the count")
        .or("0"),
    key("instance-count", "OPERATOR_INSTANCE_COUNT", "COUNT", "Total instances, 1 to 1024").or("1"),
    key("metrics-port", "METRICS_PORT", "PORT", "Metrics port").or("8080"),
    key("health-port", "HEALTH_PORT", "PORT", "Health port").or("8081"),
    LOG_FORMAT,
    LOG_FILTER,
    VERBOSE,
    key("pod-name", "POD_NAME", "NAME", "Name of this replica, in Events and as the Lease's holder"),
    switch("enable-leader-election", "ENABLE_LEADER_ELECTION", "Enable leader election"),
    key("lease-name", "LEASE_NAME", "NAME", "Lease resource name").or("5spot-leader"),
    key("lease-namespace", "POD_NAMESPACE", "NS", "Lease namespace").or("5spot-system"),
    key("lease-duration-secs", "LEASE_DURATION_SECONDS", "SECS", "Lease validity duration, 2 to 3600")
        .or("15"),
    key(
        "lease-renew-deadline-secs",
        "LEASE_RENEW_DEADLINE_SECONDS",
        "SECS",
        "Renew deadline: how long the leader goes on without a renewal; below the duration",
    )
    .or("10"),
    key(
        "lease-retry-period-secs",
        "LEASE_RETRY_PERIOD_SECONDS",
        "SECS",
        "Between two attempts to renew the Lease; below the renew deadline",
    )
    .or("2"),
    key("watch-namespace", "WATCH_NAMESPACE", "NAMESPACE", "Watch this namespace only; empty: all of them"),
    key(
        "allowed-api-groups",
        "ALLOWED_API_GROUPS",
        "GROUPS",
        "API groups, besides the known ones, that bootstrap and infrastructure objects may be of, comma separated",
    ),
    key(
        "max-concurrent-creates",
        "MAX_CONCURRENT_CREATES",
        "COUNT",
        "Machines made at one time, 1 to 1000; of those that wait the highest priority goes first",
    )
    .or("12"),
];

/// Of the reclaim agent. Its HTTP ports are off unless set: it lives on somebody's workstation.
pub const AGENT: [Key; 10] = [
    key("node-name", "NODE_NAME", "NAME", "Node to annotate; required"),
    key("proc-root", "RECLAIM_PROC_ROOT", "PATH", "Filesystem root mapped to /proc").or("/proc"),
    key("detector", "RECLAIM_DETECTOR", "DETECTOR", "Process-event source: auto, netlink or poll").or("auto"),
    key("machine-id-path", "MACHINE_ID_PATH", "PATH", "Host machine-id file").or("/etc/machine-id"),
    switch(
        "skip-host-id-check",
        "SKIP_HOST_ID_CHECK",
        "Skip the host-identity cross-check before a write to the Node (defence in depth; default off)",
    ),
    key("metrics-port", "METRICS_PORT", "PORT", "Metrics port; off unless set"),
    key("health-port", "HEALTH_PORT", "PORT", "Health port; off unless set"),
    LOG_FORMAT,
    LOG_FILTER,
    VERBOSE,
];
