//! State that keeps a client on its server, and what ends it.
#![allow(clippy::unwrap_used)] // how a test fails

use pgherd_tests::ask::{backend, refused, rows, value};
use pgherd_tests::{DATABASE, Fixture, USER};
use tokio_postgres::error::SqlState;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_pins_and_its_end_unpins() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 3").start().await;
    let client = fixture.client().await;
    let check = async |sql: &[&str], pinned: bool| {
        for statement in sql {
            let _ = client.batch_execute(statement).await;
        }
        let wanted = if pinned { "1" } else { "0" };
        println!("{sql:?}");
        // Whether the state is gone is asked behind the client's answer.
        fixture.pool_until(DATABASE, USER, "servers_active", wanted).await;
        assert_eq!(fixture.pool(DATABASE, USER, "servers_pinned"), wanted);
    };
    check(&["CREATE TEMP TABLE t (a int)"], true).await;
    check(&["INSERT INTO t VALUES (1)", "SELECT 1"], true).await;
    check(&["BEGIN; DROP TABLE t; ROLLBACK"], true).await;
    check(&["DROP TABLE t"], false).await;
    check(&["CREATE TEMPORARY TABLE t AS SELECT 1", "DISCARD TEMP"], false).await;
    check(&["SELECT 1 AS a INTO TEMP t"], true).await;
    check(&["DISCARD ALL"], false).await;
    check(&["BEGIN; CREATE TEMP TABLE t (a int) ON COMMIT DROP; COMMIT"], false).await;
    check(&["BEGIN", "CREATE TEMP TABLE t (a int)", "ROLLBACK"], false).await;
    check(&["BEGIN; CREATE TEMP TABLE t (a int)", "SELECT 1/0", "COMMIT"], false).await;
    check(&["CREATE TEMP TABLE t (a int); SELECT 1/0"], false).await;
    check(&["CREATE TEMP SEQUENCE s"], true).await;
    check(&["DROP SEQUENCE s"], false).await;
    check(&["CREATE TEMP VIEW v AS SELECT 1"], true).await;
    check(&["DROP VIEW v"], false).await;
    check(&["CREATE TABLE pg_temp.t (a int)"], true).await;
    check(&["DROP TABLE pg_temp.t"], false).await;
    check(&["CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 7'"], true).await;
    assert_eq!(value(&client, "SELECT pg_temp.f()").await, "7");
    check(&["DROP FUNCTION pg_temp.f()"], false).await;
    check(&["CREATE TYPE pg_temp.e AS ENUM ('a')"], true).await;
    check(&["DROP TYPE pg_temp.e"], false).await;
    check(&["BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 3); COMMIT"], true)
        .await;
    assert_eq!(rows(&client, "FETCH 2 FROM c").await, ["1", "2"]);
    check(&["CLOSE c"], false).await;
    check(&["DECLARE c CURSOR WITH HOLD FOR SELECT 1", "CLOSE ALL"], false).await;
    check(&["BEGIN; DECLARE c CURSOR FOR SELECT 1; FETCH c; COMMIT"], false).await;
    check(&["SELECT pg_advisory_lock(1)", "SELECT pg_advisory_lock(2)"], true).await;
    check(&["SELECT pg_advisory_unlock(1)"], true).await;
    check(&["SELECT pg_advisory_unlock(2)"], false).await;
    check(&["SELECT pg_try_advisory_lock(3), pg_advisory_lock_shared(4)"], true).await;
    check(&["SELECT pg_advisory_unlock_all()"], false).await;
    check(&["BEGIN; SELECT pg_advisory_xact_lock(5); COMMIT"], false).await;
    check(&["BEGIN; SELECT pg_advisory_lock(6); ROLLBACK"], true).await;
    check(&["SELECT pg_advisory_unlock(6)"], false).await;
    client.query("SELECT pg_advisory_lock($1)", &[&7_i64]).await?;
    check(&[], true).await;
    client.query("SELECT pg_advisory_unlock($1)", &[&7_i64]).await?;
    check(&[], false).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pinned_client_that_leaves_leaves_nothing() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 1").start().await;
    for state in [
        "CREATE TEMP TABLE t (a int)",
        "SELECT pg_advisory_lock(1)",
        "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 7'",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "LISTEN c",
        "BEGIN; CREATE TEMP TABLE t (a int); SELECT pg_advisory_lock(2)",
        "SELECT set_config('work_mem', (1 + 4) || 'MB', false)",
        "SELECT setseed(0.5)",
        "DO $$BEGIN PERFORM 1; END$$; SET work_mem = '9MB'",
    ] {
        let client = fixture.client().await;
        client.batch_execute(state).await?;
        drop(client);
        let next = fixture.client().await;
        let left = value(
            &next,
            "SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()), \
             (SELECT count(*) FROM pg_proc WHERE pronamespace = pg_my_temp_schema()), \
             (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), \
             (SELECT count(*) FROM pg_cursors WHERE is_holdable), \
             (SELECT count(*) FROM pg_listening_channels()), current_setting('work_mem')",
        )
        .await;
        assert_eq!(left, "0|0|0|0|0|4MB", "{state}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loaded_library_spoils_its_server() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 1").start().await;
    let client = fixture.client().await;
    let server = backend(&client).await;
    client.batch_execute("LOAD 'auto_explain'").await?;
    assert_eq!(backend(&client).await, server);
    assert_eq!(fixture.pool(DATABASE, USER, "servers_pinned"), "1");
    drop(client);
    assert_ne!(backend(&fixture.client().await).await, server);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pinned_client_uses_everything_else_as_before() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 2").start().await;
    let client = fixture.client().await;
    let statement = client.prepare("SELECT $1::int4 + 1").await?;
    client.batch_execute("CREATE TEMP TABLE t (a int)").await?;
    let server = backend(&client).await;
    client.batch_execute("SET work_mem = '5MB'; PREPARE p AS SELECT count(*) FROM t").await?;
    for n in 0..5 {
        client.execute("INSERT INTO t VALUES ($1)", &[&n]).await?;
        assert_eq!(client.query_one(&statement, &[&n]).await?.get::<_, i32>(0), n + 1);
        assert_eq!(value(&client, "EXECUTE p").await, (n + 1).to_string());
        assert_eq!(backend(&client).await, server);
    }
    client.batch_execute("DROP TABLE t").await?;
    let holder = fixture.client().await;
    holder.batch_execute("BEGIN").await?;
    assert_eq!(value(&client, "SHOW work_mem").await, "5MB");
    assert_eq!(client.query_one(&statement, &[&1]).await?.get::<_, i32>(0), 2);
    assert_eq!(refused(&client, "SELECT * FROM t").await, SqlState::UNDEFINED_TABLE);
    Ok(())
}
