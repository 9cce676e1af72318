//! One server connection as a value: it moves into a session's task at checkout and back at checkin.
//!
//! It knows what state it carries (settings, prepared statements), so that the next session pays
//! only for the difference. Nothing here reads or writes, except the last goodbye.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::launch::Slot;
use super::pool::Pool;
use super::settings::PoolSettings;
use crate::clock::Moment;
use crate::net::Stream;
use crate::session::settings::Settings;
use crate::session::statements::Statement;

/// What a server told about itself (ParameterStatus), sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reported(pub Vec<Parameter>);

/// Name and value.
pub type Parameter = (Box<[u8]>, Box<[u8]>);

impl Reported {
    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let at = self.0.binary_search_by(|(n, _)| (**n).cmp(name)).ok()?;
        self.0.get(at).map(|(_, value)| &**value)
    }

    /// Sets `name`.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        match self.0.binary_search_by(|(n, _)| (**n).cmp(name)) {
            Ok(at) => {
                if let Some(entry) = self.0.get_mut(at) {
                    entry.1 = value.into();
                }
            }
            Err(at) => self.0.insert(at, (name.into(), value.into())),
        }
    }
}

/// What others may know of a server: `SHOW SERVERS`, and cancel requests.
#[derive(Debug)]
pub struct ServerInfo {
    /// Unique in the process.
    pub id: u64,
    /// The pool it belongs to.
    pub pool: Arc<Pool>,
    /// Process id of the backend.
    pub pid: u32,
    /// Its cancel key.
    pub secret: Box<[u8]>,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// When it was opened.
    pub opened_at: SystemTime,
    /// The pool's generation when it was opened: an older one is closed when it is free.
    pub generation: u32,
    /// Id of the session that holds it; 0: none.
    pub held_by: AtomicU64,
    /// Prepared statements on it.
    pub prepared: AtomicUsize,
    /// Cancel requests on their way to it: it is handed to nobody else before they have arrived.
    cancels: AtomicUsize,
    cancels_done: Notify,
}

impl ServerInfo {
    /// Of a new server: a backend's `(pid, secret)`.
    #[must_use]
    pub fn new(
        id: u64,
        pool: Arc<Pool>,
        key: (u32, Box<[u8]>),
        tls: bool,
        generation: u32,
    ) -> ServerInfo {
        ServerInfo {
            id,
            pool,
            pid: key.0,
            secret: key.1,
            tls,
            generation,
            opened_at: SystemTime::now(),
            held_by: AtomicU64::new(0),
            prepared: AtomicUsize::new(0),
            cancels: AtomicUsize::new(0),
            cancels_done: Notify::new(),
        }
    }

    /// Whether a cancel request is on its way.
    #[must_use]
    pub fn is_being_canceled(&self) -> bool {
        self.cancels.load(Ordering::SeqCst) > 0
    }

    /// A cancel request sets out; the guard's end says that it arrived.
    #[must_use]
    pub fn cancel_started(self: &Arc<Self>) -> CancelGuard {
        self.cancels.fetch_add(1, Ordering::SeqCst);
        CancelGuard(self.clone())
    }

    /// Waits until no cancel request is on its way. Cancel safe.
    pub async fn cancels_arrived(&self) {
        loop {
            let notified = self.cancels_done.notified();
            if !self.is_being_canceled() {
                return;
            }
            notified.await;
        }
    }
}

/// One cancel request on its way.
#[derive(Debug)]
pub struct CancelGuard(Arc<ServerInfo>);

impl Drop for CancelGuard {
    fn drop(&mut self) {
        self.0.cancels.fetch_sub(1, Ordering::SeqCst);
        self.0.cancels_done.notify_waiters();
    }
}

