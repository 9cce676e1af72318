//! Replication connections through pgherd: commands, streaming, a base backup.
#![allow(clippy::unwrap_used)] // how a test fails

use std::process::{Command, Stdio};

use pgherd_tests::{DATABASE, Fixture, USER};

fn run(command: &mut Command) -> (bool, String, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

fn conninfo(mode: &str) -> String {
    format!("dbname={DATABASE} replication={mode}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replication_commands_are_answered() {
    let fixture = Fixture::builder().postgres("wal_level", "logical").start().await;
    let psql = |mode: &str, sql: &str| {
        run(fixture.libpq("psql").args(["-XAtq", "-d", &conninfo(mode), "-c", sql]))
    };
    for mode in ["database", "true"] {
        let (ok, out, err) = psql(mode, "IDENTIFY_SYSTEM");
        assert!(ok && out.split('|').count() == 4, "{mode}: {out} {err}");
    }
    let (ok, out, err) = psql("database", "SELECT current_database()");
    assert!(ok && out == DATABASE, "{out} {err}");
    let slot = "CREATE_REPLICATION_SLOT s TEMPORARY LOGICAL test_decoding";
    let (ok, _, err) = psql("database", slot);
    assert!(ok || err.contains("test_decoding"), "{err}");
    fixture.wait_quiet();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wal_streams_into_a_base_backup() {
    let fixture = Fixture::builder().setup("CREATE TABLE t AS SELECT 1 AS a").start().await;
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("backup");
    let mut command = fixture.libpq("pg_basebackup");
    let args = ["-X", "stream", "--checkpoint=fast", "--no-sync", "-D"];
    let (ok, _, err) = run(command.args(args).arg(&target));
    assert!(ok, "{err}\n{}", fixture.pgherd.log());
    assert!(target.join("backup_label").is_file());
    assert!(target.join("pg_wal").read_dir().unwrap().count() > 0);
    let (ok, _, err) = run(fixture.libpq("pg_verifybackup").arg(&target));
    assert!(ok, "{err}");
    fixture.wait_quiet();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pg_receivewal_streams_and_ends_with_its_server_connection() {
    let fixture = Fixture::builder().setup("CREATE TABLE t (a int)").start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut receiver = fixture
        .libpq("pg_receivewal")
        .args(["--no-sync", "-D"])
        .arg(dir.path())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    fixture.wait_until("SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'");
    fixture.direct("INSERT INTO t SELECT generate_series(1, 1000)");
    fixture
        .wait_until("SELECT bool_and(sent_lsn >= pg_current_wal_lsn()) FROM pg_stat_replication");
    assert!(dir.path().read_dir().unwrap().count() > 0);
    let frames = fixture.connect(USER, DATABASE).await;
    assert!(frames.is_ok(), "others are served meanwhile");
    receiver.kill().unwrap();
    receiver.wait().unwrap();
    fixture.wait_until("SELECT count(*) = 0 FROM pg_stat_replication");
}
