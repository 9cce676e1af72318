//! The two runtimes: the data plane that moves clients' bytes, and the control plane beside it.
//!
//! They are separate so that a heartbeat, a scrape or a reload never queues behind a query.

use std::cell::Cell;
use std::io;

use tokio::runtime::{Builder, Runtime};

/// The data plane: `workers` threads, 0 for one a core.
pub fn data_plane(workers: usize) -> io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = if workers == 0 { cores } else { workers };
    Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("pgherd-data")
        .enable_all()
        .build()
}

/// The control plane: one thread for admin HTTP, signals, file watching and janitors.
pub fn control_plane() -> io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(1).thread_name("pgherd-control").enable_all().build()
}

thread_local! {
    /// The thread's number, because asking tokio for it each time costs more than what is counted with it.
    static WORKER: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Which worker of its runtime runs this; 0 outside of one. It chooses where to count and which idle list is
/// looked at first: should a thread stop being a worker, that costs time and nothing else.
#[inline]
#[must_use]
pub fn worker() -> usize {
    WORKER.get().unwrap_or_else(learn_worker)
}

#[cold]
fn learn_worker() -> usize {
    let index = tokio::runtime::worker_index();
    WORKER.set(index);
    index.unwrap_or(0)
}
