//! Whole handshakes over real sockets, with clients that behave and clients that don't.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::*;
use crate::auth::Users;
use crate::config::reload::load_parts;
use crate::config::{
    AuthMethod, AuthRule, ClientCertificate, ClientTlsMode, Config, Database, Node, Role,
    ServerTlsMode, Tls, TlsServer,
};
use crate::tls::Material;
use crate::tls::testing::Authority;
use crate::wire::{build, read::error_field, version};

const OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";

fn config(method: AuthMethod) -> Config {
    let mut config = Config::default();
    config.auth.rules = vec![AuthRule { method, ..AuthRule::default() }];
    let database = Database {
        nodes: Vec::new(),
        role: Role::Primary,
        dbname: String::new(),
        user: String::new(),
        password: None,
        password_file: None,
        mode: None,
        size_min: None,
        size: None,
        reserve_size: None,
        max_connections: None,
        max_client_connections: None,
        wait_timeout: None,
        connect_query: String::new(),
    };
    config.databases.insert("shop".into(), database);
    config.admin.users = vec!["root".into()];
    config
}

#[test]
fn the_authentication_query_is_asked_where_the_client_goes() {
    let mut config = config(AuthMethod::ScramSha256);
    for name in ["first", "second", "other"] {
        let node = Node { host: name.into(), port: 5432, role: Role::Primary };
        config.nodes.insert(name.into(), node);
    }
    let mut check = |query: &str, query_database: &str, database: &str, expect: &str| {
        config.auth.query = query.into();
        config.auth.query_database = query_database.into();
        let mut shop = config.databases["shop"].clone();
        shop.nodes = vec!["first".into(), "second".into()];
        shop.dbname = "shop_v2".into();
        let any = Database { nodes: vec!["other".into()], dbname: String::new(), ..shop.clone() };
        config.databases.insert("shop".into(), shop);
        config.databases.insert("auth".into(), any.clone());
        let asked = |config: &Config| match prove::asked_node(config, database) {
            Some((node, dbname)) => format!("{} {dbname}", node.host),
            None => "nowhere".into(),
        };
        assert_eq!(asked(&config), expect, "{query_database} {database}");
        config.databases.insert("*".into(), any);
        let other = if expect == "nowhere" && !query.is_empty() && database != CONSOLE {
            format!("other {database}")
        } else {
            expect.to_owned()
        };
        assert_eq!(asked(&config), other, "{query_database} {database} *");
        config.databases.remove("*");
    };
    check("", "", "shop", "nowhere");
    check("SELECT", "", "shop", "first shop_v2");
    check("SELECT", "", "unknown", "nowhere");
    check("SELECT", "", "pgherd", "nowhere");
    check("SELECT", "auth", "shop", "other auth");
    check("SELECT", "auth", "pgherd", "other auth");
    check("SELECT", "auth", "unknown", "other auth");
}

fn hub(config: Config) -> Arc<Hub> {
    let parts = load_parts(Path::new("test.toml"), &config).unwrap();
    Hub::new(config, None, parts, 1)
}

fn trusting() -> Arc<Hub> {
    hub(config(AuthMethod::Trust))
}

/// A hub with TLS for clients, and what a client needs to verify it.
fn with_tls(mode: ClientTlsMode, method: AuthMethod) -> (Arc<Hub>, Authority) {
    let authority = Authority::new();
    let files = authority.issue("server");
    let mut config = config(method);
    config.tls.client.mode = mode;
    (config.tls.client.cert_file, config.tls.client.key_file) = (files.cert, files.key);
    config.tls.client.client_certificate = ClientCertificate::Optional;
    config.tls.client.ca_file = authority.ca_file();
    (hub(config), authority)
}

/// TLS as a client has it; `user` owns a certificate.
fn client_tls(authority: &Authority, user: Option<&str>) -> Material {
    let mut server = TlsServer {
        mode: ServerTlsMode::VerifyFull,
        ca_file: authority.ca_file(),
        ..TlsServer::default()
    };
    if let Some(user) = user {
        let files = authority.issue(user);
        (server.cert_file, server.key_file) = (files.cert, files.key);
    }
    Material::load(&Tls { server, ..Tls::default() }).unwrap()
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (client, listener.accept().await.unwrap().0)
}

