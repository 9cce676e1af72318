//! pgbench's own scripts in each protocol, and a script whose literals never repeat.

use anyhow::Result;

use super::{Cell, Name, Needs, Scenario, Stage, TRANSACTION_METRICS, Whose, Work, trusted};
use crate::measure::pgbench::{Length, Load, Script};
use crate::measure::{Meter, Metric, Sample};

/// Transactions before measuring and counting. They are few: where each waits long for its turn, as on a busy
/// machine, more would take longer than the measuring.
#[derive(Debug, Clone, Copy)]
struct Passes {
    /// Of each client before measuring: pools fill, statements are prepared, caches warm.
    warm_up: u64,
    /// Of all clients together, in the shorter and the longer load whose system calls are counted.
    counted: [u64; 2],
}

const SHORT: Passes = Passes { warm_up: WARM_UP_TRANSACTIONS, counted: [160, 1_440] };

/// One of these is seven round trips and waits for others' locks.
const LONG: Passes = Passes { warm_up: WARM_UP_TRANSACTIONS / 5, counted: [64, 384] };

/// Transactions of each client before measuring short ones.
pub(super) const WARM_UP_TRANSACTIONS: u64 = 100;

fn passes(load: &Load) -> Passes {
    if matches!(load.script, Script::TpcbLike) { LONG } else { SHORT }
}

/// 64 bits of random literal: a cache keyed by text never hits and must not grow for ever.
const LITERALS: &str = "\\set aid random(1, :accounts)\n\
    \\set nonce random(1, 9000000000000000000)\n\
    SELECT abalance FROM pgbench_accounts WHERE aid = :aid AND :nonce > 0;\n";

pub(super) fn select() -> Scenario {
    Scenario {
        name: Name::Select,
        about: "pgbench -n -l -S -M PROTOCOL -c CLIENTS: one short SELECT by primary key is one transaction.".into(),
        metrics: TRANSACTION_METRICS,
        headline: Metric::CpuUs,
        cells: in_each_protocol(&Script::SelectOnly),
    }
}

pub(super) fn tpcb() -> Scenario {
    Scenario {
        name: Name::Tpcb,
        about: "pgbench -n -l -b tpcb-like -M PROTOCOL -c CLIENTS: BEGIN, five statements of which four write, and END are one transaction.".into(),
        metrics: TRANSACTION_METRICS,
        headline: Metric::CpuUs,
        cells: in_each_protocol(&Script::TpcbLike),
    }
}

fn in_each_protocol(script: &Script) -> Vec<Cell> {
    let mut cells = Vec::new();
    for protocol in ["simple", "extended", "prepared"] {
        for clients in [1, 16, 64] {
            let load = Load { script: script.clone(), protocol, clients };
            cells.push(cell(load, protocol == "prepared"));
        }
    }
    cells
}

pub(super) fn literals() -> Scenario {
    let load = |protocol| Load { script: Script::Text(LITERALS), protocol, clients: 16 };
    Scenario {
        name: Name::Literals,
        about: "pgbench -n -l -f SCRIPT -M simple -c 16: each statement holds a 64-bit literal that never comes again, \
                so no cache by text ever hits."
            .into(),
        metrics: TRANSACTION_METRICS,
        headline: Metric::CpuUs,
        cells: vec![cell(load("simple"), false)],
    }
}

fn cell(load: Load, prepares: bool) -> Cell {
    let plural = if load.clients == 1 { "" } else { "s" };
    Cell {
        name: format!("{}, {} client{plural}", load.protocol, load.clients),
        needs: Needs { prepared: prepares, ..trusted(load.clients) },
        whose: Whose::All,
        work: Work::Pgbench(load),
    }
}

pub(super) fn run(load: &Load, stage: &Stage<'_>) -> Result<Sample> {
    let site = stage.site;
    if matches!(load.script, Script::TpcbLike) {
        site.tidy()?;
    }
    load.run(site, stage.address, Length::Transactions(passes(load).warm_up))?;
    let meter = Meter::start(stage.pid, &site.cores)?;
    let outcome = load.run(site, stage.address, Length::Seconds(site.args.seconds))?;
    let mut sample = Sample::default();
    meter.stop(outcome.transactions, &mut sample)?;
    sample.set_load(outcome.transactions, outcome.seconds, &outcome.latency_us);
    count(load, stage, &mut sample)?;
    Ok(sample)
}

/// Connecting costs system calls too: only what the longer load has beyond the shorter is told.
fn count(load: &Load, stage: &Stage<'_>, sample: &mut Sample) -> Result<()> {
    let [few, many] = passes(load).counted.map(|all| (all / load.clients as u64).max(1));
    let run = |each| load.run(stage.site, stage.address, Length::Transactions(each)).map(drop);
    let Some(less) = stage.count(|| run(few))? else { return Ok(()) };
    let Some(more) = stage.count(|| run(many))? else { return Ok(()) };
    more.beyond(less).set((many - few) * load.clients as u64, sample);
    Ok(())
}
