//! What an operator orders: pause, resume, disable, kill, reconnect, and waiting for it; and the
//! rows that show it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use parking_lot::Mutex;

use super::{ClientCounts, Pool, Pools};
use crate::hub::{PoolSnapshot, ServerSnapshot};

/// How often a waiting order looks again.
const LOOK_AGAIN_MS: u64 = 20;

/// Orders that also hold for pools which do not exist yet.
#[derive(Debug, Default)]
pub(super) struct Held {
    orders: Mutex<Orders>,
}

#[derive(Debug, Default)]
struct Orders {
    all_paused: bool,
    paused: HashSet<String>,
    disabled: HashSet<String>,
}

impl Held {
    pub(super) fn is_paused(&self, database: &str) -> bool {
        let orders = self.orders.lock();
        orders.all_paused || orders.paused.contains(database)
    }

    pub(super) fn is_disabled(&self, database: &str) -> bool {
        self.orders.lock().disabled.contains(database)
    }

    fn pause(&self, database: Option<&str>) {
        let mut orders = self.orders.lock();
        match database {
            None => orders.all_paused = true,
            Some(name) => {
                orders.paused.insert(name.to_owned());
            }
        }
    }

    fn resume(&self, database: Option<&str>) -> bool {
        let mut orders = self.orders.lock();
        match database {
            None => {
                let was = orders.all_paused || !orders.paused.is_empty();
                orders.all_paused = false;
                orders.paused.clear();
                was
            }
            Some(name) => orders.paused.remove(name) || orders.all_paused,
        }
    }
}

impl Pools {
    /// No checkouts for `database` (all when none) until `resume`; false: no such database.
    pub fn pause(&self, database: Option<&str>) -> bool {
        if !self.is_known(database) {
            return false;
        }
        self.held.pause(database);
        for pool in self.of(database) {
            pool.paused.store(true, Relaxed);
        }
        true
    }

    /// Undoes `pause` and `kill`; false: it was not paused.
    pub fn resume(&self, database: Option<&str>) -> bool {
        let was = self.held.resume(database);
        self.of(database).iter().fold(was, |was, pool| pool.resume() | was)
    }

    /// Whether `database` is paused.
    #[must_use]
    pub fn is_paused(&self, database: &str) -> bool {
        self.held.is_paused(database)
    }

    /// Refuses new clients of `database`; false: no such database.
    pub fn disable(&self, database: &str) -> bool {
        let known = self.is_known(Some(database));
        if known {
            self.held.orders.lock().disabled.insert(database.to_owned());
        }
        known
    }

    /// Undoes `disable`; false: it was not disabled.
    pub fn enable(&self, database: &str) -> bool {
        self.held.orders.lock().disabled.remove(database)
    }

    /// Whether new clients of `database` are refused.
    #[must_use]
    pub fn is_disabled(&self, database: &str) -> bool {
        self.held.is_disabled(database)
    }

    /// Ends every client and closes every server of `database`, and pauses it; false: no such
    /// database.
    pub fn kill(&self, database: Option<&str>) -> bool {
        let known = self.pause(database);
        if known {
            self.reconnect(database);
            self.sessions.kill_database(database);
        }
        known
    }

    /// Each server of `database` is closed when it is next free.
    pub fn reconnect(&self, database: Option<&str>) {
        for pool in self.of(database) {
            pool.retire_all();
        }
    }

    /// Waits until no paused pool of `database` has an active server. Cancel safe.
    pub async fn wait_paused(&self, database: Option<&str>) {
        let busy = |pool: &Arc<Pool>| {
            pool.paused.load(Relaxed) && pool.open() > pool.idle() + pool.connecting()
        };
        self.wait_until(database, |pools| !pools.iter().any(busy)).await;
    }

    /// Waits until every server that `reconnect` marked is gone. Cancel safe.
    pub async fn wait_reconnected(&self, database: Option<&str>) {
        let marked: Vec<u64> =
            self.of(database).iter().flat_map(|pool| pool.retired_ids()).collect();
        let gone = |pools: &[Arc<Pool>]| {
            !marked.iter().any(|id| pools.iter().any(|pool| pool.servers.contains_key(id)))
        };
        self.wait_until(database, gone).await;
    }

    async fn wait_until(&self, database: Option<&str>, done: impl Fn(&[Arc<Pool>]) -> bool) {
        while !done(&self.of(database)) {
            tokio::time::sleep(Duration::from_millis(LOOK_AGAIN_MS)).await;
        }
    }
}

impl Pool {
    /// Servers of an older generation.
    fn retired_ids(&self) -> Vec<u64> {
        let now = self.generation();
        let old = self.servers.iter().filter(|s| s.generation < now);
        old.map(|s| s.id).collect()
    }

    pub(super) fn snapshot(&self, clients: ClientCounts, disabled: bool) -> PoolSnapshot {
        let settings = self.settings.load();
        let (open, idle, login) = (self.open(), self.idle(), self.connecting());
        let canceled = self.servers.iter().filter(|s| s.is_being_canceled()).count();
        PoolSnapshot {
            database: self.key.database.to_string(),
            user: self.key.user.to_string(),
            node: self.key.node.to_string(),
            mode: settings.mode,
            cl_active: clients.active,
            cl_waiting: self.waiting(),
            cl_active_cancel_req: canceled,
            cl_waiting_cancel_req: 0,
            sv_active: open.saturating_sub(idle + login),
            sv_idle: idle,
            sv_used: 0,
            sv_tested: 0,
            sv_login: login,
            sv_active_cancel: canceled,
            sv_being_canceled: canceled,
            sv_pinned: clients.pinned,
            maxwait: self.longest_wait(),
            size: settings.size,
            size_min: settings.size_min,
            reserve_size: settings.reserve_size,
            paused: self.paused.load(Relaxed),
            disabled,
            totals: self.stats.totals(),
            latency: self.stats.latency(),
            connect_errors: self.connect_errors(),
            wait_timeouts: self.wait_timeouts.load(Relaxed),
        }
    }

    pub(super) fn server_rows(&self) -> Vec<ServerSnapshot> {
        let settings = self.settings.load();
        let generation = self.generation();
        let rows = self.servers.iter().map(|info| {
            let link = Some(info.held_by.load(Relaxed)).filter(|id| *id != 0);
            let state = match link {
                Some(_) => "active",
                None if info.generation < generation => "retired",
                None => "idle",
            };
            ServerSnapshot {
                id: info.id,
                user: self.key.user.to_string(),
                database: self.key.database.to_string(),
                node: self.key.node.to_string(),
                state,
                addr: settings.node.host.clone(),
                port: settings.node.port,
                connect_time: info.opened_at,
                request_time: info.opened_at,
                remote_pid: info.pid,
                tls: if info.tls { "TLS".into() } else { String::new() },
                prepared_statements: info.prepared.load(Relaxed),
                link,
            }
        });
        rows.collect()
    }
}
