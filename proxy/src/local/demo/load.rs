//! pgbench as the demo's load: started, watched, and read when it is over.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

use hdrhistogram::Histogram;

use crate::local::keeper::Keeper;
use crate::local::postgres::SUPERUSER;
use crate::local::{Error, Herd, Pgherd, Postgres, io_error};

/// A running pgbench.
#[derive(Debug)]
pub struct Load {
    name: &'static str,
    database: &'static str,
    child: Child,
    keeper: Option<Keeper>,
    tps_now: Arc<AtomicU64>,
    messages: Option<JoinHandle<String>>,
    log_dir: PathBuf,
}

/// What a load did.
#[derive(Debug)]
pub struct Outcome {
    /// read-write or read-only.
    pub name: &'static str,
    /// What its clients named.
    pub database: &'static str,
    /// Each transaction as the client saw it.
    pub latency_us: Histogram<u64>,
    /// Transactions a second.
    pub tps: u64,
    /// Transactions that ended with an error.
    pub failed: u64,
}

/// What one node did.
#[derive(Debug, PartialEq, Eq)]
pub struct Served {
    /// Its name.
    pub node: String,
    /// primary or replica.
    pub role: &'static str,
    /// Transactions that pgherd sent there.
    pub transactions: u64,
    /// Queries that pgherd sent there.
    pub queries: u64,
}

/// Longest transaction that the histogram tells apart.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// The server's version, as `15.4`.
pub fn version(node: &Postgres) -> Result<String, Error> {
    let rows = node.query("postgres", "SHOW server_version")?;
    let text = rows.into_iter().flatten().flatten().next().unwrap_or_default();
    Ok(text.split_whitespace().next().unwrap_or_default().to_owned())
}

