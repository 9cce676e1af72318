//! What every client does, through pgherd.
#![allow(clippy::unwrap_used)] // how a test fails

use std::process::{Command, Stdio};

use futures::{SinkExt, StreamExt};
use pgherd_tests::{DATABASE, Fixture, USER};
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn output(command: &mut Command) -> (bool, String, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_selects() {
    let fixture = Fixture::builder().start().await;
    let check = |sql: &str, expect: &str| {
        let (ok, out, err) = output(fixture.libpq("psql").args(["-XAtqc", sql]));
        assert!(ok && out == expect, "{sql}: {out:?} {err}\n{}", fixture.pgherd.log());
    };
    check("SELECT 42", "42");
    check("SELECT 1; SELECT 2", "1\n2");
    check("SELECT current_database(), current_user", "app|postgres");
    check("SELECT", "");
    check("", "");
    check("SELECT repeat('x', 100000)", &"x".repeat(100_000));
    check("SELECT count(*) FROM generate_series(1, 100000)", "100000");
    check("SELECT string_agg(i::text, '') FROM generate_series(1, 9) i", "123456789");
    let (ok, _, err) = output(fixture.libpq("psql").args(["-XAtqc", "SELECT 1/0"]));
    assert!(!ok && err == "ERROR:  division by zero", "{err}");
    let (ok, _, err) =
        output(fixture.libpq("psql").args(["-XAtq", "-d", "absent", "-c", "SELECT 1"]));
    assert!(!ok && err.contains("absent"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_with_parameters_and_prepared_statements_share_one_server() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 1").start().await;
    let (one, two) = (fixture.client().await, fixture.client().await);
    let row = one.query_one("SELECT $1::int4 + 1, $2::text, NULL::int8", &[&41, &"herd"]).await?;
    assert_eq!((row.get(0), row.get(1), row.get(2)), (42_i32, "herd".to_owned(), None::<i64>));
    // The same names on both clients, other texts, one server between them.
    let add = one.prepare("SELECT $1::int8 + $2::int8").await?;
    let multiply = two.prepare("SELECT $1::int8 * $2::int8").await?;
    for n in 0..20_i64 {
        assert_eq!(one.query_one(&add, &[&n, &2_i64]).await?.get::<_, i64>(0), n + 2);
        assert_eq!(two.query_one(&multiply, &[&n, &2_i64]).await?.get::<_, i64>(0), n * 2);
    }
    let servers = fixture.direct(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = 'app' AND pid <> pg_backend_pid()",
    );
    assert_eq!(servers, ["1"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_pass_through_and_the_session_goes_on() -> Outcome {
    let fixture = Fixture::builder().setup("CREATE TABLE t (a int PRIMARY KEY)").start().await;
    let client = fixture.client().await;
    client.batch_execute("INSERT INTO t VALUES (1)").await?;
    let check = async |sql: &str, expect: SqlState| {
        let error = client.batch_execute(sql).await.unwrap_err();
        assert_eq!(error.code(), Some(&expect), "{sql}: {error:?}");
    };
    check("SELEC", SqlState::SYNTAX_ERROR).await;
    check("SELECT 1/0", SqlState::DIVISION_BY_ZERO).await;
    check("SELECT * FROM absent", SqlState::UNDEFINED_TABLE).await;
    check("INSERT INTO t VALUES (1)", SqlState::UNIQUE_VIOLATION).await;
    let error = client.query("SELECT $1::int4 / 0", &[&1]).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::DIVISION_BY_ZERO));
    let detail = client.batch_execute("INSERT INTO t VALUES (1)").await.unwrap_err();
    let detail = detail.as_db_error().unwrap();
    assert_eq!(detail.detail(), Some("Key (a)=(1) already exists."));
    assert_eq!(detail.constraint(), Some("t_pkey"));
    assert_eq!(client.query_one("SELECT 1", &[]).await?.get::<_, i32>(0), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_commit_roll_back_and_fail() -> Outcome {
    let fixture = Fixture::builder().setup("CREATE TABLE t (a int)").start().await;
    let mut client = fixture.client().await;
    let transaction = client.transaction().await?;
    transaction.execute("INSERT INTO t VALUES ($1)", &[&1]).await?;
    assert_eq!(fixture.direct("SELECT count(*) FROM t"), ["0"]);
    transaction.commit().await?;
    assert_eq!(fixture.direct("SELECT count(*) FROM t"), ["1"]);

    let transaction = client.transaction().await?;
    transaction.execute("INSERT INTO t VALUES ($1)", &[&2]).await?;
    transaction.rollback().await?;
    assert_eq!(fixture.direct("SELECT count(*) FROM t"), ["1"]);

    let mut transaction = client.transaction().await?;
    let savepoint = transaction.savepoint("s").await?;
    assert!(savepoint.batch_execute("SELECT 1/0").await.is_err());
    let aborted = savepoint.batch_execute("SELECT 1").await.unwrap_err();
    assert_eq!(aborted.code(), Some(&SqlState::IN_FAILED_SQL_TRANSACTION));
    savepoint.rollback().await?;
    transaction.execute("INSERT INTO t VALUES ($1)", &[&3]).await?;
    transaction.commit().await?;
    assert_eq!(fixture.direct("SELECT count(*) FROM t"), ["2"]);

    // A client that leaves in the middle of a transaction leaves nothing behind.
    client.batch_execute("BEGIN; INSERT INTO t VALUES (4)").await?;
    drop(client);
    fixture.wait_until(
        "SELECT count(*) = 0 FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'",
    );
    assert_eq!(fixture.direct("SELECT count(*) FROM t"), ["2"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_in_and_out() -> Outcome {
    let fixture = Fixture::builder().setup("CREATE TABLE t (a int, b text)").start().await;
    let client = fixture.client().await;
    let mut sink = Box::pin(client.copy_in("COPY t FROM STDIN").await?);
    for n in 0..5_000 {
        sink.send(bytes::Bytes::from(format!("{n}\tvalue {n}\n"))).await?;
    }
    assert_eq!(sink.as_mut().finish().await?, 5_000);
    let stream = client.copy_out("COPY (SELECT a FROM t ORDER BY a) TO STDOUT").await?;
    let parts: Vec<_> = stream.collect().await;
    let mut text = Vec::new();
    for part in parts {
        text.extend_from_slice(&part?);
    }
    let expect: String = (0..5_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(String::from_utf8(text)?, expect);
    // A COPY that fails in the middle leaves a usable session.
    let mut sink = Box::pin(client.copy_in("COPY t FROM STDIN").await?);
    sink.send(bytes::Bytes::from_static(b"not a number\tx\n")).await?;
    assert!(sink.as_mut().finish().await.is_err());
    let rows = client.query_one("SELECT count(*) FROM t", &[]).await?;
    assert_eq!(rows.get::<_, i64>(0), 5_000);
    Ok(())
}

const SLEEPING: &str = "SELECT count(*) = 1 FROM pg_stat_activity \
                        WHERE state = 'active' AND query LIKE 'SELECT pg_sleep(%'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_request_reaches_the_statement() -> Outcome {
    let fixture = Fixture::builder().start().await;
    let client = fixture.client().await;
    let token = client.cancel_token();
    let sleeper =
        tokio::spawn(async move { (client.batch_execute("SELECT pg_sleep(600)").await, client) });
    fixture.wait_until(SLEEPING);
    token.cancel_query(NoTls).await?;
    let (result, client) = sleeper.await?;
    assert_eq!(result.unwrap_err().code(), Some(&SqlState::QUERY_CANCELED));
    assert_eq!(client.query_one("SELECT 1", &[]).await?.get::<_, i32>(0), 1);
    // Nothing runs now: a late request must not hit anyone.
    token.cancel_query(NoTls).await?;
    assert_eq!(client.query_one("SELECT 2", &[]).await?.get::<_, i32>(0), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_in_psql_cancels() {
    let fixture = Fixture::builder().start().await;
    let psql = fixture
        .libpq("psql")
        .args(["-XAtqc", "SELECT pg_sleep(600)"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    fixture.wait_until(SLEEPING);
    let pid = rustix::process::Pid::from_child(&psql);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = psql.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("canceling statement due to user request"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_database_is_served_by_every_replica() -> Outcome {
    let fixture = Fixture::builder().replicas(2).start().await;
    let mut ports = std::collections::BTreeSet::new();
    for _ in 0..8 {
        let client = fixture.connect(USER, &format!("{DATABASE}_ro")).await?;
        let row = client.query_one("SELECT inet_server_port(), pg_is_in_recovery()", &[]).await?;
        assert!(row.get::<_, bool>(1));
        ports.insert(row.get::<_, i32>(0));
    }
    assert_eq!(ports.len(), 2, "both replicas serve");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_a_login_and_of_a_query_are_postgresqls() -> Outcome {
    let fixture = Fixture::builder().start().await;
    let mut client = fixture.raw().await?;
    assert!(client.key.is_some());
    for name in ["server_version", "client_encoding", "DateStyle", "standard_conforming_strings"] {
        assert!(client.parameters.iter().any(|(n, _)| n == name), "{name} is reported");
    }
    let kinds: String =
        client.query("SELECT 1").await?.iter().map(|f| char::from(f.kind)).collect();
    assert_eq!(kinds, "TDCZ");
    client.send(b"X\0\0\0\x04").await?;
    client.closed().await?;
    Ok(())
}
