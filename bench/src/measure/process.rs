//! A process's CPU time, context switches and memory, from /proc (proc(5)).

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

/// Counters of one process, over all its threads.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    user_ticks: u64,
    system_ticks: u64,
    /// Of the threads that live, to the nanosecond; `None` where the kernel keeps no schedstat.
    threads_ns: Option<u64>,
    waits: u64,
    preempted: u64,
}

/// What happened between two readings.
#[derive(Debug, Clone)]
pub struct Spent {
    /// User and system time.
    pub cpu_us: f64,
    /// The part of it inside the kernel: 0 to 1, from ticks.
    pub system: f64,
    /// Voluntary context switches.
    pub waits: u64,
    /// Involuntary ones.
    pub preempted: u64,
}

/// Resident memory.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// VmRSS.
    pub now_mb: f64,
    /// VmHWM.
    pub peak_mb: f64,
}

impl Counters {
    /// Reads them.
    pub fn read(pid: u32) -> Result<Counters> {
        let stat = read(format!("/proc/{pid}/stat"))?;
        let (state, user_ticks, system_ticks) =
            ticks(&stat).with_context(|| format!("/proc/{pid}/stat is not as proc(5) says"))?;
        if state == "Z" {
            bail!("process {pid} ended"); // It is a zombie until it is waited for.
        }
        let mut counters = Counters { user_ticks, system_ticks, ..Counters::default() };
        let mut threads_ns = Some(0);
        for task in fs::read_dir(format!("/proc/{pid}/task")).context("list threads")? {
            let dir = task.context("list threads")?.path();
            // A thread may end while it is looked at.
            let Ok(status) = fs::read_to_string(dir.join("status")) else { continue };
            counters.waits += field(&status, "voluntary_ctxt_switches:");
            counters.preempted += field(&status, "nonvoluntary_ctxt_switches:");
            let ran = fs::read_to_string(dir.join("schedstat")).ok();
            let ran = ran.and_then(|t| t.split(' ').next().and_then(|v| v.parse::<u64>().ok()));
            threads_ns = threads_ns.zip(ran).map(|(sum, ns)| sum + ns);
        }
        counters.threads_ns = threads_ns;
        Ok(counters)
    }

    /// What happened since `before`.
    ///
    /// /proc/PID/stat counts ended threads but only in ticks of 10 ms; schedstat counts in nanoseconds, but
    /// forgets threads that ended. Both are the same clock (`sum_exec_runtime`), so the larger one is right.
    #[must_use]
    pub fn since(&self, before: &Counters) -> Spent {
        let tick_us = 1e6 / rustix::param::clock_ticks_per_second() as f64;
        let user = self.user_ticks.saturating_sub(before.user_ticks) as f64 * tick_us;
        let system = self.system_ticks.saturating_sub(before.system_ticks) as f64 * tick_us;
        // One tick of each may be an artefact of rounding.
        let at_least = (user + system - 2.0 * tick_us).max(0.0);
        let exact = self
            .threads_ns
            .zip(before.threads_ns)
            .map(|(now, then)| now.saturating_sub(then) as f64 / 1e3);
        Spent {
            cpu_us: exact.filter(|&us| us >= at_least).unwrap_or(user + system),
            system: system / (user + system).max(1.0),
            waits: self.waits.saturating_sub(before.waits),
            preempted: self.preempted.saturating_sub(before.preempted),
        }
    }
}

impl Memory {
    /// Reads it.
    pub fn read(pid: u32) -> Result<Memory> {
        let status = read(format!("/proc/{pid}/status"))?;
        let mb = |name| field(&status, name) as f64 * 1024.0 / 1e6;
        Ok(Memory { now_mb: mb("VmRSS:"), peak_mb: mb("VmHWM:") })
    }
}

fn read(path: String) -> Result<String> {
    fs::read_to_string(PathBuf::from(&path))
        .with_context(|| format!("read {path}: did the process end?"))
}

/// State, utime and stime. The command's name may hold spaces and parentheses: counting begins behind the last `)`.
fn ticks(stat: &str) -> Option<(&str, u64, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|v| v.parse().ok());
    Some((fields.first()?, number(11)?, number(12)?))
}

/// The number behind `name` at the start of a line; 0: there is none.
fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_ascii_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_stand_behind_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 12 34 0 0 20 0 3 0 1000";
        assert_eq!(ticks(stat), Some(("S", 12, 34)));
        assert_eq!(ticks("garbage"), None);
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text =
            "VmRSS:\t  123 kB\nnonvoluntary_ctxt_switches:\t5\nvoluntary_ctxt_switches:\t4\n";
        assert_eq!(field(text, "VmRSS:"), 123);
        assert_eq!(field(text, "voluntary_ctxt_switches:"), 4);
        assert_eq!(field(text, "nonvoluntary_ctxt_switches:"), 5);
        assert_eq!(field(text, "VmHWM:"), 0);
    }

    #[test]
    fn exact_time_counts_unless_threads_ended() {
        let before = Counters { threads_ns: Some(0), ..Counters::default() };
        let check = |ticks, ns, expect: f64| {
            let now = Counters { user_ticks: ticks, threads_ns: ns, ..Counters::default() };
            assert!((now.since(&before).cpu_us - expect).abs() < 1e-6, "{ticks} {ns:?}");
        };
        let tick_us = 1e6 / rustix::param::clock_ticks_per_second() as f64;
        check(10, Some((10.4 * tick_us * 1e3) as u64), 10.4 * tick_us);
        check(10, Some(0), 10.0 * tick_us);
        check(10, None, 10.0 * tick_us);
    }

    #[test]
    fn our_own_counters_can_be_read() {
        let counters = Counters::read(std::process::id()).unwrap();
        assert!(counters.waits + counters.preempted > 0);
        assert!(Memory::read(std::process::id()).unwrap().now_mb > 0.0);
    }
}
