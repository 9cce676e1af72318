//! `make instructions`: user instructions for one transaction, a figure that two commits can be compared by.
//!
//! A proxy runs under callgrind twice, with N and with 2 N transactions; the difference is what N cost, without
//! start, warm-up, logins and end. Clock, cores and neighbours hardly matter: what varies is how many messages
//! one read of a socket finds. bench/INSTRUCTIONS.md says by how much, and what the figure does not see (the kernel).
//! - [`callgrind`] a proxy under valgrind; [`baseline`] the committed figures.

mod baseline;
mod callgrind;

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser as _;

use crate::args::{Args, Instructions, Placing};
use crate::machine::Cores;
use crate::peers::{self, Access, Needs, Peer, REFERENCE};
use crate::site::{NAME, Site};
use baseline::{Baseline, Verdict};

/// Clients at once.
const CLIENTS: u64 = 16;
/// Transactions of each client before those that are counted: pools fill, statements are prepared.
const WARM_UP: u64 = 50;
/// Words of pgbench's `-M`.
const PROTOCOLS: [&str; 3] = ["simple", "extended", "prepared"];

/// Runs the check and says how it ended.
pub fn main(asked: &Instructions) -> ExitCode {
    match run(asked) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Counts, compares, and writes if told; `false`: a figure is too high.
fn run(asked: &Instructions) -> Result<bool> {
    ensure!(peers::in_path("valgrind", &[]).is_some(), "valgrind is not installed");
    let own = std::env::current_exe().context("find this program")?;
    let pgherd = asked.pgherd.clone().unwrap_or_else(|| own.with_file_name("pgherd"));
    let pgherd = pgherd.canonicalize().with_context(|| pgherd.display().to_string())?;
    let target = pgherd.parent().context("pgherd lies nowhere")?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.toml");
    let known = Baseline::read(&path)?;
    let cores = Cores::place(Placing::Pinned)?;
    let args = Args::parse_from(["pgherd-bench", "--quick"]);
    let mut site = Site::start(args, cores)?;
    let lists = target.with_file_name("instructions");
    std::fs::create_dir_all(&lists).with_context(|| format!("create {}", lists.display()))?;
    let mut now = Baseline::here(target)?;
    for protocol in PROTOCOLS {
        let name = format!("pgherd-{protocol}");
        let count =
            per_transaction(&mut site, "pgherd", &pgherd, protocol, asked, &lists.join(name))?;
        let verdict = known.as_ref().map(|known| known.judge(protocol, count));
        println!("{}", line("pgherd", protocol, count, verdict.as_ref()));
        now.per_transaction.insert(protocol.to_owned(), count.round());
    }
    if asked.pgbouncer {
        let binary = peers::in_path(REFERENCE, &["/usr/sbin"]);
        let binary = binary.context("PgBouncer is not installed")?;
        // Protocol-level prepared statements came with 1.21; the oldest common version has none.
        for protocol in ["simple", "extended"] {
            let list = lists.join(format!("{REFERENCE}-{protocol}"));
            let count = per_transaction(&mut site, REFERENCE, &binary, protocol, asked, &list)?;
            println!("{}", line(REFERENCE, protocol, count, None));
        }
    }
    println!("callgrind's lists of functions: {}", lists.display());
    conclude(asked, &path, known, &now)
}

fn conclude(
    asked: &Instructions,
    path: &Path,
    known: Option<Baseline>,
    now: &Baseline,
) -> Result<bool> {
    if asked.write {
        now.write(path)?;
        println!("written: {}", path.display());
        return Ok(true);
    }
    let Some(known) = known else { bail!("no {}; --write makes it", path.display()) };
    for difference in known.differences(now) {
        println!("note: {difference}");
    }
    let too_high = known.too_high(now);
    for what in &too_high {
        eprintln!("error: {what}");
    }
    Ok(too_high.is_empty())
}

/// The difference of two runs.
fn per_transaction(
    site: &mut Site,
    peer: &str,
    binary: &Path,
    protocol: &str,
    asked: &Instructions,
    list: &Path,
) -> Result<f64> {
    let once = run_under(site, peer, binary, protocol, asked.transactions, None)?;
    let twice = run_under(site, peer, binary, protocol, asked.transactions * 2, Some(list))?;
    let transactions = CLIENTS * asked.transactions;
    #[allow(clippy::cast_precision_loss)] // far below 2^53
    Ok((twice.saturating_sub(once)) as f64 / transactions as f64)
}

/// All instructions of one proxy that served `transactions` of each client.
fn run_under(
    site: &mut Site,
    peer: &str,
    binary: &Path,
    protocol: &str,
    transactions: u64,
    list: Option<&Path>,
) -> Result<u64> {
    let dir = site.directory("callgrind")?;
    let wrapper = callgrind::wrapper(site, &dir, binary)?;
    site.args.only = vec![peer.to_owned()];
    if peer == REFERENCE {
        site.args.pgbouncer = Some(wrapper);
    } else {
        site.args.pgherd = Some(wrapper);
    }
    let (found, _) = Peer::find(site)?;
    let clients = usize::try_from(CLIENTS)?;
    let prepared = protocol == "prepared";
    let needs = Needs { access: Access::Trust, tls: false, prepared, clients, workers: None };
    let running = found.first().context("no peer")?.start(site, needs)?;
    let pid = running.pid.context("no process")?;
    load(site, &running.address, protocol, WARM_UP)?;
    load(site, &running.address, protocol, transactions)?;
    callgrind::end(pid)?;
    drop(running);
    let out: PathBuf = callgrind::output(&dir, pid);
    if let Some(list) = list {
        callgrind::annotate(&out, list)?;
    }
    callgrind::total(&out)
}

/// pgbench's select-only script, the same transactions in every run.
fn load(
    site: &Site,
    address: &std::net::SocketAddr,
    protocol: &str,
    transactions: u64,
) -> Result<()> {
    let mut pgbench = site.binaries().client("pgbench");
    pgbench.args(["-n", "-S", "-M", protocol, "-U", NAME, "--random-seed=1", "-j", "1"]);
    pgbench.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
    pgbench.args(["-c", &CLIENTS.to_string(), "-t", &transactions.to_string(), NAME]);
    pgbench.env("PGSSLMODE", "disable").env("PGGSSENCMODE", "disable");
    let output = pgbench.stdin(Stdio::null()).output().context("start pgbench")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let expect = format!("actually processed: {0}/{0}", CLIENTS * transactions);
    if !output.status.success() || !said.contains(&expect) {
        bail!("pgbench failed: {said}{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn line(peer: &str, protocol: &str, count: f64, verdict: Option<&Verdict>) -> String {
    let beside = verdict.map(ToString::to_string).unwrap_or_default();
    format!("{peer:<10} {protocol:<9} {count:>9.0} instructions a transaction  {beside}")
}
