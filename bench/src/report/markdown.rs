//! RESULTS.md: the last run that somebody found worth keeping, written by the tool and by nobody else.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::{Report, chart, table};

const EXPLANATION: &str = "\
Written by `pgherd-bench --write-results`; not edited by hand. Medians over the rounds; the peers took turns \
within each load. A ratio compares a peer with PgBouncer of the same run; below 1 is better; a load in which any \
sample failed has none. `spread %` is the distance between the best and the worst round, and no difference smaller \
than it means anything. CPU µs is the proxy's own user and system time for one transaction, over all its threads. \
Throughput and latency depend on the load generator and PostgreSQL, which share the other cores, more than on the proxy. \
`foreign %` is what others ran on the proxy's core, `steal %` what the hypervisor gave to other machines: \
both are the worst of all rounds, and where they are high (`~`) the figures are worth little. \
[README.md](README.md) explains every figure.";

/// The chart's file, beside the tables.
const CHART: &str = "results.svg";

/// Writes all tables, and the chart that they begin with.
pub fn write(report: &Report, path: &Path) -> Result<()> {
    chart::write(report, &path.with_file_name(CHART))?;
    std::fs::write(path, text(report)).with_context(|| format!("write {}", path.display()))
}

fn text(report: &Report) -> String {
    let mut text = format!("# Results\n\n{EXPLANATION}\n\n");
    for line in table::header_lines(&report.header) {
        text.push_str(&format!("- {line}\n"));
    }
    text.push_str(&format!("- `{}`\n", report.header.command));
    text.push_str(&format!("\n![CPU time in units of PgBouncer's]({CHART})\n"));
    for scenario in &report.scenarios {
        text.push_str(&format!("\n## {}\n\n{}\n\n", scenario.name, scenario.about));
        text.push_str(&table::markdown(scenario));
        text.push('\n');
        let remarks = table::remarks(scenario);
        if !remarks.is_empty() {
            text.push('\n');
        }
        for remark in remarks {
            text.push_str(&format!("- {remark}\n"));
        }
    }
    text.push_str(
        "\n## Configurations\n\nWhere a load asks for TLS or SCRAM, these say so instead.\n",
    );
    for (name, configuration) in &report.header.configurations {
        text.push_str(&format!("\n{name}:\n\n```\n{}\n```\n", configuration.trim()));
    }
    text
}
