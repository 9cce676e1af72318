//! Opening servers for who waits: how many at once, how soon again after a failure.
//!
//! A login runs in a task of its own, so that a client which leaves does not throw a half-made
//! connection away, and a server that becomes free meanwhile serves it. While logins fail only one
//! is tried at a time, with growing pauses: no login storm.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::time::Duration;

use parking_lot::Mutex;

use super::connect::{self, ConnectError, Dial};
use super::exec;
use super::pool::Pool;
use super::server::{Reported, Server, ServerInfo};
use super::shared::Shared;
use crate::error::Report;
use crate::limits;
use crate::session::settings::Settings;
use crate::tls;

/// Longest pause between failed logins, in multiples of `server_login_retry`.
const BACKOFF_FACTOR_MAX: u32 = 16;

/// Whether the reserve may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserve {
    /// Up to the pool's size.
    Closed,
    /// And the reserve beyond it.
    Open,
}

/// The state of a pool's logins.
#[derive(Debug, Default)]
pub struct Launch {
    pub(super) connecting: AtomicUsize,
    pub(super) failing: AtomicBool,
    pub(super) errors: AtomicU64,
    pub(super) last_error: Mutex<Option<Arc<Report>>>,
    pub(super) shared: std::sync::OnceLock<Arc<Shared>>,
}

/// One place in a pool's count of servers, and in its database's and user's.
#[derive(Debug)]
pub struct Slot {
    pool: Arc<Pool>,
}

/// Which limit has no place left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// The pool's own size.
    Pool,
    /// Its database's, over all users.
    Database,
    /// Its user's, over all databases.
    User,
}

impl Slot {
    /// A place, if all limits have one.
    fn take(pool: &Arc<Pool>, reserve: Reserve) -> Result<Slot, Full> {
        let settings = pool.settings.load();
        let extra = if reserve == Reserve::Open { settings.reserve_size } else { 0 };
        let max = settings.size + extra;
        let one_more = |open| (open < max).then_some(open + 1);
        pool.open.fetch_update(SeqCst, SeqCst, one_more).map_err(|_| Full::Pool)?;
        if !pool.database_limit.take() {
            pool.open.fetch_sub(1, SeqCst);
            return Err(Full::Database);
        }
        if !pool.user_limit.take() {
            pool.database_limit.release();
            pool.open.fetch_sub(1, SeqCst);
            return Err(Full::User);
        }
        Ok(Slot { pool: pool.clone() })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let pool = &self.pool;
        pool.open.fetch_sub(1, SeqCst);
        pool.database_limit.release();
        pool.user_limit.release();
        // Pools without any server come first: this one could take the place back for ever.
        if pool.has_starving_neighbours()
            && let Some(shared) = pool.launch.shared.get()
        {
            shared.feed_starving();
        }
        launch_if_needed(pool);
    }
}

/// Opens a server if the pool may have one more and somebody waits for it.
pub fn launch_if_needed(pool: &Arc<Pool>) {
    if pool.waiting() > 0 {
        launch(pool, Reserve::Closed);
    }
}

/// Opens a server if the pool may have one more and logins under way don't suffice for who waits.
pub fn launch(pool: &Arc<Pool>, reserve: Reserve) {
    let connecting = pool.launch.connecting.load(Relaxed);
    if pool.paused.load(Relaxed) || connecting >= pool.waiting().max(1) {
        return;
    }
    if pool.launch.failing.load(Relaxed) && connecting > 0 {
        return;
    }
    let Some(shared) = pool.launch.shared.get() else { return };
    match Slot::take(pool, reserve) {
        Ok(slot) => start(pool, shared, slot),
        Err(Full::Pool) => {}
        Err(_) if pool.waiting() == 0 => {}
        // Idle servers of other pools make room; the slot of one launches for who starves.
        Err(full) => {
            shared.starve(pool, full);
            if shared.evict_for(pool, full) {
                return;
            }
            // A place may have become free before anybody knew that this pool wants it.
            if let Ok(slot) = Slot::take(pool, reserve) {
                shared.sated(pool);
                start(pool, shared, slot);
            } else if pool.open() > 0 {
                // It has servers that will serve its queue: nobody else must give up one.
                shared.sated(pool);
            }
        }
    }
}

fn start(pool: &Arc<Pool>, shared: &Arc<Shared>, slot: Slot) {
    pool.launch.connecting.fetch_add(1, SeqCst);
    let pool = pool.clone();
    let shared2 = shared.clone();
    shared.tasks.spawn_on(async move { open(pool, shared2, slot).await }, &shared.runtime);
}

