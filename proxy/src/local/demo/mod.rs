//! `pgherd demo`: a herd on this machine, pgherd before it, load on it, and what came of it.
//!
//! For a first look and for a smoke test (`--once`). Everything lives in one directory of its own and goes
//! when the command ends, however it ends.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, bail};

use super::{Error, Herd, Options, Pgherd};
use load::{Load, Outcome, Served};
use screen::{Screen, milliseconds, thousands};

mod load;
mod screen;

/// Arguments of `pgherd demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// End after the load instead of staying up until Ctrl-C
    #[arg(long)]
    pub once: bool,
    /// How long the load runs
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// Clients of each kind: so many write, and so many read
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub clients: u64,
    /// Make the herd's directory inside this one instead of the temporary directory
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Where clients connect
    #[arg(long, default_value = "127.0.0.1:6432", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Where the admin HTTP listens
    #[arg(long, default_value = "127.0.0.1:6433", value_name = "ADDRESS")]
    pub admin: SocketAddr,
}

/// Ctrl-C and TERM, counted: the first one ends the demo in order, the second one at once.
#[derive(Debug, Clone)]
struct Interrupts(Arc<AtomicUsize>);

/// Servers of each pool: fewer than clients, because sharing them is the point.
const POOL_SIZE: usize = 8;
/// pgbench's scale: 500,000 accounts, loaded in seconds.
const SCALE: &str = "5";
/// Exit code of a command that Ctrl-C ended (128 + SIGINT).
const INTERRUPTED: u8 = 130;

/// Runs the demo; blocks until it is over.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let screen = Screen::new();
    let interrupts = Interrupts::watch()?;
    vacant(args.listen, "--listen")?;
    vacant(args.admin, "--admin")?;
    screen.title("pgherd demo");
    let herd = screen.step("starting PostgreSQL", || {
        let herd = start_herd(args.dir.as_deref())?;
        let version = load::version(&herd.primary)?;
        Ok((format!("PostgreSQL {version}: one primary, two streaming replicas"), herd))
    })?;
    if interrupts.any() {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    let mut pgherd = screen.step("starting pgherd", || {
        let pgherd = start_pgherd(&herd, args)?;
        Ok((format!("pgherd at {}, admin at {}", args.listen, args.admin), pgherd))
    })?;
    screen.step("loading pgbench's tables through pgherd", || {
        load::initialise(&herd, pgherd.address(), SCALE)?;
        herd.wait_caught_up()?;
        Ok(("pgbench's tables, loaded through pgherd and replicated".to_owned(), ()))
    })?;
    if interrupts.any() {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    let before = load::served(&herd, &pgherd);
    let outcomes = put_load(&screen, &herd, &pgherd, args, &interrupts)?;
    let Some(outcomes) = outcomes else { return Ok(ExitCode::from(INTERRUPTED)) };
    let served = load::served(&herd, &pgherd).into_iter().map(|s| s.since(&before)).collect();
    report(&screen, &outcomes, served);
    invite(&screen, args);
    if !args.once {
        screen.line("");
        screen.faint("Ctrl-C ends everything and leaves nothing behind.");
        stay(&mut pgherd, &interrupts)?;
        screen.line("");
    }
    pgherd.stop(rustix::process::Signal::INT)?;
    let failed = outcomes.iter().any(|o| o.failed > 0 || o.latency_us.is_empty());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Says which flag helps while nothing has been started yet.
fn vacant(address: SocketAddr, flag: &str) -> anyhow::Result<()> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {
            bail!("{address} is taken by another program; choose another address with {flag}")
        }
        Err(e) => Err(e).with_context(|| format!("can't listen on {address} ({flag})")),
    }
}

fn start_herd(parent: Option<&Path>) -> Result<Herd, Error> {
    let builder = Herd::builder().replicas(2).options(Options::new());
    let builder = match parent {
        Some(dir) => builder.parent(dir),
        None => builder,
    };
    let herd = builder.start()?;
    herd.primary.query("postgres", "CREATE DATABASE demo")?;
    herd.wait_caught_up()?;
    Ok(herd)
}

fn start_pgherd(herd: &Herd, args: &Args) -> anyhow::Result<Pgherd> {
    let binary = std::env::current_exe().context("can't find the path of this program")?;
    Ok(Pgherd::start(&binary, herd.home().path(), &config(herd, args))?)
}

