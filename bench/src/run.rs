//! The order of samples: in each cell the peers take turns (A B C A B C), so that what the machine does
//! meanwhile falls on all of them alike.

use anyhow::Result;

use crate::args::Args;
use crate::machine::{self, Cores, Machine};
use crate::peers::{self, Peer};
use crate::report::{self, CellReport, Header, PeerReport, Report, ScenarioReport, progress};
use crate::scenarios::{self, Cell, Scenario};
use crate::site::Site;

/// Runs what was asked for; `false`: a sample failed.
pub fn run(args: &Args) -> Result<bool> {
    let args = args.resolved();
    let clients_max = machine::clients_max();
    let cores = Cores::place(args.placing)?;
    let machine = Machine::look(&cores);
    let scenarios = scenarios::all(&args, clients_max);
    anyhow::ensure!(!scenarios.is_empty(), "no cell has such a name");
    let site = Site::start(args.clone(), cores)?;
    let (peers, missing) = Peer::find(&site)?;
    let mut report = Report {
        header: Header::new(&args, &peers, missing, machine),
        scenarios: Vec::with_capacity(scenarios.len()),
    };
    if args.idle_clients > clients_max {
        let note = "the limit of descriptors (ulimit -n) allows only";
        report.header.notes.push(format!("idle: {note} {clients_max} clients"));
    }
    if peers::in_path("strace", &[]).is_none() {
        report.header.notes.push("pipeline: no strace here, so writes are not counted".into());
    }
    report::table::print_header(&report.header);
    let total = samples(&scenarios, &peers, args.rounds);
    let mut progress = progress::Progress::new(total);
    for scenario in &scenarios {
        let cells = scenario.cells.iter();
        let cells = cells.map(|c| cell(scenario, c, &site, &peers, &mut progress)).collect();
        let done = ScenarioReport::new(scenario, cells);
        progress.aside(&report::table::scenario(&done));
        report.scenarios.push(done);
        // A run takes long: what is known is kept, should it be interrupted.
        if let Some(path) = &args.json {
            report::write_json(&report, path)?;
        }
    }
    progress.finish();
    if let Some(path) = &args.write_results {
        report::markdown::write(&report, path)?;
    }
    Ok(report.is_clean())
}

fn cell(
    scenario: &Scenario,
    cell: &Cell,
    site: &Site,
    peers: &[Peer],
    progress: &mut progress::Progress,
) -> CellReport {
    let mut reports: Vec<PeerReport> =
        peers.iter().map(|p| PeerReport::new(&p.name, cell.skips(p))).collect();
    for round in 1..=site.args.rounds {
        for (peer, report) in peers.iter().zip(&mut reports) {
            if report.skipped.is_some() {
                continue;
            }
            let what =
                format!("{}: {}: {}, round {round}", scenario.name.text(), cell.name, peer.name);
            progress.begin(&what);
            match cell.sample(site, peer) {
                Ok(sample) => report.samples.push(sample),
                Err(error) => {
                    // Logs that errors quote have several lines; tables and lists have one.
                    let why = format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ");
                    progress.aside(&format!("{what}: FAILED: {why}"));
                    report.errors.push(why);
                }
            }
            progress.done();
        }
    }
    CellReport { name: cell.name.clone(), peers: reports }
}

fn samples(scenarios: &[Scenario], peers: &[Peer], rounds: u64) -> u64 {
    let cells = scenarios.iter().flat_map(|s| &s.cells);
    let each = cells.map(|c| peers.iter().filter(|p| c.skips(p).is_none()).count() as u64);
    each.sum::<u64>() * rounds
}
