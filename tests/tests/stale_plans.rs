//! "cached plan must not change result type": nobody notices that statements are kept.
#![allow(clippy::unwrap_used)] // how a test fails

use pgherd_tests::ask::{column, failure, value};
use pgherd_tests::{Batch, Fixture};
use tokio_postgres::error::SqlState;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const SETUP: &str = "CREATE TABLE t (a int); INSERT INTO t VALUES (1)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_table_is_not_noticed_out_of_a_transaction() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 2").setup(SETUP).start().await;
    let mut client = fixture.raw().await?;
    let frames = client.batch(Batch::new().parse("s", "SELECT * FROM t").run("s")).await?;
    assert_eq!(column(&frames), ["1"]);
    for (change, expect) in [
        ("ALTER TABLE t ADD b int", 2),
        ("ALTER TABLE t ALTER a TYPE text", 2),
        ("ALTER TABLE t DROP b", 1),
    ] {
        fixture.direct(change);
        let frames =
            client.batch(Batch::new().bind("s", &[]).describe(b'P', "").execute().sync()).await?;
        assert_eq!(failure(&frames), "", "{change}");
        let row = frames.iter().find(|f| f.kind == b'D').unwrap();
        assert_eq!(row.body[..2], [0, expect], "{change}");
        assert_eq!(column(&frames), ["1"]);
        // And by EXECUTE of SQL.
        assert_eq!(failure(&client.query("SELECT 1").await?), "");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_goes_on_after_the_table_changed() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 2").setup(SETUP).start().await;
    let client = fixture.client().await;
    fixture.direct("ALTER TABLE t ADD b varchar(5) DEFAULT 'x'");
    let statement = client.prepare("SELECT a FROM t WHERE a = $1").await?;
    assert_eq!(client.query(&statement, &[&1]).await?.len(), 1);
    let all = client.prepare("SELECT * FROM t").await?;
    assert_eq!(client.query(&all, &[]).await?.len(), 1);
    // The driver remembers columns: only what does not change them can go unnoticed.
    fixture.direct("ALTER TABLE t ALTER b TYPE varchar(9)");
    assert_eq!(client.query(&statement, &[&1]).await?.len(), 1);
    assert_eq!(client.query_one(&all, &[]).await?.get::<_, &str>(1), "x");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_transaction_the_error_passes_and_afterwards_all_is_well() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 1").setup(SETUP).start().await;
    let mut client = fixture.raw().await?;
    client.batch(Batch::new().parse("s", "SELECT * FROM t").run("s")).await?;
    fixture.direct("ALTER TABLE t ADD b int");
    client.query("BEGIN").await?;
    assert_eq!(failure(&client.batch(Batch::new().run("s")).await?), "0A000");
    assert_eq!(failure(&client.batch(Batch::new().run("s")).await?), "25P02");
    client.query("ROLLBACK").await?;
    assert_eq!(column(&client.batch(Batch::new().run("s")).await?), ["1"]);
    let other = fixture.client().await;
    let statement = other.prepare("SELECT * FROM t").await?;
    assert_eq!(other.query(&statement, &[]).await?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_level_execute_recovers_too() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 1").setup(SETUP).start().await;
    let client = fixture.client().await;
    client.batch_execute("PREPARE s AS SELECT * FROM t").await?;
    assert_eq!(value(&client, "EXECUTE s").await, "1");
    fixture.direct("ALTER TABLE t ADD b int");
    // PostgreSQL would refuse it for ever; here at most once. The driver asks again when it has the error,
    // which may be before the ReadyForQuery behind it.
    let first = client.simple_query("EXECUTE s").await;
    if let Err(error) = first {
        assert_eq!(error.code(), Some(&SqlState::FEATURE_NOT_SUPPORTED));
    }
    assert_eq!(value(&client, "EXECUTE s").await, "1|NULL");
    // A pipeline of several batches.
    let mut raw = fixture.raw().await?;
    raw.batch(Batch::new().parse("s", "SELECT * FROM t").run("s")).await?;
    fixture.direct("ALTER TABLE t ADD c int");
    let batch = Batch::new().run("s").run("s");
    raw.send(&batch.0).await?;
    raw.until(b'Z').await?;
    raw.until(b'Z').await?;
    assert_eq!(failure(&raw.batch(Batch::new().run("s")).await?), "");
    Ok(())
}
