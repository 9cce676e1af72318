//! pgbench's select-only script in each protocol, and a script whose literals never repeat.

use anyhow::Result;

use super::{Cell, Name, Scenario, Stage, TRANSACTION_METRICS, Work, trusted};
use crate::measure::pgbench::{Length, Load, Script};
use crate::measure::{Meter, Metric, Sample};

/// Transactions of each client before measuring: pools fill, statements are prepared, caches warm.
const WARM_UP_TRANSACTIONS: u64 = 100;

/// 64 bits of random literal: a cache keyed by text never hits and must not grow for ever.
const LITERALS: &str = "\\set aid random(1, :accounts)\n\
    \\set nonce random(1, 9000000000000000000)\n\
    SELECT abalance FROM pgbench_accounts WHERE aid = :aid AND :nonce > 0;\n";

pub(super) fn select() -> Scenario {
    let mut cells = Vec::new();
    for protocol in ["simple", "extended", "prepared"] {
        for clients in [1, 16, 64] {
            let load = Load { script: Script::SelectOnly, protocol, clients };
            cells.push(cell(load, protocol == "prepared"));
        }
    }
    Scenario {
        name: Name::Select,
        about: "pgbench -S: one short SELECT by primary key is one transaction.".into(),
        metrics: TRANSACTION_METRICS,
        headline: Metric::CpuUs,
        cells,
    }
}

pub(super) fn literals() -> Scenario {
    let load = |protocol| Load { script: Script::Text(LITERALS), protocol, clients: 16 };
    Scenario {
        name: Name::Literals,
        about: "Each statement holds a 64-bit literal that never comes again: what caching by text costs."
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
        needs: trusted(load.clients),
        prepares,
        proxies_only: false,
        work: Work::Pgbench(load),
    }
}

pub(super) fn run(load: &Load, stage: &Stage<'_>) -> Result<Sample> {
    let site = stage.site;
    load.run(site, stage.address, Length::Transactions(WARM_UP_TRANSACTIONS))?;
    let meter = Meter::start(stage.pid, &site.cores)?;
    let outcome = load.run(site, stage.address, Length::Seconds(site.args.seconds))?;
    let mut sample = Sample::default();
    meter.stop(outcome.transactions, &mut sample)?;
    sample.set_load(outcome.transactions, outcome.seconds, &outcome.latency_us);
    Ok(sample)
}
