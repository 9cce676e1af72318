//! Cancel requests reach the statement that they are about, and never another one.
#![allow(clippy::unwrap_used)] // how a test fails

use std::time::Duration;

use pgherd::wire::{build, version};
use pgherd_tests::{DATABASE, Fixture, RawClient, Script, USER};
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

type Outcome = anyhow::Result<()>;

const SLEEPING: &str = "SELECT count(*) = 1 FROM pg_stat_activity \
                        WHERE state = 'active' AND query LIKE 'SELECT pg_sleep(%'";

/// Sends a cancel request and waits until it was delivered: then pgherd closes.
async fn cancel(fixture: &Fixture, pid: u32, secret: &[u8]) -> Outcome {
    let mut request = RawClient::connect(fixture.pgherd.address()).await?;
    let mut out = Vec::new();
    build::cancel_request(&mut out, pid, secret);
    request.send(&out).await?;
    request.closed().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_right_key_cancels_and_only_its_statement() -> Outcome {
    let fixture = Fixture::builder().start().await;
    for minor in [0, 2] {
        let mut client = RawClient::connect(fixture.pgherd.address()).await?;
        let who = [("user", USER), ("database", DATABASE)];
        client.startup_as(version(3, minor), &who).await?;
        client.greeted().await?;
        let (pid, secret) = client.key.clone().unwrap();
        client.send(Script::new().query("SELECT pg_sleep(600)").bytes()).await?;
        fixture.wait_until(SLEEPING);
        let mut wrong = secret.clone();
        *wrong.last_mut().unwrap() ^= 1;
        cancel(&fixture, pid, &wrong).await?;
        cancel(&fixture, pid, &secret[..secret.len() - 1]).await.ok();
        cancel(&fixture, pid, &[secret.as_slice(), &[0]].concat()).await?;
        cancel(&fixture, pid + 1000, &secret).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
        fixture.wait_until(SLEEPING);
        cancel(&fixture, pid, &secret).await?;
        let answer = client.play(Script::new().query("SELECT 1"), 2).await?;
        assert_eq!(answer, "T E:57014 ZI T D:1 C:SELECT 1 ZI");
        // Late: nothing runs.
        cancel(&fixture, pid, &secret).await?;
        assert_eq!(client.play(Script::new().query("SELECT 1"), 1).await?, "T D:1 C:SELECT 1 ZI");
    }
    fixture.wait_quiet();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_cancel_never_hits_the_next_user_of_the_server() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 1").start().await;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut others = Vec::new();
    for _ in 0..3 {
        let (client, stop) = (fixture.client().await, stop.clone());
        others.push(tokio::spawn(async move {
            let mut done = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                if let Err(error) = client.simple_query("SELECT pg_sleep(0), 1").await {
                    return Err(format!("after {done}: {error:?}"));
                }
                done += 1;
            }
            Ok(done)
        }));
    }
    let client = fixture.client().await;
    let token = client.cancel_token();
    let mut hit = 0;
    for n in 0..300_u64 {
        // From early to late.
        let cancel = async {
            tokio::time::sleep(Duration::from_micros(n * 10)).await;
            token.cancel_query(NoTls).await
        };
        let (answer, canceled) =
            tokio::join!(client.simple_query("SELECT pg_sleep(0.001)"), cancel);
        canceled?;
        match answer {
            Ok(_) => {}
            Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => hit += 1,
            Err(error) => return Err(error.into()),
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for other in others {
        assert!(other.await?.map_err(anyhow::Error::msg)? > 0);
    }
    assert!(hit > 0, "no cancel request arrived in time");
    fixture.wait_quiet();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_waits_for_a_server_can_cancel() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 1").start().await;
    let holder = fixture.client().await;
    let mut simple = fixture.raw().await?;
    let mut extended = fixture.raw().await?;
    holder.batch_execute("BEGIN").await?;
    let s = Script::new;
    let check = async |client: &mut RawClient, script: Script, expect: &str| {
        client.send(script.bytes()).await?;
        let waiting = || {
            fixture.pgherd.get("/api/v1/pools").is_ok_and(|p| p.contains("\"clients_waiting\":1"))
        };
        for _ in 0..500 {
            if waiting() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let (pid, secret) = client.key.clone().unwrap();
        cancel(&fixture, pid, &secret).await?;
        assert_eq!(client.play(s(), 1).await?, expect);
        anyhow::Ok(())
    };
    check(&mut simple, s().query("SELECT 1"), "E:57014 ZI").await?;
    check(&mut extended, s().run("SELECT 1").sync(), "E:57014 ZI").await?;
    // Once it has its server, its statement can be cancelled like any other.
    simple.send(s().query("SELECT pg_sleep(600)").bytes()).await?;
    tokio::time::sleep(Duration::from_millis(100)).await;
    holder.batch_execute("COMMIT").await?;
    fixture.wait_until(SLEEPING);
    let (pid, secret) = simple.key.clone().unwrap();
    cancel(&fixture, pid, &secret).await?;
    assert_eq!(simple.play(s(), 1).await?, "T E:57014 ZI");
    let one = "T D:1 C:SELECT 1 ZI";
    assert_eq!(simple.play(s().query("SELECT 1"), 1).await?, one);
    assert_eq!(extended.play(s().run("SELECT 1").sync(), 1).await?, "1 2 D:1 C:SELECT 1 ZI");
    fixture.wait_quiet();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_request_may_come_through_another_listener() -> Outcome {
    let dir = tempfile::tempdir()?;
    let config = format!("[proxy]\nunix_socket_dir = {:?}", dir.path());
    let fixture = Fixture::builder().config(&config).start().await;
    let port = fixture.pgherd.address().port();
    let socket = dir.path().join(format!(".s.PGSQL.{port}"));
    let mut client = fixture.raw().await?;
    client.send(Script::new().query("SELECT pg_sleep(600)").bytes()).await?;
    fixture.wait_until(SLEEPING);
    let (pid, secret) = client.key.clone().unwrap();
    let mut out = Vec::new();
    build::cancel_request(&mut out, pid, &secret);
    let mut unix = tokio::net::UnixStream::connect(&socket).await?;
    tokio::io::AsyncWriteExt::write_all(&mut unix, &out).await?;
    assert_eq!(client.play(Script::new(), 1).await?, "T E:57014 ZI");
    // And the other way: the client on the unix socket, the request over TCP.
    let dsn = format!("host={} port={port} user={USER} dbname={DATABASE}", dir.path().display());
    let (local, connection) = tokio_postgres::connect(&dsn, NoTls).await?;
    tokio::spawn(connection);
    let token = local.cancel_token();
    let sleeper = tokio::spawn(async move { local.batch_execute("SELECT pg_sleep(600)").await });
    fixture.wait_until(SLEEPING);
    token.cancel_query(NoTls).await?;
    assert_eq!(sleeper.await?.unwrap_err().code(), Some(&SqlState::QUERY_CANCELED));
    fixture.wait_quiet();
    Ok(())
}
