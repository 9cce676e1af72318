//! Every message of both query protocols, in orders that drivers use and in some that they don't.
#![allow(clippy::unwrap_used)] // how a test fails

use pgherd::wire::{build, version};
use pgherd_tests::{DATABASE, Fixture, RawClient, Script, USER, brief};
use tokio::io::AsyncWriteExt;

type Outcome = anyhow::Result<()>;

const WHO: [(&str, &str); 2] = [("user", USER), ("database", DATABASE)];

/// One server: whatever one request leaves behind would be seen by the next.
async fn one_server() -> Fixture {
    Fixture::builder().config("[pool]\nsize_default = 1").start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol_versions_are_negotiated_as_by_postgresql_18() -> Outcome {
    let fixture = one_server().await;
    let check = async |asked: u32, options: &[(&str, &str)], expect: &[u8], secret: usize| {
        let mut client = RawClient::connect(fixture.pgherd.address()).await?;
        client.startup_as(asked, &[&WHO, options].concat()).await?;
        let frames = client.greeted().await?;
        let told: Vec<u8> =
            frames.iter().filter(|f| f.kind == b'v').flat_map(|f| f.body.clone()).collect();
        assert_eq!(told, expect, "{asked:x} {options:?}");
        assert_eq!(client.key.clone().unwrap().1.len(), secret, "{asked:x}");
        assert_eq!(client.play(Script::new().query("SELECT 1"), 1).await?, "T D:1 C:SELECT 1 ZI");
        anyhow::Ok(())
    };
    check(version(3, 0), &[], b"", 4).await?;
    check(version(3, 2), &[], b"", 32).await?;
    check(version(3, 9999), &[], b"\0\x03\0\x02\0\0\0\0", 32).await?;
    check(version(3, 0), &[("_pq_.x", "1")], b"\0\x03\0\0\0\0\0\x01_pq_.x\0", 4).await?;
    check(version(3, 2), &[("_pq_.x", "1")], b"\0\x03\0\x02\0\0\0\x01_pq_.x\0", 32).await?;
    let mut client = RawClient::connect(fixture.pgherd.address()).await?;
    client.startup_as(version(2, 0), &WHO).await?;
    assert_eq!(brief(&client.until(b'Z').await?), "E:0A000");
    client.closed().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_protocols_answer_as_postgresql() -> Outcome {
    let fixture = one_server().await;
    let mut client = fixture.raw().await?;
    let mut check = async |script: Script, ready: usize, expect: &str| {
        assert_eq!(client.play(script, ready).await?, expect);
        anyhow::Ok(())
    };
    let s = Script::new;
    check(s().query(""), 1, "I ZI").await?;
    check(s().query(" ; ;"), 1, "I ZI").await?;
    check(s().query("SELECT 1; SELECT 1/0; SELECT 2"), 1, "T D:1 C:SELECT 1 E:22012 ZI").await?;
    check(s().query("BEGIN; SELECT 1/0"), 1, "C:BEGIN E:22012 ZE").await?;
    check(s().query("SELECT 1"), 1, "E:25P02 ZE").await?;
    check(s().query("ROLLBACK; SELECT 3"), 1, "C:ROLLBACK T D:3 C:SELECT 1 ZI").await?;
    check(s().query("DO $$ BEGIN RAISE NOTICE 'n'; END $$"), 1, "N C:DO ZI").await?;
    check(s().query("SET application_name = 'a'"), 1, "C:SET S ZI").await?;
    check(s().query("SET LOCAL application_name = 'a'"), 1, "N C:SET ZI").await?;
    // The extended protocol.
    check(s().run("").sync(), 1, "1 2 I ZI").await?;
    let statement = s().parse("", "SELECT $1::int4 + 1").describe(b'S', "");
    let all = statement.bind("", "", &[b"41"]).describe(b'P', "").execute("", 0).sync();
    check(all, 1, "1 t T 2 T D:42 C:SELECT 1 ZI").await?;
    check(
        s().parse("n", "DELETE FROM pg_class WHERE false").describe(b'S', "n").sync(),
        1,
        "1 t n ZI",
    )
    .await?;
    check(s().bind("", "n", &[]).execute("", 0).sync(), 1, "2 C:DELETE 0 ZI").await?;
    check(s().parse("n", "SELECT 1").sync(), 1, "E:42P05 ZI").await?;
    check(s().close(b'S', "n").bind("", "n", &[]).sync(), 1, "3 E:26000 ZI").await?;
    check(s().close(b'S', "absent").close(b'P', "absent").sync(), 1, "3 3 ZI").await?;
    check(s().describe(b'P', "absent").sync(), 1, "E:34000 ZI").await?;
    check(s().sync().sync(), 2, "ZI ZI").await?;
    // FunctionCall of int4pl(40, 2), oid 177, all binary.
    let mut call = 177_u32.to_be_bytes().to_vec();
    call.extend_from_slice(b"\0\x01\0\x01\0\x02\0\0\0\x04\0\0\0\x28\0\0\0\x04\0\0\0\x02\0\x01");
    check(s().frame(b'F', &call), 1, "V ZI").await?;
    check(s().frame(b'F', b"\0\0\0\x01\0\0\0\0\0\0"), 1, "E:42883 ZI").await?;
    // Binary values and results.
    let binary =
        s().parse("", "SELECT $1::int8").bind_as("", "", &[&[0, 0, 0, 0, 0, 0, 0, b'7']], 1);
    check(binary.execute("", 0).sync(), 1, "1 2 D:\0\0\0\0\0\0\x007 C:SELECT 1 ZI").await?;
    fixture.wait_quiet();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn portals_are_read_in_parts() -> Outcome {
    let fixture = one_server().await;
    let mut client = fixture.raw().await?;
    let rows = "SELECT generate_series(1, 5)";
    let mut check = async |script: Script, expect: &str| {
        assert_eq!(client.play(script, 1).await?, expect);
        anyhow::Ok(())
    };
    let s = Script::new;
    // One batch, no transaction.
    let parts = s().parse("", rows).bind("", "", &[]).execute("", 2).execute("", 2).execute("", 2);
    check(parts.sync(), "1 2 D:1 D:2 s D:3 D:4 s D:5 C:SELECT 1 ZI").await?;
    // A portal that outlives its batch, in a transaction, under names.
    check(s().query("BEGIN"), "C:BEGIN ZT").await?;
    check(s().parse("st", rows).bind("a", "st", &[]).execute("a", 2).sync(), "1 2 D:1 D:2 s ZT")
        .await?;
    check(s().bind("b", "st", &[]).execute("b", 1).sync(), "2 D:1 s ZT").await?;
    check(s().execute("a", 2).describe(b'P', "b").sync(), "D:3 D:4 s T ZT").await?;
    check(s().close(b'P', "b").execute("a", 0).sync(), "3 D:5 C:SELECT 1 ZT").await?;
    check(s().execute("b", 0).sync(), "E:34000 ZE").await?;
    check(s().query("ROLLBACK"), "C:ROLLBACK ZI").await?;
    // Out of one, it ends with the batch.
    check(s().bind("c", "st", &[]).execute("c", 2).sync(), "2 D:1 D:2 s ZI").await?;
    check(s().execute("c", 2).sync(), "E:34000 ZI").await?;
    fixture.wait_quiet();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelines_are_answered_in_order_and_skip_from_an_error_to_sync() -> Outcome {
    let fixture = one_server().await;
    let mut client = fixture.raw().await?;
    let s = Script::new;
    let mut script = s();
    for n in 0..500 {
        script = script.run(&format!("SELECT {n}")).sync();
    }
    let expect: Vec<_> = (0..500).map(|n| format!("1 2 D:{n} C:SELECT 1 ZI")).collect();
    assert_eq!(client.play(script, 500).await?, expect.join(" "));
    let mut check = async |script: Script, ready: usize, expect: &str| {
        assert_eq!(client.play(script, ready).await?, expect);
        anyhow::Ok(())
    };
    check(
        s().run("SELECT 1").run("SELECT 1/0").run("SELECT 2").sync().run("SELECT 3").sync(),
        2,
        "1 2 D:1 C:SELECT 1 1 E:22012 ZI 1 2 D:3 C:SELECT 1 ZI",
    )
    .await?;
    // Statements of the same text, known to the server or not, keep their places.
    let known = |name: &str| s().parse(name, "SELECT 7").describe(b'S', name).sync();
    check(known("k1"), 1, "1 t T ZI").await?;
    check(known("k2"), 1, "1 t T ZI").await?;
    let mixed = s().run("SELECT 1").parse("k3", "SELECT 7").close(b'S', "k1").bind("", "k3", &[]);
    check(mixed.execute("", 0).sync(), 1, "1 2 D:1 C:SELECT 1 1 3 2 D:7 C:SELECT 1 ZI").await?;
    // What an error undid was not closed and not made.
    let undone = s().run("SELECT 1/0").close(b'S', "k2").parse("k4", "SELECT 7").sync();
    check(undone, 1, "1 E:22012 ZI").await?;
    check(s().bind("", "k2", &[]).execute("", 0).sync(), 1, "2 D:7 C:SELECT 1 ZI").await?;
    check(s().bind("", "k4", &[]).execute("", 0).sync(), 1, "E:26000 ZI").await?;
    // Simple and extended queries mixed; an error leaves the simple query behind Sync alone.
    let mixed = s().query("SELECT 1").run("SELECT 2").sync().query("SELECT 3").run("x").sync();
    let expect = "T D:1 C:SELECT 1 ZI 1 2 D:2 C:SELECT 1 ZI T D:3 C:SELECT 1 ZI E:42601 ZI";
    check(mixed, 4, expect).await?;
    // A large message that is skipped leaves no trace.
    let large = vec![b'x'; 300_000];
    let skipped = s().run("x").parse("", "SELECT $1::text").bind("", "", &[&large]).execute("", 0);
    check(skipped.sync().query("SELECT 4"), 2, "E:42601 ZI T D:4 C:SELECT 1 ZI").await?;
    fixture.wait_quiet();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flush_brings_answers_before_sync() -> Outcome {
    let fixture = one_server().await;
    let mut client = fixture.raw().await?;
    let s = Script::new;
    client.play(s().parse("known", "SELECT 5").sync(), 1).await?;
    let mut check = async |script: Script, until: u8, expect: &str| {
        client.send(script.bytes()).await?;
        assert_eq!(brief(&client.until(until).await?), expect);
        anyhow::Ok(())
    };
    check(s().parse("", "SELECT 1").flush(), b'1', "1").await?;
    check(s().bind("", "", &[]).describe(b'P', "").flush(), b'T', "2 T").await?;
    // The server has it under another name: pgherd answers.
    check(s().parse("same", "SELECT 5").flush(), b'1', "1").await?;
    check(s().close(b'S', "known").flush(), b'3', "3").await?;
    check(s().execute("", 0).flush(), b'C', "D:1 C:SELECT 1").await?;
    check(s().bind("", "same", &[]).execute("", 0).flush(), b'C', "2 D:5 C:SELECT 1").await?;
    check(s().bind("", "absent", &[]).flush(), b'E', "E:26000").await?;
    check(s().bind("", "same", &[]).flush().sync(), b'Z', "ZI").await?;
    check(s().flush().query("SELECT 6"), b'Z', "T D:6 C:SELECT 1 ZI").await?;
    fixture.wait_quiet();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_writes_much_before_it_reads_does_not_deadlock() -> Outcome {
    const STATEMENTS: usize = 600;
    let fixture = one_server().await;
    let client = fixture.raw().await?;
    let value = vec![b'v'; 50_000];
    let mut script = Script::new();
    for _ in 0..STATEMENTS {
        script = script.parse("", "SELECT $1::text").bind("", "", &[&value]).execute("", 0).sync();
    }
    // 30 MB each way, read only once writing has come to a halt.
    let (reader, mut writer) = client.stream.into_split();
    let write = async {
        writer.write_all(script.bytes()).await?;
        anyhow::Ok(writer)
    };
    let read = async {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let mut reader = tokio::io::BufReader::new(reader);
        let (mut ready, mut bytes) = (0, 0);
        while ready < STATEMENTS {
            let (kind, total) = skip_frame(&mut reader).await?;
            ready += usize::from(kind == b'Z');
            bytes += if kind == b'D' { total } else { 0 };
        }
        assert_eq!(bytes, STATEMENTS * (value.len() + 11));
        anyhow::Ok(reader)
    };
    let both = tokio::time::timeout(std::time::Duration::from_secs(60), async {
        tokio::try_join!(write, read)
    });
    both.await??;
    fixture.wait_quiet();
    Ok(())
}

async fn skip_frame(
    reader: &mut (impl tokio::io::AsyncRead + Unpin),
) -> anyhow::Result<(u8, usize)> {
    use tokio::io::AsyncReadExt;
    let kind = reader.read_u8().await?;
    let total = usize::try_from(reader.read_u32().await?)? + 1;
    let mut rest = vec![0; total - 5];
    reader.read_exact(&mut rest).await?;
    Ok((kind, total))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_pass() -> Outcome {
    let fixture = one_server().await;
    let mut client = fixture.raw().await?;
    let s = Script::new;
    let megabytes = |n: usize| vec![b'x'; n << 20];
    let text = |n: usize| format!("SELECT length('{}')", "x".repeat(n << 20));
    let mut check = async |script: Script, expect: &str| {
        assert_eq!(client.play(script, 1).await?, expect);
        anyhow::Ok(())
    };
    let length = s().parse("", "SELECT length($1::text)").bind("", "", &[&megabytes(10)]);
    check(length.execute("", 0).sync(), "1 2 D:10485760 C:SELECT 1 ZI").await?;
    let named = s().parse("n", "SELECT length($1::text)").bind("", "n", &[&megabytes(2)]);
    check(named.execute("", 0).sync(), "1 2 D:2097152 C:SELECT 1 ZI").await?;
    check(s().query(text(3)), "T D:3145728 C:SELECT 1 ZI").await?;
    check(s().query(text(6)), "T D:6291456 C:SELECT 1 ZI").await?;
    check(s().run(&text(5)).sync(), "1 2 D:5242880 C:SELECT 1 ZI").await?;
    check(s().query("SELECT length(repeat('x', 1 << 24))"), "T D:16777216 C:SELECT 1 ZI").await?;
    // An error that quotes a large value is larger than what is looked into.
    let wrong = s().parse("", "SELECT $1::int4").bind("", "", &[&megabytes(3)]).execute("", 0);
    check(wrong.sync(), "1 E:22P02 ZI").await?;
    check(s().query("SELECT 1"), "T D:1 C:SELECT 1 ZI").await?;
    let mut call = Vec::new();
    call.extend_from_slice(&1317_u32.to_be_bytes()); // length(text)
    call.extend_from_slice(b"\0\x01\0\0\0\x01");
    call.extend_from_slice(&u32::try_from(2 << 20)?.to_be_bytes());
    call.extend_from_slice(&megabytes(2));
    call.extend_from_slice(b"\0\0");
    check(s().frame(b'F', &call), "V ZI").await?;
    client.send(s().parse("long", text(5)).sync().bytes()).await?;
    assert_eq!(brief(&client.until(b'Z').await?), "E:54000");
    drop(client);
    fixture.wait_quiet();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_complete_before_it_leaves() -> Outcome {
    let fixture = one_server().await;
    let mut client = fixture.raw().await?;
    let mut script = Script::new();
    for n in 0..20 {
        script = script.run(&format!("SELECT {n}"));
    }
    client.send(&script.clone().sync().bytes()[..100]).await?;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    // Nothing of it is with the server before all of it is here.
    let active = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'app' \
                  AND pid <> pg_backend_pid() AND query LIKE 'SELECT _'";
    assert_eq!(fixture.direct(active), ["0"]);
    let rest = script.sync();
    client.send(&rest.bytes()[100..]).await?;
    assert_eq!(client.until(b'Z').await?.iter().filter(|f| f.kind == b'D').count(), 20);
    let mut out = Vec::new();
    build::terminate(&mut out);
    client.send(&out).await?;
    client.closed().await
}
