//! Much data: COPY out and in, results of small and of large rows, and a client that reads far slower than the server could send.
//!
//! The server makes the rows and drops those that come in (`WHERE false`), so no disk is involved. What is
//! looked at is the proxy's memory: it must stay within its buffers, whatever the other side does.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use pgherd::wire::build;

use super::{Cell, Name, Scenario, Stage, Whose, Work, trusted};
use crate::client::{Client, source};
use crate::measure::process::Memory;
use crate::measure::{Meter, Metric, Sample};

/// A row of COPY, with its newline.
const ROW_BYTES: u64 = 100;

/// CopyData that a client sends at once; libpq sends its buffer of 8 kB (fe-misc.c).
const COPY_DATA_BYTES: usize = 8_000;

const READ_BYTES: usize = 64 * 1024;

/// What the slow reader takes each second.
const SLOW_BYTES_PER_SECOND: f64 = 2e6;

/// Far more than the slow reader can take while it is watched.
const SLOW_ROWS: u64 = 2_000_000;

#[derive(Debug, Clone, Copy)]
pub(super) enum Direction {
    Out,
    In,
}

/// Rows of large results: many that fit a buffer together, and few that are far larger than any buffer.
const LARGE_ROW_BYTES: [u64; 2] = [100, 1_000_000];

/// Figures of loads that are bytes.
const BULK_METRICS: &[Metric] = &[
    Metric::CpuMsPerGb,
    Metric::MbPerSecond,
    Metric::AboveMb,
    Metric::PeakMb,
    Metric::ForeignPct,
    Metric::StealPct,
];

pub(super) fn copy(copy_mb: u64) -> Scenario {
    let cell = |name: &str, direction| Cell {
        name: format!("{name} {copy_mb} MB"),
        needs: trusted(1),
        whose: Whose::All,
        work: Work::Copy(direction),
    };
    Scenario {
        name: Name::Copy,
        about: format!("One client, rows of {ROW_BYTES} bytes."),
        metrics: BULK_METRICS,
        headline: Metric::CpuMsPerGb,
        cells: vec![cell("out", Direction::Out), cell("in", Direction::In)],
    }
}

pub(super) fn large(copy_mb: u64) -> Scenario {
    let cell = |row_bytes: u64| Cell {
        name: format!("{copy_mb} MB in rows of {row_bytes} bytes"),
        needs: trusted(1),
        whose: Whose::All,
        work: Work::Large { row_bytes },
    };
    Scenario {
        name: Name::Large,
        about: "One client, the result of one SELECT by the simple protocol.".into(),
        metrics: BULK_METRICS,
        headline: Metric::CpuMsPerGb,
        cells: LARGE_ROW_BYTES.into_iter().map(cell).collect(),
    }
}

pub(super) fn slow_reader() -> Scenario {
    Scenario {
        name: Name::SlowReader,
        about: format!(
            "One client asks for {} GB and reads {} MB/s of it.",
            SLOW_ROWS * 1_000 / 1_000_000_000,
            SLOW_BYTES_PER_SECOND / 1e6
        ),
        metrics: &[
            Metric::AboveMb,
            Metric::PeakMb,
            Metric::MbPerSecond,
            Metric::CpuMsPerGb,
            Metric::ForeignPct,
            Metric::StealPct,
        ],
        headline: Metric::AboveMb,
        cells: vec![Cell {
            name: "1 client".into(),
            needs: trusted(1),
            whose: Whose::Proxies,
            work: Work::SlowReader,
        }],
    }
}

/// A client that has been served once, and the proxy's memory then.
fn begin(stage: &Stage<'_>) -> Result<(Client, Option<Memory>, Meter)> {
    let mut client = Client::open(stage.address, source(0), READ_BYTES)?;
    client.query("SELECT 1")?;
    let memory = stage.pid.map(Memory::read).transpose()?;
    Ok((client, memory, Meter::start(stage.pid, &stage.site.cores)?))
}

/// Ends a load of `bytes`.
fn end(bytes: u64, began: Instant, meter: Meter) -> Result<Sample> {
    let (seconds, mut sample) = (began.elapsed().as_secs_f64(), Sample::default());
    let cpu_us = meter.stop(1, &mut sample)?;
    let gb = bytes as f64 / 1e9;
    sample.set(Metric::MbPerSecond, gb * 1e3 / seconds.max(1e-9));
    if let Some(cpu_us) = cpu_us {
        sample.set(Metric::CpuMsPerGb, cpu_us / 1e3 / gb.max(1e-9));
    }
    Ok(sample)
}

