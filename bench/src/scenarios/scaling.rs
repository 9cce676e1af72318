//! What a second core is worth to pgherd: one worker on one core against two workers on two.
//!
//! Where there are cores enough, PostgreSQL and the load have others for themselves, and throughput tells. On a
//! small machine it can't: server and load need more CPU than the proxy and would have to run on its cores. There
//! CPU time for each transaction is compared: two cores carry `2 * cpu(1) / cpu(2)` times what one does, which
//! counts locks, shared cache lines and bookkeeping between workers, but not what memory bandwidth may add.

use anyhow::{Context as _, Result};
use rustix::thread::CpuSet;

use super::transactions::WARM_UP_TRANSACTIONS;
use super::{Cell, Name, Scenario, Whose, Work, trusted};
use crate::machine::{Cores, set};
use crate::measure::pgbench::{Length, Load, Script};
use crate::measure::{Meter, Metric, Sample};
use crate::peers::{Needs, Peer};
use crate::site::Site;

/// From so many cores on, two are the proxy's and all others are for PostgreSQL and the load.
pub const SEPARATE_CORES_MIN: u32 = 6;

const CLIENTS: usize = 64;

/// Which cores are whose.
#[derive(Debug)]
struct Layout {
    first: usize,
    second: usize,
    rest: CpuSet,
    separate: bool,
}

pub(super) fn scenario(cores: u32) -> Scenario {
    let place = if cores >= SEPARATE_CORES_MIN {
        "PostgreSQL and the load run on other cores than the two of the proxy"
    } else {
        "PostgreSQL and the load share the proxy's cores in both runs, so throughput says nothing and only CPU time \
         is compared"
    };
    let load = Load { script: Script::SelectOnly, protocol: "simple", clients: CLIENTS };
    Scenario {
        name: Name::Scaling,
        about: format!(
            "pgbench -S with {CLIENTS} clients: 1 worker pinned to one core, then 2 workers on two. Capacity is \
             2 × CPU µs of 1 worker / CPU µs of 2 workers; {place}. Measured with {cores} cores."
        ),
        metrics: &[
            Metric::ScalingCpu,
            Metric::ScalingTps,
            Metric::OneWorkerUs,
            Metric::TwoWorkersUs,
            Metric::OneWorkerPct,
            Metric::TwoWorkersPct,
            Metric::OneWorkerTps,
            Metric::TwoWorkersTps,
            Metric::StealPct,
        ],
        headline: Metric::ScalingCpu,
        cells: vec![Cell {
            name: format!("simple, {CLIENTS} clients"),
            needs: trusted(CLIENTS),
            whose: Whose::Ours,
            work: Work::Scaling(load),
        }],
    }
}

pub(super) fn run(load: &Load, needs: Needs, site: &Site, peer: &Peer) -> Result<Sample> {
    let layout = Layout::of(&site.cores).context("a second core is needed")?;
    let one = on(&[layout.first], &layout, load, needs, site, peer)?;
    let two = on(&[layout.first, layout.second], &layout, load, needs, site, peer)?;
    compare(&one, &two, layout.separate).context("a figure is missing")
}

/// A worker for each of `cores`.
fn on(
    cores: &[usize],
    layout: &Layout,
    load: &Load,
    needs: Needs,
    site: &Site,
    peer: &Peer,
) -> Result<Sample> {
    let workers = u32::try_from(cores.len()).ok();
    let running = peer.start_on(&set(cores), site, Needs { workers, ..needs })?;
    site.cores.lend(&layout.rest, site.postmaster()?, || {
        load.run(site, running.address, Length::Transactions(WARM_UP_TRANSACTIONS))?;
        let meter = Meter::start(running.pid, &site.cores)?;
        let outcome = load.run(site, running.address, Length::Seconds(site.args.seconds))?;
        let mut sample = Sample::default();
        meter.stop(outcome.transactions, &mut sample)?;
        sample.set_load(outcome.transactions, outcome.seconds, &outcome.latency_us);
        running.check()?;
        Ok(sample)
    })
}

fn compare(one: &Sample, two: &Sample, separate: bool) -> Option<Sample> {
    let figure = |from: &Sample, metric| from.0.get(&metric).copied();
    let (one_us, two_us) = (figure(one, Metric::CpuUs)?, figure(two, Metric::CpuUs)?);
    let (one_tps, two_tps) = (figure(one, Metric::Tps)?, figure(two, Metric::Tps)?);
    let mut sample = Sample::default();
    sample.set(Metric::OneWorkerUs, one_us);
    sample.set(Metric::TwoWorkersUs, two_us);
    sample.set(Metric::ScalingCpu, 2.0 * one_us / two_us);
    sample.set(Metric::OneWorkerTps, one_tps);
    sample.set(Metric::TwoWorkersTps, two_tps);
    sample.set(Metric::OneWorkerPct, one_us * one_tps / 1e4);
    sample.set(Metric::TwoWorkersPct, two_us * two_tps / 2e4);
    if separate {
        sample.set(Metric::ScalingTps, two_tps / one_tps);
    }
    let steal = |sample| figure(sample, Metric::StealPct).unwrap_or(0.0);
    sample.set(Metric::StealPct, steal(one).max(steal(two)));
    Some(sample)
}

impl Layout {
    fn of(cores: &Cores) -> Option<Layout> {
        let all = cores.all();
        let first = *all.first()?;
        // A hyperthread of the first core is no second core.
        let siblings = crate::machine::siblings(first);
        let others = all.iter().copied().filter(|&c| c != first);
        let second = others.clone().find(|c| !siblings.contains(c)).or(others.clone().next())?;
        let separate = all.len() >= SEPARATE_CORES_MIN as usize;
        let rest: Vec<usize> = match separate {
            true => others.filter(|&c| c != second && !siblings.contains(&c)).collect(),
            false => all,
        };
        Some(Layout { first, second, rest: set(&rest), separate })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_comes_from_cpu_time_and_throughput_only_where_it_means_something() {
        let sample = |cpu_us, tps| {
            let mut sample = Sample::default();
            sample.set(Metric::CpuUs, cpu_us);
            sample.set(Metric::Tps, tps);
            sample
        };
        let (one, two) = (sample(10.0, 50_000.0), sample(12.5, 70_000.0));
        let small = compare(&one, &two, false).unwrap();
        assert_eq!(small.0.get(&Metric::ScalingCpu), Some(&1.6));
        assert_eq!(small.0.get(&Metric::OneWorkerPct), Some(&50.0));
        assert_eq!(small.0.get(&Metric::TwoWorkersPct), Some(&43.75));
        assert!(!small.0.contains_key(&Metric::ScalingTps));
        let large = compare(&one, &two, true).unwrap();
        assert_eq!(large.0.get(&Metric::ScalingTps), Some(&1.4));
        assert!(compare(&one, &Sample::default(), true).is_none());
    }
}
