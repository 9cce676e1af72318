//! One moment of pgherd: what its metrics say, and what PostgreSQL says about it.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;

use super::chaos;
use crate::Fixture;

/// One moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// Since the start of the load.
    pub seconds: f64,
    /// Resident memory of the process, bytes.
    pub rss: f64,
    /// Bytes in use by the program, as its allocator counts them; none: it does not.
    pub heap: Option<f64>,
    /// Open file descriptors.
    pub fds: f64,
    /// Threads.
    pub threads: f64,
    /// Clients connected, logged in or not.
    pub clients: f64,
    /// Transactions so far, over the pools that there are.
    pub transactions: f64,
    /// Backends of PostgreSQL that belong to pgherd.
    pub backends: f64,
    /// `pgherd_table_entries`.
    pub tables: BTreeMap<String, f64>,
}

/// pgherd's backends in PostgreSQL, and what they do. Not cancel safe.
pub async fn backends(fixture: &Fixture) -> anyhow::Result<Vec<String>> {
    let sql = "SELECT format('backend %s of %s, %s since %s: %s', pid, usename, state, \
               now() - state_change, query) FROM pg_stat_activity \
               WHERE backend_type = 'client backend' AND application_name <> 'soak_direct'";
    let rows = chaos::server(fixture).await?.query(sql, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Looks. Not cancel safe.
pub async fn look(fixture: &Arc<Fixture>, seconds: f64) -> anyhow::Result<Sample> {
    let asked = fixture.clone();
    let text = tokio::task::spawn_blocking(move || asked.pgherd.get("/metrics")).await??;
    let mut sample = parse(&text).context("/metrics lacks a value")?;
    sample.seconds = seconds;
    let server = chaos::server(fixture).await?;
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' \
               AND application_name <> 'soak_direct'";
    let count: i64 = server.query_one(sql, &[]).await?.get(0);
    sample.backends = f64::from(i32::try_from(count)?);
    Ok(sample)
}

/// The values of a Prometheus text; none: one is missing.
fn parse(text: &str) -> Option<Sample> {
    let series: Vec<(&str, f64)> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, value)| Some((name, value.parse().ok()?)))
        .collect();
    let value = |wanted: &str| {
        let found = series.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, value)| *value)
    };
    let table = |(name, value): &(&str, f64)| {
        let name = name.strip_prefix("pgherd_table_entries{table=\"")?.strip_suffix("\"}")?;
        Some((name.to_owned(), *value))
    };
    let transactions =
        series.iter().filter(|(name, _)| name.starts_with("pgherd_pool_transactions_total"));
    let tables: BTreeMap<_, _> = series.iter().filter_map(table).collect();
    if tables.is_empty() {
        return None;
    }
    Some(Sample {
        seconds: 0.0,
        rss: value("pgherd_process_resident_memory_bytes")?,
        heap: value("pgherd_heap_allocated_bytes"),
        fds: value("pgherd_process_open_fds")?,
        threads: value("pgherd_process_threads")?,
        clients: value("pgherd_clients")?,
        transactions: transactions.map(|(_, value)| value).sum(),
        backends: 0.0,
        tables,
    })
}

impl Sample {
    /// Entries of a table.
    #[must_use]
    pub fn table(&self, name: &str) -> f64 {
        self.tables.get(name).copied().unwrap_or(f64::NAN)
    }
}

/// Tables that change while clients come and go; the others are compared at the end.
const SHOWN: [&str; 8] =
    ["sessions", "statements", "pools", "servers", "waiting", "limits", "welcomes", "listeners"];

/// The heading of [`line()`].
#[must_use]
pub fn heading() -> String {
    let mut text = String::from(" seconds  RSS MB heap MB   fds threads clients backends");
    for name in SHOWN {
        text.push_str(&format!(" {name:>10}"));
    }
    text + " transactions"
}

/// A sample as a line of a table.
#[must_use]
pub fn line(sample: &Sample) -> String {
    let mb = |bytes: f64| bytes / 1e6;
    let heap = sample.heap.map_or("-".into(), |heap| format!("{:.1}", mb(heap)));
    let mut text = format!(
        "{:>8.0} {:>7.1} {heap:>7} {:>5} {:>7} {:>7} {:>8}",
        sample.seconds,
        mb(sample.rss),
        sample.fds,
        sample.threads,
        sample.clients,
        sample.backends,
    );
    for name in SHOWN {
        text.push_str(&format!(" {:>10}", sample.table(name)));
    }
    text + &format!(" {:>12}", sample.transactions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read() {
        let text = "# HELP x y\npgherd_process_resident_memory_bytes 10\npgherd_process_open_fds 2\n\
                    pgherd_process_threads 3\npgherd_clients 4\npgherd_table_entries{table=\"pools\"} 5\n\
                    pgherd_pool_transactions_total{database=\"a\"} 6\npgherd_pool_transactions_total{database=\"b\"} 1\n";
        let sample = parse(text).unwrap();
        assert_eq!((sample.rss, sample.fds, sample.threads), (10.0, 2.0, 3.0));
        assert_eq!((sample.clients, sample.transactions, sample.heap), (4.0, 7.0, None));
        assert_eq!(sample.table("pools"), 5.0);
        assert!(line(&sample).len() > heading().len() / 2);
        assert_eq!(parse("pgherd_clients 4\n"), None);
    }
}
