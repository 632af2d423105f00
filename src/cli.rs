//! What was typed, and nothing else: no defaults of the program's, no meaning.

use clap::{Parser, Subcommand, ValueEnum};

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
    /// The definitions of our kinds.
    Crd {
        /// What to do with them.
        #[command(subcommand)]
        command: CrdCommand,
    },
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
