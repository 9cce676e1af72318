//! What a pool is told: sizes, times and where to connect, computed from the configuration.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crate::auth::Credentials;
use crate::config::{Config, Database, Node, PoolMode, Proxy};

/// The settings of one pool; database and user overrides are applied already.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // the configuration's own names, explained there
pub struct PoolSettings {
    pub mode: PoolMode,
    pub size: usize,
    pub size_min: usize,
    pub reserve_size: usize,
    pub reserve_timeout: Duration,
    pub wait_timeout: Duration,
    pub max_waiting: usize,
    pub server_lifetime: Duration,
    pub server_idle_timeout: Duration,
    pub server_connect_timeout: Duration,
    pub server_login_retry: Duration,
    pub server_reset_query: String,
    pub prepared_statements_max: usize,
    pub connect_query: String,
    pub node: Node,
    /// Database on the server.
    pub dbname: String,
    /// User on the server.
    pub login_user: String,
    /// Credentials of the configuration; none: the client's.
    pub login: Option<Credentials>,
    pub proxy: Proxy,
}

impl PoolSettings {
    /// For `user` on `database` (as the client names it) at `node`.
    #[must_use]
    pub fn new(config: &Config, name: &str, db: &Database, user: &str, node: &Node) -> Self {
        let pool = &config.pool;
        let overrides = config.users.get(user);
        let login = (!db.user.is_empty()).then(|| login_of(config, db));
        PoolSettings {
            mode: overrides.and_then(|u| u.mode).or(db.mode).unwrap_or(pool.mode),
            size: overrides.and_then(|u| u.size).or(db.size).unwrap_or(pool.size_default).max(1),
            size_min: db.size_min.unwrap_or(pool.size_min),
            reserve_size: db.reserve_size.unwrap_or(pool.reserve_size),
            reserve_timeout: pool.reserve_timeout,
            wait_timeout: db.wait_timeout.unwrap_or(pool.wait_timeout),
            max_waiting: pool.max_waiting,
            server_lifetime: pool.server_lifetime,
            server_idle_timeout: pool.server_idle_timeout,
            server_connect_timeout: pool.server_connect_timeout,
            server_login_retry: pool.server_login_retry,
            server_reset_query: pool.server_reset_query.clone(),
            prepared_statements_max: pool.prepared_statements_max,
            connect_query: db.connect_query.clone(),
            node: node.clone(),
            dbname: if db.dbname.is_empty() { name.to_owned() } else { db.dbname.clone() },
            login_user: if db.user.is_empty() { user.to_owned() } else { db.user.clone() },
            login,
            proxy: config.proxy.clone(),
        }
    }
}

fn login_of(_config: &Config, db: &Database) -> Credentials {
    if let Some(password) = &db.password {
        return Credentials::Password(password.clone());
    }
    let Some(path) = &db.password_file else { return Credentials::None };
    match std::fs::read_to_string(path) {
        Ok(text) => Credentials::Password(text.trim_end_matches(['\r', '\n']).to_owned().into()),
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "can't read password_file");
            Credentials::None
        }
    }
}

/// Servers at most over several pools: of one database, or of one user.
#[derive(Default)]
pub struct Limit {
    /// 0: none.
    pub max: AtomicUsize,
    /// Servers open or being opened.
    pub used: AtomicUsize,
    /// Pools that wait for a place.
    pub starving: AtomicUsize,
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Limit({}/{})", self.used.load(Relaxed), self.max.load(Relaxed))
    }
}

impl Limit {
    /// Takes a place; false: there is none.
    #[must_use]
    pub fn take(&self) -> bool {
        let max = self.max.load(Relaxed);
        let took = self
            .used
            .fetch_update(Relaxed, Relaxed, |used| (max == 0 || used < max).then_some(used + 1));
        took.is_ok()
    }

    /// Gives a place back.
    pub fn release(&self) {
        self.used.fetch_sub(1, Relaxed);
    }
}
