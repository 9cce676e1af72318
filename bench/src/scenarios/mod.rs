//! The loads, each with the figures that it is about.
//!
//! A scenario is a list of cells; a cell is one load that every peer runs in turn. What a peer can't do is
//! skipped with the reason, never measured as something else.

mod bulk;
mod connect;
mod idle;
mod open_loop;
mod pipeline;
mod scaling;
mod transactions;

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use serde::Serialize;

use crate::args::Args;
use crate::measure::count::Counts;
use crate::measure::{Metric, Sample, pgbench};
use crate::peers::{Access, Needs, Peer};
use crate::site::Site;

/// The scenarios, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Name {
    /// pgbench -S in each protocol, with 1, 16 and 64 clients
    Select,
    /// pgbench's TPC-B-like script, likewise
    Tpcb,
    /// Statements whose literals never repeat
    Literals,
    /// Ten statements in one pipeline
    Pipeline,
    /// Requests at a fixed rate, whatever the answers do
    OpenLoop,
    /// Clients that connect, ask once, and leave: plain, TLS, SCRAM, both
    Connect,
    /// Clients that do nothing
    Idle,
    /// A client that reads a large result slowly
    SlowReader,
    /// Results of many small and of few large rows
    Large,
    /// COPY out and in
    Copy,
    /// What a second core is worth to pgherd
    Scaling,
}

/// One load and what is told of it.
#[derive(Debug)]
pub struct Scenario {
    /// Which.
    pub name: Name,
    /// What it does, for people.
    pub about: String,
    /// Columns.
    pub metrics: &'static [Metric],
    /// What ratios are about.
    pub headline: Metric,
    /// Its variants.
    pub cells: Vec<Cell>,
}

/// One variant of a load.
#[derive(Debug)]
pub struct Cell {
    /// Within its scenario.
    pub name: String,
    /// What the proxy must be able to do.
    pub needs: Needs,
    /// Who takes part.
    pub whose: Whose,
    work: Work,
}

/// Who has something to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Everyone.
    All,
    /// Who has a process of its own.
    Proxies,
    /// pgherd.
    Ours,
}

#[derive(Debug)]
enum Work {
    Pgbench(pgbench::Load),
    Pipeline(pipeline::Load),
    Connect { clients: usize },
    Idle { clients: usize },
    OpenLoop(open_loop::Load),
    SlowReader,
    Large { row_bytes: u64 },
    Copy(bulk::Direction),
    Scaling(pgbench::Load),
}

/// Figures of loads that are transactions.
const TRANSACTION_METRICS: &[Metric] = &[
    Metric::CpuUs,
    Metric::UserUs,
    Metric::SystemUs,
    Metric::Calls,
    Metric::Instructions,
    Metric::Waits,
    Metric::Preempted,
    Metric::Tps,
    Metric::MeanUs,
    Metric::P50Us,
    Metric::P99Us,
    Metric::P999Us,
    Metric::RssMb,
    Metric::ForeignPct,
    Metric::StealPct,
];

/// What was asked for; `clients_max` is what the limit of descriptors allows, `cores` what we may use.
pub fn all(args: &Args, clients_max: usize, cores: u32) -> Vec<Scenario> {
    let names = Name::value_variants().iter().copied();
    let asked = names.filter(|n| args.scenario.is_empty() || args.scenario.contains(n));
    let mut scenarios: Vec<Scenario> = asked
        .map(|name| match name {
            Name::Select => transactions::select(),
            Name::Tpcb => transactions::tpcb(),
            Name::Literals => transactions::literals(),
            Name::Pipeline => pipeline::scenario(),
            Name::OpenLoop => open_loop::scenario(&args.rate, args.open_clients),
            Name::Connect => connect::scenario(),
            Name::Idle => idle::scenario(args.idle_clients.min(clients_max)),
            Name::SlowReader => bulk::slow_reader(),
            Name::Large => bulk::large(args.copy_mb),
            Name::Copy => bulk::copy(args.copy_mb),
            Name::Scaling => scaling::scenario(cores),
        })
        .collect();
    if let Some(text) = &args.cell {
        for scenario in &mut scenarios {
            scenario.cells.retain(|c| c.name.contains(text.as_str()));
        }
    }
    scenarios.retain(|s| !s.cells.is_empty());
    scenarios
}

impl Name {
    /// As it is given to `--scenario`.
    #[must_use]
    pub fn text(self) -> String {
        self.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
    }
}

impl Cell {
    /// Why `peer` has nothing to tell here.
    #[must_use]
    pub fn skips(&self, peer: &Peer) -> Option<String> {
        match self.whose {
            Whose::Proxies if !peer.is_proxy() => {
                Some("has no process of its own to measure".into())
            }
            Whose::Ours if !peer.is_ours() => Some("it is about pgherd alone".into()),
            _ => peer.lacks(&self.needs),
        }
    }

    /// Starts `peer`, runs the load, ends `peer`; `counts`: also counts system calls, in a pass of its own.
    pub fn sample(&self, site: &Site, peer: &Peer, counts: bool) -> Result<Sample> {
        if let Work::Scaling(load) = &self.work {
            return scaling::run(load, self.needs, site, peer);
        }
        let running = peer.start(site, self.needs)?;
        let stage = Stage { site, address: running.address, pid: running.pid, counts };
        let sample = match &self.work {
            Work::Pgbench(load) => transactions::run(load, &stage),
            Work::Pipeline(load) => pipeline::run(load, &stage),
            Work::OpenLoop(load) => open_loop::run(load, &stage),
            Work::Connect { clients } => connect::run(self.needs, *clients, &stage),
            Work::Idle { clients } => idle::run(*clients, &stage),
            Work::SlowReader => bulk::run_slow_reader(&stage),
            Work::Large { row_bytes } => bulk::run_large(*row_bytes, &stage),
            Work::Copy(direction) => bulk::run_copy(*direction, &stage),
            Work::Scaling(_) => bail!("it starts its proxies itself"),
        }?;
        // A proxy that died under a load has no figures, whatever the load saw.
        running.check()?;
        Ok(sample)
    }
}

/// What a load works on.
#[derive(Debug, Clone, Copy)]
struct Stage<'s> {
    site: &'s Site,
    address: SocketAddr,
    pid: Option<u32>,
    counts: bool,
}

impl Stage<'_> {
    /// What the proxy does for `load`; `None`: this sample is not the one, or there is nothing to count (with).
    fn count(&self, load: impl FnOnce() -> Result<()>) -> Result<Option<Counts>> {
        let (true, Some(tool), Some(pid)) = (self.counts, self.site.tool, self.pid) else {
            return Ok(None);
        };
        let dir = self.site.directory("count")?;
        tool.count(pid, &dir, load).map(Some)
    }

    /// A proxy's process id, for scenarios that skip the direct connection.
    fn proxy(&self) -> Result<u32> {
        self.pid.context("there is no proxy")
    }
}

fn trusted(clients: usize) -> Needs {
    Needs { access: Access::Trust, tls: false, prepared: false, clients, workers: None }
}
