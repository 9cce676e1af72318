//! The rows of SHOW, from one moment's facts: pure.
//!
//! Deviations from PgBouncer: `ptr` and `link` are `c<id>` and `s<id>`; pools of one user and
//! database on several nodes are one row, as exporters expect the pair to be unique. SHOW NODES
//! tells nodes apart.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use super::command::Show;
use super::facts::Facts;
use super::table::{Cell, Table};
use super::{DATABASE, VERSION, columns, stats};
use crate::admin::settings::{pgbouncer_settings, settings, word};
use crate::config::Database;
use crate::hub::PoolSnapshot;

/// The answer to `show`.
pub(super) fn table(show: Show, facts: &Facts) -> Table {
    let rows = match show {
        // pgherd resolves names when it connects and keeps no cache; it has no peers; descriptors
        // are handed over by signal, never over the console.
        Show::Help
        | Show::PeerPools
        | Show::Fds
        | Show::DnsHosts
        | Show::DnsZones
        | Show::Peers => Vec::new(),
        Show::Version => vec![vec![VERSION.into()]],
        Show::Config => config(facts),
        Show::Databases => databases(facts),
        Show::Pools => pools(facts),
        Show::Clients => clients(facts, false, ""),
        Show::Servers => servers(facts, false, ""),
        Show::Sockets | Show::ActiveSockets => sockets(facts, show == Show::ActiveSockets),
        Show::Lists => lists(facts),
        Show::Users => users(facts),
        Show::Stats => stats::stats(&facts.stats),
        Show::StatsTotals => stats::half_totals(&facts.stats),
        Show::StatsAverages => stats::half_averages(&facts.stats),
        Show::Totals => stats::totals(&facts.stats),
        Show::Mem => memory(facts),
        Show::State => state(facts),
        Show::Nodes => nodes(facts),
        Show::Parameter(_, value) => vec![vec![value.into()]],
    };
    Table { columns: columns::of(show), rows }
}

fn config(facts: &Facts) -> Vec<Vec<Cell>> {
    let row = |s: crate::admin::settings::Setting| {
        let changeable = if s.changeable { "yes" } else { "no" };
        vec![s.key.into(), s.value.into(), s.default.into(), changeable.into()]
    };
    pgbouncer_settings(&facts.config).into_iter().chain(settings(&facts.config)).map(row).collect()
}

fn databases(facts: &Facts) -> Vec<Vec<Cell>> {
    let config = &facts.config;
    // Names that only `"*"` covers show up once somebody used them, as in PgBouncer.
    let mut names: BTreeSet<&str> = config.databases.keys().map(String::as_str).collect();
    names.extend(facts.pools.iter().map(|p| p.database.as_str()));
    let mut rows: Vec<_> = names
        .into_iter()
        .filter_map(|name| {
            let (_, entry) = config.database(name)?;
            Some(database(facts, name, entry))
        })
        .collect();
    rows.push(console_database());
    rows
}

fn database(facts: &Facts, name: &str, entry: &Database) -> Vec<Cell> {
    let config = &facts.config;
    let nodes: Vec<_> = entry.nodes.iter().filter_map(|n| config.nodes.get(n)).collect();
    let hosts = nodes.iter().map(|n| n.host.as_str()).collect::<Vec<_>>().join(",");
    let pools = || facts.pools.iter().filter(|p| p.database == name);
    let (paused, disabled) = facts.held.get(name).copied().unwrap_or_default();
    let dbname = if entry.dbname.is_empty() { name } else { &entry.dbname };
    vec![
        name.into(),
        hosts.into(),
        nodes.first().map(|n| n.port).into(),
        dbname.into(),
        Some(entry.user.as_str()).filter(|user| !user.is_empty()).into(),
        entry.size.unwrap_or(config.pool.size_default).into(),
        entry.size_min.unwrap_or(config.pool.size_min).into(),
        entry.reserve_size.unwrap_or(config.pool.reserve_size).into(),
        config.pool.server_lifetime.as_secs().into(),
        entry.mode.map(word).into(),
        (nodes.len() > 1).then_some("round-robin").into(),
        entry.max_connections.unwrap_or(config.pool.max_database_connections).into(),
        pools().map(servers_of).sum::<usize>().into(),
        entry.max_client_connections.unwrap_or(config.pool.max_database_client_connections).into(),
        facts.clients.iter().filter(|c| c.database == name).count().into(),
        paused.into(),
        disabled.into(),
    ]
}

/// PgBouncer lists its own console as a database; so do we.
fn console_database() -> Vec<Cell> {
    vec![
        DATABASE.into(),
        Cell::Null,
        Cell::Null,
        DATABASE.into(),
        Cell::Null,
        0usize.into(),
        0usize.into(),
        0usize.into(),
        0usize.into(),
        "statement".into(),
        Cell::Null,
        0usize.into(),
        0usize.into(),
        0usize.into(),
        0usize.into(),
        false.into(),
        false.into(),
    ]
}

