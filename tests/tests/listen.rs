//! LISTEN and NOTIFY in transaction mode.
#![allow(clippy::unwrap_used)] // how a test fails

use pgherd_tests::ask::value;
use pgherd_tests::{Fixture, RawClient};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// The next notification: channel and payload.
async fn heard(client: &mut RawClient) -> String {
    let frame = client.frame().await.unwrap();
    assert_eq!(char::from(frame.kind), 'A', "{frame:?}");
    let text = String::from_utf8_lossy(&frame.body[4..]).into_owned();
    text.strip_suffix('\0').unwrap_or_default().replace('\0', ":")
}

/// Nothing was heard up to now: a query's answer holds no notification, as PostgreSQL sends them before.
async fn quiet(client: &mut RawClient) {
    let frames = client.query("SELECT 1").await.unwrap();
    assert!(frames.iter().all(|f| f.kind != b'A'), "{frames:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_hear_while_they_are_idle() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 2").start().await;
    let (mut one, mut two) = (fixture.raw().await?, fixture.raw().await?);
    let third = fixture.client().await;
    one.query("LISTEN news").await?;
    two.query("LISTEN news; LISTEN \"Other Channel\"").await?;
    third.batch_execute("NOTIFY news, 'first'").await?;
    assert_eq!(heard(&mut one).await, "news:first");
    assert_eq!(heard(&mut two).await, "news:first");
    third.execute("SELECT pg_notify($1, $2)", &[&"Other Channel", &"it's; \u{e9}"]).await?;
    assert_eq!(heard(&mut two).await, "Other Channel:it's; \u{e9}");
    quiet(&mut one).await;
    // Payloads in order, and the largest.
    for n in 0..200 {
        third.batch_execute(&format!("NOTIFY news, '{n}'")).await?;
    }
    for n in 0..200 {
        assert_eq!(heard(&mut one).await, format!("news:{n}"));
        assert_eq!(heard(&mut two).await, format!("news:{n}"));
    }
    let large = "x".repeat(7_999);
    third.execute("SELECT pg_notify('news', $1)", &[&large]).await?;
    assert_eq!(heard(&mut one).await, format!("news:{large}"));
    assert_eq!(heard(&mut two).await, format!("news:{large}"));
    one.query("UNLISTEN news").await?;
    third.batch_execute("NOTIFY news").await?;
    assert_eq!(heard(&mut two).await, "news:");
    quiet(&mut one).await;
    two.query("UNLISTEN *").await?;
    third.batch_execute("NOTIFY news; NOTIFY \"Other Channel\"").await?;
    quiet(&mut two).await;
    // Servers of the pool listen to nothing.
    for _ in 0..3 {
        assert_eq!(value(&third, "SELECT count(*) FROM pg_listening_channels()").await, "0");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listening_obeys_transactions() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 2").start().await;
    let mut one = fixture.raw().await?;
    let third = fixture.client().await;
    one.query("BEGIN").await?;
    one.query("LISTEN news").await?;
    one.query("ROLLBACK").await?;
    third.batch_execute("NOTIFY news, 'lost'").await?;
    quiet(&mut one).await;
    one.query("BEGIN; LISTEN news; SELECT 1/0").await?;
    one.query("ROLLBACK").await?;
    third.batch_execute("NOTIFY news, 'lost'").await?;
    quiet(&mut one).await;
    one.query("BEGIN; LISTEN news; COMMIT").await?;
    third.batch_execute("NOTIFY news, 'heard'").await?;
    assert_eq!(heard(&mut one).await, "news:heard");
    one.query("BEGIN; UNLISTEN news; ROLLBACK").await?;
    third.batch_execute("NOTIFY news, 'still'").await?;
    assert_eq!(heard(&mut one).await, "news:still");
    third.batch_execute("BEGIN; NOTIFY news, 'undone'; ROLLBACK").await?;
    third.batch_execute("BEGIN; NOTIFY news, 'done'; COMMIT").await?;
    assert_eq!(heard(&mut one).await, "news:done");
    one.query("DISCARD ALL").await?;
    third.batch_execute("NOTIFY news, 'nobody'").await?;
    quiet(&mut one).await;
    // In the extended protocol; to oneself.
    let batch = pgherd_tests::Batch::new().unnamed("LISTEN own");
    one.batch(batch).await?;
    let frames = one.query("NOTIFY own, 'self'").await?;
    if !frames.iter().any(|f| f.kind == b'A') {
        assert_eq!(heard(&mut one).await, "own:self");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listening_survives_the_end_of_the_shared_listeners_backend() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 2").start().await;
    let mut one = fixture.raw().await?;
    let third = fixture.client().await;
    one.query("LISTEN news").await?;
    one.query("LISTEN more").await?;
    let listener = "SELECT pid FROM pg_stat_activity WHERE application_name = 'pgherd listener'";
    let before = fixture.direct(listener);
    assert_eq!(before.len(), 1);
    fixture.direct(&format!("SELECT pg_terminate_backend({})", before[0]));
    // Its last statement is LISTEN again, on another backend, and done.
    fixture.wait_until(&format!(
        "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'pgherd listener' \
         AND pid <> {} AND query LIKE 'LISTEN%' AND state = 'idle'",
        before[0]
    ));
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    third.batch_execute("NOTIFY news, 'again'; NOTIFY more, 'too'").await?;
    assert_eq!(heard(&mut one).await, "news:again");
    assert_eq!(heard(&mut one).await, "more:too");
    // When nobody listens any more the connection goes.
    drop(one);
    fixture.wait_until(
        "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'pgherd listener'",
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_leave_while_the_listener_has_no_connection() -> Outcome {
    let mut fixture = Fixture::builder().config("[pool]\nsize_default = 2").start().await;
    let mut one = fixture.raw().await?;
    let mut stays = fixture.raw().await?;
    one.query("LISTEN news").await?;
    stays.query("LISTEN news").await?;
    fixture.herd.primary.stop(pgherd::local::Stop::Fast)?;
    drop(one);
    fixture.herd.primary.start()?;
    fixture.wait_until("SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'pgherd listener' AND state = 'idle' AND query LIKE 'LISTEN%'");
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let third = fixture.client().await;
    third.batch_execute("NOTIFY news, 'back'").await?;
    assert_eq!(heard(&mut stays).await, "news:back");
    Ok(())
}
