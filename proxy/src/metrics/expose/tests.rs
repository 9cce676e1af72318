//! Every line parses, histograms are cumulative, and series are bounded.

use super::*;
use crate::admin::samples::pool as test_pool;

fn metrics(pools: Vec<PoolSnapshot>) -> Metrics {
    Metrics {
        pools,
        clients_now: 3,
        clients_total: 9,
        logins_failed: 1,
        ready: true,
        started_at_seconds: 1.5,
        memory: Memory { resident_bytes: 1 << 40, heap: None },
        cpu_seconds: 0.25,
        open_fds: 12,
        max_fds: Some(1024),
        threads: 5,
        tables: vec![Table { name: "statements", entries: 17 }],
    }
}

/// Name with labels, and value.
fn samples(text: &str) -> Vec<(&str, f64)> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            (name, value.parse().unwrap_or_else(|_| panic!("{line}")))
        })
        .collect()
}

#[test]
fn every_line_is_a_comment_or_a_sample() {
    let text = text(metrics(vec![test_pool("shop", "app\"\\\n", "n1")])).unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let samples = samples(&text);
    assert!(samples.len() > 50);
    let value = |name: &str| samples.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
    let labels = r#"{database="shop",user="app\"\\\n",node="n1"}"#;
    assert_eq!(value("pgherd_clients"), Some(3.0));
    assert_eq!(value("pgherd_process_resident_memory_bytes"), Some((1u64 << 40) as f64));
    assert_eq!(value("pgherd_process_threads"), Some(5.0));
    assert_eq!(value("pgherd_table_entries{table=\"statements\"}"), Some(17.0));
    assert_eq!(value(&format!("pgherd_pool_queries_total{labels}")), Some(7.0));
    assert_eq!(value(&format!("pgherd_pool_servers_idle{labels}")), Some(4.0));
    let names: std::collections::HashSet<_> = samples.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), samples.len(), "a series twice");
}

#[test]
fn histograms_are_cumulative() {
    let mut pool = test_pool("shop", "app", "n1");
    for us in [1, 90, 101, 251, 252, 5_000, 2_000_000, 3_000_000_000] {
        pool.latency.query_us.saturating_record(us);
    }
    let text = text(metrics(vec![pool])).unwrap();
    let found: Vec<f64> = samples(&text)
        .into_iter()
        .filter(|(name, _)| name.starts_with("pgherd_pool_query_seconds_bucket"))
        .map(|(_, count)| count)
        .collect();
    assert_eq!(found.len(), BUCKETS_US.len() + 1);
    assert!(found.is_sorted(), "{found:?}");
    assert_eq!(found.first(), Some(&2.0));
    assert_eq!(found.last(), Some(&8.0));
}

#[test]
fn series_are_bounded() {
    let users = 0..limits::METRICS_POOLS_MAX + 2;
    let pools = users.map(|i| test_pool("shop", &format!("user{i}"), "n1")).collect();
    let text = text(metrics(pools)).unwrap();
    let samples = samples(&text);
    let series = samples.iter().filter(|(name, _)| name.starts_with("pgherd_pool_queries_total"));
    assert_eq!(series.count(), limits::METRICS_POOLS_MAX);
    assert!(samples.contains(&("pgherd_pools_left_out", 2.0)));
}
