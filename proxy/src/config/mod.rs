//! The configuration: what an operator may say, and what is true when nothing is said.
//!
//! These types are the file's shape (TOML). `load` reads and reports errors with line and column,
//! `validate` checks what one value alone can't show, `reload` tells what changed.
//! Every key stands in `config.example.toml` with its default; a test holds the two together.

pub mod diagnose;
mod duration;
pub mod load;
pub mod reload;
pub mod validate;
pub mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize, Serializer};

pub use diagnose::{Problem, Problems};
pub use load::ConfigError;

/// The whole file.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Listeners and process-wide limits.
    pub proxy: Proxy,
    /// TLS towards clients and towards servers.
    pub tls: Tls,
    /// Who may connect, and how they prove it.
    pub auth: Auth,
    /// Defaults for every pool; databases and users override them.
    pub pool: Pool,
    /// Admin console and HTTP.
    pub admin: Admin,
    /// Logging.
    pub log: Log,
    /// PostgreSQL instances by name.
    pub nodes: BTreeMap<String, Node>,
    /// What clients may name as database; `"*"` stands for every other name.
    pub databases: BTreeMap<String, Database>,
    /// Overrides by user name.
    pub users: BTreeMap<String, User>,
}

/// `[proxy]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Proxy {
    /// TCP addresses to listen on, `host:port`.
    pub listen: Vec<String>,
    /// Directory of the unix-domain socket (`.s.PGSQL.<port>`); empty: none.
    pub unix_socket_dir: String,
    /// File mode of the unix-domain socket, octal.
    pub unix_socket_mode: String,
    /// Listen backlog, connections.
    pub listen_backlog: u32,
    /// Expect a PROXY protocol v2 header on every TCP connection.
    pub proxy_protocol: bool,
    /// Addresses (CIDR) that may send a PROXY header; empty: all.
    pub proxy_protocol_from: Vec<String>,
    /// Threads that serve clients; 0: one a core.
    pub workers: usize,
    /// Clients at once, over all databases.
    pub max_client_connections: usize,
    /// Time for startup, TLS and authentication.
    #[serde(with = "duration")]
    pub client_login_timeout: Duration,
    /// A client that is idle (no transaction) for so long is closed; 0: never.
    #[serde(with = "duration")]
    pub client_idle_timeout: Duration,
    /// A client that is idle inside a transaction for so long is closed; 0: never.
    #[serde(with = "duration")]
    pub idle_transaction_timeout: Duration,
    /// A statement that runs for so long is cancelled and its client closed; 0: never.
    #[serde(with = "duration")]
    pub query_timeout: Duration,
    /// TERM waits for clients to finish for so long, then closes them.
    #[serde(with = "duration")]
    pub drain_timeout: Duration,
    /// TCP keepalive: idle time before the first probe; 0: off.
    #[serde(with = "duration")]
    pub tcp_keepalive: Duration,
    /// TCP_USER_TIMEOUT towards servers and clients; 0: the kernel's.
    #[serde(with = "duration")]
    pub tcp_user_timeout: Duration,
    /// Write the process id here; empty: nowhere.
    pub pid_file: String,
}

/// `[tls]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Towards clients.
    pub client: TlsClient,
    /// Towards servers.
    pub server: TlsServer,
}

/// What pgherd answers to a client's SSLRequest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientTlsMode {
    /// Never TLS.
    Disable,
    /// TLS if the client asks for it.
    Allow,
    /// The same as `allow`: the client decides (the word is libpq's).
    Prefer,
    /// Plain connections are refused (unix sockets excepted).
    Require,
}

/// What is asked of a client's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCertificate {
    /// Not asked for.
    None,
    /// Checked when sent.
    Optional,
    /// The handshake fails without a valid one.
    Require,
}

/// `[tls.client]`: TLS on the connections that clients open.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsClient {
    /// disable, allow, prefer or require.
    pub mode: ClientTlsMode,
    /// Certificate chain, PEM.
    pub cert_file: String,
    /// Private key, PEM.
    pub key_file: String,
    /// Authorities that client certificates are checked against, PEM.
    pub ca_file: String,
    /// none, optional or require.
    pub client_certificate: ClientCertificate,
    /// Lowest protocol version, "1.2" or "1.3".
    pub min_version: String,
}

