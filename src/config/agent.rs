//! What the reclaim agent runs on.

use std::num::NonZeroU16;
use std::path::PathBuf;

use crate::cli::Typed;
use crate::config::check::{SUBDOMAIN, is_subdomain};
use crate::config::sources::Values;
use crate::config::{ConfigError, Logs};

/// What the reclaim agent runs on, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    /// What is logged, and how.
    pub logs: Logs,
    /// What it is to do.
    pub task: AgentTask,
    /// The host's `/proc`.
    pub proc_root: PathBuf,
    /// Where process events come from.
    pub detector: DetectorChoice,
    /// The host's machine-id.
    pub machine_id_path: PathBuf,
    /// Trust `NODE_NAME` without comparing the machine-id with the Node's.
    pub skip_host_id_check: bool,
    /// Where `/metrics` is served, if at all.
    pub metrics_port: Option<NonZeroU16>,
    /// Where `/healthz`, `/readyz` and `/health/status` are served, if at all; another one.
    pub health_port: Option<NonZeroU16>,
}

/// What the agent is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentTask {
    /// Watch over this Node until told to stop.
    Watch {
        /// Its name.
        node: String,
    },
    /// Scan once by the rules that the cluster has for this Node, tell, end; write nothing anywhere.
    OnceForNode {
        /// Its name.
        node: String,
    },
    /// The same by the rules in a file; needs no cluster.
    OnceByFile {
        /// In the form of the ConfigMap's `reclaim.toml`.
        rules: PathBuf,
    },
}

/// Where process events come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DetectorChoice {
    /// Netlink on Linux, polling elsewhere and where netlink does not hear.
    Auto,
    /// The kernel's proc connector.
    Netlink,
    /// Walks over `/proc`.
    Poll,
}

impl AgentConfig {
    pub(super) fn check(values: &Values, typed: &Typed) -> Result<Self, ConfigError> {
        let (metrics_port, health_port) = values.ports()?;
        let choice = |text: &str| match text.to_ascii_lowercase().as_str() {
            "auto" => Some(DetectorChoice::Auto),
            "netlink" => Some(DetectorChoice::Netlink),
            "poll" => Some(DetectorChoice::Poll),
            _ => None,
        };
        Ok(Self {
            logs: values.logs()?,
            task: task(values, typed)?,
            proc_root: values.path("proc-root")?,
            detector: values.must("detector", "auto, netlink or poll", choice)?.0,
            machine_id_path: values.path("machine-id-path")?,
            skip_host_id_check: values.switch("skip-host-id-check")?.0,
            metrics_port,
            health_port,
        })
    }
}

fn task(values: &Values, typed: &Typed) -> Result<AgentTask, ConfigError> {
    let node = |text: &str| is_subdomain(text).then(|| text.to_owned());
    let node = values.read("node-name", SUBDOMAIN, node)?.map(|(node, _)| node);
    match (typed.is_oneshot, &typed.rules, node) {
        (true, Some(rules), _) => Ok(AgentTask::OnceByFile { rules: rules.clone() }),
        (true, None, Some(node)) => Ok(AgentTask::OnceForNode { node }),
        (false, _, Some(node)) => Ok(AgentTask::Watch { node }),
        (_, _, None) => Err(ConfigError::Missing { name: "node-name" }),
    }
}