/// The configuration that an operator would write for this herd.
fn config(herd: &Herd, args: &Args) -> String {
    let mut text = format!(
        "[proxy]\nlisten = [\"{}\"]\n\n[admin]\nlisten = \"{}\"\n\n[pool]\nsize_default = {POOL_SIZE}\n\n\
         [[auth.rules]]\nmethod = \"trust\"\naddresses = [\"127.0.0.0/8\", \"::1/128\"]\n",
        args.listen, args.admin
    );
    for node in herd.nodes() {
        let role = if node.name() == herd.primary.name() { "primary" } else { "replica" };
        text.push_str(&format!(
            "\n[nodes.{}]\nhost = \"127.0.0.1\"\nport = {}\nrole = \"{role}\"\n",
            node.name(),
            node.port()
        ));
    }
    let replicas: Vec<_> = herd.replicas.iter().map(|r| format!("\"{}\"", r.name())).collect();
    text.push_str(&format!(
        "\n[databases.demo]\nnodes = [\"{}\"]\n\n\
         [databases.demo_ro]\nnodes = [{}]\nrole = \"replica\"\ndbname = \"demo\"\n",
        herd.primary.name(),
        replicas.join(", ")
    ));
    text
}

/// Both loads at once; `None`: interrupted.
fn put_load(
    screen: &Screen,
    herd: &Herd,
    pgherd: &Pgherd,
    args: &Args,
    interrupts: &Interrupts,
) -> anyhow::Result<Option<Vec<Outcome>>> {
    let start = |name, database, script| {
        Load::start(herd, pgherd.address(), name, database, script, args.clients, args.seconds)
    };
    let mut loads = vec![
        start("read-write", "demo", "tpcb-like")?,
        start("read-only", "demo_ro", "select-only")?,
    ];
    let progress = screen.progress(args.seconds);
    while loads.iter_mut().any(Load::is_running) {
        if interrupts.any() {
            return Ok(None);
        }
        let rates: Vec<_> = loads
            .iter()
            .map(|l| format!("{} {} tps", l.database(), thousands(l.tps_now())))
            .collect();
        progress.show(&rates.join("   "));
        std::thread::sleep(Duration::from_millis(100));
    }
    progress.finish(&format!(
        "load for {} s: {} clients write to demo, {} read from demo_ro, {POOL_SIZE} servers for each pool",
        args.seconds, args.clients, args.clients
    ));
    Ok(Some(loads.into_iter().map(Load::finish).collect::<Result<_, _>>()?))
}

fn report(screen: &Screen, outcomes: &[Outcome], served: Vec<Served>) {
    let header = ["LOAD", "DATABASE", "TRANSACTIONS", "TPS", "P50", "P95", "P99", "FAILED"];
    let rows = outcomes.iter().map(|o| {
        let quantile = |q| milliseconds(o.latency_us.value_at_quantile(q));
        vec![
            o.name.to_owned(),
            o.database.to_owned(),
            thousands(o.latency_us.len()),
            thousands(o.tps),
            quantile(0.5),
            quantile(0.95),
            quantile(0.99),
            thousands(o.failed),
        ]
    });
    screen.table(&header, 2, rows.collect());
    let rows = served
        .into_iter()
        .map(|s| vec![s.node, s.role.to_owned(), thousands(s.transactions), thousands(s.queries)]);
    screen.table(&["NODE", "ROLE", "TRANSACTIONS", "QUERIES"], 2, rows.collect());
}

fn invite(screen: &Screen, args: &Args) {
    let (host, port) = (args.listen.ip(), args.listen.port());
    let psql = format!("psql -h {host} -p {port} -U {}", super::postgres::SUPERUSER);
    let rows = vec![
        vec!["writes and reads".to_owned(), format!("{psql} demo")],
        vec!["reads, on the replicas".to_owned(), format!("{psql} demo_ro")],
        vec!["metrics".to_owned(), format!("curl http://{}/metrics", args.admin)],
    ];
    screen.table(&["TRY", ""], 2, rows);
}

/// Until Ctrl-C; a pgherd that ends by itself is an error.
fn stay(pgherd: &mut Pgherd, interrupts: &Interrupts) -> anyhow::Result<()> {
    while !interrupts.any() {
        if let Some(status) = pgherd.try_wait()? {
            bail!("pgherd ended by itself ({status})\n{}", pgherd.log());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

impl Interrupts {
    /// Signals are counted on a thread of their own, because everything here blocks.
    fn watch() -> anyhow::Result<Interrupts> {
        let interrupts = Interrupts(Arc::default());
        let counted = interrupts.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .context("can't watch signals")?;
        std::thread::Builder::new()
            .name("pgherd-signals".into())
            .spawn(move || runtime.block_on(counted.count()))
            .context("can't start a thread")?;
        Ok(interrupts)
    }

    /// Cancel safe.
    async fn count(self) {
        use tokio::signal::unix::{SignalKind, signal};
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds.map(signal) else {
            return; // Then signals end us as they end any program, and the keepers clean up.
        };
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            if self.0.fetch_add(1, Relaxed) > 0 {
                // Who asks twice does not want to wait; the keepers end what is left.
                #[allow(clippy::exit)]
                std::process::exit(i32::from(INTERRUPTED));
            }
        }
    }

    fn any(&self) -> bool {
        self.0.load(Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_names_its_flag() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = vacant(taken.local_addr().unwrap(), "--listen").unwrap_err().to_string();
        assert!(error.contains("--listen"), "{error}");
    }
}
