//! Tables for a terminal and for Markdown.

use comfy_table::{Cell, CellAlignment, Table, presets};

use super::{CellReport, Header, PeerReport, ScenarioReport};
use crate::measure::Metric;
use crate::peers::REFERENCE;

/// What others may run on the proxy's core before a cell is called noisy, percent.
const FOREIGN_PCT_MAX: f64 = 10.0;

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
        format!("load average before the run: {}", machine.load_before),
        format!(
            "{} rounds of {} s, pools of {} servers, transaction mode",
            header.rounds, header.seconds, header.pool_size
        ),
    ];
    lines.extend(header.peers.iter().map(|(name, version)| format!("{name}: {version}")));
    if header.quick {
        lines.push("a trial (--quick): its figures say nothing about speed".into());
    }
    lines.extend(header.notes.iter().cloned());
    lines
}

/// One scenario for a terminal.
#[must_use]
pub fn scenario(report: &ScenarioReport) -> String {
    let mut table = filled(report);
    table.load_style(presets::UTF8_FULL_CONDENSED);
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
    let noise = |c: &CellReport| {
        c.peers.iter().filter_map(|p| p.figure(Metric::ForeignPct)).fold(0.0, f64::max)
    };
    let noisy = report.cells.iter().filter(|c| noise(c) > FOREIGN_PCT_MAX).count();
    if noisy > 0 {
        lines.push(format!(
            "NOISY: in {noisy} of {} loads others ran on the proxy's core for more than {FOREIGN_PCT_MAX} % \
             of the time; run it again on a quiet machine",
            report.cells.len()
        ));
    }
    for cell in &report.cells {
        for peer in &cell.peers {
            if let Some(why) = &peer.skipped {
                lines.push(format!("{}: {} skipped: {why}", cell.name, peer.name));
            }
            let tries = peer.errors.len() + peer.samples.len();
            if let Some(error) = peer.errors.first() {
                let failed = peer.errors.len();
                lines.push(format!(
                    "{}: {} FAILED in {failed} of {tries} rounds, no ratio: {error}",
                    cell.name, peer.name
                ));
            }
        }
    }
    lines
}

fn filled(report: &ScenarioReport) -> Table {
    // A column that nobody filled says nothing.
    let metrics: Vec<Metric> = report.metrics.iter().copied().filter(|&m| any(report, m)).collect();
    let mut table = Table::new();
    let mut head = vec!["load".to_owned(), "peer".to_owned()];
    for &metric in &metrics {
        head.push(metric.label().to_owned());
        if metric == report.headline {
            head.push(format!("× {REFERENCE}"));
        }
    }
    table.set_header(head);
    for cell in &report.cells {
        let shown = cell.peers.iter().filter(|p| p.skipped.is_none());
        for (number, peer) in shown.enumerate() {
            let name = if number == 0 { cell.name.as_str() } else { "" };
            table.add_row(row(name, cell, peer, report.headline, &metrics));
        }
    }
    table
}

fn row(
    name: &str,
    cell: &CellReport,
    peer: &PeerReport,
    headline: Metric,
    metrics: &[Metric],
) -> Vec<Cell> {
    let mut row = vec![Cell::new(name), Cell::new(&peer.name)];
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    for &metric in metrics {
        let digits = metric.digits();
        let text = peer.figure(metric).map(|v| format!("{v:.digits$}"));
        row.push(right(text.unwrap_or_else(|| NONE.into())));
        if metric == headline {
            let ratio = cell.ratio(peer, headline).map(|r| format!("{r:.2}"));
            row.push(right(ratio.unwrap_or_else(|| NONE.into())));
        }
    }
    row
}

fn any(report: &ScenarioReport, metric: Metric) -> bool {
    report.cells.iter().flat_map(|c| &c.peers).any(|p| p.figure(metric).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Sample;

    #[test]
    fn a_table_tells_ratios_and_failures() {
        let mut ours = PeerReport::new("pgherd", None);
        let mut sample = Sample::default();
        sample.set(Metric::CpuUs, 5.0);
        ours.samples.push(sample.clone());
        sample.set(Metric::CpuUs, 10.0);
        let mut reference = PeerReport::new(REFERENCE, None);
        reference.samples.push(sample);
        let mut broken = PeerReport::new("broken", None);
        broken.errors.push("fell over".into());
        let absent = PeerReport::new("absent", Some("can't".into()));
        let cell = CellReport { name: "one".into(), peers: vec![ours, reference, broken, absent] };
        let report = ScenarioReport {
            name: "select".into(),
            about: "About.".into(),
            metrics: &[Metric::CpuUs, Metric::Tps],
            headline: Metric::CpuUs,
            cells: vec![cell],
        };
        let text = markdown(&report);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|l| l.split('|').map(str::trim).filter(|c| !c.is_empty()).collect())
            .collect();
        assert_eq!(rows[0], ["load", "peer", "CPU µs", "× pgbouncer"]);
        assert_eq!(rows[2], ["one", "pgherd", "5.00", "0.50"]);
        assert_eq!(rows[3], ["pgbouncer", "10.00", "1.00"]);
        assert_eq!(rows[4], ["broken", NONE, NONE]);
        assert_eq!(rows.len(), 5);
        let remarks = remarks(&report);
        assert!(remarks[0].contains("FAILED in 1 of 1 rounds"), "{remarks:?}");
        assert_eq!(remarks[1], "one: absent skipped: can't");
    }
}
