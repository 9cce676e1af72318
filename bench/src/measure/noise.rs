//! How quiet the machine was: what others ran on the proxy's core, and what the hypervisor took away; and what
//! others did while we did nothing.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{Metric, Sample};

/// How long the machine is watched.
const WATCH: Duration = Duration::from_secs(2);

/// Readings from before a load.
#[derive(Debug)]
pub struct Noise {
    core: Option<usize>,
    before: Times,
    began: Instant,
}

/// The machine while we do nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Others {
    /// Load average of the last minute.
    pub load: f64,
    /// Time that all cores together were busy, percent; a core that the hypervisor took away counts as well.
    pub busy_pct: f64,
    /// The latter part of it.
    pub steal_pct: f64,
}

/// Ticks from /proc/stat (proc(5)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Times {
    /// user, nice and system time of the proxy's core.
    core_busy: u64,
    steal: u64,
    /// Idle, and waiting for a disk.
    idle: u64,
    all: u64,
}

impl Others {
    /// Watches for a while.
    pub fn watch() -> Result<Others> {
        let before = Times::read(None)?;
        std::thread::sleep(WATCH);
        let now = Times::read(None)?;
        let load = fs::read_to_string("/proc/loadavg").context("read /proc/loadavg")?;
        let load = load.split(' ').next().and_then(|v| v.parse().ok()).unwrap_or(0.0);
        Ok(Others { load, ..now.since(&before) })
    }
}

impl Noise {
    /// Begins; `core` is the proxy's.
    pub fn start(core: Option<usize>) -> Result<Noise> {
        Ok(Noise { core, before: Times::read(core)?, began: Instant::now() })
    }

    /// Ends; the proxy itself has used `own_us`.
    pub fn stop(&self, own_us: f64, sample: &mut Sample) -> Result<()> {
        let now = Times::read(self.core)?;
        let wall_us = self.began.elapsed().as_micros().max(1) as f64;
        let tick_us = 1e6 / rustix::param::clock_ticks_per_second() as f64;
        sample.set(Metric::StealPct, now.since(&self.before).steal_pct);
        if self.core.is_some() {
            let busy_us = now.core_busy.saturating_sub(self.before.core_busy) as f64 * tick_us;
            let foreign = (busy_us - own_us).max(0.0);
            sample.set(Metric::ForeignPct, (100.0 * foreign / wall_us).min(100.0));
        }
        Ok(())
    }
}

impl Times {
    fn since(&self, before: &Times) -> Others {
        let all = self.all.saturating_sub(before.all).max(1) as f64;
        let share = |now: u64, then: u64| 100.0 * now.saturating_sub(then) as f64 / all;
        let idle_pct = share(self.idle, before.idle);
        let steal_pct = share(self.steal, before.steal);
        Others { load: 0.0, busy_pct: (100.0 - idle_pct).max(0.0), steal_pct }
    }

    fn read(core: Option<usize>) -> Result<Times> {
        let text = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
        Ok(Times::parse(&text, core))
    }

    fn parse(text: &str, core: Option<usize>) -> Times {
        let row = |name: &str| -> Vec<u64> {
            let fields = text.lines().map(|l| l.split_ascii_whitespace());
            let mut found = fields.filter_map(|mut f| (f.next() == Some(name)).then_some(f));
            found.next().map(|f| f.filter_map(|v| v.parse().ok()).collect()).unwrap_or_default()
        };
        let machine = row("cpu");
        let core_busy = core.map(|c| row(&format!("cpu{c}")).iter().take(3).sum()).unwrap_or(0);
        Times {
            core_busy,
            idle: machine.iter().skip(3).take(2).sum(),
            steal: machine.get(7).copied().unwrap_or(0),
            // guest time, behind steal, is contained in user time.
            all: machine.iter().take(8).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_and_the_machine_are_read() {
        let text = "cpu  10 1 5 100 2 0 3 4 9 9\ncpu0 1 2 3 4\ncpu1 5 6 7 8\nintr 1\n";
        let expect = Times { core_busy: 18, steal: 4, idle: 102, all: 125 };
        assert_eq!(Times::parse(text, Some(1)), expect);
        assert_eq!(Times::parse(text, None).core_busy, 0);
    }

    #[test]
    fn what_is_not_idle_is_busy() {
        let before = Times::parse("cpu 100 0 100 500 0 0 0 0\n", None);
        let now = Times::parse("cpu 120 0 105 560 5 0 0 10\n", None);
        let expect = Others { load: 0.0, busy_pct: 35.0, steal_pct: 10.0 };
        assert_eq!(now.since(&before), expect);
    }
}
