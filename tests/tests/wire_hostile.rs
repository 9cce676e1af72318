//! Bytes that no driver sends: the client is told or closed, and nobody else notices.
#![allow(clippy::unwrap_used)] // how a test fails

use pgherd_tests::{DATABASE, Fixture, RawClient, Script, USER, brief};
use tokio::io::AsyncWriteExt;

type Outcome = anyhow::Result<()>;

const ONE: &str = "T D:1 C:SELECT 1 ZI";

/// All that comes until the connection ends, in short.
async fn last_words(client: &mut RawClient) -> anyhow::Result<String> {
    let mut frames = Vec::new();
    while let Ok(frame) = client.frame().await {
        frames.push(frame);
    }
    client.closed().await?;
    Ok(brief(&frames))
}

async fn others_are_served(fixture: &Fixture) -> Outcome {
    fixture.wait_quiet();
    let mut other = fixture.raw().await?;
    assert_eq!(other.play(Script::new().query("SELECT 1"), 1).await?, ONE);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_frames_end_their_session_only() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 1").start().await;
    let broken: &[&[u8]] = &[
        b"Q\0\0\0\0",
        b"Q\0\0\0\x03",
        b"Q\xff\xff\xff\xff",
        b"Q\x80\0\0\0",
        b"Q\x40\0\0\0",
        b"S\0\0\x30\0",
        b"\0\0\0\0\x08",
        b"?\0\0\0\x04",
        b"p\0\0\0\x08abc\0",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"Q\0\0\0\x08abcd",
        b"Q\0\0\0\x0eSELECT\x00 1;\0",
        b"Q\0\0\0\x04",
        b"P\0\0\0\x05\0",
        b"P\0\0\0\x08abc\0",
        b"D\0\0\0\x04",
        b"E\0\0\0\x04",
        b"C\0\0\0\x05S",
        b"B\0\0\0\x06ab",
    ];
    for bytes in broken {
        // Without a server, in a transaction, behind a statement, and in a COPY.
        for before in ["", "BEGIN", "COPY (SELECT 1) TO STDOUT"] {
            let mut client = fixture.raw().await?;
            if !before.is_empty() {
                client.query(before).await?;
            }
            client.send(bytes).await?;
            client.send(Script::new().sync().bytes()).await.ok();
            let said = String::from_utf8_lossy(bytes).into_owned();
            client.stream.shutdown().await.ok();
            let words = last_words(&mut client).await?;
            let fine = ["", "E:08P01", "E:08P01 ZI", "E:08P01 ZE", "E:22021 ZI", "E:22021 ZE"];
            assert!(fine.contains(&words.as_str()), "{before} {said:?}: {words}");
        }
        others_are_served(&fixture).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truncated_frames_are_dropped_with_their_client() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 1").start().await;
    let s = Script::new;
    let large = vec![b'x'; 300_000];
    let scripts = [
        s().query("SELECT 1"),
        s().query([b"SELECT '".as_slice(), &large, b"'"].concat()),
        s().run("SELECT 1"),
        s().parse("", "SELECT $1::text").bind("", "", &[&large]),
        s().frame(b'F', &large),
    ];
    for script in scripts {
        for cut in [1, 4, 5, 6, script.bytes().len() / 2, script.bytes().len() - 1] {
            let mut client = fixture.raw().await?;
            client.send(&script.bytes()[..cut]).await?;
            client.stream.shutdown().await?;
            last_words(&mut client).await?;
        }
        others_are_served(&fixture).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_sender_keeps_no_server_from_others() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 1").start().await;
    let mut slow = fixture.raw().await?;
    let script = Script::new().query("SELECT 1");
    slow.send(&script.bytes()[..9]).await?;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    others_are_served(&fixture).await?;
    slow.send(&script.bytes()[9..]).await?;
    assert_eq!(slow.play(Script::new(), 1).await?, ONE);
    let script = Script::new().run("SELECT 2");
    slow.send(&script.bytes()[..30]).await?;
    others_are_served(&fixture).await?;
    slow.send(&script.bytes()[30..]).await?;
    assert_eq!(slow.play(Script::new().sync(), 1).await?, "1 2 D:2 C:SELECT 1 ZI");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_bind_says_wrong_the_server_answers() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 1").start().await;
    let mut client = fixture.raw().await?;
    let bodies: &[&[u8]] = &[
        // A value longer than the message, of negative length, more formats than values, nothing at all.
        b"\0\0\0\0\0\x01\0\0\x10\0abc\0\0",
        b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0",
        b"\0\0\x7f\xff\0\x01",
        b"\0\0",
        b"\0\0\0\x02\0\0\0\0\0\x01\0\0\0\x011\0\0",
        b"\0\0\0\x01\0\x07\0\x01\0\0\0\x011\0\0",
    ];
    for body in bodies {
        let s = Script::new().parse("", "SELECT $1::int4").frame(b'B', body).execute("", 0).sync();
        let answer = client.play(s, 1).await?;
        assert!(matches!(&*answer, "1 E:08P01 ZI" | "1 E:22023 ZI"), "{body:?}: {answer}");
    }
    let odd = Script::new().frame(b'S', b"x");
    assert_eq!(client.play(odd, 1).await?, "E:08P01 ZI");
    let odd = Script::new().frame(b'D', b"Xname\0").sync();
    assert_eq!(client.play(odd, 1).await?, "E:08P01 ZI");
    let odd = Script::new().frame(b'C', b"Xname\0").sync();
    assert_eq!(client.play(odd, 1).await?, "E:08P01 ZI");
    assert_eq!(client.play(Script::new().query("SELECT 1"), 1).await?, ONE);
    fixture.wait_quiet();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_may_not_enter_hears_why() -> Outcome {
    let config = "[proxy]\nclient_login_timeout = \"500ms\"\nmax_client_connections = 3";
    let fixture = Fixture::builder().config(config).start().await;
    let check = async |who: &[(&str, &str)], expect: &str| {
        let mut client = RawClient::connect(fixture.pgherd.address()).await?;
        client.startup(who).await?;
        let words = last_words(&mut client).await?;
        assert!(words.ends_with(expect), "{who:?}: {words}");
        anyhow::Ok(())
    };
    check(&[("user", USER), ("database", "absent")], "E:3D000").await?;
    check(&[("user", "absent"), ("database", DATABASE)], "E:28000").await?;
    check(&[("database", DATABASE)], "E:28000").await?;
    check(&[("user", USER), ("database", DATABASE), ("work_mem", "x")], "E:22023").await?;
    check(&[("user", USER), ("database", DATABASE), ("absent", "x")], "E:42704").await?;
    // Silence, half a packet, and lengths that can't be.
    let silent: &[&[u8]] = &[
        b"",
        b"\0\0\0\x20\0\x03\0\0user\0",
        b"\0\0\0\x04",
        b"\0\0\0\0",
        b"\x7f\xff\xff\xff\0\x03\0\0",
    ];
    for bytes in silent {
        let mut client = RawClient::connect(fixture.pgherd.address()).await?;
        client.send(bytes).await?;
        let words = last_words(&mut client).await?;
        assert!(matches!(&*words, "" | "E:57014" | "E:08P01"), "{bytes:?}: {words}");
    }
    let (_one, _two, three) = (fixture.raw().await?, fixture.raw().await?, fixture.raw().await?);
    check(&[("user", USER), ("database", DATABASE)], "E:53300").await?;
    drop(three);
    others_are_served(&fixture).await
}
