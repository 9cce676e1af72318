//! What a run found: medians over its rounds, and ratios to the reference of the same run.
//!
//! A peer that failed once in a cell has no ratio there, and a failing reference leaves the cell without any:
//! a figure from a load that partly failed is not a figure.

pub mod markdown;
pub mod progress;
pub mod table;

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::args::{Args, Placing};
use crate::machine::Machine;
use crate::measure::{Metric, Sample};
use crate::peers::{Peer, REFERENCE};
use crate::scenarios::Scenario;

/// All of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What stands above the tables.
    pub header: Header,
    /// One table each.
    pub scenarios: Vec<ScenarioReport>,
}

/// Under which circumstances.
#[derive(Debug, Serialize)]
pub struct Header {
    /// As it was typed.
    pub command: String,
    /// Of the working tree, with `-dirty` if it has changes.
    pub commit: String,
    /// UTC.
    pub date: String,
    /// The hardware, and how quiet it was.
    pub machine: Machine,
    /// Where the processes ran.
    pub placing: Placing,
    /// Names and versions.
    pub peers: Vec<(String, String)>,
    /// Samples of each peer in each cell.
    pub rounds: u64,
    /// Length of a sample.
    pub seconds: u64,
    /// Servers in each pool.
    pub pool_size: usize,
    /// Whether this was no measurement, but a trial.
    pub quick: bool,
    /// What could not be had.
    pub notes: Vec<String>,
}

/// One scenario.
#[derive(Debug, Serialize)]
pub struct ScenarioReport {
    /// Its name.
    pub name: String,
    /// What it does.
    pub about: String,
    /// Columns.
    pub metrics: &'static [Metric],
    /// What ratios are about.
    pub headline: Metric,
    /// Groups of rows.
    pub cells: Vec<CellReport>,
}

/// One cell: all peers under one load.
#[derive(Debug, Serialize)]
pub struct CellReport {
    /// Its name.
    pub name: String,
    /// In the order in which they took turns.
    pub peers: Vec<PeerReport>,
}

/// One peer in one cell.
#[derive(Debug, Serialize)]
pub struct PeerReport {
    /// Its name.
    pub name: String,
    /// Why it did not take part.
    pub skipped: Option<String>,
    /// One for each round that succeeded.
    pub samples: Vec<Sample>,
    /// One for each that did not.
    pub errors: Vec<String>,
}

impl Header {
    /// Asks git and the clock.
    pub fn new(args: &Args, peers: &[Peer], missing: Vec<String>, machine: Machine) -> Header {
        let mut notes = missing;
        if machine.proxy_core.is_none() {
            notes
                .push("proxy, server and load shared the same cores: ratios drown in noise".into());
        }
        Header {
            command: std::env::args().collect::<Vec<_>>().join(" "),
            commit: said("git", &["describe", "--always", "--dirty", "--abbrev=10"]),
            date: said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
            machine,
            placing: args.placing,
            peers: peers.iter().map(|p| (p.name.clone(), p.version.clone())).collect(),
            rounds: args.rounds,
            seconds: args.seconds,
            pool_size: args.pool_size,
            quick: args.quick,
            notes,
        }
    }
}

impl ScenarioReport {
    /// Of `scenario`, with what was found.
    pub fn new(scenario: &Scenario, cells: Vec<CellReport>) -> ScenarioReport {
        ScenarioReport {
            name: scenario.name.text(),
            about: scenario.about.clone(),
            metrics: scenario.metrics,
            headline: scenario.headline,
            cells,
        }
    }
}

impl CellReport {
    /// `peer`'s headline figure in units of the reference's.
    #[must_use]
    pub fn ratio(&self, peer: &PeerReport, headline: Metric) -> Option<f64> {
        let reference = self.peers.iter().find(|p| p.name == REFERENCE)?;
        if !reference.errors.is_empty() || !peer.errors.is_empty() {
            return None;
        }
        let base = reference.figure(headline).filter(|&v| v > 0.0)?;
        Some(peer.figure(headline)? / base)
    }
}

impl PeerReport {
    /// Nothing yet.
    #[must_use]
    pub fn new(name: &str, skipped: Option<String>) -> PeerReport {
        PeerReport { name: name.to_owned(), skipped, samples: Vec::new(), errors: Vec::new() }
    }

    /// The median over all rounds, or the worst where a median would hide it.
    #[must_use]
    pub fn figure(&self, metric: Metric) -> Option<f64> {
        let mut values: Vec<f64> =
            self.samples.iter().filter_map(|s| s.0.get(&metric).copied()).collect();
        values.sort_by(f64::total_cmp);
        if metric.worst_counts() {
            return values.last().copied();
        }
        let middle = values.len() / 2;
        let upper = values.get(middle).copied()?;
        if values.len() % 2 == 1 {
            return Some(upper);
        }
        Some((values.get(middle - 1).copied()? + upper) / 2.0)
    }
}

impl Report {
    /// Whether every sample succeeded.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let cells = self.scenarios.iter().flat_map(|s| &s.cells);
        cells.flat_map(|c| &c.peers).all(|p| p.errors.is_empty())
    }
}

/// Every sample, for machines.
pub fn write_json(report: &Report, path: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(report).context("serialise the report")?;
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    text.ok().filter(|t| !t.is_empty()).unwrap_or_else(|| "unknown".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str, values: &[f64]) -> PeerReport {
        let mut report = PeerReport::new(name, None);
        for &value in values {
            let mut sample = Sample::default();
            sample.set(Metric::CpuUs, value);
            sample.set(Metric::StealPct, value);
            report.samples.push(sample);
        }
        report
    }

    #[test]
    fn medians_count_and_the_worst_noise() {
        let check = |values: &[f64], expect| {
            assert_eq!(peer("a", values).figure(Metric::CpuUs), expect, "{values:?}");
        };
        check(&[], None);
        check(&[3.0], Some(3.0));
        check(&[9.0, 1.0, 2.0], Some(2.0));
        check(&[4.0, 1.0], Some(2.5));
        assert_eq!(peer("a", &[9.0, 1.0, 2.0]).figure(Metric::StealPct), Some(9.0));
    }

    #[test]
    fn failures_leave_no_ratio() {
        let ratio = |ours: PeerReport, reference: PeerReport| {
            let cell = CellReport { name: String::new(), peers: vec![ours, reference] };
            cell.ratio(&cell.peers[0], Metric::CpuUs)
        };
        let failed = |mut p: PeerReport| {
            p.errors.push("broken".into());
            p
        };
        assert_eq!(ratio(peer("pgherd", &[4.0]), peer(REFERENCE, &[8.0])), Some(0.5));
        assert_eq!(ratio(failed(peer("pgherd", &[4.0])), peer(REFERENCE, &[8.0])), None);
        assert_eq!(ratio(peer("pgherd", &[4.0]), failed(peer(REFERENCE, &[8.0]))), None);
        assert_eq!(ratio(peer("pgherd", &[4.0]), peer(REFERENCE, &[])), None);
        assert_eq!(ratio(peer("pgherd", &[4.0]), peer("haproxy", &[8.0])), None);
    }
}
