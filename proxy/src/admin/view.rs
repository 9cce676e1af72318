//! Snapshots as JSON, for the HTTP API: times in seconds or RFC 3339, absent things are null.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::averages::{self, Span};
use super::settings::{settings, word};
use crate::config::Config;
use crate::hub::{ClientSnapshot, Hub, PoolSnapshot, ServerSnapshot};
use crate::metrics::process;
use crate::metrics::stats::Totals;

/// `/api/v1/status`
pub(super) fn status(hub: &Hub) -> Value {
    let pools = hub.pools.snapshot();
    let sum = |f: fn(&PoolSnapshot) -> usize| pools.iter().map(f).sum::<usize>();
    let memory = process::memory();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "state": state(hub),
        "started_at": time(hub.started_at),
        "uptime_seconds": hub.started.elapsed().as_secs_f64(),
        "config_file": hub.config_path,
        "clients": hub.clients_now.load(Relaxed),
        "clients_accepted": hub.clients_total.load(Relaxed),
        "logins_failed": hub.logins_failed.load(Relaxed),
        "pools": pools.len(),
        "clients_waiting": sum(|p| p.cl_waiting),
        "servers_active": sum(|p| p.sv_active),
        "servers_idle": sum(|p| p.sv_idle),
        "resident_bytes": memory.resident_bytes,
        "open_fds": process::open_fds(),
    })
}

/// One word for what the process does.
pub(super) fn state(hub: &Hub) -> &'static str {
    if hub.stopping.is_cancelled() {
        "stopping"
    } else if hub.draining.is_cancelled() {
        "draining"
    } else if hub.is_ready() {
        "ready"
    } else {
        "starting"
    }
}

/// `/api/v1/pools`
pub(super) fn pools(pools: &[PoolSnapshot]) -> Value {
    pools.iter().map(pool).collect()
}

fn pool(p: &PoolSnapshot) -> Value {
    let quantiles = |h: &hdrhistogram::Histogram<u64>| {
        json!({
            "count": h.len(),
            "p50_us": h.value_at_quantile(0.5),
            "p95_us": h.value_at_quantile(0.95),
            "p99_us": h.value_at_quantile(0.99),
            "max_us": h.max(),
        })
    };
    json!({
        "database": p.database,
        "user": p.user,
        "node": p.node,
        "mode": word(p.mode),
        "clients_active": p.cl_active,
        "clients_waiting": p.cl_waiting,
        "servers_active": p.sv_active,
        "servers_idle": p.sv_idle + p.sv_used,
        "servers_login": p.sv_login,
        "servers_cleaning": p.sv_tested,
        "servers_pinned": p.sv_pinned,
        "maxwait_seconds": p.maxwait.as_secs_f64(),
        "size": p.size,
        "size_min": p.size_min,
        "reserve_size": p.reserve_size,
        "paused": p.paused,
        "disabled": p.disabled,
        "connect_errors": p.connect_errors,
        "wait_timeouts": p.wait_timeouts,
        "totals": totals(&p.totals),
        "query_latency": quantiles(&p.latency.query_us),
        "wait_latency": quantiles(&p.latency.wait_us),
    })
}

/// `/api/v1/clients`
pub(super) fn clients(clients: &[ClientSnapshot]) -> Value {
    let one = |c: &ClientSnapshot| {
        json!({
            "id": c.id,
            "user": c.user,
            "database": c.database,
            "state": c.state,
            "replication": c.replication,
            "address": c.addr,
            "port": c.port,
            "connected_at": time(c.connect_time),
            "requested_at": time(c.request_time),
            "wait_seconds": c.wait.as_secs_f64(),
            "application_name": c.application_name,
            "tls": c.tls,
            "prepared_statements": c.prepared_statements,
            "pinned": c.pinned,
            "server_id": c.link,
        })
    };
    clients.iter().map(one).collect()
}

/// `/api/v1/servers`
pub(super) fn servers(servers: &[ServerSnapshot]) -> Value {
    let one = |s: &ServerSnapshot| {
        json!({
            "id": s.id,
            "user": s.user,
            "database": s.database,
            "node": s.node,
            "state": s.state,
            "address": s.addr,
            "port": s.port,
            "connected_at": time(s.connect_time),
            "requested_at": time(s.request_time),
            "pid": s.remote_pid,
            "tls": s.tls,
            "prepared_statements": s.prepared_statements,
            "client_id": s.link,
        })
    };
    servers.iter().map(one).collect()
}

/// Orders about a database; they hold without any pool.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Held {
    pub(super) paused: bool,
    pub(super) disabled: bool,
}

impl Held {
    /// The orders about `database` now.
    pub(super) fn of(hub: &Hub, database: &str) -> Held {
        Held { paused: hub.pools.is_paused(database), disabled: hub.pools.is_disabled(database) }
    }
}

