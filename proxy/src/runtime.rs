//! The two runtimes: the data plane that moves clients' bytes, and the control plane beside it.
//!
//! They are separate so that a heartbeat, a scrape or a reload never queues behind a query.

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

/// Which worker of its runtime runs this; 0 outside of one.
#[inline]
#[must_use]
pub fn worker() -> usize {
    tokio::runtime::worker_index().unwrap_or(0)
}
