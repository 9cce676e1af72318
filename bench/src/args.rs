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
    /// Seconds that one sample is measured [with --quick: 1]
    #[arg(long, default_value_t = 5, default_value_if("quick", "true", "1"), value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// Samples of each peer in each cell; the peers take turns, the median counts [with --quick: 1]
    #[arg(long, default_value_t = 3, default_value_if("quick", "true", "1"), value_parser = clap::value_parser!(u64).range(1..))]
    pub rounds: u64,
    /// One round of short and small samples: shows that all of it works, not how fast it is
    #[arg(long)]
    pub quick: bool,
    /// Clients of the `idle` scenario [with --quick: 1000]
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10_000,
        default_value_if("quick", "true", "1000")
    )]
    pub idle_clients: usize,
    /// Requests a second of the `open-loop` scenario; several: a load each
    #[arg(long, value_name = "N", num_args = 1.., default_values_t = [1_000, 4_000], value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Vec<u32>,
    /// Connections of the `open-loop` scenario
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = at_least_one)]
    pub open_clients: usize,
    /// Size of the `copy` and `large` scenarios, MB [with --quick: 64]
    #[arg(
        long,
        value_name = "MB",
        default_value_t = 1_000,
        default_value_if("quick", "true", "64")
    )]
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
    /// HAProxy's binary (default: from PATH or /usr/sbin)
    #[arg(long, value_name = "PATH")]
    pub haproxy: Option<PathBuf>,
    /// Another peer: a PgBouncer of another version (NAME=PATH), or any program that is started as
    /// `PATH CONFIG` (NAME=PATH:CONFIG), where {port}, {server_port}, {database}, {user}, {users_file},
    /// {pool_size}, {clients}, {auth}, {tls}, {cert_file} and {key_file} are filled into a copy of CONFIG
    #[arg(long, value_name = "NAME=PATH[:CONFIG]")]
    pub peer: Vec<String>,
    /// Write every sample here
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw the ratios of CPU time
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Write the tables as Markdown, and results.svg beside them
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "bench/RESULTS.md")]
    pub write_results: Option<PathBuf>,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_is_short_but_what_is_asked_for_counts() {
        let check = |text: &str, expect: (u64, u64, usize, u64)| {
            let args = Args::try_parse_from(text.split(' ')).unwrap();
            assert_eq!(
                (args.seconds, args.rounds, args.idle_clients, args.copy_mb),
                expect,
                "{text}"
            );
        };
        check("bench", (5, 3, 10_000, 1_000));
        check("bench --quick", (1, 1, 1_000, 64));
        check("bench --quick --rounds 2 --idle-clients 10000", (1, 2, 10_000, 64));
        assert!(Args::try_parse_from(["bench", "--rate", "0"]).is_err());
        assert!(Args::try_parse_from(["bench", "--open-clients", "0"]).is_err());
    }
}
