//! The machine: its cores and who runs on which, its limits, and how quiet it is.

use std::fs;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

use crate::args::Placing;
use crate::measure::noise::Others;

/// Descriptors that the bench needs besides those of its clients.
const SPARE_DESCRIPTORS: u64 = 256;

/// What others may use of the machine before and after a run, percent of all its cores.
const BUSY_PCT_MAX: f64 = 5.0;

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
    /// What others did before the run began.
    pub before: Others,
    /// And after its last sample.
    pub after: Option<Others>,
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

    /// Where a proxy is started.
    #[must_use]
    pub fn proxy_set(&self) -> CpuSet {
        self.proxy.map_or(self.others, |core| set(&[core]))
    }

    /// Runs `start` on these cores: what it spawns inherits the place.
    pub fn on<T>(&self, cores: &CpuSet, start: impl FnOnce() -> Result<T>) -> Result<T> {
        sched_setaffinity(None, cores).context("sched_setaffinity")?;
        let started = start();
        sched_setaffinity(None, &self.others).context("sched_setaffinity")?;
        started
    }

    /// The proxy's core, if it has one for itself.
    #[must_use]
    pub fn proxy(&self) -> Option<usize> {
        self.proxy
    }

    /// All that we may use.
    #[must_use]
    pub fn all(&self) -> Vec<usize> {
        (0..CpuSet::MAX_CPU).filter(|&c| self.others.is_set(c) || self.proxy == Some(c)).collect()
    }

    /// Runs `load` with us and PostgreSQL (whose next servers inherit it) on `cores`, whoever else is there.
    pub fn lend<T>(
        &self,
        cores: &CpuSet,
        postmaster: Pid,
        load: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let place = |cores| {
            sched_setaffinity(None, cores)
                .and_then(|()| sched_setaffinity(Some(postmaster), cores))
                .context("sched_setaffinity")
        };
        place(cores)?;
        let done = load();
        place(&self.others)?;
        done
    }

    /// Threads that a load generator may use.
    #[must_use]
    pub fn load_threads(&self) -> u32 {
        self.others.count().max(1)
    }
}

impl Machine {
    /// Why its figures are worth little.
    #[must_use]
    pub fn busy(&self) -> Option<String> {
        let seen = std::iter::once(&self.before).chain(&self.after);
        let most = seen.map(|o| o.busy_pct).fold(0.0, f64::max);
        (most > BUSY_PCT_MAX).then(|| {
            format!(
                "BUSY MACHINE: while this run did nothing, others used {most:.0} % of the cores (load average {:.2} \
                 before it); its figures are worth little",
                self.before.load
            )
        })
    }

    /// Looks around.
    pub fn look(cores: &Cores) -> Result<Machine> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or("unknown");
        let read = |path| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        Ok(Machine {
            cpu: cpu.trim_start_matches(['\t', ':', ' ']).to_owned(),
            cores: cores.others.count() + u32::from(cores.proxy.is_some()),
            kernel: read("/proc/sys/kernel/osrelease"),
            proxy_core: cores.proxy,
            before: Others::watch()?,
            after: None,
        })
    }
}

/// The hyperthreads of `core`'s own core, as /sys tells them: `0,4`, or `0-1`.
#[must_use]
pub fn siblings(core: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
    list(&fs::read_to_string(path).unwrap_or_default())
}

/// A list of cpuset(7).
fn list(text: &str) -> Vec<usize> {
    let ranges = text.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

/// These cores.
#[must_use]
pub fn set(cores: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    cores.iter().for_each(|&core| set.set(core));
    set
}

/// Raises the limit of descriptors as far as we may, and says how many clients fit: the proxies inherit it.
pub fn clients_max() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    // The soft limit is what counts, should raising it have failed.
    let open = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(open.saturating_sub(SPARE_DESCRIPTORS)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_machine_says_so() {
        let machine = |before, after: Option<f64>| Machine {
            cpu: String::new(),
            cores: 2,
            kernel: String::new(),
            proxy_core: None,
            before: Others { busy_pct: before, ..Others::default() },
            after: after.map(|busy_pct| Others { busy_pct, ..Others::default() }),
        };
        assert_eq!(machine(1.0, None).busy(), None);
        assert_eq!(machine(1.0, Some(2.0)).busy(), None);
        assert!(machine(40.0, Some(2.0)).busy().is_some_and(|t| t.contains("40 %")));
        assert!(machine(1.0, Some(9.0)).busy().is_some());
    }

    #[test]
    fn lists_of_cores_hold_numbers_and_ranges() {
        assert_eq!(list("0-1\n"), [0, 1]);
        assert_eq!(list("0,4\n"), [0, 4]);
        assert_eq!(list("2-3,8"), [2, 3, 8]);
        assert!(list("").is_empty());
    }
}
