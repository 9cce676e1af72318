//! How many servers there are: min, max, reserve, limits over several pools, ages.
#![allow(clippy::unwrap_used)] // how a test fails

use std::time::Duration;

use pgherd_tests::ask::{backend, value};
use pgherd_tests::{DATABASE, Fixture, USER};
use tokio_postgres::error::SqlState;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const SERVERS: &str = "SELECT count(*) FROM pg_stat_activity \
                       WHERE application_name = 'pgherd' OR datname = 'app' AND pid <> pg_backend_pid()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_opens_no_more_servers_than_its_size() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 3").start().await;
    let mut clients = Vec::new();
    for _ in 0..12 {
        let client = fixture.client().await;
        clients.push(tokio::spawn(async move {
            for _ in 0..20 {
                client.batch_execute("BEGIN; SELECT pg_sleep(0.002); COMMIT").await.unwrap();
            }
        }));
    }
    for client in clients {
        client.await?;
    }
    assert_eq!(fixture.pool(DATABASE, USER, "servers_idle"), "3");
    assert_eq!(fixture.pool(DATABASE, USER, "clients_waiting"), "0");
    assert_eq!(fixture.direct(SERVERS), ["3"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reserve_opens_for_who_waited_long_enough() -> Outcome {
    let fixture = Fixture::builder()
        .config("[pool]\nsize_default = 1\nreserve_size = 2\nreserve_timeout = \"1s\"")
        .start()
        .await;
    let holder = fixture.client().await;
    holder.batch_execute("BEGIN").await?;
    let (one, two) = (fixture.client().await, fixture.client().await);
    // The holder never lets go: only the reserve can serve these.
    let (a, b) = tokio::join!(one.batch_execute("BEGIN"), two.batch_execute("BEGIN"));
    a?;
    b?;
    assert_eq!(fixture.pool(DATABASE, USER, "servers_active"), "3");
    holder.batch_execute("COMMIT").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_and_old_servers_are_closed_and_the_minimum_kept() -> Outcome {
    let fixture = Fixture::builder()
        .config("[pool]\nsize_default = 5\nsize_min = 2\nserver_idle_timeout = \"1s\"\nserver_lifetime = \"4s\"")
        .start()
        .await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        let client = fixture.client().await;
        client.batch_execute("BEGIN").await?;
        clients.push(client);
    }
    assert_eq!(fixture.pool(DATABASE, USER, "servers_active"), "5");
    let first = backend(&clients[0]).await;
    for client in &clients {
        client.batch_execute("COMMIT").await?;
    }
    fixture.pool_until(DATABASE, USER, "servers_idle", "2").await;
    // Lifetime: every server of now goes, the minimum comes back.
    fixture.wait_until(&format!("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = {first}"));
    fixture.pool_until(DATABASE, USER, "servers_idle", "2").await;
    // A server in use is closed when it is given back.
    clients[0].batch_execute("BEGIN").await?;
    let held = backend(&clients[0]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(backend(&clients[0]).await, held, "not under the client");
    clients[0].batch_execute("COMMIT").await?;
    assert_ne!(backend(&clients[0]).await, held);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_limit_is_shared_by_users_without_starving_one() -> Outcome {
    let fixture = Fixture::builder()
        .setup("CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE carol LOGIN")
        .config("[databases.app]\nmax_connections = 2")
        .start()
        .await;
    // Idle servers of alice make room for bob.
    let alice = fixture.connect("alice", DATABASE).await?;
    let alice2 = fixture.connect("alice", DATABASE).await?;
    alice.batch_execute("BEGIN").await?;
    alice2.batch_execute("SELECT 1").await?;
    alice.batch_execute("COMMIT").await?;
    fixture.pool_until(DATABASE, "alice", "servers_idle", "2").await;
    let bob = fixture.connect("bob", DATABASE).await?;
    assert_eq!(value(&bob, "SELECT current_user").await, "bob");
    // Both busy users never let their queue run empty; carol must come in nevertheless.
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut busy = Vec::new();
    for n in 0..8 {
        let client = fixture.connect(if n % 2 == 0 { "alice" } else { "bob" }, DATABASE).await?;
        let stop = stop.clone();
        busy.push(tokio::spawn(async move {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                client.batch_execute("SELECT pg_sleep(0.005)").await.unwrap();
            }
        }));
    }
    let served = tokio::time::timeout(Duration::from_secs(30), async {
        let carol = fixture.connect("carol", DATABASE).await?;
        for _ in 0..5 {
            carol.batch_execute("SELECT 1").await?;
        }
        Ok::<_, tokio_postgres::Error>(())
    })
    .await;
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for client in busy {
        client.await?;
    }
    let Ok(result) = served else { fixture.fail("carol starves") };
    result?;
    let open = fixture.direct(SERVERS);
    assert!(open[0].parse::<u32>()? <= 2, "{open:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_limit_is_shared_by_databases() -> Outcome {
    let fixture = Fixture::builder()
        .setup("CREATE ROLE alice LOGIN")
        .config("[users.alice]\nmax_connections = 1\n[databases.other]\nnodes = [\"primary\"]\ndbname = \"app\"")
        .start()
        .await;
    let (one, two) =
        (fixture.connect("alice", DATABASE).await?, fixture.connect("alice", "other").await?);
    let (mut seen, mut tasks) = (0, Vec::new());
    for client in [one, two] {
        tasks.push(tokio::spawn(async move {
            for _ in 0..20 {
                client.batch_execute("SELECT 1").await.unwrap();
            }
            client
        }));
    }
    for task in tasks {
        seen += 1;
        drop(tokio::time::timeout(Duration::from_secs(60), task).await??);
    }
    assert_eq!(seen, 2);
    let open = fixture.direct("SELECT count(*) FROM pg_stat_activity WHERE usename = 'alice'");
    assert_eq!(open, ["1"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_starving_pool_does_not_make_others_close_their_servers_in_vain() -> Outcome {
    let fixture = Fixture::builder()
        .setup("CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN")
        .config("[databases.app]\nmax_connections = 1\n[databases.other]\nnodes = [\"primary\"]\ndbname = \"app\"")
        .start()
        .await;
    let alice = fixture.connect("alice", DATABASE).await?;
    alice.batch_execute("BEGIN").await?;
    let other = fixture.connect("bob", "other").await?;
    let server = backend(&other).await;
    let dsn = fixture.dsn("bob", DATABASE);
    let starving = tokio::spawn(async move {
        let (client, connection) = tokio_postgres::connect(&dsn, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        client.batch_execute("SELECT 1").await
    });
    fixture.pool_until(DATABASE, "bob", "clients_waiting", "1").await;
    for _ in 0..5 {
        assert_eq!(backend(&other).await, server, "this pool's place is no use to the other");
    }
    alice.batch_execute("COMMIT").await?;
    starving.await??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_limits_are_told_with_53300() -> Outcome {
    let fixture = Fixture::builder()
        .setup("CREATE ROLE alice LOGIN")
        .config(
            "[proxy]\nmax_client_connections = 5\n[databases.app]\nmax_client_connections = 2\n\
             [databases.other]\nnodes = [\"primary\"]\ndbname = \"app\"\n[users.alice]\nmax_client_connections = 1",
        )
        .start()
        .await;
    let refused = async |user: &str, database: &str| {
        let error = fixture.connect(user, database).await.map(|_| ()).unwrap_err();
        let error = error.as_db_error().cloned().unwrap();
        assert_eq!(error.code(), &SqlState::TOO_MANY_CONNECTIONS, "{error:?}");
        assert_eq!(error.severity(), "FATAL");
        error.message().to_owned()
    };
    let one = fixture.client().await;
    let two = fixture.client().await;
    assert!(refused(USER, DATABASE).await.contains("database \"app\""));
    let alice = fixture.connect("alice", "other").await?;
    assert!(refused("alice", "other").await.contains("user \"alice\""));
    let (three, four) =
        (fixture.connect(USER, "other").await?, fixture.connect(USER, "other").await?);
    refused(USER, "other").await;
    drop(two);
    drop((three, four, alice));
    for _ in 0..500 {
        if fixture.connect(USER, DATABASE).await.is_ok() {
            assert_eq!(value(&one, "SELECT 1").await, "1");
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    fixture.fail("a place that became free is not given again");
}