const PEER: Peer =
    Peer::Tcp(std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1));

fn startup(user: &str, database: &str) -> Vec<u8> {
    let mut out = Vec::new();
    build::untyped(&mut out, |b| {
        b.extend(version(3, 0).to_be_bytes());
        for word in ["user", user, "database", database, ""] {
            build::cstr(b, word.as_bytes());
        }
    });
    out
}

fn request(code: u32) -> Vec<u8> {
    [&8u32.to_be_bytes()[..], &code.to_be_bytes()].concat()
}

/// Everything up to the end; a reset counts as an end.
async fn read_all(client: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut out = Vec::new();
    let _ = client.read_to_end(&mut out).await;
    out
}

/// SQLSTATE of the ErrorResponse that `bytes` end with; empty when there is none.
fn sqlstate_in(bytes: &[u8]) -> String {
    let at = bytes.iter().position(|b| *b == b'E').map(|at| at + 5);
    let body = at.and_then(|at| bytes.get(at..)).unwrap_or_default();
    String::from_utf8_lossy(error_field(body, b'C').unwrap_or_default()).into_owned()
}

/// Sends `steps`, waiting for a one-byte answer between them; gives the answers, what came last,
/// and what the handshake made of it.
async fn visit(hub: &Arc<Hub>, steps: &[&[u8]]) -> (String, Vec<u8>, String) {
    let (mut client, accepted) = pair().await;
    let server = async {
        // Dropping the arrival closes the connection.
        match handshake(hub, Socket::Tcp(accepted), PEER).await {
            Ok(Arrival::Client(client)) => {
                format!("{}/{}", client.startup.user, client.startup.database)
            }
            Ok(Arrival::Cancel { pid, secret, .. }) => format!("cancel {pid} {}", secret.len()),
            Err(error) => error.to_string(),
        }
    };
    let talk = async {
        let mut answers = String::new();
        for (at, step) in steps.iter().enumerate() {
            client.write_all(step).await.unwrap();
            if at + 1 < steps.len() {
                answers.push(char::from(client.read_u8().await.unwrap()));
            }
        }
        let _ = client.shutdown().await;
        (answers, read_all(&mut client).await)
    };
    let (outcome, (answers, last)) = tokio::join!(server, talk);
    (answers, last, outcome)
}

#[tokio::test]
async fn plain_conversations() {
    let hub = trusting();
    let (ssl, gss) = (request(wire::SSL_REQUEST), request(wire::GSSENC_REQUEST));
    let start = startup("u", "shop");
    let mut cancel = Vec::new();
    build::cancel_request(&mut cancel, 7, &[9; 32]);
    let check = async |steps: &[&[u8]], expect: (&str, &str, &str)| {
        let (answers, last, outcome) = visit(&hub, steps).await;
        let (expect_answers, expect_state, expect_outcome) = expect;
        assert_eq!(answers, expect_answers, "{steps:?}");
        assert_eq!(sqlstate_in(&last), expect_state, "{steps:?} {last:?}");
        assert!(outcome.starts_with(expect_outcome), "{steps:?} {outcome} / {expect_outcome}");
    };
    check(&[&start], ("", "", "u/shop")).await;
    check(&[&ssl, &start], ("N", "", "u/shop")).await;
    check(&[&gss, &ssl, &start], ("NN", "", "u/shop")).await;
    check(&[&ssl, &gss, &start], ("NN", "", "u/shop")).await;
    check(&[&ssl, &ssl], ("N", "0A000", "refused: unsupported frontend protocol 1234")).await;
    check(&[&cancel], ("", "", "cancel 7 32")).await;
    check(&[&ssl, &cancel], ("N", "", "cancel 7 32")).await;
    check(&[b""], ("", "", "the client left")).await;
    check(&[&ssl, b""], ("N", "", "the client left")).await;
    check(&[&start[..9]], ("", "", "connection to the client lost")).await;
    check(&[b"\0\0\0\x04"], ("", "", "not a PostgreSQL client")).await;
    check(&[b"GET / HTTP/1.1\r\n\r\n"], ("", "", "not a PostgreSQL client")).await;
    check(&[b"\x16\x03\x01\0\x05hello"], ("", "", "TLS handshake failed")).await;
    check(&[&[&ssl[..], &start].concat()], ("", "08P01", "refused: received unencrypted")).await;
    check(&[&[&gss[..], &start].concat()], ("", "08P01", "refused: received unencrypted")).await;
    check(&[&startup("", "shop")], ("", "28000", "refused: no PostgreSQL user name")).await;
    check(&[&startup("u", "nowhere")], ("", "3D000", "refused: database \"nowhere\"")).await;
    check(&[&startup("u", "pgherd")], ("", "42501", "refused: permission denied")).await;
    check(&[&startup("root", "pgherd")], ("", "", "root/pgherd")).await;
    let (_, last, _) = visit(&hub, &[&startup("u", "nowhere")]).await;
    assert!(last.starts_with(OK), "databases are told about only after the proof");
}

