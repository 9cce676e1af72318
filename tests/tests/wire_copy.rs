//! COPY in both directions, and everything that can end one early.
#![allow(clippy::unwrap_used)] // how a test fails

use std::process::Stdio;

use pgherd_tests::{Fixture, Script, brief};

type Outcome = anyhow::Result<()>;

const TABLES: &str = "CREATE TABLE t (a int); CREATE VIEW v AS SELECT a FROM t; \
    CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END'; \
    CREATE TABLE refused (a int); \
    CREATE TRIGGER no BEFORE INSERT ON refused FOR STATEMENT EXECUTE FUNCTION no()";
const IN: &str = "COPY t FROM STDIN";

async fn one_server() -> Fixture {
    Fixture::builder().setup(TABLES).config("[pool]\nsize_default = 1").start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_goes_both_ways_in_both_protocols() -> Outcome {
    let fixture = one_server().await;
    let mut client = fixture.raw().await?;
    let s = Script::new;
    let begun = async |client: &mut pgherd_tests::RawClient, script: Script, expect: &str| {
        client.send(script.bytes()).await?;
        assert_eq!(brief(&client.until(b'G').await?), expect);
        anyhow::Ok(())
    };
    begun(&mut client, s().query(IN), "G").await?;
    assert_eq!(client.play(s().data(b"1\n2").data(b"\n").done(), 1).await?, "C:COPY 2 ZI");
    // libpq sends Sync with the statement; the server ignores it (copyfromparse.c).
    begun(&mut client, s().run(IN).sync(), "1 2 G").await?;
    let rest = s().data(b"3\n").flush().sync().data(b"4\n").done().sync();
    assert_eq!(client.play(rest, 1).await?, "C:COPY 2 ZI");
    // Without it.
    begun(&mut client, s().run(IN).flush(), "1 2 G").await?;
    assert_eq!(client.play(s().data(b"5\n").done().sync(), 1).await?, "C:COPY 1 ZI");
    // Everything at once, without waiting for CopyInResponse.
    let all = s().query(IN).data(b"6\n").done().query("SELECT 1");
    assert_eq!(client.play(all, 2).await?, "G C:COPY 1 ZI T D:1 C:SELECT 1 ZI");
    let all = s().run(IN).data(b"7\n").done().sync().query("SELECT 2");
    assert_eq!(client.play(all, 2).await?, "1 2 G C:COPY 1 ZI T D:2 C:SELECT 1 ZI");
    let all = s().run(IN).sync().data(b"8\n").done().sync().query("SELECT 3");
    assert_eq!(client.play(all, 2).await?, "1 2 G C:COPY 1 ZI T D:3 C:SELECT 1 ZI");
    let two = s().query("COPY t FROM STDIN; COPY t FROM STDIN").data(b"9\n").done();
    client.send(two.bytes()).await?;
    assert_eq!(brief(&client.until(b'C').await?), "G C:COPY 1");
    begun(&mut client, s(), "G").await?;
    assert_eq!(client.play(s().done(), 1).await?, "C:COPY 0 ZI");
    let out = "COPY (SELECT a FROM t ORDER BY a) TO STDOUT";
    let rows = "d d d d d d d d d";
    assert_eq!(client.play(s().query(out), 1).await?, format!("H {rows} c C:COPY 9 ZI"));
    assert_eq!(client.play(s().run(out).sync(), 1).await?, format!("1 2 H {rows} c C:COPY 9 ZI"));
    fixture.wait_quiet();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_fails_leaves_a_usable_session() -> Outcome {
    let fixture = one_server().await;
    let mut client = fixture.raw().await?;
    let s = Script::new;
    let one = "T D:1 C:SELECT 1 ZI";
    let mut check = async |first: Script, rest: Script, ready: usize, expect: &str| {
        client.send(first.bytes()).await?;
        client.until(b'G').await?;
        let answer = client.play(rest.query("SELECT 1"), ready + 1).await?;
        if answer != format!("{expect} {one}") {
            fixture.fail(&format!("{answer} for {expect}"));
        }
        anyhow::Ok(())
    };
    let data = |n: usize| (0..n).fold(s(), |script, _| script.data(b"1\n"));
    // CopyFail.
    check(s().query(IN), s().data(b"1\n").fail("x"), 1, "E:57014 ZI").await?;
    check(s().run(IN).sync(), s().fail("x").sync(), 1, "E:57014 ZI").await?;
    // The server fails while the client still sends: what is left of the data is dropped.
    let bad = s().data(b"x\n");
    let much = bad.then(&data(2_000)).data(&vec![b'1'; 200_000]).done();
    check(s().query(IN), much.clone(), 1, "E:22P02 ZI").await?;
    check(s().run(IN).sync(), much.clone().sync(), 1, "E:22P02 ZI").await?;
    check(s().run(IN).flush(), much.clone().sync(), 1, "E:22P02 ZI").await?;
    // It fails before it read anything: then it answers the early Sync too.
    check(s().query("COPY refused FROM STDIN"), data(3).done(), 1, "E:P0001 ZI").await?;
    let early = s().run("COPY refused FROM STDIN").sync();
    check(early, data(3).done().sync(), 2, "E:P0001 ZI ZI").await?;
    // Each of several, and one among the data of a simple query.
    let early = s().run("COPY refused FROM STDIN").sync();
    let several = data(1).sync().then(&data(1)).sync().done().sync();
    check(early, several, 4, "E:P0001 ZI ZI ZI ZI").await?;
    let among = data(1).sync().then(&data(1)).done();
    check(s().run("COPY refused FROM STDIN").flush(), among.clone().sync(), 2, "E:P0001 ZI ZI")
        .await?;
    check(s().query("COPY refused FROM STDIN"), among, 2, "E:P0001 ZI ZI").await?;
    check(s().run("COPY v FROM STDIN").sync(), s().done().sync(), 2, "E:42809 ZI ZI").await?;
    check(s().run("COPY v FROM STDIN").flush(), s().done().sync(), 1, "E:42809 ZI").await?;
    // All of it at once.
    let all = s().run("COPY refused FROM STDIN").sync().then(&data(3)).done().sync();
    let answer = client.play(all.query("SELECT 1"), 3).await?;
    assert_eq!(answer, format!("1 2 G E:P0001 ZI ZI {one}"));
    // It never begins.
    let never = s().query("COPY absent FROM STDIN").data(b"1\n").done().query("SELECT 1");
    assert_eq!(client.play(never, 2).await?, format!("E:42P01 ZI {one}"));
    let never = s().run("COPY absent FROM STDIN").sync().data(b"1\n").done().query("SELECT 1");
    assert_eq!(client.play(never, 2).await?, format!("1 2 E:42P01 ZI {one}"));
    let never = s().run("COPY absent FROM STDIN").data(b"1\n").done().sync().query("SELECT 1");
    assert_eq!(client.play(never, 2).await?, format!("1 2 E:42P01 ZI {one}"));
    // In a transaction, which has failed then.
    assert_eq!(client.play(s().query("BEGIN"), 1).await?, "C:BEGIN ZT");
    client.send(s().query(IN).bytes()).await?;
    client.until(b'G').await?;
    assert_eq!(client.play(s().fail("x").query("ROLLBACK"), 2).await?, "E:57014 ZE C:ROLLBACK ZI");
    assert_eq!(fixture.direct("SELECT count(*) FROM t"), ["0"]);
    fixture.wait_quiet();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_waits_for_the_error_of_its_copy_goes_on() -> Outcome {
    let fixture = one_server().await;
    let mut client = fixture.raw().await?;
    let s = Script::new;
    // The early Sync is answered without another one.
    let answer = client.play(s().run("COPY v FROM STDIN").sync(), 1).await?;
    assert_eq!(answer, "1 2 G E:42809 ZI");
    let stray = s().data(b"1\n").done().query("SELECT 1");
    assert_eq!(client.play(stray, 1).await?, "T D:1 C:SELECT 1 ZI");
    fixture.wait_quiet();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_vanishes_in_a_copy_frees_its_server() -> Outcome {
    let fixture = one_server().await;
    let check = async |before: Script, until: u8, after: &[u8]| {
        let mut client = fixture.raw().await?;
        client.send(before.bytes()).await?;
        client.until(until).await?;
        client.send(after).await?;
        drop(client);
        fixture.wait_quiet();
        let mut next = fixture.raw().await?;
        assert_eq!(next.play(Script::new().query("SELECT 1"), 1).await?, "T D:1 C:SELECT 1 ZI");
        anyhow::Ok(())
    };
    let s = Script::new;
    check(s().query(IN), b'G', b"").await?;
    check(s().query(IN), b'G', s().data(b"1\n").bytes()).await?;
    // In the middle of a message.
    check(s().query(IN), b'G', b"d\0\0\x10\x00123\n").await?;
    check(s().run(IN).sync(), b'G', b"d\0\0\x10").await?;
    let out = "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 1000000)) TO STDOUT";
    check(s().query(out), b'd', b"").await?;
    assert_eq!(fixture.direct("SELECT count(*) FROM t"), ["0"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_copy_needs_little_memory() -> Outcome {
    let fixture = one_server().await;
    let status = format!("/proc/{}/status", fixture.pgherd.pid().unwrap());
    let peak_kib = || -> u64 {
        let text = std::fs::read_to_string(&status).unwrap();
        let line = text.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let before = peak_kib();
    let out = "\\copy (SELECT repeat('x', 999) FROM generate_series(1, 200000)) TO STDOUT";
    let read = fixture
        .libpq("psql")
        .args(["-Xqc", out])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let read = tokio::task::spawn_blocking(move || read.wait_with_output()).await??;
    assert!(read.status.success());
    assert_eq!(read.stdout.len(), 200_000_000);
    fixture.direct("CREATE UNLOGGED TABLE big (a text)");
    let mut write = fixture
        .libpq("psql")
        .args(["-Xqc", "\\copy big FROM STDIN"])
        .stdin(Stdio::piped())
        .spawn()?;
    let mut stdin = write.stdin.take().unwrap();
    let status = tokio::task::spawn_blocking(move || {
        std::io::Write::write_all(&mut stdin, &read.stdout)?;
        drop(stdin);
        write.wait()
    });
    assert!(status.await??.success());
    assert_eq!(fixture.direct("SELECT count(*), sum(length(a)) FROM big"), ["200000"]);
    let grown = peak_kib().saturating_sub(before);
    assert!(grown < 32 * 1024, "grew by {grown} KiB");
    fixture.wait_quiet();
    Ok(())
}
