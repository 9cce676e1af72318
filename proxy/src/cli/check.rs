//! `pgherd check`: is this configuration one that would start?

use std::path::Path;
use std::process::ExitCode;

use crate::config::reload::load_parts;
use crate::config::{Config, validate};

/// Prints a summary; every mistake is in the error.
pub(super) fn run(path: &Path) -> anyhow::Result<ExitCode> {
    let config = Config::load(path)?;
    load_parts(path, &config)?;
    println!("{}: ok: {}", path.display(), summary(&config));
    for warning in validate::warnings(&config) {
        println!("warning: {warning}");
    }
    Ok(ExitCode::SUCCESS)
}

fn summary(config: &Config) -> String {
    let count =
        |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    [
        count(config.nodes.len(), "node", "nodes"),
        count(config.databases.len(), "database", "databases"),
        count(config.users.len(), "user override", "user overrides"),
        count(config.auth.rules.len(), "auth rule", "auth rules"),
    ]
    .join(", ")
}
