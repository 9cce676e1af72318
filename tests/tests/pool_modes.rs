//! When a server goes back to its pool: transaction, session and statement mode.
#![allow(clippy::unwrap_used)] // how a test fails

use pgherd_tests::ask::{backend, refused, rows, value};
use pgherd_tests::{DATABASE, Fixture, USER};
use tokio_postgres::error::SqlState;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transaction_mode_shares_a_server_between_transactions_and_never_inside_one() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 2").start().await;
    let (one, two, three) =
        (fixture.client().await, fixture.client().await, fixture.client().await);
    one.batch_execute("BEGIN").await?;
    let held = backend(&one).await;
    for _ in 0..5 {
        let other = backend(&two).await;
        assert_ne!(other, held);
        assert_eq!(backend(&three).await, other, "the free server serves both");
        assert_eq!(backend(&one).await, held);
    }
    one.batch_execute("COMMIT").await?;
    assert_eq!(fixture.pool(DATABASE, USER, "servers_active"), "0");
    assert_eq!(fixture.pool(DATABASE, USER, "servers_idle"), "2");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_mode_keeps_the_server_and_cleans_it_only_when_state_was_left() -> Outcome {
    let fixture = Fixture::builder()
        .config("[pool]\nsize_default = 1\nmode = \"session\"")
        .postgres("log_statement", "all")
        .start()
        .await;
    let cleanings = || fixture.herd.primary.log().matches("DISCARD ALL").count();
    let one = fixture.client().await;
    let first = backend(&one).await;
    assert_eq!(backend(&one).await, first);
    assert_eq!(fixture.pool(DATABASE, USER, "servers_active"), "1", "kept while idle");
    one.batch_execute("BEGIN; SELECT 1; COMMIT").await?;
    drop(one);
    let two = fixture.client().await;
    assert_eq!(backend(&two).await, first);
    assert_eq!(cleanings(), 0, "nothing was left behind");
    two.batch_execute("SET work_mem = '5MB'; CREATE TEMP TABLE t (a int); LISTEN c").await?;
    two.batch_execute("PREPARE p AS SELECT 7").await?;
    assert_eq!(value(&two, "EXECUTE p").await, "7");
    drop(two);
    let three = fixture.client().await;
    assert_eq!(backend(&three).await, first);
    assert_eq!(cleanings(), 1);
    assert_eq!(value(&three, "SHOW work_mem").await, "4MB");
    assert_eq!(value(&three, "SELECT count(*) FROM pg_prepared_statements").await, "0");
    assert_eq!(value(&three, "SELECT count(*) FROM pg_listening_channels()").await, "0");
    assert_eq!(refused(&three, "SELECT * FROM t").await, SqlState::UNDEFINED_TABLE);
    // Named statements of the protocol are state too.
    let statement = three.prepare("SELECT 8").await?;
    assert_eq!(three.query_one(&statement, &[]).await?.get::<_, i32>(0), 8);
    drop(statement);
    drop(three);
    let four = fixture.client().await;
    assert_eq!(value(&four, "SELECT count(*) FROM pg_prepared_statements").await, "0");
    // In the middle of a transaction.
    four.batch_execute("CREATE TABLE kept (a int)").await?;
    four.batch_execute("BEGIN; SET work_mem = '6MB'; DROP TABLE kept").await?;
    drop(four);
    let five = fixture.client().await;
    assert_eq!(value(&five, "SHOW work_mem").await, "4MB");
    assert_eq!(value(&five, "SELECT count(*) FROM kept").await, "0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn startup_settings_of_a_session_mode_client_do_not_reach_the_next() -> Outcome {
    let fixture =
        Fixture::builder().config("[pool]\nsize_default = 1\nmode = \"session\"").start().await;
    let dsn = fixture.dsn(USER, DATABASE) + " options='-c work_mem=7MB'";
    let (one, connection) = tokio_postgres::connect(&dsn, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    assert_eq!(value(&one, "SHOW work_mem").await, "7MB");
    one.batch_execute("RESET work_mem").await?;
    drop(one);
    let two = fixture.client().await;
    assert_eq!(value(&two, "SHOW work_mem").await, "4MB");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_custom_reset_query_never_lets_a_pinned_clients_state_through() -> Outcome {
    for reset in ["", "SELECT 1"] {
        let fixture = Fixture::builder()
            .config(&format!("[pool]\nsize_default = 1\nserver_reset_query = \"{reset}\""))
            .start()
            .await;
        let one = fixture.client().await;
        one.batch_execute(
            "SET work_mem = '5MB'; CREATE TEMP TABLE t (a int); PREPARE p AS SELECT 7",
        )
        .await?;
        one.batch_execute("SELECT pg_advisory_lock(1)").await?;
        drop(one);
        let two = fixture.client().await;
        assert_eq!(value(&two, "SHOW work_mem").await, "4MB", "{reset:?}");
        assert_eq!(refused(&two, "SELECT * FROM t").await, SqlState::UNDEFINED_TABLE);
        two.batch_execute("PREPARE p AS SELECT 7").await?;
        assert_eq!(value(&two, "EXECUTE p").await, "7");
        assert_eq!(
            fixture.direct("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"),
            ["0"]
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statement_mode_shares_servers_and_refuses_transaction_blocks() -> Outcome {
    let fixture =
        Fixture::builder().config("[pool]\nsize_default = 1\nmode = \"statement\"").start().await;
    let (one, two) = (fixture.client().await, fixture.client().await);
    assert_eq!(backend(&one).await, backend(&two).await);
    assert_eq!(one.query_one("SELECT $1::int4", &[&3]).await?.get::<_, i32>(0), 3);
    assert_eq!(rows(&one, "SELECT 1; SELECT 2").await, ["1", "2"]);
    for begin in ["BEGIN", "START TRANSACTION", "SELECT 1; BEGIN", "/* x */ begin work"] {
        let client = fixture.client().await;
        assert_eq!(refused(&client, begin).await, SqlState::FEATURE_NOT_SUPPORTED, "{begin}");
        let client = fixture.client().await;
        let error = client.prepare(begin).await.map(|_| ()).unwrap_err();
        assert!(
            !begin.starts_with("BEGIN") || error.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED),
            "{error:?}"
        );
    }
    assert_eq!(value(&two, "SELECT 5").await, "5");
    fixture.pool_until(DATABASE, USER, "servers_active", "0").await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_and_users_override_the_mode() -> Outcome {
    let fixture = Fixture::builder()
        .setup("CREATE ROLE app LOGIN SUPERUSER")
        .config(
            "[databases.by_session]\nnodes = [\"primary\"]\ndbname = \"app\"\nmode = \"session\"\n\
             [users.app]\nmode = \"statement\"",
        )
        .start()
        .await;
    let transaction = fixture.client().await;
    transaction.batch_execute("SELECT 1").await?;
    let session = fixture.connect(USER, "by_session").await?;
    session.batch_execute("SELECT 1").await?;
    let statement = fixture.connect("app", "by_session").await?;
    assert_eq!(refused(&statement, "BEGIN").await, SqlState::FEATURE_NOT_SUPPORTED);
    assert_eq!(fixture.pool(DATABASE, USER, "servers_active"), "0");
    assert_eq!(fixture.pool("by_session", USER, "servers_active"), "1");
    assert_eq!(fixture.pool(DATABASE, USER, "mode"), "transaction");
    assert_eq!(fixture.pool("by_session", USER, "mode"), "session");
    assert_eq!(fixture.pool("by_session", "app", "mode"), "statement");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_connect_query_sets_outlives_cleaning() -> Outcome {
    let fixture = Fixture::builder()
        .config(
            "[pool]\nsize_default = 1\n[databases.app]\nconnect_query = \"SET work_mem = '9MB'\"",
        )
        .start()
        .await;
    let one = fixture.client().await;
    assert_eq!(value(&one, "SHOW work_mem").await, "9MB");
    one.batch_execute("CREATE TEMP TABLE t (a int)").await?;
    drop(one);
    let two = fixture.client().await;
    assert_eq!(value(&two, "SHOW work_mem").await, "9MB");
    two.batch_execute("DISCARD ALL").await?;
    drop(two);
    let three = fixture.client().await;
    assert_eq!(value(&three, "SHOW work_mem").await, "9MB");
    three.batch_execute("RESET ALL").await?;
    assert_eq!(value(&fixture.client().await, "SHOW work_mem").await, "9MB");
    Ok(())
}