/// How far a server's TLS is trusted (libpq's `sslmode` words).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerTlsMode {
    /// Never TLS.
    Disable,
    /// TLS if the server has it, not verified.
    Prefer,
    /// TLS or nothing, not verified.
    Require,
    /// The certificate must come from a known authority.
    VerifyCa,
    /// And name the host.
    VerifyFull,
}

/// `[tls.server]`: TLS on the connections that pgherd opens.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsServer {
    /// disable, prefer, require, verify-ca or verify-full.
    pub mode: ServerTlsMode,
    /// Authorities, PEM; empty: the web's public roots.
    pub ca_file: String,
    /// Our certificate for servers that ask, PEM.
    pub cert_file: String,
    /// Its key, PEM.
    pub key_file: String,
}

/// How a client proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthMethod {
    /// No proof.
    Trust,
    /// Refused.
    Reject,
    /// SCRAM-SHA-256, and -PLUS over TLS.
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// MD5 for users with an md5 verifier (SCRAM where the verifier is a SCRAM one).
    Md5,
    /// The certificate names the user.
    Cert,
}

/// Which connections a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleConnection {
    /// Every connection.
    Any,
    /// Unix socket (pg_hba's `local`).
    Local,
    /// TCP, TLS or not (`host`).
    Host,
    /// TCP with TLS (`hostssl`).
    HostTls,
    /// TCP without TLS (`hostnossl`).
    HostPlain,
}

/// One line of `[[auth.rules]]`; the first that fits decides, none: refused.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthRule {
    /// any, local, host, host-tls or host-plain.
    pub connection: RuleConnection,
    /// Database names; "all" fits every one, "sameuser" the one named like the user.
    pub databases: Vec<String>,
    /// User names; "all" fits every one.
    pub users: Vec<String>,
    /// CIDR ranges; "all" fits every address.
    pub addresses: Vec<String>,
    /// How the client proves who it is.
    pub method: AuthMethod,
    /// For `cert`: a name of `[auth.certificate_maps]`; empty: the certificate's CN (or a SAN) is the user.
    pub map: String,
}

/// `[auth]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// First fit decides.
    pub rules: Vec<AuthRule>,
    /// PgBouncer's userlist format: `"user" "password or verifier"`; empty: none.
    pub users_file: String,
    /// `SELECT user, verifier` with `$1` as the user's name, asked of the client's database; empty: none.
    pub query: String,
    /// Who asks `query`: a user of `users_file`.
    pub query_user: String,
    /// Where `query` is asked; empty: the client's own database.
    pub query_database: String,
    /// How long an answer of `query` is believed.
    #[serde(with = "duration")]
    pub query_cache_ttl: Duration,
    /// Certificate names to users: map name -> certificate name (CN or SAN) -> users.
    pub certificate_maps: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

/// When a server goes back to its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolMode {
    /// When the client leaves.
    Session,
    /// When the transaction is over.
    Transaction,
    /// After every statement; transaction blocks are refused.
    Statement,
}

/// `[pool]`: defaults of every pool.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pool {
    /// session, transaction or statement.
    pub mode: PoolMode,
    /// Servers kept open even when nobody asks.
    pub size_min: usize,
    /// Servers at most, for one user and database and node.
    pub size_default: usize,
    /// More servers for clients that waited `reserve_timeout`.
    pub reserve_size: usize,
    /// How long a client waits before the reserve is opened.
    #[serde(with = "duration")]
    pub reserve_timeout: Duration,
    /// Servers at most for one database over all users; 0: no limit.
    pub max_database_connections: usize,
    /// Servers at most for one user over all databases; 0: no limit.
    pub max_user_connections: usize,
    /// Clients at most for one database; 0: no limit.
    pub max_database_client_connections: usize,
    /// Clients at most for one user; 0: no limit.
    pub max_user_client_connections: usize,
    /// A client waits for a server at most so long; 0: for ever.
    #[serde(with = "duration")]
    pub wait_timeout: Duration,
    /// Clients that may wait for one pool at most; more are refused with 53300.
    pub max_waiting: usize,
    /// A server older than this is closed when it is next idle; 0: never.
    #[serde(with = "duration")]
    pub server_lifetime: Duration,
    /// A server idle for so long is closed (down to `size_min`); 0: never.
    #[serde(with = "duration")]
    pub server_idle_timeout: Duration,
    /// Time to connect and log in to a server.
    #[serde(with = "duration")]
    pub server_connect_timeout: Duration,
    /// After a failed login, wait so long before the next; doubled up to 16 times as long.
    #[serde(with = "duration")]
    pub server_login_retry: Duration,
    /// Statement that cleans a server whose session left state behind.
    pub server_reset_query: String,
    /// Prepared statements kept on one server at most.
    pub prepared_statements_max: usize,
}