fn servers_of(p: &PoolSnapshot) -> usize {
    p.sv_active + p.sv_idle + p.sv_used + p.sv_tested + p.sv_login + p.sv_being_canceled
}

fn pools(facts: &Facts) -> Vec<Vec<Cell>> {
    let mut groups: BTreeMap<(&str, &str), Vec<&PoolSnapshot>> = BTreeMap::new();
    for pool in &facts.pools {
        groups.entry((&pool.database, &pool.user)).or_default().push(pool);
    }
    let row = |((database, user), group): (_, Vec<&PoolSnapshot>)| {
        let sum =
            |f: fn(&PoolSnapshot) -> usize| Cell::from(group.iter().map(|p| f(p)).sum::<usize>());
        let maxwait = group.iter().map(|p| p.maxwait).max().unwrap_or_default();
        let mode = group.first().map(|p| word(p.mode));
        let row: Vec<Cell> = vec![
            Cell::from(database),
            Cell::from(user),
            sum(|p| p.cl_active),
            sum(|p| p.cl_waiting),
            sum(|p| p.cl_active_cancel_req),
            sum(|p| p.cl_waiting_cancel_req),
            sum(|p| p.sv_active),
            sum(|p| p.sv_active_cancel),
            sum(|p| p.sv_being_canceled),
            sum(|p| p.sv_idle),
            sum(|p| p.sv_used),
            sum(|p| p.sv_tested),
            sum(|p| p.sv_login),
            maxwait.as_secs().into(),
            maxwait.subsec_micros().into(),
            mode.into(),
            (group.len() > 1).then_some("round-robin").into(),
        ];
        row
    };
    groups.into_iter().map(row).collect()
}

/// What a row of CLIENTS, SERVERS and SOCKETS is made of.
struct Socket<'a> {
    kind: &'static str,
    user: &'a str,
    database: &'a str,
    replication: &'static str,
    state: String,
    peer: (&'a str, u16),
    times: (SystemTime, SystemTime),
    wait: Duration,
    close_needed: bool,
    link: Option<String>,
    remote_pid: u32,
    tls: &'a str,
    application_name: &'a str,
    prepared_statements: usize,
    id: u64,
}

impl Socket<'_> {
    fn row(self, detailed: bool) -> Vec<Cell> {
        let ptr = format!("{}{}", self.kind.to_ascii_lowercase(), self.id);
        let mut row: Vec<Cell> = vec![
            self.kind.into(),
            self.user.into(),
            self.database.into(),
            self.replication.into(),
            self.state.into(),
            self.peer.0.into(),
            self.peer.1.into(),
            // The local end is the listener's or the kernel's choice; nobody asked for it yet.
            Cell::Null,
            Cell::Null,
            timestamp(self.times.0).into(),
            timestamp(self.times.1).into(),
            self.wait.as_secs().into(),
            self.wait.subsec_micros().into(),
            self.close_needed.into(),
            ptr.into(),
            self.link.unwrap_or_default().into(),
            self.remote_pid.into(),
            self.tls.into(),
            self.application_name.into(),
            self.prepared_statements.into(),
            self.id.into(),
        ];
        if detailed {
            // Positions in PgBouncer's packet buffers: pgherd has no buffer of its own per socket.
            row.extend(std::iter::repeat_n(Cell::Int(0), columns::DETAILS));
        }
        row
    }
}

/// PgBouncer's way to write a time: `2026-01-31 12:00:00 UTC`.
fn timestamp(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string().replace('T', " ").replace('Z', " UTC")
}

fn clients(facts: &Facts, detailed: bool, prefix: &str) -> Vec<Vec<Cell>> {
    let row = |c: &crate::hub::ClientSnapshot| {
        Socket {
            kind: "C",
            user: &c.user,
            database: &c.database,
            replication: c.replication,
            state: format!("{prefix}{}", c.state),
            peer: (&c.addr, c.port),
            times: (c.connect_time, c.request_time),
            wait: c.wait,
            close_needed: false,
            link: c.link.map(|id| format!("s{id}")),
            remote_pid: 0,
            tls: &c.tls,
            application_name: &c.application_name,
            prepared_statements: c.prepared_statements,
            id: c.id,
        }
        .row(detailed)
    };
    facts.clients.iter().map(row).collect()
}

fn servers(facts: &Facts, detailed: bool, prefix: &str) -> Vec<Vec<Cell>> {
    let names: HashMap<u64, &str> =
        facts.clients.iter().map(|c| (c.id, c.application_name.as_str())).collect();
    let row = |s: &crate::hub::ServerSnapshot| {
        // PgBouncer's words: a retired server is idle or active with close_needed.
        let state = match (s.state, s.link) {
            ("login", _) if prefix.is_empty() => "new",
            ("retired", Some(_)) => "active",
            ("retired", None) => "idle",
            (state, _) => state,
        };
        Socket {
            kind: "S",
            user: &s.user,
            database: &s.database,
            replication: "none",
            state: format!("{prefix}{state}"),
            peer: (&s.addr, s.port),
            times: (s.connect_time, s.request_time),
            wait: Duration::ZERO,
            close_needed: s.state == "retired",
            link: s.link.map(|id| format!("c{id}")),
            remote_pid: s.remote_pid,
            tls: &s.tls,
            application_name: s.link.and_then(|id| names.get(&id).copied()).unwrap_or_default(),
            prepared_statements: s.prepared_statements,
            id: s.id,
        }
        .row(detailed)
    };
    facts.servers.iter().map(row).collect()
}

