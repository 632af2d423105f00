//! What was typed, and nothing else: no defaults of the program's, no meaning.

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

/// Lends idle machines to Kubernetes clusters by the clock, and gives them back.
#[derive(Debug, Parser)]
#[command(name = "5spot", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controller, in the Cluster API management cluster.
    Controller(ControllerArgs),
    /// The definitions of our kinds.
    Crd {
        /// What to do with them.
        #[command(subcommand)]
        command: CrdCommand,
    },
}

/// What was typed for the controller; what was not typed is absent, so that variables and defaults can fill it.
#[derive(Clone, Debug, Default, Args, Serialize)]
#[command(
    after_help = "Examples:\n  5spot controller --log-format text\n  5spot controller --watch-namespace machines -v"
)]
pub struct ControllerArgs {
    /// Log format: json or text [default: json] [env: `RUST_LOG_FORMAT`]
    #[arg(long, value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<String>,
    /// Watch this namespace only [default: all] [env: `WATCH_NAMESPACE`]
    #[arg(long, value_name = "NAMESPACE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch_namespace: Option<String>,
    /// API groups, besides the known ones, that bootstrap and infrastructure objects may be of, comma separated
    /// [env: `ALLOWED_API_GROUPS`]
    #[arg(long, value_name = "GROUPS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_api_groups: Option<String>,
    /// Machines made at one time, 1 to 1000; of those that wait the highest priority goes first
    /// [default: 12] [env: `MAX_CONCURRENT_CREATES`]
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrent_creates: Option<String>,
    /// Log decisions in detail (debug), unless `RUST_LOG` says otherwise
    #[arg(short, long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verbose: Option<bool>,
}

/// What to do with the definitions.
#[derive(Debug, Subcommand)]
pub enum CrdCommand {
    /// Print them, ready for `kubectl apply -f -`.
    Print {
        /// How they are written down.
        #[arg(long, value_enum, default_value_t = CrdFormat::Yaml)]
        format: CrdFormat,
    },
}

/// How definitions are written down.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CrdFormat {
    /// One document for each.
    Yaml,
    /// One List.
    Json,
}
