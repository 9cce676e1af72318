//! Pools: the servers of one user, database and node; checkout and checkin.
//!
//! [`Pools`] keeps one [`Pool`] for each user, database and node, applies a new configuration to
//! them, and does what an operator orders. It never touches a client's bytes.

pub mod ask;
pub mod connect;
pub mod exec;
pub mod failure;
pub mod janitor;
mod launch;
mod login;
pub mod order;
#[allow(clippy::module_inception)] // the room's main type
pub mod pool;
pub mod server;
pub mod settings;
mod shared;
pub mod waiter;
pub mod welcome;

pub use launch::last_error;
pub use pool::{Pool, PoolKey, Wait};
pub use server::{Reported, Server, ServerInfo};
pub use waiter::{Served, Waiter};

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Role};
use crate::hub::{PoolSnapshot, ServerSnapshot};
use crate::session::registry::Sessions;
use crate::tls::Material;
use settings::{Limit, PoolSettings};
use shared::Shared;

/// Every pool of the process.
#[derive(Debug)]
pub struct Pools {
    pools: DashMap<PoolKey, Arc<Pool>>,
    databases: DashMap<Arc<str>, Arc<Limit>>,
    users: DashMap<Arc<str>, Arc<Limit>>,
    held: order::Held,
    workers: usize,
    tls: Arc<ArcSwap<Material>>,
    stopping: CancellationToken,
    shared: OnceLock<Arc<Shared>>,
    sessions: Arc<Sessions>,
    /// Names of configured databases; `*` among them fits every name.
    names: ArcSwap<Vec<String>>,
    turn: AtomicU32,
}

impl Pools {
    /// None yet; statistics are counted in `workers` shards.
    #[must_use]
    pub fn new(
        workers: usize,
        config: &Config,
        tls: Arc<ArcSwap<Material>>,
        stopping: CancellationToken,
        sessions: Arc<Sessions>,
    ) -> Pools {
        Pools {
            pools: DashMap::new(),
            databases: DashMap::new(),
            users: DashMap::new(),
            held: order::Held::default(),
            workers,
            tls,
            stopping,
            shared: OnceLock::new(),
            sessions,
            names: ArcSwap::from_pointee(config.databases.keys().cloned().collect()),
            turn: AtomicU32::new(0),
        }
    }

    /// The runtime that servers live on: the data plane's. Said once, before the first client.
    pub fn set_runtime(&self, runtime: Handle) {
        let shared = Shared::new(self.tls.clone(), self.stopping.clone(), runtime);
        let _ = self.shared.set(shared);
    }

    /// The pools that serve `user` on `database`, one a node; none: no such database.
    #[must_use]
    pub fn targets(&self, config: &Config, database: &str, user: &str) -> Option<Vec<Arc<Pool>>> {
        let (_, db) = config.database(database)?;
        let nodes = db.nodes.iter().filter_map(|name| Some((name, config.nodes.get(name)?)));
        let wanted = nodes.filter(|(_, node)| node.role == db.role);
        let take = if db.role == Role::Primary { 1 } else { usize::MAX };
        let pools = wanted.take(take).map(|(name, node)| {
            let key = PoolKey {
                database: database.into(),
                user: user.into(),
                node: name.as_str().into(),
            };
            let settings = PoolSettings::new(config, database, db, user, node);
            self.pool(key, settings, config)
        });
        Some(pools.collect())
    }

    fn pool(&self, key: PoolKey, settings: PoolSettings, config: &Config) -> Arc<Pool> {
        if let Some(pool) = self.pools.get(&key).map(|p| p.clone()) {
            return pool;
        }
        let limits = (
            limit_of(&self.databases, &key.database, max_of_database(config, &key.database)),
            limit_of(&self.users, &key.user, max_of_user(config, &key.user)),
        );
        let pool = Pool::new(key.clone(), settings, self.workers, limits);
        if self.held.is_paused(&key.database) {
            pool.paused.store(true, Relaxed);
        }
        if let Some(shared) = self.shared() {
            shared.adopt(&pool);
        }
        // Two clients may race here: the first one's pool wins.
        self.pools.entry(key).or_insert(pool).clone()
    }

    fn shared(&self) -> Option<Arc<Shared>> {
        if let Some(shared) = self.shared.get() {
            return Some(shared.clone());
        }
        let runtime = Handle::try_current().ok()?;
        self.set_runtime(runtime);
        self.shared.get().cloned()
    }

