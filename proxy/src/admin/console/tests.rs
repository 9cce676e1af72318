//! The console over a socket, as drivers see it: both protocols, refusals and broken frames.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command as Process, Stdio};

use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::*;
use crate::auth::Credentials;
use crate::config::Config;
use crate::net::Socket;
use crate::session::handshake::Startup;

fn hub() -> Arc<Hub> {
    let mut config = Config::default();
    config.admin.users = vec!["admin".into()];
    config.admin.stats_users = vec!["stats".into()];
    config.nodes.insert("n1".into(), toml::from_str("host = '/tmp'").unwrap());
    config.databases.insert("shop".into(), toml::from_str("nodes = ['n1']").unwrap());
    crate::admin::samples::hub(config)
}

/// Stands for the handshake: reads the startup packet, trusts it, hands over.
async fn accept(hub: Arc<Hub>, mut socket: UnixStream) {
    let user = loop {
        let Ok(length) = socket.read_u32().await else { return };
        let mut packet = vec![0; length as usize - 4];
        socket.read_exact(&mut packet).await.unwrap();
        if packet.starts_with(&crate::wire::version(3, 0).to_be_bytes()) {
            let mut words = packet[4..].split(|b| *b == 0);
            while words.next().unwrap() != b"user" {
                words.next();
            }
            break String::from_utf8(words.next().unwrap().to_vec()).unwrap();
        }
        socket.write_all(b"N").await.unwrap();
    };
    let mut out = Vec::new();
    build::authentication(&mut out, 0, b"");
    socket.write_all(&out).await.unwrap();
    let startup = Startup { user, database: DATABASE.into(), ..Startup::default() };
    let stream = Stream::Plain(Socket::Unix(socket));
    serve(hub, Authenticated { stream, peer: Peer::Unix, startup, credentials: Credentials::None })
        .await;
}

