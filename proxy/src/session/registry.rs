//! Every session of the process: what others may see of it and do to it, and the way from a cancel
//! key to it.
//!
//! A session is touched by others only through [`Shared`]: flags and a waker. Nobody else moves its bytes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU8, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::task::Waker;
use std::time::{Duration, SystemTime};

use dashmap::DashMap;
use parking_lot::Mutex;
use subtle::ConstantTimeEq;

use crate::clock::Moment;
use crate::config::Config;
use crate::hub::{ClientSnapshot, Hub};
use crate::limits;
use crate::net::Peer;
use crate::pool::{ClientCounts, PoolKey, ServerInfo};

/// What a session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Doing {
    /// Nothing: no transaction, no request.
    Idle = 0,
    /// It waits for a server.
    Waiting = 1,
    /// A request is with a server.
    Running = 2,
    /// A transaction is open, no request.
    InTransaction = 3,
}

/// What a session is told by others; bits.
pub mod signal {
    /// End with 57P01.
    pub const KILL: u8 = 1;
    /// The process drains: leave when idle.
    pub const DRAIN: u8 = 2;
    /// The client cancelled what it waits for.
    pub const CANCEL: u8 = 4;
    /// It did the same thing for too long.
    pub const TIMEOUT: u8 = 8;
    /// Notifications are there.
    pub const NOTIFY: u8 = 16;
    /// It does not read its notifications: end.
    pub const OVERFLOW: u8 = 32;
}

/// What others may see and do.
#[derive(Debug)]
#[allow(missing_docs)] // the words of `SHOW CLIENTS`
pub struct Shared {
    pub id: u64,
    pub pid: u32,
    secret: Box<[u8]>,
    pub peer: Peer,
    pub user: Arc<str>,
    pub database: Arc<str>,
    pub pool: PoolKey,
    pub tls: bool,
    pub replication: &'static str,
    pub application_name: Mutex<String>,
    pub connected_at: SystemTime,
    doing: AtomicU8,
    /// Since when, as [`Moment::to_nanos`].
    since: AtomicU64,
    signals: AtomicU8,
    waker: Mutex<Option<Waker>>,
    server: Mutex<Option<Arc<ServerInfo>>>,
    notes: Mutex<VecDeque<Box<[u8]>>>,
    pinned: Mutex<&'static str>,
    pub prepared: AtomicUsize,
}

/// Who a new session is.
#[derive(Debug)]
#[allow(missing_docs)] // the words of `SHOW CLIENTS`
pub struct Identity {
    pub peer: Peer,
    pub pool: PoolKey,
    pub tls: bool,
    pub replication: &'static str,
    pub application_name: String,
    /// Length of the cancel key's secret: 4 in protocol 3.0.
    pub secret_bytes: usize,
}

impl Shared {
    /// The secret of its cancel key.
    #[must_use]
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// It does something else from now on. Only while it is [`Doing::Running`] is there something to cancel.
    #[inline]
    pub fn set_doing(&self, doing: Doing, now: Moment) {
        self.since.store(now.to_nanos(), Relaxed);
        self.doing.store(doing as u8, SeqCst);
    }

    fn doing(&self) -> Doing {
        match self.doing.load(SeqCst) {
            1 => Doing::Waiting,
            2 => Doing::Running,
            3 => Doing::InTransaction,
            _ => Doing::Idle,
        }
    }

    /// Whether it is doing that.
    #[must_use]
    pub fn is_doing(&self, doing: Doing) -> bool {
        self.doing() == doing
    }

    /// Whether it has been doing the same for longer than it may.
    #[must_use]
    pub fn is_overdue(&self, config: &Config, now: Moment) -> bool {
        let limit = match self.doing() {
            Doing::Idle => config.proxy.client_idle_timeout,
            Doing::InTransaction => config.proxy.idle_transaction_timeout,
            Doing::Running => config.proxy.query_timeout,
            Doing::Waiting => {
                let db = config.database(&self.database);
                let own = db.and_then(|(_, db)| db.wait_timeout);
                own.unwrap_or(config.pool.wait_timeout)
            }
        };
        !limit.is_zero() && self.lasted(now) >= limit
    }

    /// For how long it has been doing the same.
    fn lasted(&self, now: Moment) -> Duration {
        now.since(Moment::from_nanos(self.since.load(Relaxed)))
    }

