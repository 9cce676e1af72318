//! The ratios of CPU time as an SVG: a group of bars for each load, a line where the reference is.
//!
//! It is drawn by hand: bars, lines and words are all there is, and plotting libraries bring fonts to measure.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::{CellReport, PeerReport, Report, ScenarioReport};
use crate::measure::Metric;
use crate::peers::REFERENCE;

const WIDTH: f64 = 960.0;
/// Where bars begin: names of loads stand left of it.
const LEFT: f64 = 250.0;
/// Where the axis ends: figures stand right of the longest bar.
const RIGHT: f64 = WIDTH - 190.0;
const BAR: f64 = 13.0;
const GAP: f64 = 7.0;
const LINE: f64 = 26.0;

/// A bar that is longer than this is cut off; its figure stands beside it.
const RATIO_MAX: f64 = 4.0;

/// Of the peers in turn; they differ in lightness too.
const COLOURS: [&str; 6] = ["#1d4ed8", "#9ca3af", "#d97706", "#059669", "#7c3aed", "#be123c"];

/// Draws it.
pub fn write(report: &Report, path: &Path) -> Result<()> {
    std::fs::write(path, svg(report)).with_context(|| format!("write {}", path.display()))
}

/// What is drawn where.
struct Drawing {
    body: String,
    /// Above everything else.
    labels: String,
    y: f64,
    ratio_max: f64,
    names: Vec<String>,
}

fn svg(report: &Report) -> String {
    let shown: Vec<&ScenarioReport> = report.scenarios.iter().filter(|s| is_shown(s)).collect();
    let ratios = shown.iter().flat_map(|s| bars(s)).map(|(_, ratio)| ratio);
    let ratio_max = ratios.fold(1.0, f64::max).min(RATIO_MAX);
    let mut drawing = Drawing {
        body: String::new(),
        labels: String::new(),
        y: 0.0,
        ratio_max: (ratio_max * 2.0).ceil() / 2.0,
        names: names(&shown),
    };
    drawing.head(report);
    let top = drawing.y;
    for scenario in shown {
        drawing.scenario(scenario);
    }
    drawing.axis(top);
    let (height, body, labels) = (drawing.y, drawing.body, drawing.labels);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}{labels}</svg>\n"
    )
}

/// Only CPU time is drawn, and only where there is something to compare.
fn is_shown(scenario: &ScenarioReport) -> bool {
    matches!(scenario.headline, Metric::CpuUs | Metric::CpuMsPerGb) && !bars(scenario).is_empty()
}

/// Everyone's ratio in every load but the reference's own, which is 1.
fn bars(scenario: &ScenarioReport) -> Vec<(&PeerReport, f64)> {
    let ratio = |cell: &CellReport, peer| cell.ratio(peer, scenario.headline);
    let cells = scenario.cells.iter();
    cells.flat_map(|c| others(c).filter_map(move |p| Some((p, ratio(c, p)?)))).collect()
}

fn others(cell: &CellReport) -> impl Iterator<Item = &PeerReport> {
    cell.peers.iter().filter(|p| p.name != REFERENCE)
}

fn names(scenarios: &[&ScenarioReport]) -> Vec<String> {
    let mut names = Vec::new();
    for (peer, _) in scenarios.iter().flat_map(|s| bars(s)) {
        if !names.contains(&peer.name) {
            names.push(peer.name.clone());
        }
    }
    names
}

impl Drawing {
    fn x(&self, ratio: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * ratio.min(self.ratio_max) / self.ratio_max
    }