async fn connect(hub: &Arc<Hub>, user: &str) -> Result<Client, tokio_postgres::Error> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    tokio::spawn(accept(Arc::clone(hub), theirs));
    let mut config = tokio_postgres::Config::new();
    config.user(user).dbname(DATABASE).ssl_mode(tokio_postgres::config::SslMode::Disable);
    let (client, connection) = config.connect_raw(ours, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn code(e: tokio_postgres::Error) -> String {
    e.code().unwrap_or_else(|| panic!("{e:?}")).code().to_owned()
}

const ALL: &[&str] = &[
    "ACTIVE_SOCKETS",
    "CLIENTS",
    "CONFIG",
    "DATABASES",
    "DNS_HOSTS",
    "DNS_ZONES",
    "FDS",
    "LISTS",
    "MEM",
    "NODES",
    "PEER_POOLS",
    "PEERS",
    "POOLS",
    "SERVERS",
    "SOCKETS",
    "STATE",
    "STATS",
    "STATS_AVERAGES",
    "STATS_TOTALS",
    "TOTALS",
    "USERS",
    "VERSION",
    "client_encoding",
];

#[tokio::test]
async fn every_show_answers_the_same_in_both_protocols() {
    let hub = hub();
    let client = connect(&hub, "admin").await.unwrap();
    for what in ALL {
        let sql = format!("SHOW {what}");
        let mut names = Vec::new();
        let mut simple = 0;
        for message in client.simple_query(&sql).await.unwrap() {
            match message {
                SimpleQueryMessage::RowDescription(columns) => {
                    names = columns.iter().map(|c| c.name().to_owned()).collect();
                }
                SimpleQueryMessage::Row(_) => simple += 1,
                _ => {}
            }
        }
        let statement = client.prepare(&sql).await.unwrap();
        let described: Vec<_> = statement.columns().iter().map(|c| c.name().to_owned()).collect();
        assert_eq!(names, described, "{sql}");
        assert!(!names.is_empty(), "{sql}");
        let rows = client.query(&statement, &[]).await.unwrap();
        assert_eq!(rows.len(), simple, "{sql}");
    }
}

#[tokio::test]
async fn binary_values_are_right() {
    let hub = hub();
    let client = connect(&hub, "admin").await.unwrap();
    let rows = client.query("SHOW DATABASES", &[]).await.unwrap();
    let shop = rows.iter().find(|r| r.get::<_, &str>("name") == "shop").unwrap();
    assert_eq!(shop.get::<_, &str>("host"), "/tmp");
    assert_eq!(shop.get::<_, i32>("port"), 5432);
    assert_eq!(shop.get::<_, i32>("pool_size"), 20);
    assert_eq!(shop.get::<_, Option<&str>>("force_user"), None);
    let row = client.query_one("SELECT 1", &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 1);
    let row = client.query_one("SELECT current_user", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "admin");
    assert!(client.query("", &[]).await.unwrap().is_empty());
    assert!(client.query("-- ping", &[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn refusals_leave_the_session_usable() {
    let hub = hub();
    let client = connect(&hub, "admin").await.unwrap();
    let check = async |sql: &str, expect: &str| {
        assert_eq!(code(client.batch_execute(sql).await.unwrap_err()), expect, "{sql}");
        assert_eq!(code(client.execute(sql, &[]).await.unwrap_err()), expect, "{sql}");
        client.batch_execute("SHOW STATE").await.unwrap();
    };
    check("FROBNICATE", "42601").await;
    check("SUSPEND", "0A000").await;
    check("PAUSE pgherd", "0A000").await;
    check("PAUSE nowhere", "3D000").await;
    check("RESUME nowhere", "55000").await;
    check("KILL_CLIENT 12345", "42704").await;
    check("SET pool_mode = session", "55P02").await;
    check("SET nonsense = 1", "42704").await;
    check("SET log_level = 'a=b=c'", "22023").await;
    check("SET log_connections = maybe", "22023").await;
    assert_eq!(code(client.prepare("SHOW POOLS; SHOW STATS").await.unwrap_err()), "42601");
    client.batch_execute("SET log_connections = 1; SET extra_float_digits = 3").await.unwrap();
    assert!(hub.config.load().log.connections);
}

#[tokio::test]
async fn several_commands_in_one_query() {
    let client = connect(&hub(), "admin").await.unwrap();
    let messages = client.simple_query("SHOW VERSION; BEGIN; SHOW STATE; COMMIT").await.unwrap();
    let done = messages.iter().filter(|m| matches!(m, SimpleQueryMessage::CommandComplete(_)));
    assert_eq!(done.count(), 4);
    // What stands before the failure has been answered.
    let failed = client.simple_query("SHOW VERSION; SUSPEND; SHOW STATE").await.unwrap_err();
    assert_eq!(code(failed), "0A000");
}

#[tokio::test]
async fn stats_users_only_look() {
    let hub = hub();
    let client = connect(&hub, "stats").await.unwrap();
    client.batch_execute("SHOW STATS; SET extra_float_digits = 0").await.unwrap();
    for sql in ["RELOAD", "PAUSE", "SHUTDOWN", "SET log_connections = 1", "SHOW FDS"] {
        assert_eq!(code(client.batch_execute(sql).await.unwrap_err()), "42501", "{sql}");
    }
    assert!(!hub.stopping.is_cancelled());
    assert_eq!(code(connect(&hub, "stranger").await.map(|_| ()).unwrap_err()), "28000");
}

#[tokio::test]
async fn a_drain_ends_the_session() {
    let hub = hub();
    let client = connect(&hub, "admin").await.unwrap();
    client.batch_execute("SHUTDOWN WAIT_FOR_CLIENTS").await.unwrap();
    assert!(hub.draining.is_cancelled() && !hub.stopping.is_cancelled());
    while !client.is_closed() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn broken_frames_are_fatal() {
    for bytes in [&b"p\0\0\0\0"[..], b"Q\0\0\0\x0aab\0cd\0", b"P\x7f\xff\xff\xff", b"B\0\0\0\x04"] {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let startup = Startup { user: "admin".into(), ..Startup::default() };
        let stream = Stream::Plain(Socket::Unix(theirs));
        let credentials = Credentials::None;
        let client = Authenticated { stream, peer: Peer::Unix, startup, credentials };
        let session = tokio::spawn(serve(hub(), client));
        ours.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        ours.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.contains("SFATAL") && answer.contains("C08P01"), "{answer:?}");
        session.await.unwrap();
    }
}

/// A client may ask for as many rows and formats as it likes.
#[tokio::test]
async fn hostile_counts_reserve_nothing() {
    let mut request = Vec::new();
    build::frame(&mut request, b'P', |b| b.extend_from_slice(b"\0SHOW CONFIG\0\0\0"));
    build::frame(&mut request, b'B', |b| b.extend_from_slice(b"\0\0\0\0\0\0\0\0"));
    build::frame(&mut request, b'E', |b| b.extend_from_slice(b"\0\x7f\xff\xff\xff"));
    build::sync(&mut request);
    build::frame(&mut request, b'B', |b| b.extend_from_slice(b"\0\0\0\0\0\0\0\x02\0\x01\0\x01"));
    build::frame(&mut request, b'E', |b| b.extend_from_slice(b"\0\xff\xff\xff\xff"));
    build::sync(&mut request);
    build::terminate(&mut request);
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let startup = Startup { user: "admin".into(), ..Startup::default() };
    let stream = Stream::Plain(Socket::Unix(theirs));
    let client =
        Authenticated { stream, peer: Peer::Unix, startup, credentials: Credentials::None };
    let session = tokio::spawn(serve(hub(), client));
    ours.write_all(&request).await.unwrap();
    let mut answer = Vec::new();
    ours.read_to_end(&mut answer).await.unwrap();
    session.await.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.contains("CSHOW") || answer.contains("SHOW "), "{answer:?}");
    assert!(answer.contains("result formats"), "{answer:?}");
}

/// The program that operators use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_works() {
    if Process::new("psql").arg("--version").stdout(Stdio::null()).status().is_err() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let listener = UnixListener::bind(dir.path().join(".s.PGSQL.5432")).unwrap();
    let hub = hub();
    let server = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(accept(Arc::clone(&hub), socket));
        }
    });
    let host = dir.path().to_owned();
    let output = tokio::task::spawn_blocking(move || {
        Process::new("psql")
            .args(["-X", "-At", "-U", "admin", "-d", DATABASE, "-p", "5432", "-h"])
            .arg(host)
            .args(["-c", "SHOW HELP", "-c", "SHOW LISTS", "-c", "SHOW VERSION; SHOW STATE"])
            .env_remove("PGOPTIONS")
            .output()
    });
    let output = output.await.unwrap().unwrap();
    server.abort();
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{out}\n{err}");
    assert!(out.contains("databases|2") && out.contains("active|yes"), "{out}");
    assert!(err.contains("Console usage") && err.contains("WAIT_CLOSE"), "{err}");
}