/// Opens servers until one stands or nobody waits. Not cancel safe: the task that runs it owns the slot.
async fn open(pool: Arc<Pool>, shared: Arc<Shared>, slot: Slot) {
    let mut pause = 1;
    let server = loop {
        let settings = pool.settings.load_full();
        let time = settings.server_connect_timeout;
        let attempt = tokio::time::timeout(time, log_in(&pool, &shared));
        let error = match attempt.await {
            Ok(Ok(server)) => break Some(server),
            Ok(Err(error)) => error,
            Err(_) => timed_out(&pool.key.node),
        };
        if !failed(&pool, &error) {
            break None;
        }
        // "0s" is "soon", not a storm of logins.
        let pause_min = Duration::from_millis(limits::LOGIN_RETRY_MS_MIN);
        let pause_for = settings.server_login_retry.max(pause_min) * pause;
        pause = (pause * 2).min(BACKOFF_FACTOR_MAX);
        tokio::select! {
            () = tokio::time::sleep(pause_for) => {}
            () = shared.stopping.cancelled() => break None,
        }
        if pool.waiting() == 0 || pool.launch.connecting.load(Relaxed) > 1 {
            break None;
        }
    };
    pool.launch.connecting.fetch_sub(1, SeqCst);
    if let Some(parts) = server {
        pool.launch.failing.store(false, Relaxed);
        *pool.launch.last_error.lock() = None;
        pool.checkin(parts.into_server(&pool, slot), crate::clock::Moment::now());
        launch_if_needed(&pool);
    }
}

/// Notes a failed login; answers whether trying again makes sense.
fn failed(pool: &Arc<Pool>, error: &ConnectError) -> bool {
    pool.launch.errors.fetch_add(1, Relaxed);
    let report = Arc::new(error.report());
    let first = !pool.launch.failing.swap(true, Relaxed);
    *pool.launch.last_error.lock() = Some(report.clone());
    if first {
        tracing::warn!(node = %pool.key.node, database = %pool.key.database, user = %pool.key.user,
            %error, "login to a server failed");
    }
    if is_permanent(error) && pool.open() <= pool.connecting() {
        pool.fail_queue(&report);
        return false;
    }
    pool.waiting() > 0
}

/// Whether trying again can't help until somebody changes something.
fn is_permanent(error: &ConnectError) -> bool {
    match error {
        ConnectError::Refused { sqlstate, .. } => {
            sqlstate.starts_with("28") || sqlstate.starts_with("3D") || sqlstate.starts_with("42")
        }
        ConnectError::Tls(error) => tls::is_distrust(error),
        ConnectError::NoTls
        | ConnectError::Method(_)
        | ConnectError::ClearText
        | ConnectError::Scram(_)
        | ConnectError::Credentials { .. } => true,
        _ => false,
    }
}

fn timed_out(node: &str) -> ConnectError {
    ConnectError::Open { place: node.to_owned(), source: std::io::ErrorKind::TimedOut.into() }
}

/// `connect_query` is the operator's: the server's answer to it is told as it is.
fn connect_query_failed(error: exec::ExecError) -> ConnectError {
    match error {
        exec::ExecError::Io(error) => ConnectError::Broken(error),
        exec::ExecError::Refused { sqlstate, message } => ConnectError::Refused {
            sqlstate,
            message: format!("connect_query failed: {message}"),
            severity: "ERROR".into(),
        },
        exec::ExecError::Protocol(_) => ConnectError::Closed,
    }
}

/// A server that has logged in and has no slot yet.
struct Parts {
    server: connect::LoggedIn,
    reported: Arc<Reported>,
    generation: u32,
    id: u64,
}

impl Parts {
    fn into_server(self, pool: &Arc<Pool>, slot: Slot) -> Box<Server> {
        let tls = self.server.stream.is_tls();
        let key = (self.server.pid, self.server.secret);
        let info = ServerInfo::new(self.id, pool.clone(), key, tls, self.generation);
        let info = Arc::new(info);
        pool.servers.insert(self.id, info.clone());
        Box::new(Server::new(self.server.stream, info, self.reported, slot))
    }
}

async fn log_in(pool: &Arc<Pool>, shared: &Shared) -> Result<Parts, ConnectError> {
    let settings = pool.settings.load_full();
    let credentials = pool.credentials.load_full();
    let generation = pool.generation();
    let tls = shared.tls.load_full();
    let dial = Dial {
        node: &settings.node,
        database: &settings.dbname,
        user: &settings.login_user,
        credentials: settings.login.as_ref().unwrap_or(&credentials),
        parameters: &[("application_name", "pgherd")],
        tls: &tls,
        proxy: &settings.proxy,
    };
    let mut server = connect::connect(&dial).await?;
    let mut reported = Reported::default();
    for (name, value) in &server.parameters {
        reported.set(name.as_bytes(), value.as_bytes());
    }
    if !settings.connect_query.is_empty() {
        exec::run_on(&mut server.stream, settings.connect_query.as_bytes(), &mut reported)
            .await
            .map_err(connect_query_failed)?;
    }
    let reported = pool.intern(reported);
    // Who asks for no settings is greeted with this, even while every server is taken.
    pool.welcomes.put(Settings::default(), reported.clone());
    Ok(Parts { server, reported, generation, id: shared.next_id() })
}

/// Why the latest login failed, if it did.
#[must_use]
pub fn last_error(pool: &Pool) -> Option<Arc<Report>> {
    pool.launch.last_error.lock().clone()
}
