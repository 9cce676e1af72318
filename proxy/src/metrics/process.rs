//! The process itself: memory, CPU time and open files, read from Linux's /proc (proc(5)).
//!
//! A value that can't be read is 0 or absent: a scrape never fails because of it.

use std::fs;

/// USER_HZ, the unit of times in /proc/self/stat: 100 on every architecture pgherd is built for.
const CLOCK_TICKS_PER_SECOND: f64 = 100.0;

/// Memory in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident set size.
    pub resident_bytes: u64,
    /// What the allocator says; none where it is the system's.
    pub heap: Option<Heap>,
}

/// The allocator's figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heap {
    /// Bytes that the program asked for and has not given back.
    pub allocated_bytes: u64,
    /// Bytes of pages that hold them.
    pub active_bytes: u64,
    /// Bytes of memory that the allocator keeps from the kernel.
    pub resident_bytes: u64,
}

/// Memory now.
#[must_use]
pub fn memory() -> Memory {
    Memory { resident_bytes: resident_bytes().unwrap_or(0), heap: heap() }
}

/// User and system time since the start.
#[must_use]
pub fn cpu_seconds() -> f64 {
    cpu_ticks().unwrap_or(0.0) / CLOCK_TICKS_PER_SECOND
}

/// Open file descriptors.
#[must_use]
pub fn open_fds() -> usize {
    // The directory's own descriptor is among them.
    fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count().saturating_sub(1))
}

/// Threads.
#[must_use]
pub fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// The soft limit of open file descriptors.
#[must_use]
pub fn max_fds() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|l| l.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

fn cpu_ticks() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name may hold anything but ends with the last bracket; utime and stime are the
    // 12th and 13th field behind it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(feature = "jemalloc")]
fn heap() -> Option<Heap> {
    use tikv_jemalloc_ctl::{epoch, stats};
    // Figures are cached until the epoch moves on.
    epoch::advance().ok()?;
    let bytes = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    Some(Heap {
        allocated_bytes: bytes(stats::allocated::read().ok()?),
        active_bytes: bytes(stats::active::read().ok()?),
        resident_bytes: bytes(stats::resident::read().ok()?),
    })
}

#[cfg(not(feature = "jemalloc"))]
fn heap() -> Option<Heap> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive() {
        assert!(memory().resident_bytes > 1 << 20);
        assert!(open_fds() >= 3);
        assert!(threads() >= 1);
        assert!(max_fds().is_none_or(|max| max > 3));
        assert!(cpu_seconds() >= 0.0);
        assert_eq!(memory().heap.is_some(), cfg!(feature = "jemalloc"));
    }
}