    fn colour(&self, name: &str) -> &'static str {
        let place = self.names.iter().position(|n| n == name).unwrap_or(0);
        COLOURS.get(place % COLOURS.len()).copied().unwrap_or("#000000")
    }

    fn text(&mut self, x: f64, y: f64, attributes: &str, words: &str) {
        let words = escaped(words);
        let _ = writeln!(self.body, "<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{words}</text>");
    }

    fn head(&mut self, report: &Report) {
        let header = &report.header;
        let title = format!("CPU time for the same work, {REFERENCE} = 1 (shorter is better)");
        self.text(16.0, 28.0, "font-size=\"16\" font-weight=\"bold\"", &title);
        let circumstances = format!(
            "{}, {} cores; commit {}, {}; rounds: {}, of {} s",
            header.machine.cpu,
            header.machine.cores,
            header.commit,
            header.date,
            header.rounds,
            header.seconds
        );
        self.text(16.0, 48.0, "fill=\"#4b5563\"", &circumstances);
        self.y = 68.0;
        let trial = header.quick.then(|| "A trial: it says nothing about speed.".to_owned());
        for warning in header.machine.busy().into_iter().chain(trial) {
            self.text(
                16.0,
                self.y,
                "fill=\"#b91c1c\" font-weight=\"bold\" font-size=\"11\"",
                &warning,
            );
            self.y += 18.0;
        }
        self.y += 6.0;
        let mut x = 16.0;
        for name in self.names.clone() {
            let (colour, y) = (self.colour(&name), self.y);
            let _ = writeln!(
                self.body,
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>",
                y - 10.0
            );
            self.text(x + 18.0, y, "", &name);
            x += 40.0 + 8.0 * name.chars().count() as f64;
        }
        self.y += 24.0;
    }

    fn scenario(&mut self, scenario: &ScenarioReport) {
        self.y += LINE * 0.6;
        self.text(16.0, self.y, "font-weight=\"bold\"", &scenario.name);
        self.y += GAP;
        for cell in &scenario.cells {
            self.cell(cell, scenario.headline);
        }
    }

    fn cell(&mut self, cell: &CellReport, headline: Metric) {
        let bars: Vec<(&PeerReport, f64)> =
            others(cell).filter_map(|p| Some((p, cell.ratio(p, headline)?))).collect();
        self.text(28.0, self.y + BAR - 2.0, "", &cell.name);
        if bars.is_empty() {
            self.text(LEFT + 6.0, self.y + BAR - 2.0, "fill=\"#6b7280\"", "no ratio");
            self.y += BAR;
        }
        for (peer, ratio) in bars {
            self.bar(cell, peer, ratio, headline);
        }
        self.y += GAP;
    }

    fn bar(&mut self, cell: &CellReport, peer: &PeerReport, ratio: f64, headline: Metric) {
        let (y, colour, end) = (self.y, self.colour(&peer.name), self.x(ratio));
        let _ = writeln!(
            self.body,
            "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>",
            end - LEFT,
            BAR - 2.0
        );
        let figure = peer.figure(headline).unwrap_or(0.0);
        let mut label_x = end;
        // Best and worst round, in units of the same median of the reference.
        if let Some((least, most)) = peer.range(headline).filter(|r| r.1 > r.0 && figure > 0.0) {
            let (from, to) = (self.x(ratio * least / figure), self.x(ratio * most / figure));
            let middle = y + (BAR - 2.0) / 2.0;
            let _ = writeln!(
                self.body,
                "<path d=\"M{from:.1} {middle:.1}H{to:.1}M{to:.1} {y:.1}v{h}M{from:.1} {y:.1}v{h}\" \
                 stroke=\"#111827\" fill=\"none\"/>",
                h = BAR - 2.0
            );
            label_x = label_x.max(to);
        }
        let mark = if cell.is_noisy() { "~" } else { "" };
        let unit = headline.label().trim_start_matches("CPU ");
        let label = format!("{mark}{ratio:.2}  ({figure:.*} {unit})", headline.digits());
        // White around it keeps it readable where it meets a line.
        let _ = writeln!(
            self.labels,
            "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"11\" fill=\"#374151\" stroke=\"#ffffff\" \
             stroke-width=\"3\" paint-order=\"stroke\">{}</text>",
            label_x + 6.0,
            y + BAR - 3.0,
            escaped(&label)
        );
        self.y += BAR;
    }

    /// Drawn after the bars: the reference's line crosses them.
    fn axis(&mut self, top: f64) {
        let bottom = self.y;
        let mut ratio = 0.0;
        while ratio <= self.ratio_max {
            let (x, is_reference) = (self.x(ratio), ratio == 1.0);
            let line = if is_reference {
                "stroke=\"#b91c1c\" stroke-width=\"1.5\""
            } else {
                "stroke=\"#000000\" stroke-opacity=\"0.12\""
            };
            let _ = writeln!(self.body, "<path d=\"M{x:.1} {top:.1}V{bottom:.1}\" {line}/>");
            let colour = if is_reference { "#b91c1c" } else { "#4b5563" };
            let words = format!("{ratio:.1}");
            self.text(
                x,
                bottom + 16.0,
                &format!("text-anchor=\"middle\" fill=\"{colour}\""),
                &words,
            );
            ratio += 0.5;
        }
        self.y += 28.0;
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
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

    fn drawn(peers: Vec<PeerReport>) -> Drawing {
        let scenario = ScenarioReport {
            name: "a <b> & c".into(),
            about: String::new(),
            metrics: &[Metric::CpuUs],
            headline: Metric::CpuUs,
            cells: vec![CellReport { name: "one".into(), peers }],
        };
        let mut drawing = Drawing {
            body: String::new(),
            labels: String::new(),
            y: 0.0,
            ratio_max: 2.0,
            names: names(&[&scenario]),
        };
        drawing.scenario(&scenario);
        drawing
    }

    #[test]
    fn bars_are_as_long_as_ratios_and_say_them() {
        let drawing = drawn(vec![peer("pgherd", &[4.0, 6.0]), peer(REFERENCE, &[10.0])]);
        let half = (RIGHT - LEFT) / 4.0; // 0.5 of an axis that ends at 2
        assert!(drawing.body.contains(&format!("width=\"{half:.1}\"")), "{}", drawing.body);
        assert!(drawing.labels.contains("0.50  (5.00 µs)"), "{}", drawing.labels);
        assert!(drawing.body.contains("stroke=\"#111827\""), "the rounds' range is missing");
        assert!(drawing.body.contains("a &lt;b&gt; &amp; c"));
        assert_eq!(drawing.names, ["pgherd"]);
    }

    #[test]
    fn a_load_without_ratios_has_no_bars() {
        let mut failed = peer(REFERENCE, &[10.0]);
        failed.errors.push("fell over".into());
        let drawing = drawn(vec![peer("pgherd", &[5.0]), failed]);
        assert!(drawing.body.contains("no ratio") && !drawing.body.contains("<rect"));
        assert!(drawing.labels.is_empty());
    }
}
