//! A hub and snapshots for tests.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::auth::Users;
use crate::auth::rules::Rules;
use crate::config::reload::Parts;
use crate::config::{Config, PoolMode};
use crate::hub::{ClientSnapshot, Hub, PoolSnapshot, ServerSnapshot};
use crate::metrics::stats::{Stats, Totals};
use crate::tls::Material;

/// A pool whose numbers differ from each other.
pub(crate) fn pool(database: &str, user: &str, node: &str) -> PoolSnapshot {
    PoolSnapshot {
        database: database.into(),
        user: user.into(),
        node: node.into(),
        mode: PoolMode::Transaction,
        cl_active: 1,
        cl_waiting: 2,
        cl_active_cancel_req: 0,
        cl_waiting_cancel_req: 0,
        sv_active: 3,
        sv_idle: 4,
        sv_used: 0,
        sv_tested: 0,
        sv_login: 5,
        sv_active_cancel: 0,
        sv_being_canceled: 0,
        sv_pinned: 6,
        maxwait: Duration::from_millis(2_500),
        size: 20,
        size_min: 0,
        reserve_size: 0,
        paused: false,
        disabled: false,
        totals: Totals { query_count: 7, xact_count: 6, query_time_us: 70, ..Totals::default() },
        latency: Stats::new(1).latency(),
        connect_errors: 8,
        wait_timeouts: 9,
    }
}

/// A client that holds server 2.
pub(crate) fn client(database: &str, user: &str) -> ClientSnapshot {
    ClientSnapshot {
        id: 1,
        user: user.into(),
        database: database.into(),
        state: "active",
        replication: "none",
        addr: "127.0.0.1".into(),
        port: 50_000,
        connect_time: SystemTime::UNIX_EPOCH,
        request_time: SystemTime::UNIX_EPOCH + Duration::from_secs(60),
        wait: Duration::ZERO,
        application_name: "tests".into(),
        tls: String::new(),
        prepared_statements: 3,
        pinned: "",
        link: Some(2),
    }
}

/// The server that [`client`] holds.
pub(crate) fn server(database: &str, user: &str, node: &str) -> ServerSnapshot {
    ServerSnapshot {
        id: 2,
        user: user.into(),
        database: database.into(),
        node: node.into(),
        state: "active",
        addr: "127.0.0.1".into(),
        port: 5432,
        connect_time: SystemTime::UNIX_EPOCH,
        request_time: SystemTime::UNIX_EPOCH,
        remote_pid: 4_242,
        tls: String::new(),
        prepared_statements: 1,
        link: Some(1),
    }
}

/// A hub for `config` that serves nobody yet.
pub(crate) fn hub(config: Config) -> Arc<Hub> {
    let (tls, users, rules) = (Material::default(), Users::default(), Rules::default());
    Hub::new(config, None, Parts { tls, users, rules }, 1)
}