/// Spreads the ids of statements, which count up and which nobody outside can choose.
#[derive(Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    #[inline]
    fn write_u64(&mut self, id: u64) {
        // Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, 6.4), folded: the map looks at both ends.
        let product = u128::from(id) * 0x9e37_79b9_7f4a_7c15;
        #[allow(clippy::cast_possible_truncation)] // both halves are used
        let folded = (product as u64) ^ ((product >> 64) as u64);
        self.0 = folded;
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

/// The prepared statements of one server, least recently used first out. It keeps them known to the
/// registry, so that a session which comes later finds them by their text.
#[derive(Debug, Default)]
pub struct PreparedSet {
    used: HashMap<u64, (u64, Arc<Statement>), BuildHasherDefault<IdHasher>>,
    tick: u64,
}

impl PreparedSet {
    /// Whether `id` is there; it counts as used now.
    pub fn touch(&mut self, id: u64) -> bool {
        self.tick += 1;
        let tick = self.tick;
        self.used.get_mut(&id).map(|entry| entry.0 = tick).is_some()
    }

    /// Adds a statement; answers which one must be closed to stay within `max`.
    pub fn insert(&mut self, statement: Arc<Statement>, max: usize) -> Option<Arc<Statement>> {
        self.tick += 1;
        let id = statement.id;
        self.used.insert(id, (self.tick, statement));
        if self.used.len() <= max.max(1) {
            return None;
        }
        let oldest = self.used.iter().filter(|(i, _)| **i != id).min_by_key(|(_, (tick, _))| *tick);
        let oldest = oldest.map(|(id, _)| *id)?;
        self.used.remove(&oldest).map(|(_, statement)| statement)
    }

    /// `id` is no longer there.
    pub fn remove(&mut self, id: u64) -> bool {
        self.used.remove(&id).is_some()
    }

    /// Those of `others` are there after all.
    pub fn merge(&mut self, others: PreparedSet) {
        self.tick = self.tick.max(others.tick);
        for (id, entry) in others.used {
            self.used.entry(id).or_insert(entry);
        }
    }

    /// None is there any more.
    pub fn clear(&mut self) {
        self.used.clear();
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.used.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used.is_empty()
    }
}

/// A server connection between ReadyForQuery and ReadyForQuery.
#[derive(Debug)]
pub struct Server {
    /// Its connection.
    pub stream: Stream,
    /// What others may know of it.
    pub info: Arc<ServerInfo>,
    /// What it reported last.
    pub reported: Arc<Reported>,
    /// Settings in force beyond its login's.
    pub applied: Settings,
    /// Prepared statements on it.
    pub prepared: PreparedSet,
    /// Stamp of the unnamed statement on it; 0: none that a session may use.
    pub unnamed: u64,
    /// When it was opened.
    pub opened: Moment,
    /// When it was last given back.
    pub used: Moment,
    /// Must not be used again.
    pub broken: bool,
    /// Its place in the pool's count, given back when it is dropped.
    pub slot: Slot,
    /// The pool's settings as it knows them.
    settings: (u32, Arc<PoolSettings>),
}

impl Server {
    /// A server that has just logged in.
    #[must_use]
    pub fn new(
        stream: Stream,
        info: Arc<ServerInfo>,
        reported: Arc<Reported>,
        slot: Slot,
    ) -> Server {
        let now = Moment::now();
        // The version first: settings that come in between are looked at once more.
        let version = info.pool.settings_version();
        let settings = (version, info.pool.settings.load_full());
        Server {
            stream,
            info,
            reported,
            applied: Settings::default(),
            prepared: PreparedSet::default(),
            unnamed: 0,
            opened: now,
            used: now,
            broken: false,
            slot,
            settings,
        }
    }

    /// The settings of its pool.
    #[inline]
    pub fn settings(&mut self) -> &PoolSettings {
        let version = self.info.pool.settings_version();
        if self.settings.0 != version {
            self.settings = (version, self.info.pool.settings.load_full());
        }
        &self.settings.1
    }

    /// Whether the connection still stands and is silent, as it must be between transactions.
    ///
    /// Costs no system call while nothing has arrived: the runtime knows the socket's readiness.
    #[must_use]
    pub fn is_alive(&mut self) -> bool {
        if self.stream.is_silent() {
            return true;
        }
        let mut byte = [0u8; 1];
        let mut buf = ReadBuf::new(&mut byte);
        let mut cx = Context::from_waker(Waker::noop());
        matches!(Pin::new(&mut self.stream).poll_read(&mut cx, &mut buf), Poll::Pending)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.info.pool.forget(self.info.id);
        // A goodbye if the socket takes it at once; the backend logs nothing then.
        let mut cx = Context::from_waker(Waker::noop());
        let mut stream = Pin::new(&mut self.stream);
        let _ = stream.as_mut().poll_write(&mut cx, b"X\0\0\0\x04");
        let _ = stream.as_mut().poll_flush(&mut cx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::statements::{Traits, Via, share};

    #[test]
    fn the_least_recently_used_statement_goes() {
        let statement = |text: &[u8]| share(Via::Protocol, text, Traits::default);
        let (a, b, c) = (statement(b"lru a"), statement(b"lru b"), statement(b"lru c"));
        let mut set = PreparedSet::default();
        assert!(set.insert(a.clone(), 2).is_none());
        assert!(set.insert(b.clone(), 2).is_none());
        assert!(set.touch(a.id));
        assert_eq!(set.insert(c.clone(), 2).unwrap().id, b.id);
        assert!(!set.touch(b.id));
        assert!(set.touch(a.id) && set.touch(c.id));
        assert_eq!(set.len(), 2);
    }

    #[test]
    fn reported_parameters_stay_sorted() {
        let mut reported = Reported::default();
        reported.set(b"b", b"1");
        reported.set(b"a", b"2");
        reported.set(b"b", b"3");
        assert_eq!(reported.get(b"b"), Some(&b"3"[..]));
        assert_eq!(reported.get(b"a"), Some(&b"2"[..]));
        assert_eq!(reported.get(b"c"), None);
    }
}
