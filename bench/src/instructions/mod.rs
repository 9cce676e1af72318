//! `make instructions`: user instructions for one transaction, a figure that two commits can be compared by.
//!
//! A proxy runs under callgrind twice, with N and with 2 N transactions; the difference is what N cost, without
//! start, warm-up, logins and end. With one client it hardly varies, whatever else the machine does;
//! bench/INSTRUCTIONS.md says by how much, how stable the others are, and what no figure sees (the kernel).
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
    for load in loads(&PROTOCOLS) {
        let count = per_transaction(&mut site, ("pgherd", &pgherd), &load, &lists)?;
        let verdict = known.as_ref().map(|known| known.judge(&load.name(), count));
        println!("{}", line("pgherd", &load, count, verdict.as_ref()));
        now.set(load.clients == 1, load.name(), count);
    }
    if asked.pgbouncer {
        let binary = peers::in_path(REFERENCE, &["/usr/sbin"]);
        let binary = binary.context("PgBouncer is not installed")?;
        // Protocol-level prepared statements came with 1.21; the oldest common version has none.
        for load in loads(&["simple", "extended"]) {
            let count = per_transaction(&mut site, (REFERENCE, &binary), &load, &lists)?;
            println!("{}", line(REFERENCE, &load, count, None));
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
    (peer, binary): (&str, &Path),
    load: &Load<'_>,
    lists: &Path,
) -> Result<f64> {
    let name = format!("{peer}-{}-{}", load.protocol, load.clients);
    let twice = Load { each: load.each * 2, ..*load };
    let once = run_under(site, peer, binary, load, None)?;
    let twice = run_under(site, peer, binary, &twice, Some(&lists.join(name)))?;
    #[allow(clippy::cast_precision_loss)] // far below 2^53
    Ok(twice.saturating_sub(once) as f64 / (load.each * load.clients) as f64)
}

/// What pgbench does.
#[derive(Debug, Clone, Copy)]
struct Load<'a> {
    protocol: &'a str,
    clients: u64,
    /// Transactions of each client.
    each: u64,
}

impl Load<'_> {
    fn name(&self) -> String {
        let plural = if self.clients == 1 { "" } else { "s" };
        format!("{}, {} client{plural}", self.protocol, self.clients)
    }
}

/// One client: each message is a read of its own; that is judged. Many clients: how many
/// messages one turn of the loop finds depends on the machine's load; that is told.
fn loads<'a>(protocols: &[&'a str]) -> impl Iterator<Item = Load<'a>> {
    let of =
        |protocol| [(1, 1_000), (16, 500)].map(|(clients, each)| Load { protocol, clients, each });
    protocols.iter().copied().flat_map(of).collect::<Vec<_>>().into_iter()
}

/// All instructions of one proxy that served `load`.
fn run_under(
    site: &mut Site,
    peer: &str,
    binary: &Path,
    load: &Load<'_>,
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
    let clients = usize::try_from(load.clients)?;
    let prepared = load.protocol == "prepared";
    let needs = Needs { access: Access::Trust, tls: false, prepared, clients, workers: None };
    let running = found.first().context("no peer")?.start(site, needs)?;
    let pid = running.pid.context("no process")?;
    serve(site, &running.address, &Load { each: WARM_UP, ..*load })?;
    serve(site, &running.address, load)?;
    callgrind::end(pid)?;
    drop(running);
    let out: PathBuf = callgrind::output(&dir, pid);
    if let Some(list) = list {
        callgrind::annotate(&out, list)?;
    }
    callgrind::total(&out)
}

/// pgbench's select-only script, the same transactions in every run.
fn serve(site: &Site, address: &std::net::SocketAddr, load: &Load<'_>) -> Result<()> {
    let mut pgbench = site.binaries().client("pgbench");
    pgbench.args(["-n", "-S", "-M", load.protocol, "-U", NAME, "--random-seed=1", "-j", "1"]);
    pgbench.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
    pgbench.args(["-c", &load.clients.to_string(), "-t", &load.each.to_string(), NAME]);
    pgbench.env("PGSSLMODE", "disable").env("PGGSSENCMODE", "disable");
    let output = pgbench.stdin(Stdio::null()).output().context("start pgbench")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let expect = format!("actually processed: {0}/{0}", load.clients * load.each);
    if !output.status.success() || !said.contains(&expect) {
        bail!("pgbench failed: {said}{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn line(peer: &str, load: &Load<'_>, count: f64, verdict: Option<&Verdict>) -> String {
    let beside = verdict.map(ToString::to_string).unwrap_or_default();
    format!("{peer:<10} {:<20} {count:>7.0} instructions a transaction  {beside}", load.name())
}
