//! What a server sees of a client's requests, and what becomes of a server that breaks the protocol.
//!
//! The server is a socket of the test: it says what no PostgreSQL says.
#![allow(clippy::unwrap_used)] // how a test fails

use std::sync::Arc;

use pgherd::local::Pgherd;
use pgherd::wire::build;
use pgherd_tests::{RawClient, Script, binary, brief};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

type Outcome = anyhow::Result<()>;

/// Reads, each as it came, once a server is logged in.
type Reads = Arc<Mutex<Vec<Vec<u8>>>>;

/// Logs a connection in as PostgreSQL does where everyone is trusted.
async fn log_in(stream: &mut TcpStream) -> Outcome {
    loop {
        let mut packet = vec![0; usize::try_from(stream.read_u32().await?)? - 4];
        stream.read_exact(&mut packet).await?;
        if packet.starts_with(&80_877_103_u32.to_be_bytes()) {
            stream.write_all(b"N").await?;
            continue;
        }
        let mut out = Vec::new();
        build::authentication(&mut out, 0, b"");
        build::parameter_status(&mut out, b"server_version", b"15.0");
        build::parameter_status(&mut out, b"client_encoding", b"UTF8");
        build::backend_key(&mut out, 1, b"\0\0\0\x01");
        build::ready(&mut out, b'I');
        return Ok(stream.write_all(&out).await?);
    }
}

/// A server that answers whatever contains `@` with `answer`, and all else as one simple query.
async fn serve(mut stream: TcpStream, reads: Reads, answer: Vec<u8>) -> Outcome {
    log_in(&mut stream).await?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        let read = buffer[..n].to_vec();
        let special = read.contains(&b'@');
        reads.lock().await.push(read);
        let mut out = answer.clone();
        if !special {
            out.clear();
            build::command_complete(&mut out, "OK");
            build::ready(&mut out, b'I');
        }
        stream.write_all(&out).await?;
    }
}

struct Stage {
    pgherd: Pgherd,
    reads: Reads,
    _dir: tempfile::TempDir,
}

async fn stage(answer: Vec<u8>) -> anyhow::Result<Stage> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let reads = Reads::default();
    let all = reads.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, all.clone(), answer.clone()));
        }
    });
    let dir = tempfile::tempdir()?;
    let config = format!(
        "[[auth.rules]]\nmethod = \"trust\"\n[nodes.n]\nhost = \"127.0.0.1\"\nport = {port}\n\
         role = \"primary\"\n[databases.app]\nnodes = [\"n\"]\n[pool]\nsize_default = 1\n"
    );
    let path = dir.path().to_path_buf();
    let start =
        move || -> anyhow::Result<Pgherd> { Ok(Pgherd::start(&binary()?, &path, &config)?) };
    let pgherd = tokio::task::spawn_blocking(start).await??;
    Ok(Stage { pgherd, reads, _dir: dir })
}

async fn client(stage: &Stage) -> anyhow::Result<RawClient> {
    let mut client = RawClient::connect(stage.pgherd.address()).await?;
    client.login(&[("user", "u"), ("database", "app")]).await?;
    Ok(client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_reaches_the_server_in_one_piece_and_untouched() -> Outcome {
    let one = b"1\0\0\0\x042\0\0\0\x04C\0\0\0\x07OK\0".repeat(200);
    let stage = stage([one.as_slice(), b"Z\0\0\0\x05I"].concat()).await?;
    let mut client = client(&stage).await?;
    let mut script = Script::new();
    for _ in 0..200 {
        script = script.run("SELECT @");
    }
    let script = script.sync();
    client.send(script.bytes()).await?;
    assert_eq!(client.until(b'Z').await?.len(), 601);
    let reads = stage.reads.lock().await;
    let of_pipeline: Vec<_> = reads.iter().filter(|read| read.contains(&b'@')).collect();
    assert_eq!(of_pipeline.len(), 1);
    assert_eq!(of_pipeline[0], script.bytes());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_breaks_the_protocol_is_not_used_again() -> Outcome {
    let answers: &[&[u8]] = &[
        b"Z\0\0\0\x03",
        b"D\xff\xff\xff\xff",
        b"\0\0\0\0\x04",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"1\0\0\0\x04Z\0\0\0\x05I",
        b"Z\0\0\0\x05IZ\0\0\0\x05I",
        b"S\0\0\0\x05xZ\0\0\0\x05I",
    ];
    for answer in answers {
        let stage = stage(answer.to_vec()).await?;
        let mut one = client(&stage).await?;
        one.send(Script::new().query("@").bytes()).await?;
        let mut frames = Vec::new();
        while let Ok(Ok(frame)) =
            tokio::time::timeout(std::time::Duration::from_secs(2), one.frame()).await
        {
            frames.push(frame);
        }
        let words = brief(&frames);
        let said = String::from_utf8_lossy(answer);
        assert!(matches!(&*words, "E:08P01" | "" | "ZI" | "ZI E:08P01"), "{said:?}: {words}");
        drop(one);
        let mut other = client(&stage).await?;
        let answer = other.play(Script::new().query("SELECT 1"), 1).await?;
        assert_eq!(answer, "C:OK ZI", "{said:?}");
    }
    Ok(())
}