mod rendering {
    use std::collections::BTreeMap;

    use super::super::command::Show;
    use super::super::facts::Facts;
    use super::super::table::Cell;
    use super::super::{columns, show};
    use crate::admin::samples;
    use crate::config::Config;

    fn facts() -> Facts {
        let mut config = Config::default();
        config.nodes.insert("n1".into(), toml::from_str("host = 'a'").unwrap());
        config.nodes.insert("n2".into(), toml::from_str("host = 'b'").unwrap());
        let entry = toml::from_str("nodes = ['n1', 'n2']\nmode = 'session'\nuser = 'u'").unwrap();
        config.databases.insert("shop".into(), entry);
        Facts {
            config: config.into(),
            pools: vec![
                samples::pool("shop", "app", "n1"),
                samples::pool("shop", "app", "n2"),
                samples::pool("shop", "other", "n1"),
            ],
            clients: vec![samples::client("shop", "app")],
            servers: vec![samples::server("shop", "app", "n1")],
            stats: BTreeMap::new(),
            held: BTreeMap::from([("shop".into(), (false, true))]),
            all_paused: false,
            clients_now: 4,
            memory: Default::default(),
            tables: Vec::new(),
        }
    }

    /// The cell of `column` in row `row` of `show`.
    fn check(what: Show, row: usize, column: &str, expect: impl Into<Cell>) {
        let table = show::table(what, &facts());
        let at = columns::of(what).iter().position(|c| c.name == column).unwrap();
        assert_eq!(table.rows[row][at], expect.into(), "{what:?} {row} {column}");
    }

    #[test]
    fn rows_fit_their_columns() {
        for what in [
            Show::Config,
            Show::Databases,
            Show::Pools,
            Show::Clients,
            Show::Servers,
            Show::Sockets,
            Show::ActiveSockets,
            Show::Lists,
            Show::Users,
            Show::Mem,
            Show::State,
            Show::Nodes,
            Show::Version,
            Show::Totals,
        ] {
            let table = show::table(what, &facts());
            assert!(!table.rows.is_empty(), "{what:?}");
            assert!(table.rows.iter().all(|r| r.len() == table.columns.len()), "{what:?}");
        }
    }

    #[test]
    fn cells_stand_where_they_belong() {
        // One row for a user and a database, however many nodes.
        check(Show::Pools, 0, "user", "app");
        check(Show::Pools, 0, "sv_idle", 8usize);
        check(Show::Pools, 0, "maxwait", 2usize);
        check(Show::Pools, 0, "maxwait_us", 500_000usize);
        check(Show::Pools, 1, "user", "other");
        check(Show::Databases, 0, "name", "shop");
        check(Show::Databases, 0, "host", "a,b");
        check(Show::Databases, 0, "force_user", "u");
        check(Show::Databases, 0, "pool_mode", "session");
        check(Show::Databases, 0, "current_connections", 36usize);
        check(Show::Databases, 0, "current_client_connections", 1usize);
        check(Show::Databases, 0, "paused", false);
        check(Show::Databases, 0, "disabled", true);
        check(Show::Databases, 1, "name", "pgherd");
        check(Show::Clients, 0, "ptr", "c1");
        check(Show::Clients, 0, "link", "s2");
        check(Show::Clients, 0, "request_time", "1970-01-01 00:01:00 UTC");
        check(Show::Servers, 0, "link", "c1");
        check(Show::Servers, 0, "application_name", "tests");
        check(Show::Servers, 0, "remote_pid", 4242usize);
        check(Show::Sockets, 1, "state", "sv_active");
        check(Show::Lists, 3, "items", 2usize);
        check(Show::Lists, 7, "items", 3usize);
        check(Show::Users, 0, "name", "app");
        check(Show::Nodes, 0, "sv_idle", 8usize);
        check(Show::Nodes, 1, "connect_errors", 8usize);
        check(Show::State, 0, "value", "yes");
    }
}
