//! How quiet the machine was: what others ran on the proxy's core, and what the hypervisor took away.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::{Metric, Sample};

/// Readings from before a load.
#[derive(Debug)]
pub struct Noise {
    core: Option<usize>,
    before: Times,
    began: Instant,
}

/// Ticks from /proc/stat (proc(5)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Times {
    /// user, nice and system time of the proxy's core.
    core_busy: u64,
    steal: u64,
    all: u64,
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
        let all = now.all.saturating_sub(self.before.all).max(1) as f64;
        let steal = now.steal.saturating_sub(self.before.steal) as f64;
        sample.set(Metric::StealPct, 100.0 * steal / all);
        if self.core.is_some() {
            let busy_us = now.core_busy.saturating_sub(self.before.core_busy) as f64 * tick_us;
            let foreign = (busy_us - own_us).max(0.0);
            sample.set(Metric::ForeignPct, (100.0 * foreign / wall_us).min(100.0));
        }
        Ok(())
    }
}

impl Times {
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
        let expect = Times { core_busy: 18, steal: 4, all: 125 };
        assert_eq!(Times::parse(text, Some(1)), expect);
        assert_eq!(Times::parse(text, None).core_busy, 0);
    }
}
