//! What all pools share: TLS, the tasks that open servers, and fairness between pools of one limit.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::launch::{self, Full};
use super::pool::Pool;
use crate::tls::Material;

/// What all pools share.
#[derive(Debug)]
pub struct Shared {
    pub(super) tls: Arc<ArcSwap<Material>>,
    pub(super) tasks: TaskTracker,
    pub(super) stopping: CancellationToken,
    pub(super) runtime: Handle,
    next_id: AtomicU64,
    pools: Mutex<Vec<Weak<Pool>>>,
    /// Pools that want a place, and the limit that has none for them, in the order of coming.
    starving: Mutex<Vec<(Weak<Pool>, Full)>>,
}

impl Shared {
    pub(super) fn new(
        tls: Arc<ArcSwap<Material>>,
        stopping: CancellationToken,
        runtime: Handle,
    ) -> Arc<Shared> {
        Arc::new(Shared {
            tls,
            tasks: TaskTracker::new(),
            stopping,
            runtime,
            next_id: AtomicU64::new(1),
            pools: Mutex::default(),
            starving: Mutex::default(),
        })
    }

    pub(super) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Relaxed)
    }

    /// Tasks that run, and pools that starve.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.tasks.len(), self.starving.lock().len())
    }

    pub(super) fn adopt(self: &Arc<Self>, pool: &Arc<Pool>) {
        let cell: &OnceLock<Arc<Shared>> = &pool.launch.shared;
        let _ = cell.set(self.clone());
        let mut pools = self.pools.lock();
        pools.retain(|p| p.strong_count() > 0);
        pools.push(Arc::downgrade(pool));
    }

    /// Closes an idle server of another pool under the same full limit; false: there is none.
    pub(super) fn evict_for(&self, pool: &Arc<Pool>, full: Full) -> bool {
        let others: Vec<_> = self.pools.lock().iter().filter_map(Weak::upgrade).collect();
        others.iter().any(|other| {
            // Who has nothing at all goes before another's minimum.
            let keep = if pool.open() == 0 { 0 } else { other.settings.load().size_min };
            share(pool, other, full) && !Arc::ptr_eq(other, pool) && other.evict_one(keep)
        })
    }

    /// `pool` waits for a place under the limit that is full.
    pub(super) fn starve(&self, pool: &Arc<Pool>, full: Full) {
        let mut starving = self.starving.lock();
        if starving.iter().any(|(p, _)| std::ptr::eq(p.as_ptr(), Arc::as_ptr(pool))) {
            return;
        }
        limit(pool, full).fetch_add(1, Relaxed);
        starving.push((Arc::downgrade(pool), full));
    }

    /// `pool` needs no place any more.
    pub(super) fn sated(&self, pool: &Arc<Pool>) {
        let mut starving = self.starving.lock();
        starving.retain(|(p, full)| {
            let other = !std::ptr::eq(p.as_ptr(), Arc::as_ptr(pool));
            if !other {
                limit(pool, *full).fetch_sub(1, Relaxed);
            }
            other
        });
    }

    /// Whether a pool without a server has been waiting under a limit of `pool` for longer than
    /// `pool`'s own first client.
    pub(super) fn goes_first(&self, pool: &Pool) -> bool {
        let own = pool.longest_wait();
        let starving: Vec<_> = self.starving.lock().clone();
        let others = starving.iter().filter_map(|(p, full)| Some((p.upgrade()?, *full)));
        others.into_iter().any(|(other, full)| {
            share(pool, &other, full) && other.waiting() > 0 && other.longest_wait() > own
        })
    }

    /// A place became free: pools that starve try again, first come, first served.
    pub(super) fn feed_starving(&self) {
        let starving: Vec<_> = self.starving.lock().clone();
        for pool in starving.iter().filter_map(|(pool, _)| pool.upgrade()) {
            self.sated(&pool);
            launch::launch_if_needed(&pool);
        }
    }
}

/// Whether two pools count under the same limit.
fn share(a: &Pool, b: &Pool, full: Full) -> bool {
    match full {
        Full::Pool => false,
        Full::Database => Arc::ptr_eq(&a.database_limit, &b.database_limit),
        Full::User => Arc::ptr_eq(&a.user_limit, &b.user_limit),
    }
}

/// Where the pools that starve under a limit of `pool` are counted.
fn limit(pool: &Pool, full: Full) -> &AtomicUsize {
    match full {
        Full::User => &pool.user_limit.starving,
        Full::Database | Full::Pool => &pool.database_limit.starving,
    }
}
