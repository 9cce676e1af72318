//! PREPARE, EXECUTE and DEALLOCATE in transaction mode.
#![allow(clippy::unwrap_used)] // how a test fails

use pgherd_tests::ask::{column, failure, kinds, refused, rows, value};
use pgherd_tests::{Batch, Fixture};
use tokio_postgres::error::SqlState;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Whoever asks next meets another server than the last one did, as long as nobody is in a transaction.
async fn switched(fixture: &Fixture) -> tokio_postgres::Client {
    let holder = fixture.client().await;
    holder.batch_execute("BEGIN").await.unwrap();
    holder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_statements_follow_their_client() -> Outcome {
    let fixture = Fixture::builder()
        .config("[pool]\nsize_default = 3")
        .setup("CREATE TABLE t AS SELECT generate_series(1, 5) a")
        .start()
        .await;
    let client = fixture.client().await;
    let check = async |sql: &str, expect: &[&str]| {
        // On the server of before, and on another.
        for holds in [false, true] {
            let holder = if holds { Some(switched(&fixture).await) } else { None };
            assert_eq!(rows(&client, sql).await, expect, "{sql}");
            drop(holder);
        }
    };
    client.batch_execute("PREPARE one (int, text) AS SELECT $1 + 1, $2").await?;
    client.batch_execute("PREPARE \"Two Words\" AS SELECT count(*) FROM t").await?;
    client.batch_execute("PREPARE Folded AS SELECT 'it''s; a \"trap\"' -- comment").await?;
    client.batch_execute("PREPARE \"q\"\"uote\" AS SELECT 'q'; PREPARE p3 AS SELECT a FROM t WHERE a > $1 ORDER BY a").await?;
    check("EXECUTE one (41, 'x')", &["42|x"]).await;
    check("EXECUTE \"Two Words\"", &["5"]).await;
    check("execute FOLDED;", &["it's; a \"trap\""]).await;
    check("EXECUTE \"q\"\"uote\"", &["q"]).await;
    check("EXECUTE p3 (3); EXECUTE one(1, 'y'); SELECT 'z'", &["4", "5", "2|y", "z"]).await;
    check("/* c */ EXECUTE /* d */ p3 (4)", &["5"]).await;
    check("BEGIN; EXECUTE p3 (4); COMMIT", &["5"]).await;
    let plan = rows(&client, "EXPLAIN (COSTS off) EXECUTE p3 (3)").await;
    assert!(plan.join(" ").contains("on t"), "{plan:?}");
    let plan = rows(&client, "EXPLAIN ANALYZE EXECUTE \"Two Words\"").await;
    assert!(plan.join(" ").contains("Aggregate"), "{plan:?}");
    client.batch_execute("CREATE TABLE made AS EXECUTE p3 (3)").await?;
    check("SELECT a FROM made ORDER BY 1", &["4", "5"]).await;
    // Not names of statements.
    check("SELECT 'EXECUTE one'", &["EXECUTE one"]).await;
    assert_eq!(refused(&client, "EXECUTE two").await, SqlState::INVALID_SQL_STATEMENT_NAME);
    assert_eq!(refused(&client, "EXECUTE \"Folded\"").await, SqlState::INVALID_SQL_STATEMENT_NAME);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_belong_to_one_client() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 1").start().await;
    let (one, two) = (fixture.client().await, fixture.client().await);
    one.batch_execute("PREPARE p AS SELECT 'one'").await?;
    assert_eq!(refused(&two, "EXECUTE p").await, SqlState::INVALID_SQL_STATEMENT_NAME);
    two.batch_execute("PREPARE p AS SELECT 'two'").await?;
    assert_eq!(
        (value(&one, "EXECUTE p").await, value(&two, "EXECUTE p").await),
        ("one".into(), "two".into())
    );
    assert_eq!(refused(&one, "PREPARE p AS SELECT 3").await, SqlState::DUPLICATE_PSTATEMENT);
    assert_eq!(value(&one, "EXECUTE p").await, "one");
    one.batch_execute("DEALLOCATE p").await?;
    assert_eq!(refused(&one, "EXECUTE p").await, SqlState::INVALID_SQL_STATEMENT_NAME);
    assert_eq!(value(&two, "EXECUTE p").await, "two");
    one.batch_execute("PREPARE p AS SELECT 'two'").await?;
    assert_eq!(value(&one, "EXECUTE p").await, "two");
    two.batch_execute("DEALLOCATE PREPARE ALL").await?;
    assert_eq!(refused(&two, "EXECUTE p").await, SqlState::INVALID_SQL_STATEMENT_NAME);
    assert_eq!(value(&one, "EXECUTE p").await, "two", "another client's DEALLOCATE ALL");
    two.batch_execute("PREPARE p AS SELECT 'three'").await?;
    one.batch_execute("DISCARD ALL").await?;
    assert_eq!(refused(&one, "EXECUTE p").await, SqlState::INVALID_SQL_STATEMENT_NAME);
    assert_eq!(value(&two, "EXECUTE p").await, "three");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prepare_that_fails_leaves_no_name() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 2").start().await;
    let client = fixture.client().await;
    for failing in [
        "PREPARE p AS SELECT no_such",
        "PREPARE p (nosuchtype) AS SELECT 1",
        "PREPARE p AS SELEC",
        "SELECT 1/0; PREPARE p AS SELECT 1",
    ] {
        assert!(client.batch_execute(failing).await.is_err(), "{failing}");
        assert_eq!(
            refused(&client, "EXECUTE p").await,
            SqlState::INVALID_SQL_STATEMENT_NAME,
            "{failing}"
        );
    }
    client.batch_execute("PREPARE p AS SELECT 1").await?;
    assert_eq!(value(&client, "EXECUTE p").await, "1");
    // Prepared statements are not transactional (manual, PREPARE).
    client.batch_execute("BEGIN; PREPARE kept AS SELECT 2; ROLLBACK").await?;
    assert_eq!(value(&client, "EXECUTE kept").await, "2");
    client.batch_execute("BEGIN; DEALLOCATE kept; ROLLBACK").await?;
    assert_eq!(refused(&client, "EXECUTE kept").await, SqlState::INVALID_SQL_STATEMENT_NAME);
    assert!(client.batch_execute("PREPARE two AS SELECT 3; SELECT 1/0").await.is_err());
    assert_eq!(value(&client, "EXECUTE two").await, "3");
    client
        .batch_execute("PREPARE three AS SELECT 4; DEALLOCATE three; PREPARE three AS SELECT 5")
        .await?;
    assert_eq!(value(&client, "EXECUTE three").await, "5");
    assert!(client.batch_execute("BEGIN; SELECT 1/0").await.is_err());
    assert_eq!(
        refused(&client, "PREPARE four AS SELECT 6").await,
        SqlState::IN_FAILED_SQL_TRANSACTION
    );
    assert_eq!(refused(&client, "EXECUTE three").await, SqlState::IN_FAILED_SQL_TRANSACTION);
    client.batch_execute("ROLLBACK").await?;
    assert_eq!(refused(&client, "EXECUTE four").await, SqlState::INVALID_SQL_STATEMENT_NAME);
    assert_eq!(value(&client, "EXECUTE three").await, "5");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol_and_sql_share_names() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 3").start().await;
    let mut client = fixture.raw().await?;
    client.batch(Batch::new().parse("p", "SELECT 11").sync()).await?;
    client.query("PREPARE s AS SELECT 12").await?;
    for holds in [false, true] {
        let holder = if holds { Some(switched(&fixture).await) } else { None };
        assert_eq!(column(&client.query("EXECUTE p").await?), ["11"]);
        assert_eq!(column(&client.batch(Batch::new().run("s")).await?), ["12"]);
        // SQL's EXECUTE as a statement of the protocol.
        assert_eq!(column(&client.batch(Batch::new().unnamed("EXECUTE s")).await?), ["12"]);
        assert_eq!(column(&client.batch(Batch::new().unnamed("EXECUTE p")).await?), ["11"]);
        let frames = client.batch(Batch::new().describe(b'S', "s").sync()).await?;
        assert_eq!(kinds(&frames), "tTZ");
        drop(holder);
    }
    assert_eq!(failure(&client.batch(Batch::new().parse("s", "SELECT 1").sync()).await?), "42P05");
    assert_eq!(failure(&client.query("PREPARE p AS SELECT 1").await?), "42P05");
    client.query("DEALLOCATE p").await?;
    assert_eq!(failure(&client.batch(Batch::new().run("p")).await?), "26000");
    client.batch(Batch::new().close(b'S', "s").sync()).await?;
    assert_eq!(failure(&client.query("EXECUTE s").await?), "26000");
    // PREPARE as a statement of the protocol.
    let frames = client.batch(Batch::new().unnamed("PREPARE e AS SELECT 13")).await?;
    assert_eq!(kinds(&frames), "12CZ", "{}", failure(&frames));
    assert_eq!(column(&client.query("EXECUTE e").await?), ["13"]);
    let holder = switched(&fixture).await;
    assert_eq!(column(&client.batch(Batch::new().unnamed("EXECUTE e")).await?), ["13"]);
    drop(holder);
    let frames = client.batch(Batch::new().unnamed("DEALLOCATE e")).await?;
    assert_eq!(kinds(&frames), "12CZ", "{}", failure(&frames));
    assert_eq!(failure(&client.query("EXECUTE e").await?), "26000");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_statement_that_executes_another_meets_it_on_every_server() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 3").start().await;
    let mut client = fixture.raw().await?;
    client.query("PREPARE inner_one AS SELECT 21").await?;
    client.batch(Batch::new().parse("outer_one", "EXECUTE inner_one").sync()).await?;
    for holds in [false, true, true] {
        let holder = if holds { Some(switched(&fixture).await) } else { None };
        let frames = client.batch(Batch::new().run("outer_one")).await?;
        assert_eq!(column(&frames), ["21"], "{}", failure(&frames));
        drop(holder);
    }
    Ok(())
}
