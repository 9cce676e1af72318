//! One pool: the servers of one database, user and node.
//!
//! Checkout tries this worker's own idle list, then the others', and queues only when all are empty
//! or somebody waits already: first come, first served. Checkin serves the queue first. No lock is
//! shared by all clients on the fast path: idle lists are one a worker, the queue's lock is taken only when somebody waits.
//! Waiting never marks a server sick; only a failed login does, and only for this pool's back-off.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use parking_lot::Mutex;

use super::launch::{self, Launch};
use super::server::{Reported, Server, ServerInfo};
use super::settings::{Limit, PoolSettings};
use super::waiter::{Served, Waiter};
use super::welcome::Welcomes;
use crate::auth::Credentials;
use crate::clock::Moment;
use crate::error::{Fault, Report, sqlstate};
use crate::metrics::stats::Stats;

/// What a pool is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolKey {
    /// As the client names it.
    pub database: Arc<str>,
    /// As the client names it.
    pub user: Arc<str>,
    /// Name of the node.
    pub node: Arc<str>,
}

/// An idle list on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
#[allow(clippy::vec_box)] // A server moves from hand to hand: as a pointer, not as a few hundred bytes.
struct IdleList(Mutex<Vec<Box<Server>>>);

/// The servers of one database, user and node.
#[derive(Debug)]
pub struct Pool {
    /// What it is for.
    pub key: PoolKey,
    /// Sizes, modes, times and where to connect: replaced by a reload.
    pub settings: ArcSwap<PoolSettings>,
    /// Counts its changes: a server that knows the latest needs no look at `settings`.
    settings_version: AtomicU32,
    /// What the latest login of this user lets us log in with.
    pub credentials: ArcSwap<Credentials>,
    /// What it counts.
    pub stats: Stats,
    /// Servers by id.
    pub servers: DashMap<u64, Arc<ServerInfo>>,
    /// What servers report for each set of startup settings.
    pub welcomes: Welcomes,
    /// Servers of this database over all its pools.
    pub database_limit: Arc<Limit>,
    /// Servers of this user over all its pools.
    pub user_limit: Arc<Limit>,
    /// Servers open or being opened.
    pub(super) open: AtomicUsize,
    /// State of logins.
    pub(super) launch: Launch,
    idle: Box<[IdleList]>,
    idle_count: AtomicUsize,
    waiting: AtomicUsize,
    queue: Mutex<VecDeque<Arc<Waiter>>>,
    /// Servers of an older generation are closed when they are free.
    generation: AtomicU32,
    /// Nobody is served until `resume`.
    pub paused: AtomicBool,
    /// Clients that waited too long.
    pub wait_timeouts: AtomicU64,
    started: Moment,
    this: std::sync::Weak<Pool>,
}

impl Pool {
    /// An empty pool that counts in `workers` shards.
    #[must_use]
    pub fn new(
        key: PoolKey,
        settings: PoolSettings,
        workers: usize,
        limits: (Arc<Limit>, Arc<Limit>),
    ) -> Arc<Pool> {
        Arc::new_cyclic(|this| Pool {
            key,
            settings: ArcSwap::from_pointee(settings),
            settings_version: AtomicU32::new(0),
            credentials: ArcSwap::default(),
            stats: Stats::new(workers),
            servers: DashMap::new(),
            welcomes: Welcomes::default(),
            database_limit: limits.0,
            user_limit: limits.1,
            open: AtomicUsize::new(0),
            launch: Launch::default(),
            idle: (0..workers.max(1)).map(|_| IdleList::default()).collect(),
            idle_count: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            queue: Mutex::default(),
            generation: AtomicU32::new(0),
            paused: AtomicBool::new(false),
            wait_timeouts: AtomicU64::new(0),
            started: Moment::now(),
            this: this.clone(),
        })
    }

    /// Replaces the settings.
    pub(super) fn change_settings(&self, new: PoolSettings) {
        self.settings.store(Arc::new(new));
        self.settings_version.fetch_add(1, SeqCst);
    }

    /// Which settings are the latest.
    #[inline]
    pub(super) fn settings_version(&self) -> u32 {
        self.settings_version.load(SeqCst)
    }

    /// An idle server at once, if there is one and nobody waits for it.
    #[must_use]
    pub fn try_checkout(&self) -> Option<Box<Server>> {
        if self.waiting.load(SeqCst) > 0 || self.paused.load(Relaxed) {
            return None;
        }
        let server = self.take_idle()?;
        self.stats.here().server_assignment_count.fetch_add(1, Relaxed);
        Some(server)
    }