/// `/api/v1/databases`
pub(super) fn databases(
    config: &Config,
    pools: &[PoolSnapshot],
    held: impl Fn(&str) -> Held,
) -> Value {
    let one = |(name, d): (&String, &crate::config::Database)| {
        let own = || pools.iter().filter(|p| p.database == *name);
        json!({
            "name": name,
            "nodes": d.nodes,
            "role": word(d.role),
            "dbname": if d.dbname.is_empty() { name } else { &d.dbname },
            "user": Some(d.user.as_str()).filter(|u| !u.is_empty()),
            "mode": word(d.mode.unwrap_or(config.pool.mode)),
            "size": d.size.unwrap_or(config.pool.size_default),
            "size_min": d.size_min.unwrap_or(config.pool.size_min),
            "reserve_size": d.reserve_size.unwrap_or(config.pool.reserve_size),
            "max_connections": d.max_connections.unwrap_or(config.pool.max_database_connections),
            "pools": own().count(),
            "clients_waiting": own().map(|p| p.cl_waiting).sum::<usize>(),
            "servers_active": own().map(|p| p.sv_active).sum::<usize>(),
            "servers_idle": own().map(|p| p.sv_idle).sum::<usize>(),
            "paused": held(name).paused,
            "disabled": held(name).disabled,
        })
    };
    config.databases.iter().map(one).collect()
}

/// `/api/v1/nodes`
pub(super) fn nodes(config: &Config, pools: &[PoolSnapshot]) -> Value {
    let one = |(name, n): (&String, &crate::config::Node)| {
        let own = || pools.iter().filter(|p| p.node == *name);
        let databases = config.databases.iter().filter(|(_, d)| d.nodes.contains(name));
        json!({
            "name": name,
            "host": n.host,
            "port": n.port,
            "role": word(n.role),
            "databases": databases.map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            "pools": own().count(),
            "clients_waiting": own().map(|p| p.cl_waiting).sum::<usize>(),
            "servers_active": own().map(|p| p.sv_active).sum::<usize>(),
            "servers_idle": own().map(|p| p.sv_idle).sum::<usize>(),
            "connect_errors": own().map(|p| p.connect_errors).sum::<u64>(),
            "server_errors": own().map(|p| p.totals.server_errors).sum::<u64>(),
        })
    };
    config.nodes.iter().map(one).collect()
}

/// `/api/v1/stats`: totals since the start and rates of the last period, for each database.
pub(super) fn stats(hub: &Hub) -> Value {
    let now = std::time::Instant::now();
    let one = |(name, t): (String, Totals)| {
        let span = hub.averages.span(&name, &t, now, hub.started);
        json!({ "database": name, "totals": totals(&t), "averages": rates(&span) })
    };
    averages::by_database(&hub.pools.snapshot()).into_iter().map(one).collect()
}

/// `/api/v1/config`: no password and no file's content is among the settings.
pub(super) fn config(config: &Config) -> Value {
    json!(settings(config))
}

fn totals(t: &Totals) -> Value {
    json!({
        "transactions": t.xact_count,
        "queries": t.query_count,
        "received_bytes": t.received,
        "sent_bytes": t.sent,
        "transaction_us": t.xact_time_us,
        "query_us": t.query_time_us,
        "wait_us": t.wait_time_us,
        "server_assignments": t.server_assignment_count,
        "client_parses": t.client_parse_count,
        "server_parses": t.server_parse_count,
        "binds": t.bind_count,
        "server_errors": t.server_errors,
    })
}

fn rates(s: &Span) -> Value {
    json!({
        "seconds": s.elapsed.as_secs_f64(),
        "transactions_per_second": s.per_second(|t| t.xact_count),
        "queries_per_second": s.per_second(|t| t.query_count),
        "received_bytes_per_second": s.per_second(|t| t.received),
        "sent_bytes_per_second": s.per_second(|t| t.sent),
        "transaction_us": s.each(|t| t.xact_time_us, |t| t.xact_count),
        "query_us": s.each(|t| t.query_time_us, |t| t.query_count),
        "wait_us": s.each(|t| t.wait_time_us, |t| t.server_assignment_count),
    })
}

fn time(at: SystemTime) -> String {
    // Before the epoch nothing of ours happened; humantime can't write it.
    let at = at.max(SystemTime::UNIX_EPOCH + Duration::ZERO);
    humantime::format_rfc3339_seconds(at).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let mut config = Config::default();
        let database = toml::from_str("nodes = ['n']\nuser = 'u'\npassword = 'hunter2'").unwrap();
        config.databases.insert("shop".into(), database);
        for shown in [databases(&config, &[], |_| Held::default()), super::config(&config)] {
            assert!(!shown.to_string().contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn rows_are_complete() {
        let mut config = Config::default();
        config.nodes.insert("n1".into(), toml::from_str("host = 'h'").unwrap());
        config.databases.insert("shop".into(), toml::from_str("nodes = ['n1']").unwrap());
        let all = [samples::pool("shop", "app", "n1")];
        let check = |v: &Value, pointer: &str, expect: Value| {
            assert_eq!(v.pointer(pointer), Some(&expect), "{pointer} in {v}");
        };
        check(&pools(&all), "/0/servers_idle", 4.into());
        check(&pools(&all), "/0/maxwait_seconds", 2.5.into());
        check(&pools(&all), "/0/totals/queries", 7.into());
        check(&databases(&config, &all, |_| Held::default()), "/0/servers_active", 3.into());
        check(&nodes(&config, &all), "/0/databases/0", "shop".into());
        check(&nodes(&config, &all), "/0/connect_errors", 8.into());
        let one = clients(&[samples::client("shop", "app")]);
        check(&one, "/0/requested_at", "1970-01-01T00:01:00Z".into());
        check(&servers(&[samples::server("shop", "app", "n1")]), "/0/pid", 4242.into());
    }
}
