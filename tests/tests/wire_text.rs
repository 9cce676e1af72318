//! Text in any encoding passes as it is, while settings in it are understood.
#![allow(clippy::unwrap_used)] // how a test fails

use pgherd_tests::{DATABASE, Fixture, RawClient, Script, USER};

type Outcome = anyhow::Result<()>;

async fn client(fixture: &Fixture, encoding: &str) -> anyhow::Result<RawClient> {
    let mut client = RawClient::connect(fixture.pgherd.address()).await?;
    let who = [("user", USER), ("database", DATABASE), ("client_encoding", encoding)];
    client.login(&who).await?;
    Ok(client)
}

/// The first value of the last row.
async fn value(client: &mut RawClient, script: Script) -> anyhow::Result<Vec<u8>> {
    client.send(script.bytes()).await?;
    let frames = client.until(b'Z').await?;
    let row = frames.iter().rfind(|f| f.kind == b'D');
    Ok(row.and_then(|f| f.value()).unwrap_or_default().to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_client_encoding_passes_untouched() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 1").start().await;
    // Several sessions share the server, each with its encoding.
    let mut latin = client(&fixture, "LATIN1").await?;
    let mut sjis = client(&fixture, "SJIS").await?;
    let mut utf8 = client(&fixture, "UTF8").await?;
    for _ in 0..3 {
        let sql = b"SELECT 'caf\xe9'";
        assert_eq!(value(&mut latin, Script::new().query(sql)).await?, b"caf\xe9");
        // U+8868 is 0x95 0x5c in SJIS: a backslash that is none, and a quote behind it.
        let sql = b"SELECT '\x95\x5c'";
        assert_eq!(value(&mut sjis, Script::new().query(sql)).await?, b"\x95\x5c");
        let escape = b"SELECT E'\x95\x5c''\x95\x5c'";
        assert_eq!(value(&mut sjis, Script::new().query(escape)).await?, b"\x95\x5c'\x95\x5c");
        let sql = "SELECT 'café 表'";
        assert_eq!(value(&mut utf8, Script::new().query(sql)).await?, "café 表".as_bytes());
        let bound = Script::new().parse("", "SELECT $1::text").bind("", "", &[b"\xe9\xe8"]);
        assert_eq!(value(&mut latin, bound.execute("", 0).sync()).await?, b"\xe9\xe8");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_between_sjis_literals_are_tracked() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 1").start().await;
    let mut sjis = client(&fixture, "SJIS").await?;
    let mut other = client(&fixture, "UTF8").await?;
    // Read as bytes, the first literal would not end where it ends.
    sjis.send(
        Script::new().query(b"SELECT E'\x95\x5c'; SET work_mem = '5MB'; SELECT '\x95\x5c'").bytes(),
    )
    .await?;
    sjis.until(b'Z').await?;
    let sql = b"SET application_name = E'\x95\x5c'";
    sjis.send(Script::new().query(sql).bytes()).await?;
    sjis.until(b'Z').await?;
    let show = |name: &str| Script::new().query(format!("SHOW {name}"));
    for _ in 0..3 {
        assert_eq!(value(&mut other, show("work_mem")).await?, b"4MB");
        assert_eq!(value(&mut sjis, show("work_mem")).await?, b"5MB");
        assert_eq!(value(&mut other, show("client_encoding")).await?, b"UTF8");
        assert_eq!(value(&mut sjis, show("client_encoding")).await?, b"SJIS");
        assert_eq!(
            value(&mut sjis, Script::new().query(b"SELECT E'\x95\x5c'")).await?,
            b"\x95\x5c"
        );
    }
    // Another encoding in the middle of the session.
    sjis.send(Script::new().query("SET client_encoding = 'LATIN1'").bytes()).await?;
    sjis.until(b'Z').await?;
    assert_eq!(value(&mut other, Script::new().query("SELECT 'é'")).await?, "é".as_bytes());
    assert_eq!(value(&mut sjis, Script::new().query(b"SELECT '\xe9'")).await?, b"\xe9");
    Ok(())
}
