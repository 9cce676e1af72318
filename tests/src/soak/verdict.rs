//! Whether something grew: pure, over the samples.
//!
//! The first third of a run is warm-up: pools open their servers, the allocator takes what it needs at
//! the peak. Then medians are compared, which neither one quiet nor one busy sample moves.

use super::frames::NAMED_MAX;
use super::sample::Sample;

/// Memory may be so much larger in the last third than in the second, of its size. Without a leak it is
/// the allocator's fragmentation, which a run of an hour shows to be below a few percent.
pub const MEMORY_GROWTH: f64 = 0.05;
/// And by so much more, bytes: a small process must not fail for a page.
pub const MEMORY_SLACK_BYTES: f64 = 4e6;
/// The same for things that are counted; their median follows the dice of the clients.
pub const COUNT_GROWTH: f64 = 0.20;
/// See [`COUNT_GROWTH`].
pub const COUNT_SLACK: f64 = 16.0;

/// What no sample may exceed.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Clients of the load.
    pub clients: usize,
    /// Servers at most, over all pools.
    pub servers: usize,
    /// `pool.prepared_statements_max`.
    pub prepared: usize,
    /// Users times databases that are there at once.
    pub pools: usize,
    /// Names of users and databases.
    pub names: usize,
    /// Whether the run was long enough to judge memory.
    pub judge_memory: bool,
}

/// What grew, and by how much; empty: nothing did.
#[must_use]
pub fn grown(samples: &[Sample], bounds: &Bounds) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |name: &str, growth: f64, slack: f64, of: &dyn Fn(&Sample) -> f64| {
        let (before, after) = thirds(samples, of);
        if after > before * (1.0 + growth) + slack {
            found.push(format!("{name} grew from {before:.0} to {after:.0}"));
        }
    };
    if bounds.judge_memory {
        compare("resident memory", MEMORY_GROWTH, MEMORY_SLACK_BYTES, &|s| s.rss);
        compare("heap", MEMORY_GROWTH, MEMORY_SLACK_BYTES, &|s| s.heap.unwrap_or_default());
    }
    compare("open files", COUNT_GROWTH, COUNT_SLACK, &|s| s.fds);
    compare("threads", COUNT_GROWTH, COUNT_SLACK, &|s| s.threads);
    for name in
        samples.iter().flat_map(|s| s.tables.keys()).collect::<std::collections::BTreeSet<_>>()
    {
        // One pool comes to know up to WELCOMES_MAX greetings, for as long as new ones come.
        let slack = if name == "welcomes" { f64::INFINITY } else { COUNT_SLACK };
        compare(&format!("table {name}"), COUNT_GROWTH, slack, &|s| s.table(name));
    }
    found.extend(exceeded(samples, bounds));
    found
}

fn exceeded(samples: &[Sample], bounds: &Bounds) -> Vec<String> {
    let named = bounds.clients * usize::try_from(NAMED_MAX).unwrap_or_default();
    // Beside the load: the console, the clients of new databases, cancel requests on their way.
    let beside = bounds.clients + 16;
    let most = [
        ("sessions", bounds.clients + 16),
        ("statements", bounds.servers * bounds.prepared + named + beside),
        ("pools", bounds.pools),
        ("limits", bounds.names),
        ("welcomes", bounds.pools * 2 * pgherd::limits::WELCOMES_MAX),
        ("listeners", bounds.pools),
        ("cancels", beside),
        ("waiting", bounds.clients + 16),
        ("servers", bounds.servers + bounds.pools),
    ];
    let mut found = Vec::new();
    for (name, max) in most {
        let max = u32::try_from(max).map_or(f64::INFINITY, f64::from);
        let peak = samples.iter().map(|s| s.table(name)).fold(0.0, f64::max);
        if peak > max {
            found.push(format!("table {name} reached {peak}, more than {max}"));
        }
    }
    found
}

/// Medians of the second and of the last third.
fn thirds(samples: &[Sample], of: &dyn Fn(&Sample) -> f64) -> (f64, f64) {
    let third = samples.len() / 3;
    let median = |samples: &[Sample]| {
        let mut values: Vec<f64> = samples.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    let second = samples.get(third..samples.len() - third).unwrap_or_default();
    (median(second), median(samples.get(samples.len() - third..).unwrap_or_default()))
}

/// What is still there of `now` when all clients have left and every server was told to go; `before` is
/// the moment before the first came.
#[must_use]
pub fn left_over(before: &Sample, now: &Sample) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |name: &str, before: f64, now: f64| {
        if now > before {
            found.push(format!("{name}: {now} are left, {before} were there at first"));
        }
    };
    compare("open files", before.fds, now.fds);
    compare("backends of PostgreSQL", before.backends, now.backends);
    compare("clients", before.clients, now.clients);
    for (name, entries) in &now.tables {
        // These remember names, greetings and salted passwords on purpose; their bounds are checked above.
        if !["pools", "limits", "welcomes", "salted_passwords"].contains(&name.as_str()) {
            compare(&format!("table {name}"), before.table(name), *entries);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(of: impl Fn(usize, &mut Sample)) -> Vec<Sample> {
        let sample = |n| {
            let mut sample = Sample { rss: 50e6, fds: 100.0, threads: 5.0, ..Sample::default() };
            sample.tables.insert("statements".into(), 300.0);
            of(n, &mut sample);
            sample
        };
        (0..30).map(sample).collect()
    }

    fn bounds() -> Bounds {
        let (clients, servers, prepared) = (64, 30, 20);
        Bounds { clients, servers, prepared, pools: 8, names: 10, judge_memory: true }
    }

    #[test]
    fn what_is_flat_or_noisy_did_not_grow() {
        let noisy = samples(|n, s| {
            // The warm-up grows steeply, and one sample is wild.
            s.rss = if n < 10 { n as f64 * 5e6 } else { 50e6 + (n % 3) as f64 * 1e6 };
            s.fds = if n == 29 { 5_000.0 } else { 100.0 + (n % 7) as f64 };
        });
        assert_eq!(grown(&noisy, &bounds()), [""; 0]);
    }

    #[test]
    fn what_grows_is_told() {
        let growing = samples(|n, s| {
            s.rss += n as f64 * 1e6;
            s.fds += n as f64 * 8.0;
            s.tables.insert("statements".into(), 300.0 + n as f64 * 30.0);
        });
        let found = grown(&growing, &bounds());
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(
            found[0].starts_with("resident memory grew from 65000000 to 75000000"),
            "{found:?}"
        );
        assert_eq!(grown(&growing, &Bounds { judge_memory: false, ..bounds() }).len(), 2);
    }

    #[test]
    fn bounds_hold_at_every_moment() {
        let peak = samples(|n, s| {
            s.tables.insert("statements".into(), if n == 3 { 9_000.0 } else { 300.0 });
        });
        assert_eq!(grown(&peak, &bounds()).len(), 1);
    }

    #[test]
    fn left_overs_are_told() {
        let before = samples(|_, _| ()).remove(0);
        assert_eq!(left_over(&before, &before), [""; 0]);
        let mut after = before.clone();
        after.fds += 1.0;
        after.tables.insert("statements".into(), 301.0);
        after.tables.insert("welcomes".into(), 17.0);
        assert_eq!(left_over(&before, &after).len(), 2);
    }
}
