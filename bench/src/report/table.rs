//! Tables for a terminal and for Markdown.

use std::io::IsTerminal as _;

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};

use super::{FOREIGN_PCT_MAX, Header, STEAL_PCT_MAX, ScenarioReport};
use crate::machine::Machine;
use crate::measure::Metric;
use crate::measure::noise::Others;
use crate::peers::REFERENCE;

/// What a figure is that there is not.
const NONE: &str = "–";

/// Says what will be run.
pub fn print_header(header: &Header) {
    for line in header_lines(header) {
        println!("{line}");
    }
}

/// Circumstances, one a line.
#[must_use]
pub fn header_lines(header: &Header) -> Vec<String> {
    let machine = &header.machine;
    let place = match machine.proxy_core {
        Some(core) => format!("proxy alone on core {core}, PostgreSQL and load on the others"),
        None => "all processes on the same cores".into(),
    };
    let mut lines = vec![
        format!("{}, commit {}", header.date, header.commit),
        format!("{}, {} cores, Linux {}; {place}", machine.cpu, machine.cores, machine.kernel),
        others(machine),
        format!(
            "rounds: {}, of {} s; pools of {} servers, transaction mode",
            header.rounds, header.seconds, header.pool_size
        ),
    ];
    lines.extend(header.peers.iter().map(|(name, version)| format!("{name}: {version}")));
    lines.extend(machine.busy());
    if header.quick {
        lines.push("a trial (--quick): its figures say nothing about speed".into());
    }
    lines.extend(header.notes.iter().cloned());
    lines
}

fn others(machine: &Machine) -> String {
    let Others { load, busy_pct, steal_pct } = machine.before;
    let mut text = format!(
        "others used {busy_pct:.1} % of the cores before the run (load average {load:.2}, steal {steal_pct:.1} %)"
    );
    if let Some(after) = &machine.after {
        text.push_str(&format!(
            " and {:.1} % after it (steal {:.1} %)",
            after.busy_pct, after.steal_pct
        ));
    }
    text
}

/// One scenario for a terminal.
#[must_use]
pub fn scenario(report: &ScenarioReport) -> String {
    let mut table = filled(report);
    table.load_style(presets::UTF8_FULL_CONDENSED);
    if std::io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    let mut text = format!("\n{}: {}\n{table}", report.name, report.about);
    for remark in remarks(report) {
        text.push_str(&format!("\n  {remark}"));
    }
    text
}

/// One scenario for Markdown.
#[must_use]
pub fn markdown(report: &ScenarioReport) -> String {
    let mut table = filled(report);
    table.load_style(presets::ASCII_MARKDOWN);
    table.to_string()
}

/// Why cells are empty.
#[must_use]
pub fn remarks(report: &ScenarioReport) -> Vec<String> {
    let mut lines = Vec::new();
    let noisy = report.cells.iter().filter(|c| c.is_noisy()).count();
    if noisy > 0 {
        lines.push(format!(
            "NOISY (marked ~): in {noisy} of {} loads others ran on the proxy's core for more than \
             {FOREIGN_PCT_MAX} % of the time, or the hypervisor took more than {STEAL_PCT_MAX} % of all cores; run \
             it again on a quiet machine",
            report.cells.len()
        ));
    }
    for cell in &report.cells {
        for peer in &cell.peers {
            let tries = peer.errors.len() + peer.samples.len();
            if let Some(error) = peer.errors.first() {
                let failed = peer.errors.len();
                lines.push(format!(
                    "{}: {} FAILED in {failed} of {tries} rounds, so this load has no ratios: {error}",
                    cell.name, peer.name
                ));
            }
        }
    }
    lines.extend(skipped(report));
    lines
}

/// A line for each peer and reason, with all loads that it holds for.
fn skipped(report: &ScenarioReport) -> Vec<String> {
    let mut found: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    for cell in &report.cells {
        for peer in &cell.peers {
            let Some(why) = &peer.skipped else { continue };
            match found.iter_mut().find(|(name, reason, _)| *name == peer.name && reason == why) {
                Some((_, _, cells)) => cells.push(&cell.name),
                None => found.push((&peer.name, why, vec![&cell.name])),
            }
        }
    }
    let line = |(name, why, cells): (&str, &str, Vec<&str>)| {
        format!("{name} skipped ({}): {why}", cells.join("; "))
    };
    found.into_iter().map(line).collect()
}

