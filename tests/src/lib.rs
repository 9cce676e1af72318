//! The harness of the end-to-end tests: a herd, pgherd before it, and clients of every kind.
//!
//! Each test has a herd of its own (test runners give each test a process of its own): initialised once and
//! copied from then on, it starts in a second. Nothing here asserts on time.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use pgherd::local::{Binaries, Herd, Options, Pgherd};
use tokio_postgres::NoTls;

pub mod ask;
mod batch;
mod certs;
mod frames;
mod raw;
pub mod soak;

pub use batch::Batch;
pub use certs::{Authority, Pair};
pub use frames::{Script, brief};
pub use raw::{Frame, RawClient};

/// The database that every fixture has; clients name it `app`, and `app_ro` on the replicas.
pub const DATABASE: &str = "app";
/// The superuser.
pub const USER: &str = "postgres";

/// A running herd with pgherd before it; everything ends when it is dropped.
#[derive(Debug)]
pub struct Fixture {
    // Dropped first, before the servers it is connected to.
    /// The proxy.
    pub pgherd: Pgherd,
    /// The servers.
    pub herd: Herd,
}

/// What fixture is wanted.
#[derive(Debug, Clone)]
pub struct Builder {
    replicas: usize,
    options: Options,
    config: String,
    setup: String,
}

impl Fixture {
    /// One primary, everyone trusted, pgherd's defaults.
    #[must_use]
    pub fn builder() -> Builder {
        let options = Options::fast().template(templates());
        Builder { replicas: 0, options, config: String::new(), setup: String::new() }
    }

    /// A connection string for tokio-postgres and libpq.
    #[must_use]
    pub fn dsn(&self, user: &str, database: &str) -> String {
        let address = self.pgherd.address();
        format!("host={} port={} user={user} dbname={database}", address.ip(), address.port())
    }

    /// The same as a URL.
    #[must_use]
    pub fn url(&self, user: &str, database: &str) -> String {
        format!("postgresql://{user}@{}/{database}", self.pgherd.address())
    }

