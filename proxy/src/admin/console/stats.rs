//! SHOW STATS and its relatives: totals since the start, averages of the last period.
//!
//! Columns and their order are PgBouncer's (1.23 and 1.24); all are numeric, as counters outgrow
//! int8 nowhere but exporters read that type.

use std::collections::BTreeMap;

use super::table::{Cell, Column, numeric, text};
use crate::admin::averages::{self, Span};
use crate::metrics::stats::Totals;

/// Totals and averages of each database.
type Stats = BTreeMap<String, (Totals, Span)>;

/// A figure, with its names in SHOW TOTALS.
struct Figure {
    total: &'static str,
    average: &'static str,
    of: fn(&Totals) -> u64,
    /// What a time is divided by; none: seconds.
    each: Option<fn(&Totals) -> u64>,
}

/// Each with its name behind `total_`, its name behind `avg_`, and its name where only one half is
/// shown.
macro_rules! figures {
    ($(($total:literal, $average:literal, $half:literal, $of:expr, $each:expr)),+ $(,)?) => {
        const FIGURES: &[Figure] = &[$(Figure {
            total: concat!("total_", $total),
            average: concat!("avg_", $average),
            of: $of,
            each: $each,
        }),+];

        /// SHOW STATS.
        pub(super) const STATS: &[Column] = &[
            text("database"),
            $(numeric(concat!("total_", $total)),)+
            $(numeric(concat!("avg_", $average)),)+
        ];

        /// SHOW STATS_TOTALS and SHOW STATS_AVERAGES.
        pub(super) const HALF: &[Column] = &[text("database"), $(numeric($half)),+];
    };
}

figures![
    (
        "server_assignment_count",
        "server_assignment_count",
        "server_assignment_count",
        |t| t.server_assignment_count,
        None
    ),
    ("xact_count", "xact_count", "xact_count", |t| t.xact_count, None),
    ("query_count", "query_count", "query_count", |t| t.query_count, None),
    ("received", "recv", "bytes_received", |t| t.received, None),
    ("sent", "sent", "bytes_sent", |t| t.sent, None),
    ("xact_time", "xact_time", "xact_time", |t| t.xact_time_us, Some(|t| t.xact_count)),
    ("query_time", "query_time", "query_time", |t| t.query_time_us, Some(|t| t.query_count)),
    (
        "wait_time",
        "wait_time",
        "wait_time",
        |t| t.wait_time_us,
        Some(|t| t.server_assignment_count)
    ),
    (
        "client_parse_count",
        "client_parse_count",
        "client_parse_count",
        |t| t.client_parse_count,
        None
    ),
    (
        "server_parse_count",
        "server_parse_count",
        "server_parse_count",
        |t| t.server_parse_count,
        None
    ),
    ("bind_count", "bind_count", "bind_count", |t| t.bind_count, None),
];

/// SHOW TOTALS.
pub(super) const TOTALS: &[Column] = &[text("name"), numeric("value")];

impl Figure {
    fn average(&self, span: &Span) -> Cell {
        match self.each {
            Some(count) => span.each(self.of, count),
            None => span.per_second(self.of),
        }
        .into()
    }
}

fn total_cells(t: &Totals) -> impl Iterator<Item = Cell> {
    FIGURES.iter().map(|f| (f.of)(t).into())
}

fn average_cells(span: &Span) -> impl Iterator<Item = Cell> {
    FIGURES.iter().map(|f| f.average(span))
}

pub(super) fn stats(all: &Stats) -> Vec<Vec<Cell>> {
    let row = |(database, (totals, span)): (&String, &(Totals, Span))| {
        let name = std::iter::once(Cell::from(database.as_str()));
        name.chain(total_cells(totals)).chain(average_cells(span)).collect()
    };
    all.iter().map(row).collect()
}

pub(super) fn half_totals(all: &Stats) -> Vec<Vec<Cell>> {
    let row = |(database, (totals, _)): (&String, &(Totals, Span))| {
        std::iter::once(Cell::from(database.as_str())).chain(total_cells(totals)).collect()
    };
    all.iter().map(row).collect()
}

pub(super) fn half_averages(all: &Stats) -> Vec<Vec<Cell>> {
    let row = |(database, (_, span)): (&String, &(Totals, Span))| {
        std::iter::once(Cell::from(database.as_str())).chain(average_cells(span)).collect()
    };
    all.iter().map(row).collect()
}

pub(super) fn totals(all: &Stats) -> Vec<Vec<Cell>> {
    let totals = averages::sum(all.values().map(|(totals, _)| totals));
    let span = Span {
        totals: averages::sum(all.values().map(|(_, span)| &span.totals)),
        // All spans end now; the longest reaches back to the sample that all share.
        elapsed: all.values().map(|(_, span)| span.elapsed).max().unwrap_or_default(),
    };
    let names = FIGURES.iter().map(|f| f.total).chain(FIGURES.iter().map(|f| f.average));
    names
        .zip(total_cells(&totals).chain(average_cells(&span)))
        .map(|(name, value)| vec![name.into(), value])
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn totals_and_averages_stand_under_their_columns() {
        let totals = Totals { xact_count: 10, xact_time_us: 500, sent: 70, ..Totals::default() };
        let span = Span { totals, elapsed: Duration::from_secs(5) };
        let all = Stats::from([("a".to_owned(), (totals, span)), ("b".to_owned(), (totals, span))]);
        let check = |columns: &[Column], row: &[Cell], name: &str, expect: Cell| {
            let at = columns.iter().position(|c| c.name == name).unwrap();
            assert_eq!((row.len(), &row[at]), (columns.len(), &expect), "{name}");
        };
        let rows = stats(&all);
        check(STATS, &rows[0], "database", "a".into());
        check(STATS, &rows[1], "total_xact_count", Cell::Int(10));
        check(STATS, &rows[0], "avg_xact_count", Cell::Int(2));
        check(STATS, &rows[0], "avg_xact_time", Cell::Int(50));
        check(STATS, &rows[0], "total_sent", Cell::Int(70));
        check(STATS, &rows[0], "avg_sent", Cell::Int(14));
        check(HALF, &half_totals(&all)[0], "xact_time", Cell::Int(500));
        check(HALF, &half_averages(&all)[0], "xact_time", Cell::Int(50));
        let sum = super::totals(&all);
        assert!(sum.contains(&vec!["total_xact_count".into(), Cell::Int(20)]));
        assert!(sum.contains(&vec!["avg_sent".into(), Cell::Int(28)]));
    }
}