pub(super) fn run_copy(direction: Direction, stage: &Stage<'_>) -> Result<Sample> {
    let rows = stage.site.args.copy_mb * 1_000_000 / ROW_BYTES;
    move_bytes(stage, |client| match direction {
        Direction::Out => copy_out(client, rows),
        Direction::In => copy_in(client, rows),
    })
}

pub(super) fn run_large(row_bytes: u64, stage: &Stage<'_>) -> Result<Sample> {
    let rows = (stage.site.args.copy_mb * 1_000_000).div_ceil(row_bytes);
    move_bytes(stage, |client| {
        let sql = format!("SELECT repeat('x', {row_bytes}) FROM generate_series(1, {rows})");
        enough(client.query(&sql)?, rows * row_bytes)
    })
}

/// Runs a load that says how many bytes it was.
fn move_bytes(stage: &Stage<'_>, load: impl FnOnce(&mut Client) -> Result<u64>) -> Result<Sample> {
    let (mut client, memory, meter) = begin(stage)?;
    let began = Instant::now();
    let bytes = load(&mut client)?;
    let mut sample = end(bytes, began, meter)?;
    if let (Some(before), Some(pid)) = (memory, stage.pid) {
        // The peak is the process's own, and it has done nothing else.
        let peak_mb = Memory::read(pid)?.peak_mb;
        sample.set(Metric::AboveMb, (peak_mb - before.now_mb).max(0.0));
    }
    Ok(sample)
}

fn enough(bytes: u64, expected: u64) -> Result<u64> {
    if bytes < expected {
        bail!("{bytes} bytes came, {expected} were asked for");
    }
    Ok(bytes)
}

fn copy_out(client: &mut Client, rows: u64) -> Result<u64> {
    let width = ROW_BYTES - 1;
    let sql =
        format!("COPY (SELECT repeat('x', {width}) FROM generate_series(1, {rows})) TO STDOUT");
    enough(client.query(&sql)?, rows * ROW_BYTES)
}

fn copy_in(client: &mut Client, rows: u64) -> Result<u64> {
    let mut packet = Vec::new();
    build::query(&mut packet, b"COPY sink FROM STDIN WHERE false");
    client.send(&packet)?;
    client.until(b'G').context("COPY FROM STDIN")?;
    let mut row = "x".repeat(ROW_BYTES as usize - 1);
    row.push('\n');
    let rows_each = COPY_DATA_BYTES as u64 / ROW_BYTES;
    packet.clear();
    build::frame(&mut packet, b'd', |b| {
        b.extend(row.repeat(rows_each as usize).as_bytes());
    });
    let mut bytes = 0;
    for _ in 0..rows.div_ceil(rows_each) {
        client.send(&packet)?;
        bytes += packet.len() as u64;
    }
    client.send(b"c\0\0\0\x04")?; // CopyDone
    client.until(b'Z')?;
    Ok(bytes)
}

pub(super) fn run_slow_reader(stage: &Stage<'_>) -> Result<Sample> {
    let pid = stage.proxy()?;
    let (mut client, before, meter) = begin(stage)?;
    let before_mb = before.map_or(0.0, |m| m.now_mb);
    let mut packet = Vec::new();
    let sql = format!("SELECT repeat('x', 1000) FROM generate_series(1, {SLOW_ROWS})");
    build::query(&mut packet, sql.as_bytes());
    client.send(&packet)?;
    let (began, mut bytes, mut most_mb) = (Instant::now(), 0, before_mb);
    let watched = Duration::from_secs(stage.site.args.seconds.max(2));
    while began.elapsed() < watched {
        let due = began.elapsed().as_secs_f64() * SLOW_BYTES_PER_SECOND;
        while (bytes as f64) < due {
            let (kind, length) = client.frame()?;
            bytes += length;
            if kind == b'Z' {
                bail!("the result ended too early");
            }
        }
        most_mb = most_mb.max(Memory::read(pid)?.now_mb);
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut sample = end(bytes, began, meter)?;
    sample.set(Metric::AboveMb, most_mb - before_mb);
    Ok(sample)
}