/// Makes and fills pgbench's tables through `address`.
pub fn initialise(herd: &Herd, address: SocketAddr, scale: &str) -> Result<(), Error> {
    let output = pgbench(herd, address)
        .args(["-i", "-q", "-s", scale, "demo"])
        .stdin(Stdio::null())
        .output()
        .map_err(io_error("start pgbench"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Failed { what: "pgbench -i".into(), status: output.status, output: said })
}

impl Load {
    /// Starts `clients` clients that run pgbench's built-in `script` with prepared statements.
    pub fn start(
        herd: &Herd,
        address: SocketAddr,
        name: &'static str,
        database: &'static str,
        script: &str,
        clients: u64,
        seconds: u64,
    ) -> Result<Load, Error> {
        let log_dir = herd.home().path().join(name);
        std::fs::create_dir(&log_dir).map_err(io_error(format!("create {}", log_dir.display())))?;
        let mut child = pgbench(herd, address)
            .args(["-n", "-M", "prepared", "-P", "1", "-l", "-b", script])
            // A thread for each client: pgbench's PQprepare blocks its thread, and would wait for a
            // server while clients of the same thread hold all of them in open transactions.
            .args(["-c", &clients.to_string(), "-j", &clients.to_string()])
            .args(["-T", &seconds.to_string(), database])
            .current_dir(&log_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(io_error("start pgbench"))?;
        let keeper = Some(Keeper::process(&child, None).map_err(io_error("start /bin/sh"))?);
        let tps_now = Arc::new(AtomicU64::new(0));
        let messages = child.stderr.take().map(|pipe| {
            let tps_now = Arc::clone(&tps_now);
            std::thread::spawn(move || follow(pipe, &tps_now))
        });
        Ok(Load { name, database, child, keeper, tps_now, messages, log_dir })
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What its clients named.
    pub fn database(&self) -> &'static str {
        self.database
    }

    /// Transactions in the last second.
    pub fn tps_now(&self) -> u64 {
        self.tps_now.load(Relaxed)
    }

    /// Waits for its end and reads what it measured.
    pub fn finish(mut self) -> Result<Outcome, Error> {
        let mut said = String::new();
        if let Some(mut pipe) = self.child.stdout.take() {
            pipe.read_to_string(&mut said).map_err(io_error("read from pgbench"))?;
        }
        let status = self.child.wait().map_err(io_error("wait for pgbench"))?;
        let messages = self.messages.take().and_then(|m| m.join().ok()).unwrap_or_default();
        if !status.success() {
            let what = format!("pgbench ({})", self.database);
            return Err(Error::Failed { what, status, output: messages });
        }
        let tps = number_after(&said, "tps = ").unwrap_or(0.0).round();
        let failed = number_after(&said, "number of failed transactions: ").unwrap_or(0.0);
        Ok(Outcome {
            name: self.name,
            database: self.database,
            latency_us: latencies(&self.log_dir)?,
            tps: tps as u64,
            failed: failed as u64,
        })
    }
}

impl Served {
    /// What was served after `before`, which lists the same nodes.
    pub fn since(mut self, before: &[Served]) -> Served {
        if let Some(before) = before.iter().find(|b| b.node == self.node) {
            self.transactions = self.transactions.saturating_sub(before.transactions);
            self.queries = self.queries.saturating_sub(before.queries);
        }
        self
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill(); // It fails only when it has ended.
        let _ = self.child.wait();
        if let Some(keeper) = self.keeper.take() {
            keeper.release();
        }
    }
}

/// What pgherd's pools count for each node, in the herd's order.
pub fn served(herd: &Herd, pgherd: &Pgherd) -> Vec<Served> {
    let Ok(body) = pgherd.get("/api/v1/pools") else { return Vec::new() };
    herd.nodes()
        .map(|node| {
            let (transactions, queries) = node_totals(&body, node.name());
            let role = if node.name() == herd.primary.name() { "primary" } else { "replica" };
            Served { node: node.name().to_owned(), role, transactions, queries }
        })
        .collect()
}

/// Transactions and queries of every pool on `node`.
fn node_totals(body: &str, node: &str) -> (u64, u64) {
    let json: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let pools = json.as_array();
    let of_node = pools
        .into_iter()
        .flatten()
        .filter(|p| p.get("node").and_then(serde_json::Value::as_str) == Some(node));
    of_node.fold((0, 0), |(transactions, queries), pool| {
        let total = |key| pool.pointer(key).and_then(serde_json::Value::as_u64).unwrap_or(0);
        (transactions + total("/totals/transactions"), queries + total("/totals/queries"))
    })
}

fn pgbench(herd: &Herd, address: SocketAddr) -> Command {
    let mut command = herd.primary.binaries().client("pgbench");
    command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
    command.args(["-U", SUPERUSER]);
    command
}

/// Reads progress lines (`progress: 1.0 s, 2433.0 tps, …`); returns everything else.
fn follow(pipe: ChildStderr, tps_now: &AtomicU64) -> String {
    let mut rest = String::new();
    for line in BufReader::new(pipe).lines().map_while(Result::ok) {
        if line.starts_with("progress: ") {
            let tps = number_after(&line, " s, ").unwrap_or(0.0);
            tps_now.store(tps.round() as u64, Relaxed);
        } else if rest.len() < crate::limits::LOCAL_LOG_TAIL_BYTES_MAX {
            rest.push_str(&line);
            rest.push('\n');
        }
    }
    rest
}

fn number_after(text: &str, label: &str) -> Option<f64> {
    let (_, rest) = text.split_once(label)?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

/// pgbench writes a file for each of its threads (manual, "pgbench", "Per-Transaction Logging").
fn latencies(dir: &Path) -> Result<Histogram<u64>, Error> {
    let other = |e: hdrhistogram::CreationError| Error::Config(e.to_string());
    let mut histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).map_err(other)?;
    let read = || format!("read {}", dir.display());
    for entry in std::fs::read_dir(dir).map_err(io_error(read()))? {
        let path = entry.map_err(io_error(read()))?.path();
        let file = std::fs::File::open(&path).map_err(io_error(read()))?;
        for line in BufReader::new(file).lines() {
            let line = line.map_err(io_error(read()))?;
            // The third column is the latency, or `failed`.
            if let Some(us) = line.split(' ').nth(2).and_then(|v| v.parse().ok()) {
                histogram.saturating_record(us);
            }
        }
    }
    Ok(histogram)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found() {
        let check = |text, label, expect| assert_eq!(number_after(text, label), expect);
        check("progress: 1.0 s, 2433.5 tps, lat 1 ms", " s, ", Some(2433.5));
        check("tps = 12 (without", "tps = ", Some(12.0));
        check("nothing", "tps = ", None);
    }

    #[test]
    fn latencies_come_from_the_third_column() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("pgbench_log.1"),
            "0 1 1500 0 1700000000 1\n1 1 failed 0 1 1\n",
        )
        .unwrap();
        let histogram = latencies(dir.path()).unwrap();
        assert_eq!((histogram.len(), histogram.max() / 10), (1, 150));
    }

    #[test]
    fn pools_of_a_node_are_added_up() {
        let pool =
            |node, n| format!(r#"{{"node":"{node}","totals":{{"transactions":{n},"queries":2}}}}"#);
        let body = format!("[{},{},{}]", pool("a", 1), pool("b", 10), pool("a", 5));
        assert_eq!(node_totals(&body, "a"), (6, 4));
        assert_eq!(node_totals("not json", "a"), (0, 0));
    }
}
