//! The columns of SHOW, by name and type as PgBouncer has them (usage manual and admin.c).
//!
//! They are known without any facts, because Describe asks for them before Execute. One deviation:
//! `id` is int8, as a long-lived proxy counts past int4.

use super::command::{PARAMETERS, Show};
use super::stats;
use super::table::{Column, big, int, text};

/// How many columns SOCKETS has more than CLIENTS and SERVERS.
pub(super) const DETAILS: usize = SOCKET_DETAILED.len() - SOCKET.len();

/// The columns of `show`; none for what answers with a notice.
pub(super) fn of(show: Show) -> &'static [Column] {
    match show {
        Show::Help => &[],
        Show::Version => const { &[text("version")] },
        Show::Config => CONFIG,
        Show::Databases => DATABASES,
        Show::Pools => POOLS,
        Show::PeerPools => PEER_POOLS,
        Show::Clients | Show::Servers => SOCKET,
        Show::Sockets | Show::ActiveSockets => SOCKET_DETAILED,
        Show::Lists => const { &[text("list"), int("items")] },
        Show::Users => USERS,
        Show::Stats => stats::STATS,
        Show::StatsTotals | Show::StatsAverages => stats::HALF,
        Show::Totals => stats::TOTALS,
        Show::Mem => {
            const { &[text("name"), big("size"), big("used"), big("free"), big("memtotal")] }
        }
        Show::Fds => FDS,
        Show::DnsHosts => const { &[text("hostname"), big("ttl"), text("addrs")] },
        Show::DnsZones => const { &[text("zonename"), big("serial"), int("count")] },
        Show::State => const { &[text("key"), text("value")] },
        Show::Peers => const { &[int("peer_id"), text("host"), int("port"), int("pool_size")] },
        Show::Nodes => NODES,
        Show::Parameter(name, _) => parameter(name),
    }
}

const CONFIG: &[Column] = &[text("key"), text("value"), text("default"), text("changeable")];

const DATABASES: &[Column] = &[
    text("name"),
    text("host"),
    int("port"),
    text("database"),
    text("force_user"),
    int("pool_size"),
    int("min_pool_size"),
    int("reserve_pool_size"),
    int("server_lifetime"),
    text("pool_mode"),
    text("load_balance_hosts"),
    int("max_connections"),
    int("current_connections"),
    int("max_client_connections"),
    int("current_client_connections"),
    int("paused"),
    int("disabled"),
];

const POOLS: &[Column] = &[
    text("database"),
    text("user"),
    int("cl_active"),
    int("cl_waiting"),
    int("cl_active_cancel_req"),
    int("cl_waiting_cancel_req"),
    int("sv_active"),
    int("sv_active_cancel"),
    int("sv_being_canceled"),
    int("sv_idle"),
    int("sv_used"),
    int("sv_tested"),
    int("sv_login"),
    int("maxwait"),
    int("maxwait_us"),
    text("pool_mode"),
    text("load_balance_hosts"),
];

const PEER_POOLS: &[Column] = &[
    int("peer_id"),
    int("cl_active_cancel_req"),
    int("cl_waiting_cancel_req"),
    int("sv_active_cancel"),
    int("sv_login"),
];

macro_rules! socket_columns {
    ($($more:expr),*) => { &[
        text("type"), text("user"), text("database"), text("replication"), text("state"),
        text("addr"), int("port"), text("local_addr"), int("local_port"), text("connect_time"),
        text("request_time"), int("wait"), int("wait_us"), int("close_needed"), text("ptr"),
        text("link"), int("remote_pid"), text("tls"), text("application_name"),
        int("prepared_statements"), big("id"), $($more),*
    ] };
}

const SOCKET: &[Column] = socket_columns!();

const SOCKET_DETAILED: &[Column] = socket_columns!(
    int("recv_pos"),
    int("pkt_pos"),
    int("pkt_remain"),
    int("send_pos"),
    int("send_remain"),
    int("pkt_avail"),
    int("send_avail")
);

const USERS: &[Column] = &[
    text("name"),
    text("pool_size"),
    text("reserve_pool_size"),
    text("pool_mode"),
    int("max_user_connections"),
    int("current_connections"),
    int("max_user_client_connections"),
    int("current_client_connections"),
];

const FDS: &[Column] = &[
    int("fd"),
    text("task"),
    text("user"),
    text("database"),
    text("addr"),
    int("port"),
    big("cancel"),
    int("link"),
    text("client_encoding"),
    text("std_strings"),
    text("datestyle"),
    text("timezone"),
    text("password"),
    text("scram_client_key"),
    text("scram_server_key"),
];

const NODES: &[Column] = &[
    text("node"),
    text("host"),
    int("port"),
    text("role"),
    text("databases"),
    int("pools"),
    int("cl_waiting"),
    int("sv_active"),
    int("sv_idle"),
    int("sv_login"),
    int("sv_pinned"),
    big("connect_errors"),
    big("wait_timeouts"),
    big("server_errors"),
];

/// One column, named like the parameter: a constant for each, as Describe needs it for ever.
fn parameter(name: &str) -> &'static [Column] {
    const ALL: [[Column; 1]; PARAMETERS.len()] = {
        let mut all = [[text("")]; PARAMETERS.len()];
        let mut i = 0;
        while i < all.len() {
            all[i] = [text(PARAMETERS[i].0)];
            i += 1;
        }
        all
    };
    static COLUMNS: [[Column; 1]; PARAMETERS.len()] = ALL;
    COLUMNS.iter().find(|[column]| column.name == name).map_or(&[], |c| c.as_slice())
}