    /// Joins the queue. The returned wait must be polled; dropping it leaves the queue.
    pub fn wait(self: &Arc<Self>, waiter: &Arc<Waiter>) -> Result<Wait, Report> {
        let settings = self.settings.load();
        if self.waiting.load(SeqCst) >= settings.max_waiting {
            return Err(Report::error(
                Fault::Operator,
                sqlstate::TOO_MANY_CONNECTIONS,
                format!("too many clients wait for pool \"{}\"", self.key.database),
            )
            .hint("pool.max_waiting bounds the queue; pool.size_default the servers"));
        }
        let since = Moment::now();
        waiter.queue(self.micros(since));
        {
            let mut queue = self.queue.lock();
            queue.push_back(waiter.clone());
            self.waiting.fetch_add(1, SeqCst);
        }
        let wait = Wait { pool: self.clone(), waiter: waiter.clone(), since };
        self.serve_queue();
        launch::launch(self, launch::Reserve::Closed);
        Ok(wait)
    }

    /// [`Pool::checkin`] to the pool that the server is of.
    pub fn checkin_own(server: Box<Server>, now: Moment) {
        let info = server.info.clone();
        info.pool.checkin(server, now);
    }

    /// Gives a server back: to who waits longest, else to the idle list.
    pub fn checkin(&self, mut server: Box<Server>, now: Moment) {
        server.info.held_by.store(0, Relaxed);
        let opened = server.opened;
        let settings = server.settings();
        let too_old =
            !settings.server_lifetime.is_zero() && now.since(opened) > settings.server_lifetime;
        let surplus = self.open.load(Relaxed) > settings.size + settings.reserve_size;
        if server.broken
            || too_old
            || surplus
            || server.info.generation != self.generation.load(Relaxed)
            || self.must_yield()
        {
            drop(server);
            return;
        }
        server.used = now;
        if self.waiting.load(SeqCst) > 0 && !self.paused.load(Relaxed) {
            match self.hand_over(server) {
                Ok(()) => return,
                Err(back) => server = back,
            }
        }
        self.put_idle(server);
        // Who joined the queue after we looked and before the server was idle must not sleep on it.
        if self.waiting.load(SeqCst) > 0 {
            self.serve_queue();
        }
    }

    /// Whether a pool under a limit of this one has no server and waits.
    pub(super) fn has_starving_neighbours(&self) -> bool {
        let database = self.database_limit.starving.load(Relaxed);
        database + self.user_limit.starving.load(Relaxed) > 0
    }

    /// Whether a server's place belongs to such a pool, because its client came before ours.
    fn must_yield(&self) -> bool {
        self.has_starving_neighbours()
            && self.launch.shared.get().is_some_and(|shared| shared.goes_first(self))
    }

    /// Serves the queue from the idle lists.
    pub(super) fn serve_queue(&self) {
        while self.waiting.load(SeqCst) > 0 && !self.paused.load(Relaxed) {
            let Some(server) = self.take_idle() else { return };
            if let Err(server) = self.hand_over(server) {
                self.put_idle(server);
            }
        }
    }

    fn hand_over(&self, mut server: Box<Server>) -> Result<(), Box<Server>> {
        loop {
            let next = {
                let mut queue = self.queue.lock();
                let next = queue.pop_front();
                if next.is_some() {
                    self.waiting.fetch_sub(1, SeqCst);
                }
                next
            };
            let Some(waiter) = next else { return Err(server) };
            match waiter.serve(server) {
                Ok(()) => {
                    self.stats.here().server_assignment_count.fetch_add(1, Relaxed);
                    return Ok(());
                }
                Err(back) => server = back,
            }
        }
    }

    /// Tells everyone who waits that no server can be had.
    pub(super) fn fail_queue(&self, report: &Arc<Report>) {
        let waiters: Vec<_> = {
            let mut queue = self.queue.lock();
            self.waiting.store(0, SeqCst);
            queue.drain(..).collect()
        };
        for waiter in waiters {
            waiter.fail(report.clone());
        }
    }

    fn take_idle(&self) -> Option<Box<Server>> {
        if self.idle_count.load(SeqCst) == 0 {
            return None;
        }
        let here = crate::runtime::worker();
        for at in 0..self.idle.len() {
            let list = self.idle.get((here + at) % self.idle.len())?;
            loop {
                let Some(mut server) = list.0.lock().pop() else { break };
                self.idle_count.fetch_sub(1, SeqCst);
                if server.info.generation == self.generation.load(Relaxed) && server.is_alive() {
                    return Some(server);
                }
                // It broke, or was told to go, while nobody used it: nobody notices.
            }
        }
        None
    }

    fn put_idle(&self, server: Box<Server>) {
        let here = crate::runtime::worker() % self.idle.len();
        if let Some(list) = self.idle.get(here) {
            list.0.lock().push(server);
            self.idle_count.fetch_add(1, SeqCst);
        }
    }

