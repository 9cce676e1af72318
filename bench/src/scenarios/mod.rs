//! The loads, each with the figures that it is about.
//!
//! A scenario is a list of cells; a cell is one load that every peer runs in turn. What a peer can't do is
//! skipped with the reason, never measured as something else.

mod bulk;
mod connect;
mod idle;
mod pipeline;
mod select;

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde::Serialize;

use crate::args::Args;
use crate::measure::process::Counters;
use crate::measure::{Metric, Sample, pgbench};
use crate::peers::{Access, Needs, Peer};
use crate::site::Site;

/// The scenarios, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Name {
    /// pgbench -S in each protocol, with 1, 16 and 64 clients
    Select,
    /// Statements whose literals never repeat
    Literals,
    /// Ten statements in one pipeline
    Pipeline,
    /// Clients that connect, ask once, and leave
    Connect,
    /// Clients that do nothing
    Idle,
    /// A client that reads a large result slowly
    SlowReader,
    /// COPY out and in
    Copy,
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
    /// Whether it needs protocol-level prepared statements in transaction mode.
    pub prepares: bool,
    /// Whether it is about the proxy's process, and the direct connection has nothing to tell.
    pub proxies_only: bool,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Pgbench(pgbench::Load),
    Pipeline(pipeline::Load),
    Connect { clients: usize },
    Idle { clients: usize },
    SlowReader,
    Copy(bulk::Direction),
}

/// Figures of loads that are transactions.
const TRANSACTION_METRICS: &[Metric] = &[
    Metric::CpuUs,
    Metric::SystemPct,
    Metric::Waits,
    Metric::Preempted,
    Metric::Tps,
    Metric::MeanUs,
    Metric::P50Us,
    Metric::P99Us,
    Metric::RssMb,
    Metric::PeakMb,
    Metric::ForeignPct,
    Metric::StealPct,
];

/// What was asked for; `clients_max` is what the limit of descriptors allows.
pub fn all(args: &Args, clients_max: usize) -> Vec<Scenario> {
    let names = Name::value_variants().iter().copied();
    let asked = names.filter(|n| args.scenario.is_empty() || args.scenario.contains(n));
    let mut scenarios: Vec<Scenario> = asked
        .map(|name| match name {
            Name::Select => select::select(),
            Name::Literals => select::literals(),
            Name::Pipeline => pipeline::scenario(),
            Name::Connect => connect::scenario(),
            Name::Idle => idle::scenario(args.idle_clients.min(clients_max)),
            Name::SlowReader => bulk::slow_reader(),
            Name::Copy => bulk::copy(args.copy_mb),
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
        if self.proxies_only && !peer.is_proxy() {
            return Some("has no process of its own to measure".into());
        }
        if self.prepares && !peer.can_prepare() {
            let why = "has no prepared statements in transaction mode";
            return Some(format!("{} {why}", peer.version));
        }
        None
    }

    /// Starts `peer`, runs the load, ends `peer`.
    pub fn sample(&self, site: &Site, peer: &Peer) -> Result<Sample> {
        let running = peer.start(site, self.needs)?;
        let stage = Stage { site, address: running.address, pid: running.pid };
        let sample = match &self.work {
            Work::Pgbench(load) => select::run(load, &stage),
            Work::Pipeline(load) => pipeline::run(load, &stage),
            Work::Connect { clients } => connect::run(self.needs.access, *clients, &stage),
            Work::Idle { clients } => idle::run(*clients, &stage),
            Work::SlowReader => bulk::run_slow_reader(&stage),
            Work::Copy(direction) => bulk::run_copy(*direction, &stage),
        }?;
        // A proxy that died under a load has no figures, whatever the load saw.
        if let Some(pid) = running.pid {
            Counters::read(pid).context("the proxy ended")?;
        }
        Ok(sample)
    }
}

/// What a load works on.
#[derive(Debug, Clone, Copy)]
struct Stage<'s> {
    site: &'s Site,
    address: SocketAddr,
    pid: Option<u32>,
}

impl Stage<'_> {
    /// A proxy's process id, for scenarios that skip the direct connection.
    fn proxy(&self) -> Result<u32> {
        self.pid.context("there is no proxy")
    }
}

fn trusted(clients: usize) -> Needs {
    Needs { access: Access::Trust, clients }
}
