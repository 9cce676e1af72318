//! The machine: its cores and who runs on which, its limits, and how quiet it is.

use std::fs;

use anyhow::{Context as _, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

use crate::args::Placing;

/// Descriptors that the bench needs besides those of its clients.
const SPARE_DESCRIPTORS: u64 = 256;

/// Who runs where.
#[derive(Debug, Clone)]
pub struct Cores {
    proxy: Option<usize>,
    others: CpuSet,
}

/// What stands above every table.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// As /proc/cpuinfo names it.
    pub cpu: String,
    /// That we may use.
    pub cores: u32,
    /// `uname -r`.
    pub kernel: String,
    /// The proxy's core, if it has one for itself.
    pub proxy_core: Option<usize>,
    /// Load average of the last minute before the run began.
    pub load_before: String,
}

impl Cores {
    /// Sends this process, and so everything that it starts, to the cores that are not the proxy's.
    pub fn place(placing: Placing) -> Result<Cores> {
        let mut others = sched_getaffinity(None).context("sched_getaffinity")?;
        if placing == Placing::Free || others.count() < 2 {
            return Ok(Cores { proxy: None, others });
        }
        let proxy = (0..CpuSet::MAX_CPU).find(|&c| others.is_set(c));
        if let Some(core) = proxy {
            others.unset(core);
            sched_setaffinity(None, &others).context("sched_setaffinity")?;
        }
        Ok(Cores { proxy, others })
    }

    /// Runs `start` on the proxy's core: what it spawns inherits the place.
    pub fn on_proxy_core<T>(&self, start: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some(core) = self.proxy else { return start() };
        let mut alone = CpuSet::new();
        alone.set(core);
        sched_setaffinity(None, &alone).context("sched_setaffinity")?;
        let started = start();
        sched_setaffinity(None, &self.others).context("sched_setaffinity")?;
        started
    }

    /// The proxy's core, if it has one for itself.
    #[must_use]
    pub fn proxy(&self) -> Option<usize> {
        self.proxy
    }

    /// Threads that a load generator may use.
    #[must_use]
    pub fn load_threads(&self) -> u32 {
        self.others.count().max(1)
    }
}

impl Machine {
    /// Looks around.
    pub fn look(cores: &Cores) -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or("unknown");
        let read = |path| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let load = read("/proc/loadavg");
        Machine {
            cpu: cpu.trim_start_matches(['\t', ':', ' ']).to_owned(),
            cores: cores.others.count() + u32::from(cores.proxy.is_some()),
            kernel: read("/proc/sys/kernel/osrelease"),
            proxy_core: cores.proxy,
            load_before: load.split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

/// Raises the limit of descriptors as far as we may, and says how many clients fit: the proxies inherit it.
pub fn clients_max() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    // The soft limit is what counts, should raising it have failed.
    let open = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(open.saturating_sub(SPARE_DESCRIPTORS)).unwrap_or(usize::MAX)
}