#[tokio::test]
async fn names_are_not_told_without_a_proof() {
    let hub = hub(config(AuthMethod::Reject));
    let (_, one, _) = visit(&hub, &[&startup("u", "nowhere")]).await;
    let (_, two, _) = visit(&hub, &[&startup("u", "shop")]).await;
    assert_eq!(sqlstate_in(&one), sqlstate_in(&two));
    assert_eq!(hub.logins_failed.load(Relaxed), 2);
}

#[tokio::test]
async fn limits_and_drains_are_told_and_spare_cancel_requests() {
    let hub = trusting();
    let mut cancel = Vec::new();
    build::cancel_request(&mut cancel, 1, &[1; 4]);
    let check = async |user: &str, database: &str, expect: &str| {
        let (_, last, _) = visit(&hub, &[&startup(user, database)]).await;
        assert_eq!(sqlstate_in(&last), expect, "{database}");
        assert_eq!(visit(&hub, &[&cancel]).await.2, "cancel 1 4");
    };
    check("u", "shop", "").await;
    hub.clients_now.store(hub.config.load().proxy.max_client_connections + 1, Relaxed);
    check("u", "shop", "53300").await;
    check("root", "pgherd", "").await;
    hub.draining.cancel();
    check("u", "shop", "57P03").await;
    check("root", "pgherd", "57P03").await;
}

#[tokio::test]
async fn unix_sockets_have_no_tls_and_need_none() {
    let (hub, _authority) = with_tls(ClientTlsMode::Require, AuthMethod::Trust);
    let (mut client, accepted) = UnixStream::pair().unwrap();
    let server = handshake(&hub, Socket::Unix(accepted), Peer::Unix);
    let talk = async {
        client.write_all(&request(wire::SSL_REQUEST)).await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'N');
        client.write_all(&startup("u", "shop")).await.unwrap();
        let mut reply = [0; 9];
        client.read_exact(&mut reply).await.unwrap();
        assert_eq!(reply, OK);
    };
    let (arrival, ()) = tokio::join!(server, talk);
    assert!(matches!(arrival, Ok(Arrival::Client(_))));
}

#[tokio::test]
async fn slow_clients_are_cut_off_and_told_once_they_speak() {
    let mut config = config(AuthMethod::Md5);
    config.proxy.client_login_timeout = Duration::from_millis(30);
    let hub = hub(config);
    let check = async |bytes: &[u8], expect: &str| {
        let (mut client, accepted) = pair().await;
        let server = handshake(&hub, Socket::Tcp(accepted), PEER);
        client.write_all(bytes).await.unwrap();
        let (arrival, reply) = tokio::join!(server, read_all(&mut client));
        assert!(arrival.is_err());
        assert_eq!(sqlstate_in(&reply), expect, "{bytes:?}");
    };
    check(b"", "").await;
    check(b"\0\0", "").await;
    check(&startup("u", "shop"), "57014").await;
}

