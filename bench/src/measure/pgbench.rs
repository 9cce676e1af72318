//! pgbench as a load: run to its end, and its log of every transaction read.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use hdrhistogram::Histogram;

use super::latencies;
use crate::site::{NAME, Site};

/// What pgbench does.
#[derive(Debug, Clone)]
pub struct Load {
    /// Its script.
    pub script: Script,
    /// simple, extended or prepared.
    pub protocol: &'static str,
    /// Clients at once.
    pub clients: usize,
}

/// What it runs.
#[derive(Debug, Clone)]
pub enum Script {
    /// The built-in `select-only` (`-S`).
    SelectOnly,
    /// The built-in `tpcb-like`: seven statements in a transaction, three of them updates.
    TpcbLike,
    /// A file of ours with this text.
    Text(&'static str),
}

/// How long it runs.
#[derive(Debug, Clone, Copy)]
pub enum Length {
    /// By time.
    Seconds(u64),
    /// Transactions of each client.
    Transactions(u64),
}

/// What it did.
#[derive(Debug)]
pub struct Outcome {
    /// Transactions.
    pub transactions: u64,
    /// As long as they took together.
    pub seconds: f64,
    /// Each as the client saw it.
    pub latency_us: Histogram<u64>,
}

impl Load {
    /// Runs it; a transaction that failed fails all of it.
    pub fn run(&self, site: &Site, address: SocketAddr, length: Length) -> Result<Outcome> {
        let dir = site.directory("pgbench")?;
        let threads = self.threads(site.cores.load_threads() as usize).to_string();
        let mut command = site.binaries().client("pgbench");
        command.args(["-n", "-l", "-M", self.protocol, "-U", NAME, "-j", &threads]);
        command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
        command.args(["-c", &self.clients.to_string()]);
        match length {
            Length::Seconds(seconds) => command.args(["-T", &seconds.to_string()]),
            Length::Transactions(count) => command.args(["-t", &count.to_string()]),
        };
        match &self.script {
            Script::SelectOnly => command.arg("-S"),
            Script::TpcbLike => command.args(["-b", "tpcb-like"]),
            Script::Text(text) => command.arg("-f").arg(script(&dir, text)?),
        };
        let accounts = site.accounts();
        command.args(["-D", &format!("accounts={accounts}"), NAME]).current_dir(&dir);
        // Neither is what is measured, and asking for them costs a round trip.
        command.env("PGSSLMODE", "disable").env("PGGSSENCMODE", "disable");
        let output = command.stdin(Stdio::null()).output().context("start pgbench")?;
        let said = String::from_utf8_lossy(&output.stdout);
        let messages = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            let why = messages.lines().find(|l| l.contains("error") || l.contains("aborted"));
            bail!("pgbench failed: {}", why.unwrap_or_else(|| messages.trim()));
        }
        let failed = number(&said, "number of failed transactions: ").unwrap_or(0.0);
        if failed > 0.0 {
            bail!("{failed} transactions failed");
        }
        let tps = number(&said, "tps = ").context("pgbench says no tps")?;
        let transactions = number(&said, "actually processed: ").context("no transactions")?;
        let latency_us = read(&dir)?;
        let seconds = transactions / tps.max(1e-9);
        Ok(Outcome { transactions: transactions as u64, seconds, latency_us })
    }

    /// pgbench prepares with PQprepare, which blocks its thread (pgbench.c, `prepareCommand`). In a transaction it
    /// holds a server meanwhile, and if it waits for another client of the same thread, it waits for ever.
    fn threads(&self, cores: usize) -> usize {
        let blocks = self.protocol == "prepared" && matches!(self.script, Script::TpcbLike);
        if blocks { self.clients } else { cores.min(self.clients) }
    }
}

fn script(dir: &Path, text: &str) -> Result<PathBuf> {
    let path = dir.join("script.sql");
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// A file for each of its threads (manual, "pgbench", "Per-Transaction Logging"); the third column is the latency.
fn read(dir: &Path) -> Result<Histogram<u64>> {
    let mut histogram = latencies()?;
    for entry in fs::read_dir(dir).context("list pgbench's logs")? {
        let path = entry.context("list pgbench's logs")?.path();
        if path.extension().is_some_and(|e| e == "sql") {
            continue;
        }
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        for line in BufReader::new(file).lines() {
            let line = line.with_context(|| format!("read {}", path.display()))?;
            if let Some(us) = line.split(' ').nth(2).and_then(|v| v.parse().ok()) {
                histogram.saturating_record(us);
            }
        }
    }
    Ok(histogram)
}

fn number(text: &str, label: &str) -> Option<f64> {
    let (_, rest) = text.split_once(label)?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_may_wait_for_another_has_its_own_thread() {
        let check = |script, protocol, expect| {
            assert_eq!(Load { script, protocol, clients: 16 }.threads(3), expect, "{protocol}");
        };
        check(Script::TpcbLike, "prepared", 16);
        check(Script::TpcbLike, "simple", 3);
        check(Script::SelectOnly, "prepared", 3);
    }

    #[test]
    fn numbers_are_found() {
        let said = "number of transactions actually processed: 1200/1200\n\
                    number of failed transactions: 0 (0.000%)\ntps = 2433.5 (without …)\n";
        assert_eq!(number(said, "actually processed: "), Some(1200.0));
        assert_eq!(number(said, "number of failed transactions: "), Some(0.0));
        assert_eq!(number(said, "tps = "), Some(2433.5));
        assert_eq!(number(said, "latency"), None);
    }

    #[test]
    fn logs_are_read_and_scripts_are_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("pgbench_log.1"), "0 1 1500 0 1700000000 1\n").unwrap();
        fs::write(dir.path().join("script.sql"), "SELECT 1 2 3 4\n").unwrap();
        assert_eq!(read(dir.path()).unwrap().len(), 1);
    }
}