fn sockets(facts: &Facts, only_active: bool) -> Vec<Vec<Cell>> {
    let mut rows = clients(facts, true, "cl_");
    rows.extend(servers(facts, true, "sv_"));
    if only_active {
        rows.retain(|row| matches!(row.get(4), Some(Cell::Text(s)) if s.ends_with("_active")));
    }
    rows
}

fn lists(facts: &Facts) -> Vec<Vec<Cell>> {
    let pools = pools(facts).len();
    [
        ("databases", databases(facts).len()),
        ("users", user_names(facts).len()),
        ("peers", 0),
        ("pools", pools),
        ("peer_pools", 0),
        ("free_clients", 0),
        ("used_clients", facts.clients_now.max(facts.clients.len())),
        ("login_clients", facts.clients_now.saturating_sub(facts.clients.len())),
        ("free_servers", 0),
        ("used_servers", facts.servers.len()),
        ("dns_names", 0),
        ("dns_zones", 0),
        ("dns_queries", 0),
        ("dns_pending", 0),
    ]
    .map(|(list, items)| vec![list.into(), items.into()])
    .to_vec()
}

fn user_names(facts: &Facts) -> BTreeSet<&str> {
    let config = &facts.config;
    let configured =
        config.users.keys().chain(&config.admin.users).chain(&config.admin.stats_users);
    let seen = facts.pools.iter().map(|p| &p.user).chain(facts.clients.iter().map(|c| &c.user));
    configured.chain(seen).map(String::as_str).collect()
}

fn users(facts: &Facts) -> Vec<Vec<Cell>> {
    let config = &facts.config;
    let row = |name: &str| {
        let user = config.users.get(name).cloned().unwrap_or_default();
        let servers = facts.pools.iter().filter(|p| p.user == name).map(servers_of).sum::<usize>();
        let clients = facts.clients.iter().filter(|c| c.user == name).count();
        vec![
            name.into(),
            user.size.map(|n| n.to_string()).into(),
            Cell::Null,
            user.mode.map(word).into(),
            user.max_connections.unwrap_or(config.pool.max_user_connections).into(),
            servers.into(),
            user.max_client_connections.unwrap_or(config.pool.max_user_client_connections).into(),
            clients.into(),
        ]
    };
    user_names(facts).into_iter().map(row).collect()
}

fn memory(facts: &Facts) -> Vec<Vec<Cell>> {
    let m = &facts.memory;
    let row = |name: &str, used: u64, total: u64| {
        let free = total.saturating_sub(used);
        vec![name.into(), 1usize.into(), used.into(), free.into(), total.into()]
    };
    let mut rows = vec![row("process", m.resident_bytes, m.resident_bytes)];
    if let Some(heap) = &m.heap {
        rows.push(row("heap", heap.allocated_bytes, heap.resident_bytes));
    }
    // PgBouncer's slabs have an entry's size; of these tables the number of entries is what can be told.
    let table = |table: &crate::metrics::tables::Table| {
        vec![table.name.into(), 0usize.into(), table.entries.into(), 0usize.into(), 0usize.into()]
    };
    rows.extend(facts.tables.iter().map(table));
    rows
}

fn state(facts: &Facts) -> Vec<Vec<Cell>> {
    let paused = facts.all_paused;
    let word = |yes: bool| if yes { "yes" } else { "no" };
    [("active", !paused), ("paused", paused), ("suspended", false)]
        .map(|(key, yes)| vec![key.into(), word(yes).into()])
        .to_vec()
}

fn nodes(facts: &Facts) -> Vec<Vec<Cell>> {
    let config = &facts.config;
    let row = |(name, node): (&String, &crate::config::Node)| {
        let pools = || facts.pools.iter().filter(|p| p.node == *name);
        let sum = |f: fn(&PoolSnapshot) -> u64| Cell::from(pools().map(f).sum::<u64>());
        let count = |f: fn(&PoolSnapshot) -> usize| Cell::from(pools().map(f).sum::<usize>());
        let databases = config.databases.iter().filter(|(_, d)| d.nodes.contains(name));
        let databases = databases.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        vec![
            name.as_str().into(),
            node.host.as_str().into(),
            node.port.into(),
            word(node.role).into(),
            databases.into(),
            pools().count().into(),
            count(|p| p.cl_waiting),
            count(|p| p.sv_active),
            count(|p| p.sv_idle),
            count(|p| p.sv_login),
            count(|p| p.sv_pinned),
            sum(|p| p.connect_errors),
            sum(|p| p.wait_timeouts),
            sum(|p| p.totals.server_errors),
        ]
    };
    config.nodes.iter().map(row).collect()
}
