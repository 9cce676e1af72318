//! Prepared statements of the protocol in transaction mode, over many servers.
#![allow(clippy::unwrap_used)] // how a test fails

use pgherd_tests::ask::{backend, column, failure, kinds, rows, value};
use pgherd_tests::{Batch, Fixture};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Two servers, the first of which the returned client holds: everyone else gets the other.
async fn two_servers(extra: &str) -> (Fixture, tokio_postgres::Client) {
    let config = format!("[pool]\nsize_default = 2\n{extra}");
    let fixture = Fixture::builder().config(&config).start().await;
    let holder = fixture.client().await;
    (fixture, holder)
}

const OURS: &str = "SELECT statement FROM pg_prepared_statements ORDER BY 1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_text_is_one_statement_on_a_server() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 1").start().await;
    let (mut one, mut two) = (fixture.raw().await?, fixture.raw().await?);
    for client in [&mut one, &mut two] {
        for name in ["a", "b"] {
            let frames = client.batch(Batch::new().parse(name, "SELECT 42").run(name)).await?;
            assert_eq!(kinds(&frames), "12DCZ");
            assert_eq!(column(&frames), ["42"]);
        }
    }
    assert_eq!(column(&one.query(OURS).await?), ["SELECT 42"]);
    // A name that is closed by one client lives on for the other, and can be used again.
    let frames = one.batch(Batch::new().close(b'S', "a").parse("a", "SELECT 43").run("a")).await?;
    assert_eq!((kinds(&frames), column(&frames)), ("312DCZ".into(), vec!["43".into()]));
    let frames = two.batch(Batch::new().run("a")).await?;
    assert_eq!(column(&frames), ["42"]);
    let frames = one.batch(Batch::new().close(b'S', "a").run("a")).await?;
    assert_eq!((kinds(&frames), failure(&frames)), ("3EZ".into(), "26000".into()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_follow_their_client_to_another_server() -> Outcome {
    let (fixture, holder) = two_servers("").await;
    let mut client = fixture.raw().await?;
    let parse = Batch::new().parse("s", "SELECT pg_backend_pid()").describe(b'S', "s").sync();
    assert_eq!(kinds(&client.batch(parse).await?), "1tTZ");
    let first = column(&client.batch(Batch::new().run("s")).await?);
    holder.batch_execute("BEGIN").await?;
    let held = backend(&holder).await;
    let second = column(&client.batch(Batch::new().run("s")).await?);
    assert_ne!(second, [held.as_str()]);
    holder.batch_execute("COMMIT").await?;
    // The other server is held now: the client must meet the first.
    let blocker = fixture.client().await;
    blocker.batch_execute("BEGIN").await?;
    holder.batch_execute("BEGIN").await?;
    let (a, b) = (backend(&blocker).await, backend(&holder).await);
    assert_ne!(a, b);
    let release = if second == [a.as_str()] { &holder } else { &blocker };
    release.batch_execute("COMMIT").await?;
    let frames = client.batch(Batch::new().describe(b'S', "s").run("s")).await?;
    assert_eq!(kinds(&frames), "tT2DCZ");
    assert_ne!(column(&frames), second);
    assert!(first == second || first == column(&frames));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_of_names_are_postgresqls() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 1").start().await;
    let mut client = fixture.raw().await?;
    let mut check = async |batch: Batch, expect: &str, code: &str| {
        let frames = client.batch(batch).await.unwrap();
        assert_eq!((kinds(&frames).as_str(), failure(&frames).as_str()), (expect, code));
    };
    check(Batch::new().parse("s", "SELEC").sync(), "EZ", "42601").await;
    check(Batch::new().run("s"), "EZ", "26000").await;
    check(Batch::new().parse("s", "SELECT 1").sync(), "1Z", "").await;
    check(Batch::new().parse("s", "SELECT 2").sync(), "EZ", "42P05").await;
    check(Batch::new().parse("s", "SELECT 1").sync(), "EZ", "42P05").await;
    check(Batch::new().run("s"), "2DCZ", "").await;
    check(Batch::new().run("absent"), "EZ", "26000").await;
    check(Batch::new().describe(b'S', "absent").sync(), "EZ", "26000").await;
    check(Batch::new().close(b'S', "absent").sync(), "3Z", "").await;
    // Behind an error nothing is done: not the Parse, not the Close.
    check(
        Batch::new().parse("", "SELEC").parse("t", "SELECT 3").close(b'S', "s").sync(),
        "EZ",
        "42601",
    )
    .await;
    check(Batch::new().run("t"), "EZ", "26000").await;
    check(Batch::new().run("s"), "2DCZ", "").await;
    // The server has the text already, under another name of the client.
    check(Batch::new().parse("", "SELEC").parse("u", "SELECT 1").sync(), "EZ", "42601").await;
    check(Batch::new().run("u"), "EZ", "26000").await;
    // A Parse that succeeds before an error keeps its name.
    check(Batch::new().parse("v", "SELECT 1/0").run("v"), "1EZ", "22012").await;
    check(Batch::new().run("v"), "EZ", "22012").await;
    check(Batch::new().parse("w", "SELECT no_such_column").sync(), "EZ", "42703").await;
    check(Batch::new().parse("w", "SELECT 1; SELECT 2").sync(), "EZ", "42601").await;
    check(Batch::new().parse("w", "SELECT 4").run("w"), "12DCZ", "").await;
    // In a transaction that failed.
    check(Batch::new().query("BEGIN"), "CZ", "").await;
    check(Batch::new().query("SELECT 1/0"), "EZ", "22012").await;
    check(Batch::new().parse("x", "SELECT 5").sync(), "EZ", "25P02").await;
    check(Batch::new().query("ROLLBACK"), "CZ", "").await;
    check(Batch::new().run("x"), "EZ", "26000").await;
    check(Batch::new().parse("x", "SELECT 5").run("x"), "12DCZ", "").await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_keeps_no_more_statements_than_it_may() -> Outcome {
    let fixture = Fixture::builder()
        .config("[pool]\nsize_default = 1\nprepared_statements_max = 5")
        .start()
        .await;
    let mut client = fixture.raw().await?;
    for round in 0..3 {
        for n in 0..12 {
            let name = format!("s{n}");
            let mut batch = Batch::new();
            if round == 0 {
                batch = batch.parse(&name, &format!("SELECT {n}"));
            }
            let frames = client.batch(batch.run(&name)).await?;
            assert_eq!(column(&frames), [n.to_string()]);
            let count = column(&client.query("SELECT count(*) FROM pg_prepared_statements").await?);
            assert!(count[0].parse::<u32>()? <= 5, "{count:?}");
        }
    }
    // All in one batch.
    let all = (0..12).fold(Batch::new(), |b, n| b.bind(&format!("s{n}"), &[]).execute()).sync();
    let frames = client.batch(all).await?;
    assert_eq!(column(&frames), (0..12).map(|n| n.to_string()).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unnamed_statement_is_found_by_a_later_bind_on_another_server() -> Outcome {
    let (fixture, holder) = two_servers("").await;
    let mut client = fixture.raw().await?;
    let mut other = fixture.raw().await?;
    holder.batch_execute("BEGIN").await?;
    let frames = client.batch(Batch::new().parse("", "SELECT 'mine'").sync()).await?;
    assert_eq!(kinds(&frames), "1Z");
    // Somebody else's unnamed statement takes its place on that server.
    let frames = other.batch(Batch::new().unnamed("SELECT 'other'")).await?;
    assert_eq!(column(&frames), ["other"]);
    assert_eq!(column(&client.batch(Batch::new().run("")).await?), ["mine"]);
    holder.batch_execute("COMMIT").await?;
    let blocker = fixture.client().await;
    blocker.batch_execute("BEGIN").await?;
    assert_eq!(column(&client.batch(Batch::new().run("")).await?), ["mine"]);
    assert_eq!(kinds(&client.batch(Batch::new().describe(b'S', "").sync()).await?), "tTZ");
    // A simple query drops it (postgres.c), and nobody gets another's.
    client.query("SELECT 1").await?;
    assert_eq!(failure(&client.batch(Batch::new().run("")).await?), "26000");
    other.batch(Batch::new().unnamed("SELECT 'other'")).await?;
    let mut fresh = fixture.raw().await?;
    assert_eq!(failure(&fresh.batch(Batch::new().run("")).await?), "26000");
    // An unnamed Parse that failed leaves none.
    assert_eq!(failure(&client.batch(Batch::new().parse("", "SELEC").sync()).await?), "42601");
    assert_eq!(failure(&client.batch(Batch::new().run("")).await?), "26000");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_drivers_share_many_servers() -> Outcome {
    let fixture = Fixture::builder()
        .config("[pool]\nsize_default = 3\nprepared_statements_max = 4")
        .start()
        .await;
    let mut tasks = Vec::new();
    for task in 0..12_i64 {
        let client = fixture.client().await;
        tasks.push(tokio::spawn(async move {
            let mut statements = Vec::new();
            for n in 0..8_i64 {
                statements.push(client.prepare(&format!("SELECT $1::int8 + {n}")).await?);
            }
            for round in 0..40_i64 {
                for (n, statement) in (0_i64..).zip(&statements) {
                    let row = client.query_one(statement, &[&(task + round)]).await?;
                    assert_eq!(row.get::<_, i64>(0), task + round + n);
                }
            }
            Ok::<_, tokio_postgres::Error>(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_may_be_used_again_right_behind_what_frees_them() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 1").start().await;
    for freeing in ["DISCARD ALL", "DEALLOCATE ALL", "DEALLOCATE s", "deallocate prepare \"s\""] {
        let mut client = fixture.raw().await?;
        client.batch(Batch::new().parse("s", "SELECT 1").run("s")).await?;
        // Everything at once, as drivers that reset and go on do.
        let batch = Batch::new().query(freeing).parse("s", "SELECT 2").run("s").run("s");
        client.send(&batch.0).await?;
        let answers =
            [client.until(b'Z').await?, client.until(b'Z').await?, client.until(b'Z').await?];
        assert_eq!(kinds(&answers[0]), "CZ", "{freeing}");
        assert_eq!(column(&answers[1]), ["2"], "{freeing}: {:?}", failure(&answers[1]));
        assert_eq!(column(&answers[2]), ["2"], "{freeing}: {:?}", failure(&answers[2]));
        // The same text again.
        let batch = Batch::new().query(freeing).parse("s", "SELECT 2").run("s");
        client.send(&batch.0).await?;
        client.until(b'Z').await?;
        let answer = client.until(b'Z').await?;
        assert_eq!(column(&answer), ["2"], "{freeing}: {:?}", failure(&answer));
        // In extended form.
        let batch = Batch::new().unnamed(freeing).parse("s", "SELECT 3").run("s");
        client.send(&batch.0).await?;
        assert_eq!(kinds(&client.until(b'Z').await?), "12CZ", "{freeing}");
        let answer = client.until(b'Z').await?;
        assert_eq!(column(&answer), ["3"], "{freeing}: {:?}", failure(&answer));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_to_free_names_leaves_them() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 1").start().await;
    let mut client = fixture.raw().await?;
    client.batch(Batch::new().parse("s", "SELECT 1").run("s")).await?;
    client.query("BEGIN").await?;
    assert_eq!(failure(&client.query("DISCARD ALL").await?), "25001");
    client.query("ROLLBACK").await?;
    assert_eq!(column(&client.batch(Batch::new().run("s")).await?), ["1"]);
    assert_eq!(failure(&client.query("SELECT 1/0; DEALLOCATE s").await?), "22012");
    assert_eq!(column(&client.batch(Batch::new().run("s")).await?), ["1"]);
    assert_eq!(failure(&client.query("DEALLOCATE absent").await?), "26000");
    let client2 = fixture.client().await;
    let statement = client2.prepare("SELECT 9").await?;
    assert_eq!(rows(&client2, "SELECT 1; SELECT 2").await.len(), 2);
    assert_eq!(client2.query_one(&statement, &[]).await?.get::<_, i32>(0), 9);
    assert_eq!(value(&client2, "SELECT 3").await, "3");
    Ok(())
}