fn filled(report: &ScenarioReport) -> Table {
    // A column that nobody filled says nothing.
    let metrics: Vec<Metric> = report.metrics.iter().copied().filter(|&m| any(report, m)).collect();
    let compared = ratios(report);
    let repeated = rounds(report) > 1;
    let mut table = Table::new();
    let mut head = vec!["load".to_owned(), "peer".to_owned()];
    for &metric in &metrics {
        head.push(metric.label().to_owned());
        if metric == report.headline {
            head.extend(compared.then(|| format!("× {REFERENCE}")));
            head.extend(repeated.then(|| "spread %".to_owned()));
        }
    }
    table.set_header(head);
    for cell in &report.cells {
        let shown = cell.peers.iter().filter(|p| p.skipped.is_none());
        for (number, peer) in shown.enumerate() {
            let name = if number == 0 { cell.name.as_str() } else { "" };
            let mut row = vec![Cell::new(name), Cell::new(&peer.name)];
            for &metric in &metrics {
                row.push(right(peer.figure(metric), metric.digits(), ""));
                if metric == report.headline {
                    let mark = if cell.is_noisy() { "~" } else { "" };
                    row.extend(compared.then(|| right(cell.ratio(peer, metric), 2, mark)));
                    row.extend(repeated.then(|| right(peer.spread_pct(metric), 0, "")));
                }
            }
            table.add_row(row);
        }
    }
    table
}

fn right(figure: Option<f64>, digits: usize, mark: &str) -> Cell {
    let text = figure.map(|v| format!("{mark}{v:.digits$}"));
    Cell::new(text.unwrap_or_else(|| NONE.into())).set_alignment(CellAlignment::Right)
}

/// Whether there is anything to compare with: a scenario about one peer has no column for it.
fn ratios(report: &ScenarioReport) -> bool {
    report.cells.iter().any(|c| c.peers.iter().any(|p| p.name == REFERENCE && p.skipped.is_none()))
}

fn rounds(report: &ScenarioReport) -> usize {
    let peers = report.cells.iter().flat_map(|c| &c.peers);
    peers.map(|p| p.samples.len()).max().unwrap_or(0)
}

fn any(report: &ScenarioReport, metric: Metric) -> bool {
    report.cells.iter().flat_map(|c| &c.peers).any(|p| p.figure(metric).is_some())
}

#[cfg(test)]
mod tests {
    use super::super::{CellReport, PeerReport};
    use super::*;
    use crate::measure::Sample;

    fn peer(name: &str, cpu_us: &[f64]) -> PeerReport {
        let mut report = PeerReport::new(name, None);
        for &value in cpu_us {
            let mut sample = Sample::default();
            sample.set(Metric::CpuUs, value);
            report.samples.push(sample);
        }
        report
    }

    fn report(peers: Vec<PeerReport>) -> ScenarioReport {
        ScenarioReport {
            name: "select".into(),
            about: "About.".into(),
            metrics: &[Metric::CpuUs, Metric::Tps],
            headline: Metric::CpuUs,
            cells: vec![CellReport { name: "one".into(), peers }],
        }
    }

    fn rows(text: &str) -> Vec<Vec<&str>> {
        text.lines()
            .map(|l| l.split('|').map(str::trim).filter(|c| !c.is_empty()).collect())
            .collect()
    }

    #[test]
    fn a_table_tells_ratios_and_who_is_absent() {
        let absent = PeerReport::new("absent", Some("can't".into()));
        let report = report(vec![peer("pgherd", &[5.0]), peer(REFERENCE, &[10.0]), absent]);
        let text = markdown(&report);
        let rows = rows(&text);
        assert_eq!(rows[0], ["load", "peer", "CPU µs", "× pgbouncer"]);
        assert_eq!(rows[2], ["one", "pgherd", "5.00", "0.50"]);
        assert_eq!(rows[3], ["pgbouncer", "10.00", "1.00"]);
        assert_eq!(rows.len(), 4);
        assert_eq!(remarks(&report), ["absent skipped (one): can't"]);
    }

    #[test]
    fn a_load_that_somebody_failed_has_no_ratios() {
        let mut broken = PeerReport::new("broken", None);
        broken.errors.push("fell over".into());
        let report = report(vec![peer("pgherd", &[5.0]), peer(REFERENCE, &[10.0]), broken]);
        let text = markdown(&report);
        let rows = rows(&text);
        assert_eq!(rows[2], ["one", "pgherd", "5.00", NONE]);
        assert_eq!(rows[3], ["pgbouncer", "10.00", NONE]);
        assert_eq!(rows[4], ["broken", NONE, NONE]);
        let remarks = remarks(&report);
        assert!(remarks[0].contains("broken FAILED in 1 of 1 rounds"), "{remarks:?}");
    }

    #[test]
    fn rounds_have_a_spread_and_noise_a_mark() {
        let mut ours = peer("pgherd", &[4.0, 5.0, 6.0]);
        ours.samples[0].set(Metric::ForeignPct, FOREIGN_PCT_MAX * 2.0);
        let report = report(vec![ours, peer(REFERENCE, &[10.0, 10.0, 10.0])]);
        let text = markdown(&report);
        let rows = rows(&text);
        assert_eq!(rows[0], ["load", "peer", "CPU µs", "× pgbouncer", "spread %"]);
        assert_eq!(rows[2], ["one", "pgherd", "5.00", "~0.50", "40"]);
        assert!(remarks(&report)[0].starts_with("NOISY"));
    }
}
