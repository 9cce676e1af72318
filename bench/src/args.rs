//! What may be asked of the bench.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// pgherd beside its peers and the direct connection, in one interleaved run.
#[derive(Debug, Clone, Parser)]
#[command(name = "pgherd-bench", version, args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Something else than the comparison
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Only these scenarios (default: all)
    #[arg(long, value_name = "NAME")]
    pub scenario: Vec<crate::scenarios::Name>,
    /// Only cells whose name contains this, such as "prepared" or "16 clients"
    #[arg(long, value_name = "TEXT")]
    pub cell: Option<String>,
    /// Only these peers, by name
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Seconds that one sample is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// Samples of each peer in each cell; the peers take turns, the median counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    pub rounds: u64,
    /// One round of short and small samples: shows that all of it works, not how fast it is
    #[arg(long)]
    pub quick: bool,
    /// Clients of the `idle` scenario
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub idle_clients: usize,
    /// Size of the `copy` scenario, MB
    #[arg(long, value_name = "MB", default_value_t = 1_000)]
    pub copy_mb: u64,
    /// Servers in each pool
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub pool_size: usize,
    /// Where the processes run
    #[arg(long, value_enum, default_value_t = Placing::Pinned)]
    pub placing: Placing,
    /// pgherd's binary (default: the one beside this program)
    #[arg(long, value_name = "PATH")]
    pub pgherd: Option<PathBuf>,
    /// PgBouncer's binary (default: from PATH or /usr/sbin)
    #[arg(long, value_name = "PATH")]
    pub pgbouncer: Option<PathBuf>,
    /// Another peer: a PgBouncer of another version (NAME=PATH), or any program that is started as
    /// `PATH CONFIG` (NAME=PATH:CONFIG), where {port}, {server_port}, {database}, {user}, {users_file},
    /// {pool_size} and {clients} are filled into a copy of CONFIG
    #[arg(long, value_name = "NAME=PATH[:CONFIG]")]
    pub peer: Vec<String>,
    /// Write every sample here
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the tables as Markdown
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "bench/RESULTS.md")]
    pub write_results: Option<PathBuf>,
}

/// What is not the comparison.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// pgherd's user instructions for one transaction, beside the committed baseline
    Instructions(Instructions),
}

/// What may be asked of `instructions`.
#[derive(Debug, Clone, clap::Args)]
pub struct Instructions {
    /// Renew bench/instructions.toml
    #[arg(long)]
    pub write: bool,
    /// Count PgBouncer's, too
    #[arg(long)]
    pub pgbouncer: bool,
    /// pgherd's binary (default: the one beside this program)
    #[arg(long, value_name = "PATH")]
    pub pgherd: Option<PathBuf>,
}

/// Which process runs on which core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placing {
    /// The proxy alone on the first core, everything else on the others
    Pinned,
    /// Wherever the kernel likes
    Free,
}

impl Args {
    /// With `--quick` applied.
    #[must_use]
    pub fn resolved(&self) -> Args {
        let mut args = self.clone();
        if args.quick {
            args.seconds = args.seconds.min(1);
            args.rounds = 1;
            args.copy_mb = args.copy_mb.min(64);
            args.idle_clients = args.idle_clients.min(1_000);
        }
        args
    }
}
