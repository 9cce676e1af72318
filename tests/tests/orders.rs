//! What an operator orders on the console, and a reload, while clients are at work.
#![allow(clippy::unwrap_used)] // how a test fails

use std::time::Duration;

use pgherd_tests::ask::{backend, rows, value};
use pgherd_tests::{DATABASE, Fixture, USER};
use rustix::process::Signal;
use tokio_postgres::error::SqlState;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const ADMIN: &str = "[admin]\nusers = [\"postgres\"]\n[pool]\nsize_default = 3\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paused_clients_wait_and_go_on() -> Outcome {
    let fixture = Fixture::builder().config(ADMIN).start().await;
    let console = fixture.console().await;
    let (client, busy) = (fixture.client().await, fixture.client().await);
    client.batch_execute("SELECT 1").await?;
    busy.batch_execute("BEGIN").await?;
    // PAUSE waits for transactions to end, and their clients may go on to their end.
    let pause = tokio::spawn(async move {
        console.batch_execute("PAUSE app").await.unwrap();
        console
    });
    fixture.pool_until(DATABASE, USER, "paused", "true").await;
    assert_eq!(value(&busy, "SELECT 2").await, "2");
    busy.batch_execute("COMMIT").await?;
    let console = pause.await?;
    let waiting = tokio::spawn(async move { (value(&client, "SELECT 3").await, client) });
    fixture.pool_until(DATABASE, USER, "clients_waiting", "1").await;
    assert_eq!(fixture.pool(DATABASE, USER, "servers_active"), "0");
    // Clients may still come; they wait too.
    let dsn = fixture.dsn(USER, DATABASE);
    let newcomer = tokio::spawn(async move {
        let (client, connection) = tokio_postgres::connect(&dsn, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        client.batch_execute("SELECT 1").await
    });
    fixture.pool_until(DATABASE, USER, "clients_waiting", "2").await;
    console.batch_execute("RESUME app").await?;
    let (answer, client) = waiting.await?;
    assert_eq!(answer, "3");
    newcomer.await??;
    // All databases.
    console.batch_execute("PAUSE").await?;
    let waiting = tokio::spawn(async move { value(&client, "SELECT 4").await });
    fixture.pool_until(DATABASE, USER, "clients_waiting", "1").await;
    console.batch_execute("RESUME").await?;
    assert_eq!(waiting.await?, "4");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reconnect_replaces_servers_as_they_become_free() -> Outcome {
    let fixture = Fixture::builder().config(ADMIN).start().await;
    let console = fixture.console().await;
    let (client, busy) = (fixture.client().await, fixture.client().await);
    busy.batch_execute("BEGIN").await?;
    let (old, held) = (backend(&client).await, backend(&busy).await);
    console.batch_execute("RECONNECT app").await?;
    assert_eq!(backend(&busy).await, held, "not under a transaction");
    assert_ne!(backend(&client).await, old);
    busy.batch_execute("COMMIT").await?;
    assert_ne!(backend(&busy).await, held);
    let gone = format!("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid IN ({old}, {held})");
    fixture.wait_until(&gone);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_ends_clients_and_servers_and_disable_keeps_clients_out() -> Outcome {
    let fixture = Fixture::builder().config(ADMIN).start().await;
    let console = fixture.console().await;
    let (idle, busy) = (fixture.client().await, fixture.client().await);
    idle.batch_execute("SELECT 1").await?;
    busy.batch_execute("BEGIN").await?;
    console.batch_execute("KILL app").await?;
    for client in [&idle, &busy] {
        for _ in 0..500 {
            if client.is_closed() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(client.is_closed());
    }
    fixture
        .wait_until("SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'pgherd'");
    console.batch_execute("RESUME app").await?;
    assert_eq!(value(&fixture.client().await, "SELECT 1").await, "1");
    let stays = fixture.client().await;
    console.batch_execute("DISABLE app").await?;
    let error = fixture.connect(USER, DATABASE).await.map(|_| ()).unwrap_err();
    assert!(error.as_db_error().unwrap().message().contains("disabled"), "{error:?}");
    assert_eq!(value(&stays, "SELECT 2").await, "2");
    console.batch_execute("ENABLE app").await?;
    assert_eq!(value(&fixture.client().await, "SELECT 1").await, "1");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_client_is_killed_by_its_id() -> Outcome {
    let fixture = Fixture::builder().config(ADMIN).start().await;
    let console = fixture.console().await;
    let (one, two) = (fixture.client().await, fixture.client().await);
    one.batch_execute("SET application_name = 'x'; BEGIN").await?;
    two.batch_execute("SELECT 1").await?;
    fixture.pool_until(DATABASE, USER, "servers_active", "1").await;
    let json: serde_json::Value = serde_json::from_str(&fixture.pgherd.get("/api/v1/clients")?)?;
    let ids: Vec<_> = json
        .as_array()
        .unwrap()
        .iter()
        .filter(|c| c["database"] == DATABASE && !c["server_id"].is_null())
        .map(|c| c["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids.len(), 1, "{json}");
    console.batch_execute(&format!("KILL_CLIENT {}", ids[0])).await?;
    let error = one.batch_execute("SELECT 1").await.unwrap_err();
    assert!(error.is_closed() || error.code() == Some(&SqlState::ADMIN_SHUTDOWN), "{error:?}");
    assert_eq!(value(&two, "SELECT 1").await, "1");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_changes_sizes_and_modes_live() -> Outcome {
    let fixture = Fixture::builder()
        .config("[admin]\nusers = [\"postgres\"]\n[pool]\nsize_default = 1")
        .start()
        .await;
    let console = fixture.console().await;
    let (one, two) = (fixture.client().await, fixture.client().await);
    one.batch_execute("BEGIN").await?;
    let waiting = tokio::spawn(async move { (backend(&two).await, two) });
    fixture.pool_until(DATABASE, USER, "clients_waiting", "1").await;
    let change = |from: &str, to: &str| {
        let path = fixture.pgherd.config_path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
    };
    change("size_default = 1", "size_default = 4");
    console.batch_execute("RELOAD").await?;
    // The waiting client is served by a server that may be opened now.
    let (server, two) = waiting.await?;
    assert_ne!(server, backend(&one).await);
    assert_eq!(fixture.pool(DATABASE, USER, "size"), "4");
    two.batch_execute("BEGIN").await?;
    // Smaller again: servers beyond the size close when they are free.
    change("size_default = 4", "size_default = 1");
    fixture.pgherd.signal(Signal::HUP);
    fixture.pool_until(DATABASE, USER, "size", "1").await;
    one.batch_execute("COMMIT").await?;
    two.batch_execute("COMMIT").await?;
    fixture.pool_until(DATABASE, USER, "servers_idle", "1").await;
    change("size_default = 1", "size_default = 1\nmode = \"session\"");
    console.batch_execute("RELOAD").await?;
    two.batch_execute("SELECT 1").await?;
    assert_eq!(fixture.pool(DATABASE, USER, "servers_active"), "1");
    assert!(!rows(&console, "SHOW POOLS").await.is_empty());
    Ok(())
}