#[tokio::test]
async fn a_silent_client_does_not_hold_up_the_end() {
    let hub = trusting();
    let (_client, accepted) = pair().await;
    hub.stopping.cancel();
    let arrival = handshake(&hub, Socket::Tcp(accepted), PEER).await;
    assert!(matches!(arrival, Err(HandshakeError::Stopping)));
    assert_eq!(hub.logins_failed.load(Relaxed), 0);
}

#[tokio::test]
async fn tls_asked_for() {
    let check = async |mode, user: Option<&str>, method, expect: &str| {
        let (hub, authority) = with_tls(mode, method);
        let tls = client_tls(&authority, user);
        let (mut client, accepted) = pair().await;
        let server = handshake(&hub, Socket::Tcp(accepted), PEER);
        let talk = async {
            client.write_all(&request(wire::SSL_REQUEST)).await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'S');
            let mut client = tls.connect(Socket::Tcp(client), "localhost").await.unwrap();
            client.write_all(&startup("alice", "shop")).await.unwrap();
            client.flush().await.unwrap();
            let mut reply = vec![0; 9];
            client.read_exact(&mut reply).await.unwrap();
            let is_ok = reply == OK;
            if !is_ok {
                reply.extend(read_all(&mut client).await);
            }
            sqlstate_in(&reply)
        };
        let (arrival, state) = tokio::join!(server, talk);
        assert_eq!(state, expect, "{mode:?} {user:?}");
        let encrypted = arrival.is_ok_and(|arrival| match arrival {
            Arrival::Client(client) => client.stream.is_tls(),
            Arrival::Cancel { .. } => false,
        });
        assert_eq!(encrypted, expect.is_empty());
    };
    check(ClientTlsMode::Prefer, None, AuthMethod::Trust, "").await;
    check(ClientTlsMode::Require, None, AuthMethod::Trust, "").await;
    check(ClientTlsMode::Require, Some("alice"), AuthMethod::Cert, "").await;
    check(ClientTlsMode::Require, Some("mallory"), AuthMethod::Cert, "28000").await;
    check(ClientTlsMode::Require, None, AuthMethod::Cert, "28000").await;
}

#[tokio::test]
async fn plain_connections_are_refused_where_tls_is_required() {
    let (hub, _authority) = with_tls(ClientTlsMode::Require, AuthMethod::Trust);
    let (_, last, _) = visit(&hub, &[&startup("u", "shop")]).await;
    assert_eq!(sqlstate_in(&last), "28000");
    let stuffed = [request(wire::SSL_REQUEST), startup("u", "shop")].concat();
    let (_, last, _) = visit(&hub, &[&stuffed]).await;
    assert_eq!(sqlstate_in(&last), "08P01");
}

