//! The commands: what they are called, what they take, how they end.
//!
//! Secrets are never arguments: other users of the machine can see those. `proxy` runs the proxy,
//! `check` judges a configuration, `generate` writes manual pages and completions; `demo` and `ctl`
//! live in their own rooms.

mod check;
mod generate;
mod process;
pub mod proxy;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::ConfigError;
use crate::{admin, local};

/// One endpoint for a herd of PostgreSQL servers.
///
/// Applications connect to pgherd as if it were PostgreSQL. Behind it, servers are pooled and
/// shared. `pgherd demo` shows it on this machine; `pgherd proxy` runs it.
///
/// Exit codes: 0 done, 1 failed, 2 wrong arguments, 78 wrong configuration.
#[derive(Debug, Parser)]
#[command(name = "pgherd", version, propagate_version = true, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy
    ///
    /// Runs in the foreground and logs to stderr. HUP reads the configuration again (so does a
    /// change of the file), TERM drains (new clients are refused, busy ones finish), a second TERM
    /// or INT ends at once, USR2 starts a new process of the same file and hands the listeners over
    /// to it without refusing a connection.
    Proxy(ConfigFile),
    /// Check a configuration without running it
    ///
    /// Prints every mistake with file, line and column, and ends with 78 if there is one. Files
    /// that the configuration names (certificates, users, passwords) are read too; nothing is
    /// connected to.
    Check(ConfigFile),
    /// Show a herd on this machine, with pgherd before it and load on it
    Demo(local::demo::Args),
    /// Look at a running proxy and tell it what to do
    Ctl(admin::ctl::Args),
    /// Write manual pages or shell completions
    Generate(generate::Args),
}

/// Which configuration.
#[derive(Debug, Clone, clap::Args)]
pub struct ConfigFile {
    /// The configuration file (TOML)
    ///
    /// config.example.toml shows every key with its default. Relative paths in the file are relative
    /// to the working directory.
    #[arg(short, long, value_name = "FILE", env = "PGHERD_CONFIG")]
    pub config: PathBuf,
}

/// sysexits(3): systemd does not start a service again that ended with it
/// (`RestartPreventExitStatus=78`), because the file will not get better by itself.
const EX_CONFIG: u8 = 78;

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Proxy(args) => proxy::run(&args.config),
        Command::Check(args) => check::run(&args.config),
        Command::Demo(args) => local::demo::run(&args),
        Command::Ctl(args) => admin::ctl::run(args),
        Command::Generate(args) => generate::run(&args, Cli::command()),
    };
    result.unwrap_or_else(|error| match error.downcast_ref::<ConfigError>() {
        Some(wrong) => {
            eprintln!("{wrong}");
            ExitCode::from(EX_CONFIG)
        }
        None => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
