//! The one PostgreSQL under all peers, its data, and the directory of everything.
//!
//! Durability is off: the loads read, and what they write nobody will miss.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use pgherd::local::binaries::Account;
use pgherd::local::{Binaries, Herd, Options, Postgres};
use rand::RngExt as _;
use rustix::process::Pid;

use crate::args::Args;
use crate::machine::Cores;
use crate::measure::count::Tool;
use crate::tls::Tls;

/// The user and the database of every load.
pub const NAME: &str = "bench";

/// pgbench's scale: a million accounts, about 150 MB, all of it in memory.
const SCALE: u32 = 10;
const SCALE_QUICK: u32 = 1;

/// Where samples are taken.
#[derive(Debug)]
pub struct Site {
    /// Who runs where.
    pub cores: Cores,
    /// What was asked.
    pub args: Args,
    /// What samples can be counted with beside the clock.
    pub tool: Option<Tool>,
    /// Certificates.
    pub tls: Arc<Tls>,
    /// The password of [`NAME`], for scenarios that ask for it.
    pub password: String,
    verifier: String,
    scale: u32,
    herd: Herd,
}

impl Site {
    /// Starts PostgreSQL and fills it.
    pub fn start(args: Args, cores: Cores) -> Result<Site> {
        let options = Options::fast()
            .set("shared_buffers", "256MB")
            .set("jit", "off")
            // Its work would land in whichever sample comes by.
            .set("autovacuum", "off")
            .set("max_wal_size", "4GB")
            // Clients come from several loopback addresses, so that ports suffice.
            .hba("host all all 127.0.0.0/8 trust");
        let herd = Herd::builder().options(options).start()?;
        let password: String =
            rand::rng().sample_iter(rand::distr::Alphanumeric).take(20).map(char::from).collect();
        let primary = &herd.primary;
        primary.query("postgres", &format!("CREATE ROLE {NAME} LOGIN PASSWORD '{password}'"))?;
        primary.query("postgres", &format!("CREATE DATABASE {NAME} OWNER {NAME}"))?;
        let asked = format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{NAME}'");
        let rows = primary.query("postgres", &asked)?;
        let verifier = rows.into_iter().flatten().flatten().next().unwrap_or_default();
        let scale = if args.quick { SCALE_QUICK } else { SCALE };
        let tls = Arc::new(Tls::new()?);
        let mut site = Site { cores, args, tool: None, tls, password, verifier, scale, herd };
        site.fill()?;
        site.tool = Tool::find(&site.directory("tools")?);
        Ok(site)
    }

    fn fill(&self) -> Result<()> {
        let mut pgbench = self.binaries().client("pgbench");
        pgbench.arg("-h").arg(self.postgres().socket_dir());
        pgbench.args(["-p", &self.postgres().port().to_string(), "-U", NAME]);
        pgbench.args(["-i", "-q", "-s", &self.scale.to_string(), NAME]);
        let output = pgbench.output().context("start pgbench")?;
        if !output.status.success() {
            bail!("pgbench -i failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let table =
            format!("CREATE UNLOGGED TABLE sink (line text); ALTER TABLE sink OWNER TO {NAME}");
        self.postgres().query(NAME, &table)?;
        self.postgres().query(NAME, "CHECKPOINT")?;
        Ok(())
    }

    /// The process whose children the servers are.
    pub fn postmaster(&self) -> Result<Pid> {
        let path = self.postgres().data_dir().join("postmaster.pid");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let pid = text.lines().next().and_then(|line| line.parse().ok()).and_then(Pid::from_raw);
        pid.with_context(|| format!("no process in {}", path.display()))
    }

    /// Undoes what a writing load left: dead rows, since autovacuum is off, and a history that grows.
    pub fn tidy(&self) -> Result<()> {
        for sql in ["TRUNCATE pgbench_history", "VACUUM pgbench_branches", "VACUUM pgbench_tellers"]
        {
            self.postgres().query(NAME, sql)?;
        }
        Ok(())
    }

    /// The instance.
    #[must_use]
    pub fn postgres(&self) -> &Postgres {
        &self.herd.primary
    }

    /// PostgreSQL's programs.
    #[must_use]
    pub fn binaries(&self) -> &Binaries {
        self.herd.primary.binaries()
    }

    /// Rows in pgbench_accounts.
    #[must_use]
    pub fn accounts(&self) -> u64 {
        u64::from(self.scale) * 100_000
    }

    /// `15.4`, say.
    pub fn version(&self) -> Result<String> {
        let rows = self.postgres().query("postgres", "SHOW server_version")?;
        Ok(rows.into_iter().flatten().flatten().next().unwrap_or_default())
    }

    /// The directory of the run, which is gone afterwards.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.herd.home().path()
    }

    /// A fresh, empty directory that every process here may use.
    pub fn directory(&self, name: &str) -> Result<PathBuf> {
        let dir = self.home().join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
        }
        fs::create_dir(&dir).with_context(|| format!("create {}", dir.display()))?;
        self.give(&dir)?;
        Ok(dir)
    }

    /// Writes a file that belongs to whom the servers run as, closed to everyone else.
    pub fn write(&self, path: &Path, text: &str) -> Result<()> {
        fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))
            .with_context(|| format!("chmod {}", path.display()))?;
        self.give(path)
    }

    /// The file with [`NAME`] and its verifier, in the format that PgBouncer and pgherd share.
    pub fn users_file(&self, dir: &Path) -> Result<PathBuf> {
        let path = dir.join("users.txt");
        self.write(&path, &format!("\"{NAME}\" \"{}\"\n", self.verifier))?;
        Ok(path)
    }

    fn give(&self, path: &Path) -> Result<()> {
        match self.binaries().account() {
            Account::Ours => Ok(()),
            Account::Postgres { uid, gid } => chown(path, Some(uid), Some(gid))
                .with_context(|| format!("chown {}", path.display())),
        }
    }
}
