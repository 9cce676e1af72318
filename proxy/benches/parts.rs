//! What single parts of a query's way cost. Prints nanoseconds, and megabytes per second where bytes are scanned;
//! asserts nothing, for a busy machine would make it lie. Run it with `cargo bench -p pgherd`.
#![allow(clippy::disallowed_methods, reason = "a benchmark needs a clock")]
#![allow(missing_docs, reason = "a program, not a library")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use pgherd::session::settings::{Settings, Value};
use pgherd::session::statements::{self, Traits, Via};
use pgherd::wire::frame::{client_max, server_max};
use pgherd::wire::{self, Cut, build};

/// How long each line is measured.
const MEASURE: Duration = Duration::from_millis(300);

/// Nanoseconds per call.
fn measure(mut work: impl FnMut()) -> f64 {
    let mut rounds = 0_u32;
    let start = Instant::now();
    while start.elapsed() < MEASURE {
        for _ in 0..64 {
            work();
        }
        rounds += 64;
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(rounds)
}

fn report(name: &str, nanoseconds: f64) {
    println!("{name:<44} {nanoseconds:>9.0} ns");
}

/// Frames of a whole buffer.
fn scan(buffer: &[u8], max: fn(u8) -> usize) -> usize {
    let (mut at, mut frames) = (0, 0);
    while let Some(rest) = buffer.get(at..)
        && let Cut::Frame { total, .. } = wire::cut(rest, max)
    {
        at += total;
        frames += 1;
    }
    frames
}

fn frames(name: &str, buffer: &[u8], max: fn(u8) -> usize) {
    let nanoseconds = measure(|| {
        black_box(scan(black_box(buffer), max));
    });
    let count = scan(buffer, max);
    println!(
        "{name:<44} {nanoseconds:>9.0} ns  {:>6.1} ns a frame {:>8.0} MB/s",
        nanoseconds / count.max(1) as f64,
        buffer.len() as f64 / nanoseconds * 1e3,
    );
}

/// A DataRow with one value.
fn row(out: &mut Vec<u8>, bytes: usize) {
    build::frame(out, b'D', |body| {
        body.extend(1_u16.to_be_bytes());
        body.extend(u32::try_from(bytes).unwrap_or_default().to_be_bytes());
        body.extend(std::iter::repeat_n(b'x', bytes));
    });
}

fn wire_cut() {
    for bytes in [8, 100, 1_000] {
        let mut buffer = Vec::new();
        while buffer.len() < pgherd::limits::SCRATCH_BYTES {
            row(&mut buffer, bytes);
        }
        frames(&format!("cut 64 KiB of rows of {bytes} bytes"), &buffer, server_max);
    }
    let mut request = Vec::new();
    build::frame(&mut request, b'B', |body| body.extend(b"\0s1\0\0\0\0\x01\0\0\0\x0212\0\0"));
    build::frame(&mut request, b'E', |body| body.extend([0; 5]));
    build::sync(&mut request);
    frames("cut Bind, Execute, Sync", &request, client_max);
}

fn shared_statements() {
    let text = |n: usize| {
        format!("SELECT abalance FROM pgbench_accounts WHERE aid = $1 AND {n} = {n}\0\0\0")
    };
    for known in [1, 1_000, 100_000] {
        let kept: Vec<_> = (0..known)
            .map(|n| statements::share(Via::Protocol, text(n).as_bytes(), Traits::default))
            .collect();
        let wanted = text(known / 2);
        let nanoseconds = measure(|| {
            black_box(statements::find(Via::Protocol, black_box(wanted.as_bytes())));
        });
        report(&format!("find one of {known} shared statements"), nanoseconds);
        drop(kept);
    }
    let new = text(7);
    let nanoseconds = measure(|| {
        black_box(statements::share(Via::Protocol, black_box(new.as_bytes()), Traits::default));
    });
    report("share a new statement and forget it", nanoseconds);
}

fn settings_difference() {
    let server = Settings::default();
    let same = server.clone();
    let mut one = server.clone();
    one.set(b"statement_timeout", Value::Literal(b"5s".as_slice().into()));
    let mut ten = one.clone();
    for n in 0..9 {
        let name = format!("my.setting_{n}");
        ten.set(name.as_bytes(), Value::Literal(b"value".as_slice().into()));
    }
    let mut other = ten.clone();
    other.set(b"my.setting_4", Value::Literal(b"another".as_slice().into()));
    for (name, from, to) in [
        ("difference of equal settings", &server, &same),
        ("difference: one setting more", &server, &one),
        ("difference: ten settings more", &server, &ten),
        ("difference: one of ten differs", &ten, &other),
    ] {
        report(name, measure(|| drop(black_box(black_box(from).difference(black_box(to))))));
    }
}

fn main() {
    wire_cut();
    shared_statements();
    settings_difference();
}
