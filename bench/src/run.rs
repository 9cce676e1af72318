//! The order of samples: in each cell the peers take turns (A B C A B C), so that what the machine does
//! meanwhile falls on all of them alike.

use anyhow::Result;

use crate::args::Args;
use crate::machine::{self, Cores, Machine};
use crate::measure::noise::Others;
use crate::peers::{self, Peer};
use crate::report::{self, CellReport, Header, PeerReport, Report, ScenarioReport, progress};
use crate::scenarios::{self, Cell, Scenario};
use crate::site::Site;

/// Runs what was asked for; `false`: a sample failed.
pub fn run(args: &Args) -> Result<bool> {
    let clients_max = machine::clients_max();
    let cores = Cores::place(args.placing)?;
    let machine = Machine::look(&cores)?;
    let scenarios = scenarios::all(args, clients_max, machine.cores);
    anyhow::ensure!(!scenarios.is_empty(), "no cell has such a name");
    let site = Site::start(args.clone(), cores)?;
    let (peers, missing) = Peer::find(&site)?;
    let mut report = Report {
        header: Header::new(&site, &peers, missing, machine),
        scenarios: Vec::with_capacity(scenarios.len()),
    };
    for peer in peers.iter().filter(|p| p.is_proxy()) {
        match peer.configuration(&site) {
            Ok(text) => report.header.configurations.push((peer.name.clone(), text)),
            // Its samples will fail as well, and be reported.
            Err(error) => {
                report.header.notes.push(format!("{} FAILED: {}", peer.name, line(&error)))
            }
        }
    }
    report.header.notes.extend(notes(args, clients_max));
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
    report.header.machine.after = Some(Others::watch()?);
    if let Some(path) = &args.json {
        report::write_json(&report, path)?;
    }
    if let Some(path) = &args.svg {
        report::chart::write(&report, path)?;
    }
    if let Some(path) = &args.write_results {
        report::markdown::write(&report, path)?;
    }
    if let Some(why) = report.header.machine.busy() {
        println!("\n{why}");
    }
    Ok(report.is_clean())
}

/// What this machine can't do.
fn notes(args: &Args, clients_max: usize) -> Vec<String> {
    let mut notes = Vec::new();
    if args.idle_clients > clients_max {
        let why = "the limit of descriptors (ulimit -n) allows only";
        notes.push(format!("idle: {why} {clients_max} clients"));
    }
    if peers::in_path("strace", &[]).is_none() {
        notes.push("pipeline: no strace here, so writes are not counted".into());
    }
    notes
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
            match cell.sample(site, peer, round == 1) {
                Ok(sample) => report.samples.push(sample),
                Err(error) => {
                    let why = line(&error);
                    progress.aside(&format!("{what}: FAILED: {why}"));
                    report.errors.push(why);
                }
            }
            progress.done();
        }
    }
    CellReport { name: cell.name.clone(), peers: reports }
}

/// Logs that errors quote have several lines; tables and lists have one.
fn line(error: &anyhow::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn samples(scenarios: &[Scenario], peers: &[Peer], rounds: u64) -> u64 {
    let cells = scenarios.iter().flat_map(|s| &s.cells);
    let each = cells.map(|c| peers.iter().filter(|p| c.skips(p).is_none()).count() as u64);
    each.sum::<u64>() * rounds
}
