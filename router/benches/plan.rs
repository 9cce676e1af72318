//! What planning costs. Prints nanoseconds per statement and megabytes per second; asserts nothing,
//! for a busy machine would make it lie. Run it with `cargo bench -p pgherd-router`.
#![allow(clippy::disallowed_methods, reason = "a benchmark needs a clock")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use pgherd_router::lex::Lexer;
use pgherd_router::{LexOptions, statements};

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

fn report(name: &str, sql: &str) {
    let options = LexOptions::default();
    let bytes = sql.as_bytes();
    let megabytes = |nanoseconds: f64| bytes.len() as f64 / nanoseconds * 1e3;
    let plan = measure(|| {
        for plan in statements(black_box(bytes), options) {
            black_box(&plan);
        }
    });
    let lex = measure(|| {
        black_box(Lexer::new(black_box(bytes), options).count());
    });
    println!(
        "{name:<22} {:>7} bytes  plan {plan:>9.0} ns {:>6.0} MB/s   lex {lex:>9.0} ns {:>6.0} MB/s",
        bytes.len(),
        megabytes(plan),
        megabytes(lex),
    );
}

fn main() {
    report("begin", "BEGIN");
    report("pgbench select", "SELECT abalance FROM pgbench_accounts WHERE aid = 1");
    report("pgbench update", "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = 1");
    let orm = "SELECT \"users\".\"id\", \"users\".\"name\", count(\"orders\".\"id\") AS \"n\" FROM \
        \"users\" LEFT OUTER JOIN \"orders\" ON \"orders\".\"user_id\" = \"users\".\"id\" WHERE \
        \"users\".\"email\" = $1 AND \"orders\".\"state\" IN ('open', 'paid') GROUP BY \
        \"users\".\"id\", \"users\".\"name\" ORDER BY \"n\" DESC LIMIT 10 OFFSET 20";
    report("orm join", orm);
    report("set", "SET statement_timeout = '5s'");
    report("set_config", "SELECT set_config('search_path', 'tenant_1', false)");
    let list: Vec<_> = (0..10_000).map(|number| number.to_string()).collect();
    let list = format!("SELECT * FROM t WHERE id IN ({})", list.join(", "));
    report("in list of 10,000", &list);
    let row = "('some text of a row', 12345, 'another text, somewhat longer than that one'), ";
    report("insert of 1,000 rows", &format!("INSERT INTO t VALUES {}", row.repeat(1_000)));
    let body = format!("SELECT $${}$$", "plain text ".repeat(10_000));
    report("one long string", &body);
}
