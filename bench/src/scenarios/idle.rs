//! Thousands of clients that have asked once and then do nothing: what each costs in memory.

use anyhow::{Context as _, Result};

use super::{Cell, Name, Scenario, Stage, Whose, Work, trusted};
use crate::client::{Client, source};
use crate::measure::process::Memory;
use crate::measure::{Meter, Metric, Sample};

/// A client of this scenario reads a few hundred bytes once.
const READ_BYTES: usize = 512;

/// Every so manieth client is asked again at the end: all of them must still be served.
const ASKED_AGAIN_EVERY: usize = 97;

pub(super) fn scenario(clients: usize) -> Scenario {
    Scenario {
        name: Name::Idle,
        about: "Each client logs in, runs one SELECT, and stays. CPU is that of login and SELECT together.".into(),
        metrics: &[
            Metric::AboveMb,
            Metric::ClientKb,
            Metric::RssMb,
            Metric::PeakMb,
            Metric::CpuUs,
            Metric::ForeignPct,
            Metric::StealPct,
        ],
        headline: Metric::AboveMb,
        cells: vec![Cell {
            name: format!("{clients} clients"),
            needs: trusted(clients),
            whose: Whose::Proxies,
            work: Work::Idle { clients },
        }],
    }
}

pub(super) fn run(clients: usize, stage: &Stage<'_>) -> Result<Sample> {
    let pid = stage.proxy()?;
    // The first client makes the pool, which is not what is measured.
    let mut first = Client::open(stage.address, source(0), READ_BYTES)?;
    first.query("SELECT 1")?;
    let before = Memory::read(pid)?;
    let meter = Meter::start(stage.pid, &stage.site.cores)?;
    let mut all = Vec::with_capacity(clients);
    for number in 0..clients {
        let failed = || format!("client {} of {clients}", number + 1);
        let mut client =
            Client::open(stage.address, source(number), READ_BYTES).with_context(failed)?;
        client.query("SELECT 1").with_context(failed)?;
        all.push(client);
    }
    let mut sample = Sample::default();
    meter.stop(clients as u64, &mut sample)?;
    let after = Memory::read(pid)?;
    let above_mb = after.now_mb - before.now_mb;
    sample.set(Metric::AboveMb, above_mb);
    sample.set(Metric::ClientKb, above_mb * 1e3 / clients.max(1) as f64);
    for client in all.iter_mut().step_by(ASKED_AGAIN_EVERY) {
        client.query("SELECT 1").context("a client that had been idle")?;
    }
    Ok(sample)
}