#[tokio::test]
async fn direct_tls_needs_alpn() {
    let (hub, authority) = with_tls(ClientTlsMode::Allow, AuthMethod::Trust);
    let mut roots = rustls::RootCertStore::empty();
    let pem = std::fs::read(authority.ca_file()).unwrap();
    use rustls_pki_types::pem::PemObject as _;
    roots.add(rustls_pki_types::CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    let check = async |alpn: &[&[u8]], expect: bool| {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let (client, accepted) = pair().await;
        let server = handshake(&hub, Socket::Tcp(accepted), PEER);
        let talk = async {
            let name = "localhost".try_into().unwrap();
            let mut client = connector.connect(name, client).await?;
            client.write_all(&startup("u", "shop")).await?;
            client.flush().await?;
            let mut reply = [0; 9];
            client.read_exact(&mut reply).await?;
            Ok::<_, std::io::Error>(reply)
        };
        let (arrival, reply) = tokio::join!(server, talk);
        assert_eq!(arrival.is_ok(), expect, "{alpn:?}");
        assert_eq!(reply.is_ok_and(|reply| reply == OK), expect, "{alpn:?}");
    };
    check(&[b"postgresql"], true).await;
    check(&[b"h2", b"postgresql"], true).await;
    check(&[], false).await;
    check(&[b"http/1.1"], false).await;
}

/// libpq as a client, where psql is installed: each `sslmode` against a server with and without
/// TLS. The server lets it in and ends the session at once, which psql shows.
#[tokio::test]
async fn libpq_agrees() {
    let on = |mode| with_tls(mode, AuthMethod::Trust);
    let (off, _unused) = (trusting(), ());
    let ((allow, authority), (require, other)) =
        (on(ClientTlsMode::Allow), on(ClientTlsMode::Require));
    let welcome = "end of test";
    for (hub, mode, ca, expect) in [
        (&off, "disable", "", welcome),
        (&off, "prefer", "", welcome),
        (&off, "require", "", "does not support SSL"),
        (&allow, "disable", "", welcome),
        (&allow, "prefer", "", welcome),
        (&allow, "require", "", welcome),
        (&allow, "verify-full", &authority.ca_file(), welcome),
        (&allow, "verify-full", &other.ca_file(), "SSL error"),
        (&require, "disable", "", "accepts only encrypted connections"),
        (&require, "prefer", "", welcome),
        (&require, "verify-ca", &other.ca_file(), welcome),
    ] {
        let options = format!("sslmode={mode} user=u");
        let Some(output) = psql(hub, &options, ca, "").await else { return };
        assert!(output.contains(expect), "{mode}: {output}");
    }
}

/// libpq's SCRAM, with channel binding to the very certificate, and its MD5.
#[tokio::test]
async fn libpq_proves_itself() {
    let users = "\"ann\" \"secret\"\n\"bob\" \"md5acbd18db4cc2f85cedef654fccc4a4d8\"\n";
    let tls = |method| {
        let (hub, authority) = with_tls(ClientTlsMode::Allow, method);
        hub.users.store(Arc::new(Users::parse(users).unwrap()));
        (hub, authority.ca_file())
    };
    let ((scram, ca), (md5, _)) = (tls(AuthMethod::ScramSha256), tls(AuthMethod::Md5));
    let (welcome, failed) = ("end of test", "password authentication failed for user");
    for (hub, options, password, expect) in [
        (&scram, "user=ann sslmode=require channel_binding=require", "secret", welcome),
        (&scram, "user=ann sslmode=require channel_binding=disable", "secret", welcome),
        (&scram, "user=ann sslmode=disable", "secret", welcome),
        (&scram, "user=ann sslmode=disable channel_binding=require", "secret", "channel binding"),
        (&scram, "user=ann sslmode=require", "wrong", failed),
        (&scram, "user=nobody sslmode=require", "secret", failed),
        (&scram, "user=ann sslmode=disable", "", "no password supplied"),
        (&md5, "user=ann sslmode=disable", "secret", welcome),
        (&md5, "user=ann sslmode=disable", "wrong", failed),
        (&md5, "user=bob sslmode=require", "wrong", failed),
        (&md5, "user=nobody sslmode=disable", "secret", failed),
    ] {
        let Some(output) = psql(hub, options, &ca, password).await else { return };
        assert!(output.contains(expect), "{options} {password}: {output}");
    }
}

/// What psql prints; `None`: there is no psql.
async fn psql(hub: &Arc<Hub>, options: &str, ca: &str, password: &str) -> Option<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut command = tokio::process::Command::new("psql");
    let address = format!("host=localhost hostaddr=127.0.0.1 port={port} dbname=shop");
    command.arg(format!("{address} {options}")).args(["-X", "-w", "-c", "SELECT 1"]);
    command.env("PGSSLROOTCERT", ca).env("PGPASSFILE", "/dev/null").stdin(Stdio::null());
    if !password.is_empty() {
        command.env("PGPASSWORD", password);
    }
    command.kill_on_drop(true);
    let output = command.output();
    let serve = async {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let arrival = handshake(hub, Socket::Tcp(socket), PEER).await;
            if let Ok(Arrival::Client(mut client)) = arrival {
                let mut out = Vec::new();
                let end = Report::fatal(Fault::Operator, "57P01", "end of test");
                end.encode(&mut out);
                client.stream.write_all(&out).await.unwrap();
                client.stream.shutdown().await.unwrap();
            }
        }
    };
    let output = tokio::select! {
        output = output => output.ok()?,
        () = serve => return None,
    };
    Some(String::from_utf8_lossy(&output.stderr).into_owned())
}