    /// Which server it holds.
    pub fn set_server(&self, server: Option<Arc<ServerInfo>>) {
        *self.server.lock() = server;
    }

    /// The server whose statement a cancel request is about; its guard keeps the server from others
    /// until the request has arrived.
    #[must_use]
    pub fn cancel_target(&self) -> Option<(Arc<ServerInfo>, crate::pool::server::CancelGuard)> {
        let server = self.server.lock();
        let info = server.as_ref().filter(|_| self.is_doing(Doing::Running))?;
        Some((info.clone(), info.cancel_started()))
    }

    /// Why it keeps its server.
    pub fn set_pinned(&self, reason: &'static str) {
        *self.pinned.lock() = reason;
    }

    /// Tells it something.
    pub fn signal(&self, signal: u8) {
        self.signals.fetch_or(signal, SeqCst);
        if let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }

    /// The task that is to be woken when it is told something: before it looks at [`Shared::signals`].
    pub fn register(&self, waker: &Waker) {
        *self.waker.lock() = Some(waker.clone());
    }

    /// What it was told.
    #[must_use]
    #[inline]
    pub fn signals(&self) -> u8 {
        self.signals.load(SeqCst)
    }

    /// It has acted on `signal`.
    pub fn clear(&self, signal: u8) {
        self.signals.fetch_and(!signal, SeqCst);
    }

    /// Whether it was told `signal`; it has acted on it.
    #[must_use]
    pub fn take(&self, signal: u8) -> bool {
        self.signals.fetch_and(!signal, SeqCst) & signal != 0
    }

    /// A NotificationResponse for it.
    pub fn notify(&self, frame: &[u8]) {
        let mut notes = self.notes.lock();
        if notes.len() >= limits::CLIENT_NOTIFICATIONS_MAX {
            drop(notes);
            self.signal(signal::OVERFLOW);
            return;
        }
        notes.push_back(frame.into());
        drop(notes);
        self.signal(signal::NOTIFY);
    }

    /// The notifications so far.
    #[must_use]
    pub fn take_notes(&self) -> VecDeque<Box<[u8]>> {
        self.clear(signal::NOTIFY);
        std::mem::take(&mut *self.notes.lock())
    }

    fn snapshot(&self) -> ClientSnapshot {
        let link = self.server.lock().as_ref().map(|server| server.id);
        let lasted = self.lasted(Moment::now());
        let doing = self.doing();
        let state = match doing {
            Doing::Waiting => "waiting",
            Doing::Idle if link.is_none() => "idle",
            _ => "active",
        };
        let (addr, port) = match self.peer {
            Peer::Tcp(addr) => (addr.ip().to_string(), addr.port()),
            Peer::Unix => ("unix".to_owned(), 0),
        };
        ClientSnapshot {
            id: self.id,
            user: self.user.to_string(),
            database: self.database.to_string(),
            state,
            replication: self.replication,
            addr,
            port,
            connect_time: self.connected_at,
            request_time: SystemTime::now().checked_sub(lasted).unwrap_or(self.connected_at),
            wait: match doing {
                Doing::Waiting => lasted,
                _ => Duration::ZERO,
            },
            application_name: self.application_name.lock().clone(),
            tls: if self.tls { "TLS".into() } else { String::new() },
            prepared_statements: self.prepared.load(Relaxed),
            pinned: *self.pinned.lock(),
            link,
        }
    }
}

/// Every session.
#[derive(Debug, Default)]
pub struct Sessions {
    by_pid: DashMap<u32, Arc<Shared>>,
    next_id: AtomicU64,
    next_pid: AtomicU32,
}

/// Removes a session when it ends.
#[derive(Debug)]
pub struct Registered<'a> {
    sessions: &'a Sessions,
    /// The session.
    pub shared: Arc<Shared>,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.sessions.by_pid.remove(&self.shared.pid);
    }
}