    /// Applies a new configuration: sizes and times at once, another place or login to new servers.
    pub fn apply(&self, config: &Config) {
        self.names.store(Arc::new(config.databases.keys().cloned().collect()));
        for entry in &self.databases {
            entry.value().max.store(max_of_database(config, entry.key()), Relaxed);
        }
        for entry in &self.users {
            entry.value().max.store(max_of_user(config, entry.key()), Relaxed);
        }
        for pool in self.all() {
            let key = &pool.key;
            let db = config.database(&key.database);
            let node = config.nodes.get(&*key.node);
            let (Some((_, db)), Some(node)) = (db, node) else {
                pool.retire_all();
                self.pools.remove(key);
                continue;
            };
            let new = PoolSettings::new(config, &key.database, db, &key.user, node);
            let old = pool.settings.load_full();
            let moved = new.node != old.node
                || new.dbname != old.dbname
                || new.login_user != old.login_user
                || new.connect_query != old.connect_query;
            pool.change_settings(new);
            if moved {
                pool.welcomes.clear();
                pool.retire_all();
            }
            pool.serve_queue();
            launch::launch_if_needed(&pool);
        }
        // Names come and go with configurations; a limit that no pool counts under is nobody's.
        self.databases.retain(|_, limit| Arc::strong_count(limit) > 1);
        self.users.retain(|_, limit| Arc::strong_count(limit) > 1);
    }

    /// Which of `targets` is next: in turn, passing over those whose logins fail while another's don't.
    #[must_use]
    pub fn pick<'a>(&self, targets: &'a [Arc<Pool>]) -> Option<&'a Arc<Pool>> {
        if let [only] = targets {
            return Some(only);
        }
        let turn = self.turn.fetch_add(1, Relaxed) as usize;
        let in_turn = || (0..targets.len()).filter_map(|n| targets.get((turn + n) % targets.len()));
        in_turn().find(|pool| !pool.is_failing()).or_else(|| in_turn().next())
    }

    /// Every pool.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Pool>> {
        self.pools.iter().map(|entry| entry.value().clone()).collect()
    }

    /// Whether a client may name `database`.
    fn is_known(&self, database: Option<&str>) -> bool {
        let names = self.names.load();
        database.is_none_or(|name| names.iter().any(|known| known == name || known == "*"))
    }

    fn of(&self, database: Option<&str>) -> Vec<Arc<Pool>> {
        let mut pools = self.all();
        pools.retain(|pool| database.is_none_or(|name| name == &*pool.key.database));
        pools
    }

    /// One row a pool.
    #[must_use]
    pub fn snapshot(&self) -> Vec<PoolSnapshot> {
        let counts = self.sessions.count_by_pool();
        let mut rows: Vec<_> = self
            .all()
            .iter()
            .map(|pool| {
                let clients = counts.get(&pool.key).copied().unwrap_or_default();
                pool.snapshot(clients, self.held.is_disabled(&pool.key.database))
            })
            .collect();
        rows.sort_by(|a, b| (&a.database, &a.user, &a.node).cmp(&(&b.database, &b.user, &b.node)));
        rows
    }

    /// How much the pools remember.
    #[must_use]
    pub fn tables(&self) -> Tables {
        let pools = self.all();
        let sum = |of: fn(&Pool) -> usize| pools.iter().map(|pool| of(pool)).sum();
        let (tasks, starving) = self.shared.get().map_or((0, 0), |shared| shared.counts());
        Tables {
            pools: pools.len(),
            servers: sum(|pool| pool.servers.len()),
            waiting: sum(Pool::waiting),
            welcomes: sum(|pool| pool.welcomes.len()),
            limits: self.databases.len() + self.users.len(),
            starving,
            tasks,
        }
    }

    /// One row a server.
    #[must_use]
    pub fn servers(&self) -> Vec<ServerSnapshot> {
        let mut rows: Vec<_> = self.all().iter().flat_map(|pool| pool.server_rows()).collect();
        rows.sort_by_key(|row| row.id);
        rows
    }
}

fn limit_of(map: &DashMap<Arc<str>, Arc<Limit>>, name: &Arc<str>, max: usize) -> Arc<Limit> {
    let limit = map.entry(name.clone()).or_default().clone();
    limit.max.store(max, Relaxed);
    limit
}

fn max_of_database(config: &Config, name: &str) -> usize {
    let own = config.database(name).and_then(|(_, db)| db.max_connections);
    own.unwrap_or(config.pool.max_database_connections)
}

fn max_of_user(config: &Config, name: &str) -> usize {
    let own = config.users.get(name).and_then(|user| user.max_connections);
    own.unwrap_or(config.pool.max_user_connections)
}

/// Entries of what the pools remember.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tables {
    /// Pools.
    pub pools: usize,
    /// Servers, in all states.
    pub servers: usize,
    /// Clients in queues.
    pub waiting: usize,
    /// Greetings.
    pub welcomes: usize,
    /// Names of databases and users with a limit over several pools.
    pub limits: usize,
    /// Pools that wait for a place under such a limit.
    pub starving: usize,
    /// Tasks that open, clean or check servers.
    pub tasks: usize,
}

/// Clients of a pool by what they do; `SHOW POOLS`.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClientCounts {
    /// Hold a server, or are idle.
    pub active: usize,
    /// Wait for a server.
    pub waiting: usize,
    /// Keep a server because of what they left on it.
    pub pinned: usize,
}
