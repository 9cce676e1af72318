//! Signals and files: reload, drain, stop, and what the service manager hears.
#![allow(clippy::unwrap_used, clippy::panic)] // how a test fails

use std::os::unix::net::UnixDatagram;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use pgherd_tests::{DATABASE, Fixture, RawClient, USER, binary};
use rustix::process::Signal;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const ADMIN: &str = "[admin]\nusers = [\"postgres\"]\n";

/// Waits until `sql` in the console shows `text`, or no longer does.
async fn shows(fixture: &Fixture, sql: &str, text: &str, expect: bool) {
    let mut said = String::new();
    for _ in 0..600 {
        said = fixture.psql(USER, "pgherd", "", sql).unwrap_or_else(|error| error);
        if said.contains(text) == expect {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    fixture.fail(&format!("{sql} never came to {text:?}: {said}"));
}

/// Waits until the log has `text` more than `before` times.
async fn logs(fixture: &Fixture, text: &str, before: usize) {
    for _ in 0..600 {
        if fixture.pgherd.log().matches(text).count() > before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    fixture.fail(&format!("the log never says {text:?}"));
}

/// An end by itself with code 0.
fn ended_well(status: Option<ExitStatus>) -> bool {
    status.is_some_and(|status| status.success())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_file_is_read_and_a_broken_one_is_not() -> Outcome {
    let mut fixture = Fixture::builder().config(ADMIN).start().await;
    let client = fixture.client().await;
    fixture.write_config("[pool]\nsize_default = 7\n");
    fixture.pgherd.signal(Signal::HUP);
    shows(&fixture, "SHOW DATABASES", "|7|", true).await;
    // Nobody tells it: the file is watched.
    fixture.write_config("[pool]\nsize_default = 9\n");
    shows(&fixture, "SHOW DATABASES", "|9|", true).await;
    let good = std::fs::read_to_string(fixture.pgherd.config_path())?;
    let refused = "the old one stays in force";
    for broken in [
        "[pool\n".to_owned(),
        format!("{good}\n[nonsense]\n"),
        good.replace("size_default = 9", "size_default = \"many\""),
        good.replace("nodes = [\"primary\"]", "nodes = [\"absent\"]"),
    ] {
        let before = fixture.pgherd.log().matches(refused).count();
        std::fs::write(fixture.pgherd.config_path(), broken)?;
        fixture.pgherd.signal(Signal::HUP);
        logs(&fixture, refused, before).await;
        let databases = fixture.psql(USER, "pgherd", "", "SHOW DATABASES")?;
        assert!(databases.contains("|9|"), "{databases}");
    }
    std::fs::remove_file(fixture.pgherd.config_path())?;
    assert!(
        fixture.psql(USER, "pgherd", "", "RELOAD").unwrap_err().contains("nothing was changed")
    );
    std::fs::write(
        fixture.pgherd.config_path(),
        good.replace("size_default = 9", "size_default = 11"),
    )?;
    shows(&fixture, "SHOW DATABASES", "|11|", true).await;
    // Clients of before noticed nothing.
    assert_eq!(client.query_one("SELECT 1", &[]).await?.get::<_, i32>(0), 1);
    assert!(ended_well(fixture.pgherd.stop(Signal::INT)?));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_need_a_restart_are_told_and_wait() -> Outcome {
    let fixture = Fixture::builder().config(ADMIN).start().await;
    fixture.write_config("[proxy]\nworkers = 3\n[pool]\nsize_default = 7\n");
    let said = fixture.psql_at(&fixture.dsn(USER, "pgherd"), "RELOAD").output()?;
    assert!(said.status.success());
    logs(&fixture, "need a restart", 0).await;
    assert!(fixture.pgherd.log().contains("proxy.workers"));
    shows(&fixture, "SHOW DATABASES", "|7|", true).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn term_lets_transactions_finish_and_sends_idle_clients_away() -> Outcome {
    let mut fixture = Fixture::builder().setup("CREATE TABLE t (a int)").start().await;
    let mut idle = fixture.raw().await?;
    idle.query("SELECT 1").await?;
    let mut busy = fixture.raw().await?;
    busy.query("BEGIN").await?;
    busy.query("INSERT INTO t VALUES (1)").await?;
    let admin = fixture.pgherd.admin().unwrap();
    fixture.pgherd.signal(Signal::TERM);
    let goodbye = idle.frame().await?;
    assert_eq!((goodbye.kind, goodbye.field(b'C').as_str()), (b'E', "57P01"));
    idle.closed().await?;
    // Not ready, and nobody new, while the transaction goes on.
    assert!(ureq::get(format!("http://{admin}/readyz")).call().is_err());
    assert!(RawClient::connect(fixture.pgherd.address()).await.is_err(), "still listens");
    assert!(fixture.pgherd.try_wait()?.is_none(), "ended under a running transaction");
    busy.query("INSERT INTO t VALUES (2)").await?;
    let frames = busy.query("COMMIT").await?;
    assert_eq!(frames.first().map(|f| f.kind), Some(b'C'));
    let status = fixture.pgherd.wait(Duration::from_secs(60))?;
    assert!(ended_well(status), "{status:?}\n{}", fixture.pgherd.log());
    assert_eq!(fixture.direct("SELECT count(*) FROM t"), ["2"]);
    assert!(!fixture.herd.home().path().join("pgherd.pid").exists(), "the pid file stays");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn int_and_a_second_term_do_not_wait() -> Outcome {
    for second in [Signal::INT, Signal::TERM] {
        let mut fixture = Fixture::builder().setup("CREATE TABLE t (a int)").start().await;
        let mut busy = fixture.raw().await?;
        busy.query("BEGIN").await?;
        busy.query("INSERT INTO t VALUES (1)").await?;
        if second == Signal::TERM {
            fixture.pgherd.signal(Signal::TERM);
            logs(&fixture, "draining", 0).await;
        }
        fixture.pgherd.signal(second);
        let goodbye = busy.frame().await?;
        assert_eq!((goodbye.kind, goodbye.field(b'C').as_str()), (b'E', "57P01"));
        let status = fixture.pgherd.wait(Duration::from_secs(60))?;
        assert!(ended_well(status), "{status:?}\n{}", fixture.pgherd.log());
        fixture.wait_until("SELECT count(*) = 0 FROM pg_stat_activity WHERE state LIKE 'idle in%'");
        assert_eq!(fixture.direct("SELECT count(*) FROM t"), ["0"]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_manager_hears_of_readiness_reload_and_the_end() -> Outcome {
    let fixture = Fixture::builder().start().await;
    let dir = tempfile::tempdir()?;
    let socket = UnixDatagram::bind(dir.path().join("notify"))?;
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    let port = fixture.herd.primary.port();
    let config = dir.path().join("pgherd.toml");
    std::fs::write(
        &config,
        format!(
            "[proxy]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"\"\n[nodes.a]\nhost = \"127.0.0.1\"\nport = {port}\n\
             [databases.{DATABASE}]\nnodes = [\"a\"]\n"
        ),
    )?;
    let mut child = Command::new(binary()?)
        .args(["proxy", "--config"])
        .arg(&config)
        .env("NOTIFY_SOCKET", dir.path().join("notify"))
        .stderr(Stdio::null())
        .spawn()?;
    let pid = rustix::process::Pid::from_child(&child);
    let hear = |what: &str| {
        let mut buffer = [0; 4096];
        for _ in 0..20 {
            let n = socket.recv(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
            if text.lines().any(|line| line.starts_with(what)) {
                return text;
            }
        }
        panic!("{what} never came");
    };
    hear(&format!("MAINPID={}", child.id()));
    hear("READY=1");
    rustix::process::kill_process(pid, Signal::HUP)?;
    assert!(hear("RELOADING=1").contains("MONOTONIC_USEC="));
    hear("READY=1");
    rustix::process::kill_process(pid, Signal::TERM)?;
    hear("STOPPING=1");
    assert!(child.wait()?.success());
    Ok(())
}