    /// A client through pgherd. Not cancel safe.
    pub async fn connect(
        &self,
        user: &str,
        database: &str,
    ) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let (client, connection) =
            tokio_postgres::connect(&self.dsn(user, database), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// A client of [`DATABASE`] as [`USER`]. Not cancel safe.
    pub async fn client(&self) -> tokio_postgres::Client {
        match self.connect(USER, DATABASE).await {
            Ok(client) => client,
            Err(error) => self.fail(&format!("can't connect: {error:?}")),
        }
    }

    /// A client that speaks frames, logged in. Not cancel safe.
    pub async fn raw(&self) -> anyhow::Result<RawClient> {
        let mut client = RawClient::connect(self.pgherd.address()).await?;
        client.login(&[("user", USER), ("database", DATABASE)]).await?;
        Ok(client)
    }

    /// A libpq program (`psql`, `pgbench`) that connects to [`DATABASE`] through pgherd.
    #[must_use]
    pub fn libpq(&self, program: &str) -> Command {
        let address = self.pgherd.address();
        let mut command = self.binaries().client(program);
        command
            .env("PGHOST", address.ip().to_string())
            .env("PGPORT", address.port().to_string())
            .env("PGUSER", USER)
            .env("PGDATABASE", DATABASE);
        command
    }

    /// A program that is told its connection as one string of libpq's; see [`Fixture::psql`].
    #[must_use]
    pub fn psql_at(&self, dsn: &str, sql: &str) -> Command {
        let mut command = self.binaries().client("psql");
        command.args(["-XAtq", "-d", dsn, "-c", sql]);
        // ~/.postgresql and ~/.pgpass are not the test's.
        command.env("HOME", "/nonexistent").stdin(std::process::Stdio::null());
        command
    }

    /// What psql prints for `sql` when it connects by [`Fixture::dsn`] with `more` behind it; what it complains
    /// of is the error.
    pub fn psql(
        &self,
        user: &str,
        database: &str,
        more: &str,
        sql: &str,
    ) -> Result<String, String> {
        printed(&mut self.psql_at(&format!("{} {more}", self.dsn(user, database)), sql))
    }

    /// Writes `text` over the configuration file as [`Builder::config`] would, without telling pgherd.
    pub fn write_config(&self, text: &str) {
        let path = self.pgherd.config_path();
        let written = || {
            let mut config: toml::Table = std::fs::read_to_string(&path)?.parse()?;
            merge(&mut config, text.parse()?);
            // At once: pgherd watches the file.
            let new = path.with_extension("new");
            std::fs::write(&new, toml::to_string(&config)?)?;
            Ok::<_, anyhow::Error>(std::fs::rename(&new, &path)?)
        };
        if let Err(error) = written() {
            self.fail(&format!("{}: {error}", path.display()));
        }
    }

    /// [`Fixture::write_config`], then RELOAD in the console as [`USER`], who must be in `admin.users`.
    pub fn reconfigure(&self, text: &str) {
        self.write_config(text);
        if let Err(error) = self.psql(USER, "pgherd", "", "RELOAD") {
            self.fail(&error);
        }
    }

    /// The programs of PostgreSQL.
    #[must_use]
    pub fn binaries(&self) -> &Binaries {
        self.herd.primary.binaries()
    }

    /// Runs `sql` on the primary itself, not through pgherd; returns the first column as text.
    pub fn direct(&self, sql: &str) -> Vec<String> {
        match self.herd.primary.query(DATABASE, sql) {
            Ok(rows) => rows.into_iter().filter_map(|r| r.into_iter().next().flatten()).collect(),
            Err(error) => self.fail(&error.to_string()),
        }
    }

    /// Waits until the first value of `sql`, asked of the primary itself, is true.
    pub fn wait_until(&self, sql: &str) {
        if let Err(error) = self.herd.primary.wait_until(DATABASE, sql) {
            self.fail(&error.to_string());
        }
    }

    /// Waits until every server is back in its pool and no client waits for one.
    pub fn wait_quiet(&self) {
        let end = Instant::now() + PATIENCE;
        let mut last = String::new();
        while Instant::now() < end {
            last = self.pgherd.get("/api/v1/pools").unwrap_or_default();
            let pools: serde_json::Value = serde_json::from_str(&last).unwrap_or_default();
            let pools =
                pools.get("pools").unwrap_or(&pools).as_array().cloned().unwrap_or_default();
            let zero = |pool: &serde_json::Value, key: &str| pool.get(key) == Some(&0.into());
            let quiet = |pool| zero(pool, "servers_active") && zero(pool, "clients_waiting");
            if !pools.is_empty() && pools.iter().all(quiet) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.fail(&format!("servers do not come back: {last}"));
    }

    /// A test's failure with pgherd's log, which usually tells why.
    #[allow(clippy::panic)] // Only tests call this.
    pub fn fail(&self, what: &str) -> ! {
        panic!("{what}\n--- pgherd's log ---\n{}", self.pgherd.log());
    }
}

impl Builder {
    /// Streaming replicas.
    #[must_use]
    pub fn replicas(mut self, count: usize) -> Builder {
        self.replicas = count;
        self
    }

    /// A line of postgresql.conf.
    #[must_use]
    pub fn postgres(mut self, name: &str, value: &str) -> Builder {
        self.options = self.options.set(name, value);
        self
    }

    /// A line of pg_hba.conf.
    #[must_use]
    pub fn hba(mut self, line: &str) -> Builder {
        self.options = self.options.hba(line);
        self
    }

    /// Configuration (TOML) over the defaults: tables are merged key by key, the rest replaces.
    #[must_use]
    pub fn config(mut self, text: &str) -> Builder {
        self.config = text.into();
        self
    }

    /// SQL that runs on the primary before pgherd starts.
    #[must_use]
    pub fn setup(mut self, sql: &str) -> Builder {
        self.setup = sql.into();
        self
    }

    /// Starts all of it. Not cancel safe.
    pub async fn start(self) -> Fixture {
        let started = tokio::task::spawn_blocking(move || self.start_blocking()).await;
        #[allow(clippy::panic)] // Only tests call this.
        match started {
            Ok(Ok(fixture)) => fixture,
            Ok(Err(error)) => panic!("the fixture did not start: {error:#}"),
            Err(error) => panic!("the fixture did not start: {error}"),
        }
    }

    fn start_blocking(self) -> anyhow::Result<Fixture> {
        let mut config: toml::Table = AUTH.parse()?;
        let herd = Herd::builder().replicas(self.replicas).options(self.options).start()?;
        herd.primary.query("postgres", &format!("CREATE DATABASE {DATABASE}"))?;
        if !self.setup.is_empty() {
            herd.primary.query(DATABASE, &self.setup)?;
        }
        herd.wait_caught_up()?;
        merge(&mut config, places(&herd).parse()?);
        merge(&mut config, self.config.parse().context("the test's configuration")?);
        let pgherd = Pgherd::start(&binary()?, herd.home().path(), &toml::to_string(&config)?)?;
        Ok(Fixture { pgherd, herd })
    }
}

/// What `command` prints on stdout, or on stderr when it fails.
pub fn printed(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|e| e.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}
/// Whatever takes so long does not happen any more.
const PATIENCE: Duration = Duration::from_secs(30);

const AUTH: &str = "[[auth.rules]]\nmethod = \"trust\"\n";

/// Nodes and databases of a herd.
fn places(herd: &Herd) -> String {
    let mut text = format!("[databases.{DATABASE}]\nnodes = [\"primary\"]\n");
    let replicas: Vec<_> = herd.replicas.iter().map(|r| format!("\"{}\"", r.name())).collect();
    if !replicas.is_empty() {
        text.push_str(&format!(
            "[databases.{DATABASE}_ro]\nnodes = [{}]\nrole = \"replica\"\ndbname = \"{DATABASE}\"\n",
            replicas.join(", ")
        ));
    }
    for node in herd.nodes() {
        let role = if node.name() == "primary" { "primary" } else { "replica" };
        text.push_str(&format!(
            "[nodes.{}]\nhost = \"127.0.0.1\"\nport = {}\nrole = \"{role}\"\n",
            node.name(),
            node.port()
        ));
    }
    text
}

fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// The pgherd that was built together with the tests; they lie in `<target>/<profile>/deps`.
pub fn binary() -> anyhow::Result<PathBuf> {
    let path = profile_dir().join("pgherd-e2e");
    anyhow::ensure!(
        path.is_file(),
        "{} is missing; cargo builds it with the tests",
        path.display()
    );
    Ok(path)
}

/// A directory for what tests keep from run to run.
#[must_use]
pub fn cache(name: &str) -> PathBuf {
    profile_dir().join("pgherd-tests").join(name)
}

fn templates() -> PathBuf {
    cache("templates")
}

fn profile_dir() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    let dir = exe.parent().unwrap_or(&exe);
    if dir.ends_with("deps") { dir.parent().unwrap_or(dir).into() } else { dir.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_merged_and_values_replaced() {
        let mut table: toml::Table = "[pool]\nmode = \"session\"\nsize_min = 1".parse().unwrap();
        merge(&mut table, "[pool]\nsize_min = 2\n[log]\nlevel = \"debug\"".parse().unwrap());
        let text = toml::to_string(&table).unwrap();
        assert_eq!(text, "[log]\nlevel = \"debug\"\n\n[pool]\nmode = \"session\"\nsize_min = 2\n");
    }
}