/// `[admin]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Address of the admin HTTP, `host:port`; empty: none.
    pub listen: String,
    /// File that holds the bearer token; needed when `listen` is not a loopback address.
    pub token_file: String,
    /// Users that may do everything in the console database `pgherd`.
    pub users: Vec<String>,
    /// Users that may only look.
    pub stats_users: Vec<String>,
}

/// Shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// text or json.
    pub format: LogFormat,
    /// error, warn, info, debug or trace, or a filter such as `pgherd::pool=debug`.
    pub level: String,
    /// Log clients that come.
    pub connections: bool,
    /// Log clients that go.
    pub disconnections: bool,
    /// Log errors that pgherd itself sends to clients.
    pub pooler_errors: bool,
    /// Log totals so often; 0: never.
    #[serde(with = "duration")]
    pub stats_period: Duration,
}

/// What a node of the configuration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Takes writes.
    Primary,
    /// Follows a primary; reads only.
    Replica,
}

/// `[nodes.NAME]`: one PostgreSQL instance.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Host name, address, or an absolute path: the directory of a unix-domain socket.
    pub host: String,
    /// Port.
    #[serde(default = "defaults::port")]
    pub port: u16,
    /// primary or replica.
    #[serde(default = "defaults::role")]
    pub role: Role,
}

/// `[databases.NAME]`: what a client names, and where it is.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Names of nodes that hold it.
    pub nodes: Vec<String>,
    /// Which of them serve: the primary, or the replicas in turn (a read-only alias).
    #[serde(default = "defaults::role")]
    pub role: Role,
    /// Its name on the server; empty: the name the client used.
    #[serde(default)]
    pub dbname: String,
    /// Log in to servers as this user; empty: as the client.
    #[serde(default)]
    pub user: String,
    /// Password for `user`; better in `password_file`. Never serialised.
    #[serde(default, serialize_with = "redacted")]
    pub password: Option<SecretString>,
    /// File that holds the password for `user`.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Overrides `pool.mode`.
    #[serde(default)]
    pub mode: Option<PoolMode>,
    /// Overrides `pool.size_min`.
    #[serde(default)]
    pub size_min: Option<usize>,
    /// Overrides `pool.size_default`.
    #[serde(default)]
    pub size: Option<usize>,
    /// Overrides `pool.reserve_size`.
    #[serde(default)]
    pub reserve_size: Option<usize>,
    /// Overrides `pool.max_database_connections`.
    #[serde(default)]
    pub max_connections: Option<usize>,
    /// Overrides `pool.max_database_client_connections`.
    #[serde(default)]
    pub max_client_connections: Option<usize>,
    /// Overrides `pool.wait_timeout`.
    #[serde(default, with = "duration::option")]
    pub wait_timeout: Option<Duration>,
    /// Statement run on every new server.
    #[serde(default)]
    pub connect_query: String,
}

/// `[users.NAME]`: overrides for one user.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct User {
    /// Overrides the mode of pool and database.
    pub mode: Option<PoolMode>,
    /// Overrides the size of pool and database.
    pub size: Option<usize>,
    /// Overrides `pool.max_user_connections`.
    pub max_connections: Option<usize>,
    /// Overrides `pool.max_user_client_connections`.
    pub max_client_connections: Option<usize>,
}