    /// Closes idle servers that are dead, outdated, or idle for too long beyond `keep`.
    pub fn close_idle(&self, now: Moment) {
        let settings = self.settings.load();
        let generation = self.generation.load(Relaxed);
        let mut open = self.open.load(Relaxed);
        for list in &self.idle {
            let mut gone = Vec::new();
            {
                let mut list = list.0.lock();
                let before = list.len();
                let mut kept = Vec::with_capacity(before);
                for mut server in list.drain(..) {
                    let idle = now.since(server.used);
                    let age = now.since(server.opened);
                    let unused = !settings.server_idle_timeout.is_zero()
                        && idle > settings.server_idle_timeout
                        && open > settings.size_min;
                    let old = !settings.server_lifetime.is_zero() && age > settings.server_lifetime;
                    if unused || old || server.info.generation != generation || !server.is_alive() {
                        open = open.saturating_sub(1);
                        gone.push(server);
                    } else {
                        kept.push(server);
                    }
                }
                *list = kept;
                self.idle_count.fetch_sub(gone.len(), SeqCst);
            }
            // Dropped outside of the lock: closing counts down and may open others.
            drop(gone);
        }
    }

    /// Closes one idle server for another pool's sake; false: there is none beyond `keep`.
    pub(super) fn evict_one(&self, keep: usize) -> bool {
        if self.open.load(Relaxed) <= keep || self.waiting.load(Relaxed) > 0 {
            return false;
        }
        self.take_idle().is_some()
    }

    /// Opens the reserve for those who waited long enough.
    pub(super) fn open_reserve(&self) {
        let settings = self.settings.load();
        if settings.reserve_size == 0 || self.waiting() == 0 {
            return;
        }
        let now = self.micros(Moment::now());
        let patience = u64::try_from(settings.reserve_timeout.as_micros()).unwrap_or(u64::MAX);
        let is_late = |w: &&Arc<Waiter>| now.saturating_sub(w.since_us.load(Relaxed)) >= patience;
        let late = self.queue.lock().iter().take_while(is_late).count();
        for _ in 0..late.min(settings.reserve_size) {
            launch::launch(&self.me(), launch::Reserve::Open);
        }
    }

    /// Every server of now is closed when it is next free; idle ones at once.
    pub fn retire_all(&self) {
        self.generation.fetch_add(1, SeqCst);
        self.close_idle(Moment::now());
    }

    /// The current generation.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation.load(Relaxed)
    }

    /// Serves again after a pause.
    pub fn resume(&self) -> bool {
        let was = self.paused.swap(false, SeqCst);
        self.serve_queue();
        launch::launch_if_needed(&self.me());
        was
    }

    /// Removes a server from the list of all.
    pub(super) fn forget(&self, id: u64) {
        self.servers.remove(&id);
    }

    /// Clients in the queue.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// Servers that nobody holds.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.idle_count.load(SeqCst)
    }

    /// Servers open or being opened.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Logins under way.
    #[must_use]
    pub fn connecting(&self) -> usize {
        self.launch.connecting.load(Relaxed)
    }

    /// Logins that failed.
    #[must_use]
    pub fn connect_errors(&self) -> u64 {
        self.launch.errors.load(Relaxed)
    }

    /// Whether the latest login failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.launch.failing.load(Relaxed)
    }

    /// How long the first of the queue has been waiting.
    #[must_use]
    pub fn longest_wait(&self) -> Duration {
        let first = self.queue.lock().front().map(|w| w.since_us.load(Relaxed));
        let now = self.micros(Moment::now());
        first.map_or(Duration::ZERO, |since| Duration::from_micros(now.saturating_sub(since)))
    }

    /// The one copy of what servers of this pool report, so that comparing is comparing pointers.
    #[must_use]
    pub fn intern(&self, reported: Reported) -> Arc<Reported> {
        self.welcomes.intern(reported)
    }

    /// Itself, as others hold it.
    pub(super) fn me(&self) -> Arc<Pool> {
        // A pool lives in an Arc from `new` on.
        self.this.upgrade().unwrap_or_else(|| unreachable!("a method runs, so the pool lives"))
    }

    fn micros(&self, at: Moment) -> u64 {
        at.micros_since(self.started)
    }
}

/// A place in the queue. Dropping it leaves the queue, and gives back what came too late.
#[derive(Debug)]
pub struct Wait {
    pool: Arc<Pool>,
    waiter: Arc<Waiter>,
    /// When the wait began.
    pub since: Moment,
}

impl Wait {
    /// A server, or why there is none.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Served> {
        self.waiter.poll(cx.waker())
    }

    /// The pool it waits for.
    #[must_use]
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }
}

impl Future for Wait {
    type Output = Served;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Served> {
        Wait::poll(&mut self, cx)
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        {
            let mut queue = self.pool.queue.lock();
            if let Some(at) = queue.iter().position(|w| Arc::ptr_eq(w, &self.waiter)) {
                queue.remove(at);
                self.pool.waiting.fetch_sub(1, SeqCst);
            }
        }
        if let Some(server) = self.waiter.leave() {
            self.pool.checkin(server, Moment::now());
        }
    }
}
