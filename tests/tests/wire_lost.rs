//! A side of the connection dies: what the other one sees, and what is left behind.
#![allow(clippy::unwrap_used)] // how a test fails

use std::time::Duration;

use pgherd_tests::{Fixture, RawClient, Script, brief};
use rustix::process::{Pid, Signal, kill_process};

type Outcome = anyhow::Result<()>;

const ONE: &str = "T D:1 C:SELECT 1 ZI";
const KILL_ALL: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
    WHERE datname = 'app' AND pid <> pg_backend_pid()";
const ACTIVE: &str = "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = 'app' \
    AND state = 'active' AND pid <> pg_backend_pid()";
const GONE: &str = "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'app' \
    AND backend_type = 'client backend' AND pid <> pg_backend_pid()";

fn s() -> Script {
    Script::new()
}

async fn one_server() -> Fixture {
    Fixture::builder()
        .setup("CREATE TABLE t (a int PRIMARY KEY)")
        .config("[pool]\nsize_default = 1")
        .start()
        .await
}

/// The process id of the session's server.
async fn backend(client: &mut RawClient) -> anyhow::Result<Pid> {
    let frames = client.query("SELECT pg_backend_pid()").await?;
    let row = frames.iter().find(|f| f.kind == b'D').unwrap();
    let pid: i32 = String::from_utf8_lossy(row.value().unwrap()).parse()?;
    Ok(Pid::from_raw(pid).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_in_the_middle_of_a_row_ends_its_session_cleanly() -> Outcome {
    let fixture = one_server().await;
    let mut client = fixture.raw().await?;
    let pid = backend(&mut client).await?;
    let rows = "SELECT repeat('x', 30000000) FROM generate_series(1, 20)";
    client.send(s().query(rows).bytes()).await?;
    client.until(b'T').await?;
    kill_process(pid, Signal::KILL)?;
    // Whole rows, perhaps an error, then the end: never an answer that looks complete.
    let mut kinds = Vec::new();
    while let Ok(frame) = client.frame().await {
        kinds.push(frame.kind);
    }
    assert!(!kinds.contains(&b'C'), "{kinds:?}");
    // PostgreSQL restarts all its processes after such a death; then others are served.
    let mut other = None;
    for _ in 0..100 {
        if let Ok(client) = fixture.raw().await {
            other = Some(client);
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut other = other.unwrap();
    let mut answer = String::new();
    for _ in 0..100 {
        answer = other.play(s().query("SELECT 1"), 1).await?;
        if answer == ONE {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(answer, ONE);
    fixture.wait_quiet();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_between_transactions_is_not_missed() -> Outcome {
    let fixture = one_server().await;
    let mut client = fixture.raw().await?;
    for script in [s().query("SELECT 1"), s().run("SELECT 1").sync()] {
        client.query("SELECT 1").await?;
        assert_eq!(fixture.direct(KILL_ALL), ["1"]);
        fixture.wait_until(GONE);
        // The goodbye is on its way to pgherd.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let answer = client.play(script, 1).await?;
        assert!(answer.ends_with("D:1 C:SELECT 1 ZI"), "{answer}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_under_a_statement_costs_the_statement() -> Outcome {
    let fixture = one_server().await;
    let mut client = fixture.raw().await?;
    let mut check = async |script: Script, ready: usize, expect: &str| {
        client.send(script.bytes()).await?;
        fixture.wait_until(ACTIVE);
        fixture.direct(KILL_ALL);
        assert_eq!(client.play(s(), ready).await?, expect);
        assert_eq!(client.play(s().query("SELECT 1"), 1).await?, ONE);
        anyhow::Ok(())
    };
    check(s().query("SELECT pg_sleep(600)"), 1, "T E:57P01 ZI").await?;
    let two = s().query("SELECT pg_sleep(600)").query("SELECT 2");
    check(two, 2, "T E:57P01 ZI E:57P01 ZI").await?;
    let extended = s().run("SELECT 1").run("SELECT pg_sleep(600)").run("SELECT 2").sync();
    check(extended, 1, "1 2 D:1 C:SELECT 1 1 2 E:57P01 ZI").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_in_a_transaction_ends_the_session() -> Outcome {
    let fixture = one_server().await;
    let mut client = fixture.raw().await?;
    client.query("BEGIN; INSERT INTO t VALUES (1)").await?;
    fixture.direct(KILL_ALL);
    assert_eq!(brief(&client.until(b'Z').await?), "E:57P01");
    client.closed().await?;
    let mut client = fixture.raw().await?;
    client.query("BEGIN; INSERT INTO t VALUES (1)").await?;
    client.send(s().query("SELECT pg_sleep(600)").bytes()).await?;
    fixture.wait_until(ACTIVE);
    fixture.direct(KILL_ALL);
    let frames = client.until(b'Z').await?;
    assert_eq!(brief(&frames), "T E:57P01");
    assert_eq!(frames.last().unwrap().field(b'S'), "FATAL");
    client.closed().await?;
    fixture.wait_quiet();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_never_answers_is_given_up_alone() -> Outcome {
    let config = "[pool]\nsize_default = 2\n[proxy]\nquery_timeout = \"1s\"";
    let fixture = Fixture::builder().config(config).start().await;
    let mut stuck = fixture.raw().await?;
    let mut other = fixture.raw().await?;
    stuck.query("BEGIN").await?;
    let pid = backend(&mut stuck).await?;
    kill_process(pid, Signal::STOP)?;
    stuck.send(s().query("SELECT 1").bytes()).await?;
    for _ in 0..20 {
        assert_eq!(other.play(s().query("SELECT 1"), 1).await?, ONE);
    }
    let ended = stuck.until(b'Z').await;
    kill_process(pid, Signal::CONT)?;
    let frames = ended?;
    assert_eq!(brief(&frames), "E:57014");
    stuck.closed().await?;
    fixture.wait_quiet();
    let mut next = fixture.raw().await?;
    assert_eq!(next.play(s().query("SELECT 1"), 1).await?, ONE);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_vanishes_leaves_no_lock() -> Outcome {
    let fixture = one_server().await;
    let lock = s().query("BEGIN; LOCK TABLE t");
    let check = async |after: Script| {
        let mut client = fixture.raw().await?;
        assert_eq!(client.play(lock.clone(), 1).await?, "C:BEGIN C:LOCK TABLE ZT");
        client.send(after.bytes()).await?;
        tokio::time::sleep(Duration::from_millis(30)).await;
        drop(client);
        let mut next = fixture.raw().await?;
        let answer = next.play(lock.clone().query("COMMIT"), 2).await?;
        assert_eq!(answer, "C:BEGIN C:LOCK TABLE ZT C:COMMIT ZI");
        drop(next);
        fixture.wait_quiet();
        anyhow::Ok(())
    };
    check(s()).await?;
    check(s().query("SELECT pg_sleep(600)")).await?;
    check(s().run("SELECT 1")).await?;
    check(s().run("SELECT pg_sleep(600)").flush()).await?;
    check(s().query("SELECT repeat('x', 1000) FROM generate_series(1, 1000000)")).await?;
    check(s().query("x")).await?;
    assert_eq!(fixture.direct("SELECT count(*) FROM t"), ["0"]);
    Ok(())
}

/// A cancel request that comes between two statements hits neither (postgres.c, `DoingCommandRead`).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_vanishes_between_two_statements_leaves_none_running() -> Outcome {
    let fixture = Fixture::builder().start().await;
    let script = Script::new().query("SELECT 1").query("SELECT pg_sleep(600)");
    for _ in 0..200 {
        let mut client = fixture.raw().await?;
        client.send(script.bytes()).await?;
        client.until(b'Z').await?;
    }
    fixture.wait_until(
        "SELECT count(*) = 0 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(%' \
         AND state = 'active'",
    );
    Ok(())
}
