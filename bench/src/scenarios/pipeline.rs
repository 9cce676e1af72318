//! Ten statements in one pipeline: one write of the client's, ten answers and one ReadyForQuery back.
//!
//! A relay that handles statements one by one writes ten times each way; the floor is once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use hdrhistogram::Histogram;
use pgherd::wire::build;

use super::{Cell, Name, Needs, Scenario, Stage, Whose, Work, trusted};
use crate::client::{Client, source};
use crate::measure::writes::{Trace, Writes};
use crate::measure::{Meter, Metric, Sample, latencies};

/// Statements in a pipeline.
const STATEMENTS: u32 = 10;

/// Pipelines of each client before measuring.
const WARM_UP_PIPELINES: u64 = 50;

/// Pipelines whose writes and system calls are counted.
const COUNTED_PIPELINES: u64 = 100;

const READ_BYTES: usize = 64 * 1024;

const SQL: &str = "SELECT abalance FROM pgbench_accounts WHERE aid = $1";

#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    clients: usize,
    prepared: bool,
}

pub(super) fn scenario() -> Scenario {
    let mut cells = Vec::new();
    for prepared in [true, false] {
        for clients in [1, 16] {
            let how = if prepared { "prepared" } else { "unnamed" };
            let plural = if clients == 1 { "" } else { "s" };
            cells.push(Cell {
                name: format!("{how}, {clients} client{plural}"),
                needs: Needs { prepared, ..trusted(clients) },
                whose: Whose::All,
                work: Work::Pipeline(Load { clients, prepared }),
            });
        }
    }
    Scenario {
        name: Name::Pipeline,
        about: format!(
            "{STATEMENTS} statements and one Sync are one transaction; writes and system calls are counted \
             afterwards, over {COUNTED_PIPELINES} pipelines of one client, the writes by strace."
        ),
        metrics: &[
            Metric::CpuUs,
            Metric::UserUs,
            Metric::SystemUs,
            Metric::WritesServer,
            Metric::WritesClient,
            Metric::Calls,
            Metric::Instructions,
            Metric::Waits,
            Metric::Preempted,
            Metric::Tps,
            Metric::MeanUs,
            Metric::P50Us,
            Metric::P99Us,
            Metric::P999Us,
            Metric::RssMb,
            Metric::ForeignPct,
            Metric::StealPct,
        ],
        headline: Metric::CpuUs,
        cells,
    }
}

pub(super) fn run(load: &Load, stage: &Stage<'_>) -> Result<Sample> {
    let mut clients = (0..load.clients)
        .map(|number| open(load, stage, number))
        .collect::<Result<Vec<Client>>>()?;
    let packet = pipeline(load, stage.site.accounts());
    for client in &mut clients {
        some(client, &packet, WARM_UP_PIPELINES)?;
    }
    let meter = Meter::start(stage.pid, &stage.site.cores)?;
    let began = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = clients
        .into_iter()
        .map(|client| {
            let (stop, packet) = (Arc::clone(&stop), packet.clone());
            std::thread::spawn(move || repeat(client, &packet, &stop))
        })
        .collect();
    std::thread::sleep(Duration::from_secs(stage.site.args.seconds));
    stop.store(true, Relaxed);
    let (mut all, mut clients) = (latencies()?, Vec::new());
    for thread in threads {
        let (client, histogram) = thread.join().map_err(|_| anyhow!("a client panicked"))??;
        all.add(histogram).context("add latencies")?;
        clients.push(client);
    }
    let seconds = began.elapsed().as_secs_f64();
    let mut sample = Sample::default();
    meter.stop(all.len(), &mut sample)?;
    sample.set_load(all.len(), seconds, &all);
    if let Some(client) = clients.first_mut() {
        if let Some(writes) = count_writes(client, &packet, stage)? {
            let each = COUNTED_PIPELINES as f64;
            sample.set(Metric::WritesServer, writes.to_server as f64 / each);
            sample.set(Metric::WritesClient, writes.to_client as f64 / each);
        }
        if let Some(counts) = stage.count(|| some(client, &packet, COUNTED_PIPELINES))? {
            counts.set(COUNTED_PIPELINES, &mut sample);
        }
    }
    Ok(sample)
}

fn open(load: &Load, stage: &Stage<'_>, number: usize) -> Result<Client> {
    let mut client = Client::open(stage.address, source(number), READ_BYTES)?;
    if load.prepared {
        let mut packet = Vec::new();
        parse(&mut packet, b"ten");
        build::sync(&mut packet);
        client.send(&packet)?;
        client.until(b'Z')?;
    }
    Ok(client)
}

fn some(client: &mut Client, packet: &[u8], pipelines: u64) -> Result<()> {
    for _ in 0..pipelines {
        client.send(packet)?;
        client.until(b'Z')?;
    }
    Ok(())
}

fn repeat(
    mut client: Client,
    packet: &[u8],
    stop: &AtomicBool,
) -> Result<(Client, Histogram<u64>)> {
    let mut histogram = latencies()?;
    while !stop.load(Relaxed) {
        let began = Instant::now();
        client.send(packet)?;
        client.until(b'Z')?;
        histogram.saturating_record(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    Ok((client, histogram))
}

fn count_writes(client: &mut Client, packet: &[u8], stage: &Stage<'_>) -> Result<Option<Writes>> {
    let (true, Some(pid)) = (stage.counts, stage.pid) else { return Ok(None) };
    let file = stage.site.directory("strace")?.join("writes");
    let Some(trace) = Trace::attach(pid, file)? else { return Ok(None) };
    some(client, packet, COUNTED_PIPELINES)?;
    trace.finish(stage.address.port(), stage.site.postgres().port()).map(Some)
}

fn pipeline(load: &Load, accounts: u64) -> Vec<u8> {
    let mut packet = Vec::new();
    for number in 0..u64::from(STATEMENTS) {
        if !load.prepared {
            parse(&mut packet, b"");
        }
        let aid = (1 + number * (accounts / u64::from(STATEMENTS))).to_string();
        build::frame(&mut packet, b'B', |b| {
            build::cstr(b, b"");
            build::cstr(b, if load.prepared { b"ten" } else { b"" });
            b.extend_from_slice(&[0, 0, 0, 1]); // all parameters as text, one parameter
            b.extend_from_slice(&u32::try_from(aid.len()).unwrap_or(0).to_be_bytes());
            b.extend_from_slice(aid.as_bytes());
            b.extend_from_slice(&[0, 0]); // all results as text
        });
        build::frame(&mut packet, b'E', |b| b.extend_from_slice(&[0; 5])); // unnamed portal, all rows
    }
    build::sync(&mut packet);
    packet
}

fn parse(packet: &mut Vec<u8>, name: &[u8]) {
    build::frame(packet, b'P', |b| {
        build::cstr(b, name);
        build::cstr(b, SQL.as_bytes());
        b.extend_from_slice(&[0, 0]); // types as the server infers them
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgherd::wire::{self, Cut, frame};

    #[test]
    fn a_pipeline_is_whole_frames() {
        let check = |prepared, expect: &str| {
            let packet = pipeline(&Load { clients: 1, prepared }, 100);
            let (mut rest, mut kinds) = (packet.as_slice(), String::new());
            while let Cut::Frame { kind, total } = wire::cut(rest, frame::server_max) {
                kinds.push(char::from(kind));
                rest = &rest[total..];
            }
            assert!(rest.is_empty());
            assert_eq!(kinds, expect);
        };
        check(true, &("BE".repeat(10) + "S"));
        check(false, &("PBE".repeat(10) + "S"));
    }
}