impl Config {
    /// The database that a client names: its own key, or `"*"` where there is none.
    #[must_use]
    pub fn database(&self, name: &str) -> Option<(&str, &Database)> {
        let found = self.databases.get_key_value(name);
        let (key, database) = found.or_else(|| self.databases.get_key_value("*"))?;
        Some((key, database))
    }
}

/// Says that there is a password, never which.
fn redacted<S: Serializer>(
    password: &Option<SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    password.as_ref().map(|_| "***").serialize(serializer)
}

mod defaults {
    use super::Role;
    pub(super) fn port() -> u16 {
        5432
    }
    pub(super) fn role() -> Role {
        Role::Primary
    }
}

/// The configuration of an empty file; `config.example.toml` shows the same values.
#[allow(clippy::derivable_impls)] // the one place where the defaults stand, written out
impl Default for Config {
    fn default() -> Self {
        Config {
            proxy: Proxy::default(),
            tls: Tls::default(),
            auth: Auth::default(),
            pool: Pool::default(),
            admin: Admin::default(),
            log: Log::default(),
            nodes: BTreeMap::new(),
            databases: BTreeMap::new(),
            users: BTreeMap::new(),
        }
    }
}

impl Default for Proxy {
    fn default() -> Self {
        Proxy {
            listen: vec!["127.0.0.1:6432".into()],
            unix_socket_dir: String::new(),
            unix_socket_mode: "0777".into(),
            listen_backlog: 1024,
            proxy_protocol: false,
            proxy_protocol_from: Vec::new(),
            workers: 0,
            max_client_connections: 10_000,
            client_login_timeout: Duration::from_secs(60),
            client_idle_timeout: Duration::ZERO,
            idle_transaction_timeout: Duration::ZERO,
            query_timeout: Duration::ZERO,
            drain_timeout: Duration::from_secs(60),
            tcp_keepalive: Duration::from_secs(60),
            tcp_user_timeout: Duration::ZERO,
            pid_file: String::new(),
        }
    }
}

impl Default for TlsClient {
    fn default() -> Self {
        TlsClient {
            mode: ClientTlsMode::Disable,
            cert_file: String::new(),
            key_file: String::new(),
            ca_file: String::new(),
            client_certificate: ClientCertificate::None,
            min_version: "1.2".into(),
        }
    }
}

impl Default for TlsServer {
    fn default() -> Self {
        TlsServer {
            mode: ServerTlsMode::Prefer,
            ca_file: String::new(),
            cert_file: String::new(),
            key_file: String::new(),
        }
    }
}

impl Default for AuthRule {
    fn default() -> Self {
        AuthRule {
            connection: RuleConnection::Any,
            databases: vec!["all".into()],
            users: vec!["all".into()],
            addresses: vec!["all".into()],
            method: AuthMethod::ScramSha256,
            map: String::new(),
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Auth {
            rules: vec![AuthRule::default()],
            users_file: String::new(),
            query: String::new(),
            query_user: String::new(),
            query_database: String::new(),
            query_cache_ttl: Duration::from_secs(30),
            certificate_maps: BTreeMap::new(),
        }
    }
}

impl Default for Pool {
    fn default() -> Self {
        Pool {
            mode: PoolMode::Transaction,
            size_min: 0,
            size_default: 20,
            reserve_size: 0,
            reserve_timeout: Duration::from_secs(5),
            max_database_connections: 0,
            max_user_connections: 0,
            max_database_client_connections: 0,
            max_user_client_connections: 0,
            wait_timeout: Duration::from_secs(120),
            max_waiting: 10_000,
            server_lifetime: Duration::from_secs(3600),
            server_idle_timeout: Duration::from_secs(600),
            server_connect_timeout: Duration::from_secs(15),
            server_login_retry: Duration::from_secs(1),
            server_reset_query: "DISCARD ALL".into(),
            prepared_statements_max: 200,
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Admin {
            listen: "127.0.0.1:6433".into(),
            token_file: String::new(),
            users: Vec::new(),
            stats_users: Vec::new(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Log {
            format: LogFormat::Text,
            level: "info".into(),
            connections: false,
            disconnections: false,
            pooler_errors: true,
            stats_period: Duration::from_secs(60),
        }
    }
}
