//! Listeners on real sockets: accepting, PROXY headers, drain and hand-over.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::*;
use crate::config::reload::load_parts;
use crate::config::{AuthMethod, AuthRule, Config, Proxy};
use crate::wire::{build, version};

fn proxy() -> Proxy {
    Proxy { listen: vec!["127.0.0.1:0".into()], ..Proxy::default() }
}

/// Trusts everyone; no database exists, so that every login ends with a refusal to recognise.
fn hub(proxy: Proxy) -> Arc<Hub> {
    let mut config = Config { proxy, ..Config::default() };
    let method = AuthMethod::Trust;
    config.auth.rules = vec![AuthRule { method, ..AuthRule::default() }];
    let parts = load_parts(Path::new("test.toml"), &config).unwrap();
    Hub::new(config, None, parts, 1)
}

fn startup() -> Vec<u8> {
    let mut out = Vec::new();
    build::untyped(&mut out, |b| {
        b.extend(version(3, 0).to_be_bytes());
        b.extend(b"user\0u\0\0");
    });
    out
}

/// What a client hears that sends `bytes`: empty, or up to the end an AuthenticationOk and an
/// ErrorResponse.
async fn hear(stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin)) -> String {
    let mut out = Vec::new();
    let _ = stream.read_to_end(&mut out).await;
    String::from_utf8_lossy(&out).into_owned()
}

#[tokio::test]
async fn clients_are_accepted_until_the_drain() {
    let dir = tempfile::tempdir().unwrap();
    let mut proxy = proxy();
    proxy.unix_socket_dir = dir.path().to_string_lossy().into_owned();
    let hub = hub(proxy.clone());
    let listeners = Listeners::bind(&proxy).unwrap();
    let address = listeners.addresses()[0];
    let path = dir.path().join(format!(".s.PGSQL.{}", address.port()));
    listeners.run(&hub).unwrap();

    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(&startup()).await.unwrap();
    assert!(hear(&mut tcp).await.contains("database \"u\" does not exist"));
    let mut unix = UnixStream::connect(&path).await.unwrap();
    unix.write_all(&startup()).await.unwrap();
    assert!(hear(&mut unix).await.contains("database \"u\" does not exist"));
    assert_eq!(hub.clients_total.load(Relaxed), 2);

    let fds = listeners.fds();
    assert_eq!(fds.len(), 2);
    let inherited = fds.iter().map(|(name, fd)| (name.clone(), fd.try_clone_to_owned().unwrap()));
    let inherited: Vec<_> = inherited.collect();
    hub.draining.cancel();
    hub.tasks.close();
    hub.tasks.wait().await;
    assert_eq!(hub.clients_now.load(Relaxed), 0);
    drop(listeners);

    // The next process goes on with the same sockets: the configured port is the real one now.
    proxy.listen = vec![address.to_string()];
    let next = self::hub(proxy.clone());
    let listeners = Listeners::adopt(inherited, &proxy).unwrap();
    listeners.run(&next).unwrap();
    let mut unix = UnixStream::connect(&path).await.unwrap();
    unix.write_all(&startup()).await.unwrap();
    assert!(hear(&mut unix).await.contains("does not exist"));
    next.draining.cancel();
    next.tasks.close();
    next.tasks.wait().await;
    listeners.close();
    assert!(!path.exists());
    TcpStream::connect(address).await.unwrap_err();
}

#[tokio::test]
async fn a_proxy_header_is_demanded_and_believed_from_the_listed_only() {
    let header = [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..],
        &[192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 0x19, 0x20],
    ]
    .concat();
    for (from, with_header, expect) in [
        ("", true, true),
        ("127.0.0.0/8", true, true),
        ("127.0.0.1", true, true),
        ("10.0.0.0/8", true, false),
        ("10.0.0.0/8", false, false),
        ("", false, false),
    ] {
        let mut proxy = proxy();
        proxy.proxy_protocol = true;
        proxy.proxy_protocol_from =
            Some(from).filter(|f| !f.is_empty()).map(Into::into).into_iter().collect();
        let hub = hub(proxy.clone());
        let listeners = Listeners::bind(&proxy).unwrap();
        listeners.run(&hub).unwrap();
        let mut client = TcpStream::connect(listeners.addresses()[0]).await.unwrap();
        if with_header {
            client.write_all(&header).await.unwrap();
        }
        client.write_all(&startup()).await.unwrap();
        let _ = client.shutdown().await;
        let heard = hear(&mut client).await;
        assert_eq!(heard.contains("does not exist"), expect, "{from} {with_header} {heard}");
        hub.draining.cancel();
    }
}

#[tokio::test]
async fn errors_name_the_setting() {
    let check = |change: &dyn Fn(&mut Proxy), expect: &str| {
        let mut proxy = proxy();
        change(&mut proxy);
        let error = Listeners::bind(&proxy).unwrap_err().to_string();
        assert!(error.contains(expect), "{error} / {expect}");
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    check(&|p| p.listen = vec![address.clone()], &format!("cannot listen on {address}"));
    check(&|p| p.listen = vec!["localhost".into()], "proxy.listen: \"localhost\"");
    check(&|p| p.listen = Vec::new(), "neither proxy.listen nor");
    check(&|p| p.proxy_protocol_from = vec!["10/8".into()], "proxy_protocol_from: \"10/8\"");
    check(&|p| p.unix_socket_dir = "/nonexistent".into(), "cannot listen on /nonexistent/.s.PGSQL");
    for mode in ["rwx", "0999", "1777"] {
        let change = |p: &mut Proxy| {
            p.unix_socket_dir = "/nonexistent".into();
            p.unix_socket_mode = mode.into();
        };
        check(&change, "unix_socket_mode");
    }
}
