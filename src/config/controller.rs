//! What the controller runs on.

use std::num::NonZeroU16;
use std::time::Duration;

use crate::config::check::{LABEL, SUBDOMAIN, is_label, is_subdomain};
use crate::config::sources::Values;
use crate::config::{ConfigError, Logs};

/// Groups that bootstrap and infrastructure objects may be of without further configuration.
pub const KNOWN_GROUPS: [&str; 3] =
    ["bootstrap.cluster.x-k8s.io", "infrastructure.cluster.x-k8s.io", "k0smotron.io"];

/// Machines made at one time, unless configured. Of sixty at one edge, on two cores, the last was made after 2.1 to 3.0 s with
/// 4, 1.8 to 2.5 s with 12 and 1.7 to 2.1 s with 48; the first after 0.08, 0.1 and 0.3 s. So twelve costs the last little and
/// gives the first what it asked for, and an edge of this many waits for nobody.
pub const CONCURRENT_CREATES: u16 = 12;
/// More would be no bound.
const MOST_CONCURRENT_CREATES: u16 = 1000;
/// What `lease-name` may be.
const LEASE_NAME: &str =
    "at most 63 of a-z, 0-9, - and ., each part beginning and ending with a letter or digit";
/// Name in our Events where nobody tells the pod's.
const NAMELESS: &str = "5spot-controller";
/// Each shard has a Lease of its own; more instances than this are a mistake.
const MOST_INSTANCES: u16 = 1024;

/// What the controller runs on, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerConfig {
    /// What is logged, and how.
    pub logs: Logs,
    /// Where `/metrics` is served.
    pub metrics_port: NonZeroU16,
    /// Where `/healthz`, `/readyz` and `/health/status` are served; another one.
    pub health_port: NonZeroU16,
    /// Watch this namespace only.
    pub watch_namespace: Option<String>,
    /// API groups that bootstrap and infrastructure objects may be of.
    pub allowed_groups: Vec<String>,
    /// Machines made at one time; of those that wait the highest `priority` goes first.
    pub concurrent_creates: u16,
    /// Name of this replica in our Events.
    pub instance: String,
    /// Name of the pod, where somebody tells it: the first half of a Lease's holder.
    pub pod: Option<String>,
    /// Which part of all objects is ours.
    pub shard: Shard,
    /// Only one replica acts at a time.
    pub is_elected: bool,
    /// On what terms; checked also while nobody is elected.
    pub election: Election,
}

/// Which part of all objects is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 0 to `count - 1`.
    pub id: u16,
    /// How many instances there are, at least 1.
    pub count: u16,
}

/// Terms of the leader election: `retry_period < renew_deadline < duration`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Election {
    /// Name of the Lease.
    pub lease_name: String,
    /// Namespace of the Lease.
    pub lease_namespace: String,
    /// Others wait this long after the last renewal they saw.
    pub duration: Duration,
    /// The leader stops this long after the last renewal that went through.
    pub renew_deadline: Duration,
    /// Between two attempts.
    pub retry_period: Duration,
}

impl ControllerConfig {
    pub(super) fn check(values: &Values) -> Result<Self, ConfigError> {
        let (metrics_port, health_port) = values.ports()?;
        let not_empty = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let all_or_label = |text: &str| (text.is_empty() || is_label(text)).then(|| not_empty(text));
        let watch_namespace = values.read("watch-namespace", LABEL, all_or_label)?;
        let subdomain = |text: &str| is_subdomain(text).then(|| text.to_owned());
        let pod = values.read("pod-name", SUBDOMAIN, subdomain)?.map(|(name, _)| name);
        let fix = "API groups like infrastructure.cluster.x-k8s.io, comma separated";
        let extra = values.read("allowed-api-groups", fix, groups)?;
        Ok(Self {
            logs: values.logs()?,
            metrics_port: metrics_port.ok_or(ConfigError::Missing { name: "metrics-port" })?,
            health_port: health_port.ok_or(ConfigError::Missing { name: "health-port" })?,
            watch_namespace: watch_namespace.and_then(|(namespace, _)| namespace),
            allowed_groups: KNOWN_GROUPS
                .into_iter()
                .map(str::to_owned)
                .chain(extra.map(|(groups, _)| groups).unwrap_or_default())
                .collect(),
            concurrent_creates: values.number("max-concurrent-creates", 1, MOST_CONCURRENT_CREATES)?.0,
            instance: pod.clone().unwrap_or_else(|| NAMELESS.to_owned()),
            pod,
            shard: shard(values)?,
            is_elected: values.switch("enable-leader-election")?.0,
            election: election(values)?,
        })
    }
}

fn groups(text: &str) -> Option<Vec<String>> {
    let groups: Vec<&str> = text.split(',').map(str::trim).filter(|group| !group.is_empty()).collect();
    let is_group = |group: &&str| group.contains('.') && is_subdomain(group);
    groups.iter().all(is_group).then(|| groups.into_iter().map(str::to_owned).collect())
}

fn shard(values: &Values) -> Result<Shard, ConfigError> {
    let (id, first) = values.number("instance-id", 0, MOST_INSTANCES - 1)?;
    let (count, second) = values.number("instance-count", 1, MOST_INSTANCES)?;
    if id >= count {
        return Err(ConfigError::Together {
            both: (first, second).into(),
            fix: "the ID goes from 0 to one less than the count",
        });
    }
    Ok(Shard { id, count })
}

fn election(values: &Values) -> Result<Election, ConfigError> {
    let (duration, of_duration) = values.seconds("lease-duration-secs", 2)?;
    let (renew_deadline, of_deadline) = values.seconds("lease-renew-deadline-secs", 1)?;
    let (retry_period, of_period) = values.seconds("lease-retry-period-secs", 1)?;
    if renew_deadline >= duration {
        return Err(ConfigError::Together {
            both: (of_deadline, of_duration).into(),
            fix: "the renew deadline must be below the duration, or two replicas may lead at once",
        });
    }
    if retry_period >= renew_deadline {
        return Err(ConfigError::Together {
            both: (of_period, of_deadline).into(),
            fix: "the retry period must be below the renew deadline, or there is no second attempt",
        });
    }
    // It is a label as well.
    let fits = |text: &str| (is_subdomain(text) && text.len() <= 63).then(|| text.to_owned());
    let (lease_name, _) = values.must("lease-name", LEASE_NAME, fits)?;
    let (lease_namespace, _) =
        values.must("lease-namespace", LABEL, |text| is_label(text).then(|| text.to_owned()))?;
    Ok(Election { lease_name, lease_namespace, duration, renew_deadline, retry_period })
}
