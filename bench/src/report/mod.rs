//! What a run found: medians over its rounds, and ratios to the reference of the same run.
//!
//! A cell in which any sample failed has no ratio: who knows what the failure did to the others.

pub mod chart;
pub mod markdown;
pub mod progress;
pub mod table;

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::args::Placing;
use crate::machine::Machine;
use crate::measure::count::Tool;
use crate::measure::{Metric, Sample};
use crate::peers::{Peer, REFERENCE};
use crate::scenarios::Scenario;
use crate::site::Site;

/// What others may run on the proxy's core before a cell is called noisy, percent.
pub const FOREIGN_PCT_MAX: f64 = 10.0;

/// What the hypervisor may take away, percent of all cores.
pub const STEAL_PCT_MAX: f64 = 5.0;

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
    /// What every proxy was told, by name.
    pub configurations: Vec<(String, String)>,
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
    pub fn new(site: &Site, peers: &[Peer], missing: Vec<String>, machine: Machine) -> Header {
        let args = &site.args;
        let mut notes = missing;
        notes.push(Tool::about(site.tool));
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
            configurations: Vec::new(),
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
    /// Whether somebody else used the proxy's core, or the hypervisor took cores away, while it was measured.
    #[must_use]
    pub fn is_noisy(&self) -> bool {
        let worst = |metric| self.peers.iter().filter_map(|p| p.figure(metric)).fold(0.0, f64::max);
        worst(Metric::ForeignPct) > FOREIGN_PCT_MAX || worst(Metric::StealPct) > STEAL_PCT_MAX
    }

    /// `peer`'s headline figure in units of the reference's.
    #[must_use]
    pub fn ratio(&self, peer: &PeerReport, headline: Metric) -> Option<f64> {
        if self.peers.iter().any(|p| !p.errors.is_empty()) {
            return None;
        }
        let reference = self.peers.iter().find(|p| p.name == REFERENCE)?;
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

    /// The least and the most of all rounds.
    #[must_use]
    pub fn range(&self, metric: Metric) -> Option<(f64, f64)> {
        let values = self.sorted(metric);
        values.first().copied().zip(values.last().copied())
    }

    /// How far the rounds lie apart, in percent of their median; `None`: there was only one.
    #[must_use]
    pub fn spread_pct(&self, metric: Metric) -> Option<f64> {
        let (least, most) = self.range(metric).filter(|_| self.sorted(metric).len() > 1)?;
        let median = self.figure(metric).filter(|&v| v > 0.0)?;
        Some(100.0 * (most - least) / median)
    }

    fn sorted(&self, metric: Metric) -> Vec<f64> {
        let mut values: Vec<f64> =
            self.samples.iter().filter_map(|s| s.0.get(&metric).copied()).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    /// The median over all rounds, or the worst where a median would hide it.
    #[must_use]
    pub fn figure(&self, metric: Metric) -> Option<f64> {
        let values = self.sorted(metric);
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
        let ratio = |peers: Vec<PeerReport>| {
            let cell = CellReport { name: String::new(), peers };
            cell.ratio(&cell.peers[0], Metric::CpuUs)
        };
        let failed = |mut p: PeerReport| {
            p.errors.push("broken".into());
            p
        };
        let (ours, theirs) = (|| peer("pgherd", &[4.0]), || peer(REFERENCE, &[8.0]));
        assert_eq!(ratio(vec![ours(), theirs()]), Some(0.5));
        assert_eq!(ratio(vec![failed(ours()), theirs()]), None);
        assert_eq!(ratio(vec![ours(), failed(theirs())]), None);
        assert_eq!(ratio(vec![ours(), theirs(), failed(peer("third", &[1.0]))]), None);
        assert_eq!(ratio(vec![ours(), theirs(), peer("third", &[1.0])]), Some(0.5));
        assert_eq!(ratio(vec![ours(), peer(REFERENCE, &[])]), None);
        assert_eq!(ratio(vec![ours(), peer(REFERENCE, &[0.0])]), None);
        assert_eq!(ratio(vec![ours(), peer("haproxy", &[8.0])]), None);
    }

    #[test]
    fn spread_is_that_of_all_rounds_and_one_round_has_none() {
        assert_eq!(peer("a", &[9.0, 10.0, 12.0]).spread_pct(Metric::CpuUs), Some(30.0));
        assert_eq!(peer("a", &[9.0, 10.0, 12.0]).range(Metric::CpuUs), Some((9.0, 12.0)));
        assert_eq!(peer("a", &[9.0]).spread_pct(Metric::CpuUs), None);
        assert_eq!(peer("a", &[]).range(Metric::CpuUs), None);
    }

    #[test]
    fn noise_of_one_peer_makes_a_cell_noisy() {
        let cell = |steal: &[f64]| CellReport {
            name: String::new(),
            peers: vec![peer("quiet", &[0.0]), peer("other", steal)],
        };
        assert!(!cell(&[STEAL_PCT_MAX]).is_noisy());
        assert!(cell(&[0.0, STEAL_PCT_MAX + 1.0, 0.0]).is_noisy());
    }
}
