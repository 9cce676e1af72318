//! What listeners, sessions, pools and the admin side share; made once, handed around as `Arc<Hub>`.
//!
//! Nothing here is locked on a query's way: configuration and TLS are snapshots (`ArcSwap`), the
//! registries are touched once a connection.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::averages::Averages;
use crate::auth::{AuthQuery, Rules, Users};
use crate::config::reload::Parts;
use crate::config::{Config, PoolMode};
use crate::metrics::stats::{Latency, Totals};
use crate::pool::Pools;
use crate::session::listen::Listeners;
use crate::session::registry::Sessions;
use crate::tls::Material;

/// The shared state of one pgherd process.
#[derive(Debug)]
pub struct Hub {
    /// The configuration in force.
    pub config: ArcSwap<Config>,
    /// The file it came from.
    pub config_path: Option<PathBuf>,
    /// TLS of both sides.
    pub tls: Arc<ArcSwap<Material>>,
    /// Users of `auth.users_file`.
    pub users: ArcSwap<Users>,
    /// `auth.rules`: how clients prove who they are.
    pub rules: ArcSwap<Rules>,
    /// Users that are looked up in the database.
    pub auth_query: AuthQuery,
    /// Every pool.
    pub pools: Pools,
    /// Every session, and the way from a cancel key to it.
    pub sessions: Arc<Sessions>,
    /// The shared listeners behind LISTEN.
    pub listeners: Listeners,
    /// Client tasks: a drain waits for them.
    pub tasks: TaskTracker,
    /// Tasks that serve no client of their own: they end with the process.
    pub background: TaskTracker,
    /// Cancelled when the process drains: listeners close, idle clients leave.
    pub draining: CancellationToken,
    /// Another process serves new clients: those that were on their way in to this one are welcome.
    pub handed_over: AtomicBool,
    /// Cancelled when everything must end now.
    pub stopping: CancellationToken,
    /// When the process started.
    pub started: Instant,
    /// The same on the wall clock.
    pub started_at: SystemTime,
    /// False until listeners are open, and again while draining: `/readyz`.
    pub ready: AtomicBool,
    /// Clients connected now (before and after login).
    pub clients_now: AtomicUsize,
    /// Clients ever accepted.
    pub clients_total: AtomicU64,
    /// Logins refused or broken.
    pub logins_failed: AtomicU64,
    /// Samples of the pools' totals, for averages.
    pub averages: Averages,
}

/// A row of `SHOW POOLS`.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // PgBouncer's column names; see its manual, SHOW POOLS
pub struct PoolSnapshot {
    pub database: String,
    pub user: String,
    pub node: String,
    pub mode: PoolMode,
    pub cl_active: usize,
    pub cl_waiting: usize,
    pub cl_active_cancel_req: usize,
    pub cl_waiting_cancel_req: usize,
    pub sv_active: usize,
    pub sv_idle: usize,
    pub sv_used: usize,
    pub sv_tested: usize,
    pub sv_login: usize,
    pub sv_active_cancel: usize,
    pub sv_being_canceled: usize,
    /// Servers whose session must keep them.
    pub sv_pinned: usize,
    pub maxwait: Duration,
    pub size: usize,
    pub size_min: usize,
    pub reserve_size: usize,
    pub paused: bool,
    pub disabled: bool,
    pub totals: Totals,
    pub latency: Latency,
    /// Logins to servers that failed.
    pub connect_errors: u64,
    /// Clients that waited longer than `wait_timeout`.
    pub wait_timeouts: u64,
}

/// A row of `SHOW CLIENTS`.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // PgBouncer's column names; see its manual, SHOW CLIENTS
pub struct ClientSnapshot {
    pub id: u64,
    pub user: String,
    pub database: String,
    /// active (holds a server), waiting or idle.
    pub state: &'static str,
    pub replication: &'static str,
    pub addr: String,
    pub port: u16,
    pub connect_time: SystemTime,
    pub request_time: SystemTime,
    pub wait: Duration,
    pub application_name: String,
    pub tls: String,
    pub prepared_statements: usize,
    /// Why the session keeps its server; empty when it does not.
    pub pinned: &'static str,
    /// Id of the server it holds.
    pub link: Option<u64>,
}

/// A row of `SHOW SERVERS`.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // PgBouncer's column names; see its manual, SHOW SERVERS
pub struct ServerSnapshot {
    pub id: u64,
    pub user: String,
    pub database: String,
    pub node: String,
    /// active, idle, login or retired.
    pub state: &'static str,
    pub addr: String,
    pub port: u16,
    pub connect_time: SystemTime,
    pub request_time: SystemTime,
    pub remote_pid: u32,
    pub tls: String,
    pub prepared_statements: usize,
    pub link: Option<u64>,
}

impl Hub {
    /// A hub for `config`.
    #[must_use]
    pub fn new(
        config: Config,
        config_path: Option<PathBuf>,
        parts: Parts,
        workers: usize,
    ) -> Arc<Hub> {
        let Parts { tls, users, rules } = parts;
        let tls = Arc::new(ArcSwap::from_pointee(tls));
        let stopping = CancellationToken::new();
        let sessions = Arc::new(Sessions::default());
        let pools = Pools::new(workers, &config, tls.clone(), stopping.clone(), sessions.clone());
        Arc::new(Hub {
            rules: ArcSwap::from_pointee(rules),
            auth_query: AuthQuery::default(),
            config: ArcSwap::from_pointee(config),
            config_path,
            tls,
            users: ArcSwap::from_pointee(users),
            pools,
            sessions,
            listeners: Listeners::default(),
            tasks: TaskTracker::new(),
            background: TaskTracker::new(),
            draining: CancellationToken::new(),
            handed_over: AtomicBool::new(false),
            stopping,
            started: Instant::now(),
            started_at: SystemTime::now(),
            ready: AtomicBool::new(false),
            clients_now: AtomicUsize::new(0),
            clients_total: AtomicU64::new(0),
            logins_failed: AtomicU64::new(0),
            averages: Averages::default(),
        })
    }

    /// Whether new clients are welcome.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Relaxed) && !self.draining.is_cancelled()
    }
}
