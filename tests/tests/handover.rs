//! USR2: a new process takes the listeners over, and no client notices more than it must.
#![allow(clippy::unwrap_used)] // how a test fails

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use pgherd::wire::build;
use pgherd_tests::{Fixture, RawClient, USER};
use rustix::process::Signal;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const ADMIN: &str = "[admin]\nusers = [\"postgres\"]\n";

/// Waits until another process than `old` serves.
async fn taken_over(fixture: &Fixture, old: u32) -> u32 {
    for _ in 0..600 {
        match fixture.pgherd.pid() {
            Some(pid) if pid != old => return pid,
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    fixture.fail("nobody took over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_refused_while_processes_change() -> Outcome {
    let mut fixture =
        Fixture::builder().config(ADMIN).setup("CREATE TABLE t (a int)").start().await;
    let old = fixture.pgherd.pid().unwrap();
    let mut busy = fixture.raw().await?;
    busy.query("BEGIN").await?;
    busy.query("INSERT INTO t VALUES (1)").await?;
    let (stop, logins) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let address = fixture.pgherd.address();
    let comers: Vec<_> = (0..4)
        .map(|_| {
            let (stop, logins) = (stop.clone(), logins.clone());
            tokio::spawn(async move {
                while !stop.load(Relaxed) {
                    let mut client = RawClient::connect(address).await?;
                    client.login(&[("user", USER), ("database", "app")]).await?;
                    let answer = client.query("SELECT 1").await?;
                    let kinds: Vec<u8> = answer.iter().map(|f| f.kind).collect();
                    anyhow::ensure!(kinds == *b"TDCZ", "asked, and heard {answer:?}");
                    let mut out = Vec::new();
                    build::terminate(&mut out);
                    client.send(&out).await?;
                    logins.fetch_add(1, Relaxed);
                }
                anyhow::Ok(())
            })
        })
        .collect();
    let more_logins = async |count: usize| {
        let until = logins.load(Relaxed) + count;
        while logins.load(Relaxed) < until && !comers.iter().any(|comer| comer.is_finished()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    more_logins(10).await;
    fixture.pgherd.signal(Signal::USR2);
    let new = taken_over(&fixture, old).await;
    assert!(fixture.pgherd.try_wait()?.is_none(), "the old process left a client");
    more_logins(10).await;
    busy.query("INSERT INTO t VALUES (2)").await?;
    let committed = busy.query("COMMIT").await?;
    assert_eq!(committed.first().map(|f| f.kind), Some(b'C'));
    let status = fixture.pgherd.wait(Duration::from_secs(60))?;
    assert!(status.is_some_and(|s| s.success()), "{status:?}\n{}", fixture.pgherd.log());
    more_logins(10).await;
    stop.store(true, Relaxed);
    for comer in comers {
        if let Err(error) = comer.await? {
            fixture.fail(&format!("a client was refused: {error}"));
        }
    }
    assert_eq!(fixture.direct("SELECT count(*) FROM t"), ["2"]);
    // The new one does all of it: the admin address, the console, and the next hand-over.
    assert!(fixture.psql(USER, "pgherd", "", "SHOW VERSION").is_ok());
    for _ in 0..600 {
        if fixture.pgherd.get("/readyz").is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    fixture.pgherd.get("/readyz")?;
    fixture.pgherd.signal(Signal::USR2);
    let third = taken_over(&fixture, new).await;
    assert_ne!(third, old);
    assert_eq!(fixture.psql(USER, "app", "", "SELECT 1").as_deref(), Ok("1"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_request_finds_the_old_process() -> Outcome {
    let fixture = Fixture::builder().start().await;
    let old = fixture.pgherd.pid().unwrap();
    let mut sleeper = fixture.raw().await?;
    let (pid, secret) = sleeper.key.clone().unwrap();
    let mut out = Vec::new();
    build::query(&mut out, b"SELECT pg_sleep(600)");
    sleeper.send(&out).await?;
    fixture.wait_until("SELECT count(*) = 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND state = 'active'");
    fixture.pgherd.signal(Signal::USR2);
    taken_over(&fixture, old).await;
    // A key that nobody knows is forwarded too, and harms nobody.
    for secret in [vec![0; secret.len()], secret] {
        let mut cancel = RawClient::connect(fixture.pgherd.address()).await?;
        let mut out = Vec::new();
        build::cancel_request(&mut out, pid, &secret);
        cancel.send(&out).await?;
        cancel.closed().await?;
    }
    let frames = sleeper.until(b'Z').await?;
    let error = frames.iter().find(|f| f.kind == b'E').unwrap();
    assert_eq!(error.field(b'C'), "57014");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_process_that_fails_changes_nothing() -> Outcome {
    let fixture = Fixture::builder().config(ADMIN).start().await;
    let old = fixture.pgherd.pid().unwrap();
    let client = fixture.client().await;
    let good = std::fs::read_to_string(fixture.pgherd.config_path())?;
    std::fs::write(fixture.pgherd.config_path(), "[nonsense]\n")?;
    fixture.pgherd.signal(Signal::USR2);
    for _ in 0..600 {
        if fixture.pgherd.log().contains("hand-over failed; this process goes on") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(fixture.pgherd.log().contains("hand-over failed"), "{}", fixture.pgherd.log());
    assert_eq!(fixture.pgherd.pid(), Some(old));
    assert_eq!(client.query_one("SELECT 1", &[]).await?.get::<_, i32>(0), 1);
    assert_eq!(fixture.psql(USER, "app", "", "SELECT 1").as_deref(), Ok("1"));
    std::fs::write(fixture.pgherd.config_path(), good)?;
    fixture.pgherd.signal(Signal::USR2);
    taken_over(&fixture, old).await;
    assert_eq!(fixture.psql(USER, "app", "", "SELECT 1").as_deref(), Ok("1"));
    Ok(())
}
