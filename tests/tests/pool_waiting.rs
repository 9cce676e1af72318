//! Waiting for a server: in order, for a bounded time, through a restart of PostgreSQL.
#![allow(clippy::unwrap_used)] // how a test fails

use std::sync::Arc;
use std::time::Duration;

use pgherd::local::Stop;
use pgherd_tests::ask::{backend, refused, value};
use pgherd_tests::{DATABASE, Fixture, USER};
use tokio_postgres::error::SqlState;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_first_is_served_first() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 1").start().await;
    let holder = fixture.client().await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(fixture.client().await);
    }
    holder.batch_execute("BEGIN").await?;
    let order = Arc::new(tokio::sync::Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for (n, client) in clients.into_iter().enumerate() {
        let order = order.clone();
        tasks.push(tokio::spawn(async move {
            client.batch_execute("BEGIN").await.unwrap();
            order.lock().await.push(n);
            client.batch_execute("COMMIT").await.unwrap();
        }));
        fixture.pool_until(DATABASE, USER, "clients_waiting", &(n + 1).to_string()).await;
    }
    holder.batch_execute("COMMIT").await?;
    for task in tasks {
        task.await?;
    }
    assert_eq!(*order.lock().await, (0..20).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_that_takes_too_long_fails_and_the_session_goes_on() -> Outcome {
    let fixture =
        Fixture::builder().config("[pool]\nsize_default = 1\nwait_timeout = \"1s\"").start().await;
    let (holder, waiter) = (fixture.client().await, fixture.client().await);
    holder.batch_execute("BEGIN").await?;
    let server = backend(&holder).await;
    assert_eq!(refused(&waiter, "SELECT 1").await, SqlState::TOO_MANY_CONNECTIONS);
    let error = waiter.query("SELECT $1::int4", &[&1]).await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!((error.severity(), error.code()), ("ERROR", &SqlState::TOO_MANY_CONNECTIONS));
    assert!(error.message().contains("no server became free"), "{error:?}");
    assert!(error.hint().unwrap().contains("wait_timeout"));
    holder.batch_execute("COMMIT").await?;
    assert_eq!(backend(&waiter).await, server, "waiting does not make a server sick");
    assert_eq!(fixture.pool(DATABASE, USER, "wait_timeouts"), "2");
    assert_eq!(fixture.pool(DATABASE, USER, "connect_errors"), "0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_at_once() -> Outcome {
    let fixture =
        Fixture::builder().config("[pool]\nsize_default = 1\nmax_waiting = 2").start().await;
    let holder = fixture.client().await;
    let late = fixture.client().await;
    let mut tasks = Vec::new();
    let mut waiters = Vec::new();
    for _ in 0..2 {
        waiters.push(fixture.client().await);
    }
    holder.batch_execute("BEGIN").await?;
    for waiter in waiters {
        tasks.push(tokio::spawn(async move { waiter.batch_execute("SELECT 1").await }));
    }
    fixture.pool_until(DATABASE, USER, "clients_waiting", "2").await;
    for _ in 0..3 {
        let error = late.batch_execute("SELECT 1").await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::TOO_MANY_CONNECTIONS));
        assert!(error.as_db_error().unwrap().message().contains("wait"), "{error:?}");
    }
    holder.batch_execute("COMMIT").await?;
    for task in tasks {
        task.await??;
    }
    assert_eq!(value(&late, "SELECT 3").await, "3");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_the_queue_takes_no_server_along() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 1").start().await;
    let holder = fixture.client().await;
    for round in 0..20 {
        holder.batch_execute("BEGIN").await?;
        let mut leaver = fixture.raw().await?;
        leaver.send(b"Q\0\0\0\x0dSELECT 1\0").await?;
        fixture.pool_until(DATABASE, USER, "clients_waiting", "1").await;
        if round % 2 == 0 {
            drop(leaver);
            holder.batch_execute("COMMIT").await?;
        } else {
            let (_, committed) =
                tokio::join!(async { drop(leaver) }, holder.batch_execute("COMMIT"));
            committed?;
        }
        assert_eq!(value(&holder, "SELECT 4").await, "4");
    }
    fixture.pool_until(DATABASE, USER, "clients_waiting", "0").await;
    fixture.pool_until(DATABASE, USER, "servers_idle", "1").await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_wait_through_a_restart_of_postgresql_without_a_login_storm() -> Outcome {
    let mut fixture = Fixture::builder()
        .config("[pool]\nsize_default = 4\nserver_login_retry = \"200ms\"")
        .start()
        .await;
    let mut clients = Vec::new();
    for _ in 0..30 {
        clients.push(fixture.client().await);
    }
    fixture.herd.primary.stop(Stop::Fast)?;
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|client| tokio::spawn(async move { value(&client, "SELECT 6").await }))
        .collect();
    fixture.pool_until(DATABASE, USER, "clients_waiting", "30").await;
    // A new client waits too.
    let dsn = fixture.dsn("newcomer", DATABASE);
    let newcomer = tokio::spawn(async move {
        let (client, connection) = tokio_postgres::connect(&dsn, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        client.batch_execute("SELECT 1").await
    });
    tokio::time::sleep(Duration::from_secs(4)).await;
    let errors: u32 = fixture.pool(DATABASE, USER, "connect_errors").parse()?;
    assert!((1..20).contains(&errors), "{errors} logins were tried in 4 seconds");
    fixture.herd.primary.start()?;
    fixture.direct("CREATE ROLE newcomer LOGIN");
    for task in tasks {
        assert_eq!(task.await?, "6");
    }
    // It may have come before its role was there: then PostgreSQL's own words are what it hears.
    if let Err(error) = newcomer.await? {
        assert_eq!(error.code(), Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION), "{error:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_refuses_for_good_is_told_at_once() -> Outcome {
    let fixture = Fixture::builder()
        .setup("CREATE ROLE locked NOLOGIN")
        .config("[databases.gone]\nnodes = [\"primary\"]\ndbname = \"absent\"")
        .start()
        .await;
    let check = async |user: &str, database: &str, code: SqlState, says: &str| {
        let error = fixture.connect(user, database).await.map(|_| ()).unwrap_err();
        let error = error.as_db_error().cloned().unwrap();
        assert_eq!((error.severity(), error.code()), ("FATAL", &code), "{error:?}");
        assert!(error.message().contains(says), "{error:?}");
    };
    check(USER, "gone", SqlState::INVALID_CATALOG_NAME, "absent").await;
    check("locked", DATABASE, SqlState::INVALID_AUTHORIZATION_SPECIFICATION, "locked").await;
    check("nobody", DATABASE, SqlState::INVALID_AUTHORIZATION_SPECIFICATION, "nobody").await;
    // Once it is put right, the next client comes in.
    fixture.direct("ALTER ROLE locked LOGIN");
    let client = fixture.connect("locked", DATABASE).await?;
    assert_eq!(value(&client, "SELECT current_user").await, "locked");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_full_makes_clients_wait_not_fail() -> Outcome {
    let fixture = Fixture::builder()
        .postgres("max_connections", "8")
        .postgres("superuser_reserved_connections", "3")
        .setup("CREATE ROLE alice LOGIN")
        .config("[pool]\nserver_login_retry = \"100ms\"\nsize_default = 10")
        .start()
        .await;
    let mut tasks = Vec::new();
    for _ in 0..12 {
        let dsn = fixture.dsn("alice", DATABASE);
        tasks.push(tokio::spawn(async move {
            let (client, connection) = tokio_postgres::connect(&dsn, tokio_postgres::NoTls).await?;
            tokio::spawn(connection);
            for _ in 0..5 {
                client.batch_execute("BEGIN; SELECT pg_sleep(0.01); COMMIT").await?;
            }
            Ok::<_, tokio_postgres::Error>(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}
