//! Ways in beside TCP: the unix-domain socket, and a balancer that speaks the PROXY protocol.
#![allow(clippy::unwrap_used)] // how a test fails

use std::net::SocketAddr;

use pgherd::wire::{self, build};
use pgherd_tests::{Authority, DATABASE, Fixture, RawClient, USER, printed};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A PROXY protocol v2 header for a client at `from` (proxy-protocol.txt, section 2.2).
fn header(from: SocketAddr) -> Vec<u8> {
    let mut out = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    match from {
        SocketAddr::V4(from) => {
            out.extend([0x11, 0, 12]);
            out.extend(from.ip().octets());
            out.extend([10, 0, 0, 1]);
        }
        SocketAddr::V6(from) => {
            out.extend([0x21, 0, 36]);
            out.extend(from.ip().octets());
            out.extend([0; 16]);
        }
    }
    out.extend(from.port().to_be_bytes());
    out.extend(6432_u16.to_be_bytes());
    out
}

async fn arrive(fixture: &Fixture, header: &[u8], database: &str) -> anyhow::Result<RawClient> {
    let mut client = RawClient::connect(fixture.pgherd.address()).await?;
    client.send(header).await?;
    client.login(&[("user", USER), ("database", database)]).await?;
    Ok(client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balancer_tells_where_clients_come_from() -> Outcome {
    let config = r#"
        [proxy]
        proxy_protocol = true
        proxy_protocol_from = ["127.0.0.0/8"]
        [admin]
        users = ["postgres"]
        [[auth.rules]]
        addresses = ["192.0.2.0/24", "2001:db8::/32"]
        method = "trust"
    "#;
    let fixture = Fixture::builder().config(config).start().await;
    let four = "192.0.2.7:12345".parse()?;
    let six = "[2001:db8::7]:54321".parse()?;
    let mut one = arrive(&fixture, &header(four), DATABASE).await?;
    let mut two = arrive(&fixture, &header(six), DATABASE).await?;
    one.query("SELECT 1").await?;
    two.query("SELECT 1").await?;
    let mut console = arrive(&fixture, &header(four), "pgherd").await?;
    let clients: String = console
        .query("SHOW CLIENTS")
        .await?
        .iter()
        .map(|frame| String::from_utf8_lossy(&frame.body).into_owned())
        .collect();
    for expect in ["192.0.2.7", "12345", "2001:db8::7", "54321"] {
        assert!(clients.contains(expect), "{expect}: {clients}");
    }
    // The balancer's own address meets no rule, and neither does a client from elsewhere.
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for header in [header("198.51.100.1:1".parse()?), local.to_vec()] {
        let error = arrive(&fixture, &header, DATABASE).await.unwrap_err().to_string();
        assert!(error.contains("28000 no auth rule admits host"), "{error}");
    }
    // A client that comes without a header is not let in, and one line of text is none.
    for bytes in [b"" as &[u8], b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n"] {
        assert!(arrive(&fixture, bytes, DATABASE).await.is_err());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_from_elsewhere_is_not_believed() -> Outcome {
    let config = "[proxy]\nproxy_protocol = true\nproxy_protocol_from = [\"192.0.2.0/24\"]\n";
    let fixture = Fixture::builder().config(config).start().await;
    let error = arrive(&fixture, &header("192.0.2.7:1".parse()?), DATABASE).await;
    assert!(error.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_unix_socket_has_rules_of_its_own_and_no_tls() -> Outcome {
    let authority = Authority::new()?;
    let pair = authority.issue("server", "pgherd", &["127.0.0.1"])?;
    let dir = tempfile::tempdir()?;
    let config = format!(
        "[proxy]\nunix_socket_dir = \"{}\"\nunix_socket_mode = \"0700\"\n[tls.client]\nmode = \"require\"\n\
         cert_file = \"{}\"\nkey_file = \"{}\"\n[[auth.rules]]\nconnection = \"local\"\nmethod = \"trust\"\n",
        dir.path().display(),
        pair.cert.display(),
        pair.key.display()
    );
    let fixture = Fixture::builder().config(&config).start().await;
    let port = fixture.pgherd.address().port();
    let path = dir.path().join(format!(".s.PGSQL.{port}"));
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path)?) & 0o777;
    assert_eq!(mode, 0o700);
    let dsn = format!("host={} port={port} user={USER} dbname={DATABASE}", dir.path().display());
    // TLS is required of TCP only; whoever asks for it here hears no.
    let psql = |more: &str| printed(&mut fixture.psql_at(&format!("{dsn} {more}"), "SELECT 1"));
    assert_eq!(psql("").as_deref(), Ok("1"));
    let mut stream = std::os::unix::net::UnixStream::connect(&path)?;
    let mut request = Vec::new();
    build::untyped(&mut request, |body| body.extend(wire::SSL_REQUEST.to_be_bytes()));
    std::io::Write::write_all(&mut stream, &request)?;
    let mut answer = [0];
    std::io::Read::read_exact(&mut stream, &mut answer)?;
    assert_eq!(answer, *b"N");
    let tcp = fixture.psql(USER, DATABASE, "sslmode=require", "SELECT 1").unwrap_err();
    assert!(tcp.contains("no auth rule admits host"), "{tcp}");
    drop(fixture);
    Ok(())
}