impl Sessions {
    /// Registers a session and gives it a cancel key that nobody can guess.
    pub fn register(&self, who: Identity) -> Registered<'_> {
        let id = self.next_id.fetch_add(1, Relaxed) + 1;
        let mut secret = vec![0; who.secret_bytes];
        rand::fill(&mut secret[..]);
        let mut shared = Shared {
            id,
            pid: 0,
            secret: secret.into(),
            peer: who.peer,
            user: who.pool.user.clone(),
            database: who.pool.database.clone(),
            pool: who.pool,
            tls: who.tls,
            replication: who.replication,
            application_name: Mutex::new(who.application_name),
            connected_at: SystemTime::now(),
            doing: AtomicU8::new(Doing::Idle as u8),
            since: AtomicU64::new(Moment::now().to_nanos()),
            signals: AtomicU8::new(0),
            waker: Mutex::default(),
            server: Mutex::default(),
            notes: Mutex::default(),
            pinned: Mutex::new(""),
            prepared: AtomicUsize::new(0),
        };
        loop {
            // Process ids are positive in PostgreSQL, and some clients take them for signed.
            let pid = self.next_pid.fetch_add(1, Relaxed) & 0x7fff_ffff;
            shared.pid = pid.max(1);
            if let dashmap::Entry::Vacant(place) = self.by_pid.entry(shared.pid) {
                let shared = Arc::new(shared);
                place.insert(shared.clone());
                return Registered { sessions: self, shared };
            }
        }
    }

    /// The session with this cancel key.
    #[must_use]
    pub fn find(&self, pid: u32, secret: &[u8]) -> Option<Arc<Shared>> {
        let shared = self.by_pid.get(&pid).map(|entry| entry.clone())?;
        bool::from(shared.secret.ct_eq(secret)).then_some(shared)
    }

    /// Sessions, each with its cancel key.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_pid.len()
    }

    /// Whether nobody is logged in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_pid.is_empty()
    }

    /// One row a client.
    #[must_use]
    pub fn snapshot(&self) -> Vec<ClientSnapshot> {
        let mut rows: Vec<_> = self.by_pid.iter().map(|entry| entry.snapshot()).collect();
        rows.sort_by_key(|row| row.id);
        rows
    }

    /// Ends the session `id` with 57P01; false: there is none.
    pub fn kill(&self, id: u64) -> bool {
        self.tell(|shared| shared.id == id, signal::KILL) > 0
    }

    /// Ends every session of `database`, or every one.
    pub fn kill_database(&self, database: Option<&str>) {
        self.tell(|s| database.is_none_or(|name| name == &*s.database), signal::KILL);
    }

    /// The process drains: idle clients leave.
    pub fn drain(&self) {
        self.tell(|_| true, signal::DRAIN);
    }

    fn tell(&self, whom: impl Fn(&Shared) -> bool, what: u8) -> usize {
        let wanted: Vec<_> =
            self.by_pid.iter().filter(|s| whom(s)).map(|entry| entry.value().clone()).collect();
        for shared in &wanted {
            shared.signal(what);
        }
        wanted.len()
    }

    /// Clients of one database, and of one user.
    #[must_use]
    pub fn count_of(&self, database: &str, user: &str) -> (usize, usize) {
        let mut counts = (0, 0);
        for shared in &self.by_pid {
            counts.0 += usize::from(&*shared.database == database);
            counts.1 += usize::from(&*shared.user == user);
        }
        counts
    }

    /// Clients by pool.
    #[must_use]
    pub fn count_by_pool(&self) -> HashMap<PoolKey, ClientCounts> {
        let mut counts: HashMap<PoolKey, ClientCounts> = HashMap::new();
        for shared in &self.by_pid {
            let count = counts.entry(shared.pool.clone()).or_default();
            match shared.doing() {
                Doing::Waiting => count.waiting += 1,
                _ => count.active += 1,
            }
            count.pinned += usize::from(!shared.pinned.lock().is_empty());
        }
        counts
    }

    /// Tells sessions that did the same thing for too long.
    pub fn enforce_timeouts(&self, hub: &Hub) {
        let config = hub.config.load();
        let now = Moment::now();
        let draining = hub.draining.is_cancelled();
        // Who has just come in through a hand-over has a request to make.
        let handed_over = hub.handed_over.load(Relaxed);
        let rest = if handed_over { limits::HANDOVER_REST_MS_MIN } else { 0 };
        let rest = Duration::from_millis(rest);
        for shared in &self.by_pid {
            if shared.is_overdue(&config, now) {
                shared.signal(signal::TIMEOUT);
            }
            if draining && shared.is_doing(Doing::Idle) && shared.lasted(now) >= rest {
                shared.signal(signal::DRAIN);
            }
            if hub.stopping.is_cancelled() {
                shared.signal(signal::KILL);
            }
        }
    }
}
