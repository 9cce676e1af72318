//! What is compared: the direct connection, pgherd, PgBouncer, and what `--peer` names.
//!
//! Every proxy is a child process with the same job: transaction pooling, the same pool size, the same
//! clients at most, no TLS, no query log. A peer that is not installed is skipped with a line that says so.

mod custom;
mod pgbouncer;
mod pgherd;

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use ::pgherd::local::keeper::Keeper;
use anyhow::{Context as _, Result, bail};

use crate::site::Site;

/// The peer that ratios are about.
pub const REFERENCE: &str = "pgbouncer";

/// Time for a proxy to accept its first connection.
const START_SECONDS_MAX: u64 = 10;

/// One of the things compared.
#[derive(Debug, Clone)]
pub struct Peer {
    /// In tables.
    pub name: String,
    /// What it says of itself.
    pub version: String,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Direct,
    Pgherd { binary: PathBuf },
    PgBouncer { binary: PathBuf },
    Custom { binary: PathBuf, template: PathBuf },
}

/// How clients prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Not at all.
    Trust,
    /// SCRAM-SHA-256.
    Scram,
}

/// What a sample needs of its proxy.
#[derive(Debug, Clone, Copy)]
pub struct Needs {
    /// How clients prove who they are.
    pub access: Access,
    /// Clients at once.
    pub clients: usize,
}

/// A peer that accepts connections; it ends when this is dropped.
#[derive(Debug)]
pub struct Running {
    /// Where clients connect.
    pub address: SocketAddr,
    /// The proxy's process; the direct connection has none.
    pub pid: Option<u32>,
    _process: Option<Process>,
}

#[derive(Debug)]
enum Process {
    Pgherd { _it: Box<::pgherd::local::Pgherd> },
    Other { _it: Owned },
}

/// A child process that ends with us.
#[derive(Debug)]
struct Owned {
    child: Child,
    keeper: Option<Keeper>,
}

impl Peer {
    /// The direct connection, pgherd, PgBouncer and `--peer`s; a line for each that is missing.
    pub fn find(site: &Site) -> Result<(Vec<Peer>, Vec<String>)> {
        let direct = Peer {
            name: "direct".into(),
            version: format!("PostgreSQL {}", site.version()?),
            kind: Kind::Direct,
        };
        let mut candidates = vec![Ok(direct), pgherd::find(site), pgbouncer::find(site)];
        candidates.extend(site.args.peer.iter().map(|text| custom::find(text)));
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for candidate in candidates {
            match candidate {
                Ok(peer) if wanted(&site.args.only, &peer.name) => found.push(peer),
                Ok(_) => {}
                Err(error) => missing.push(format!("{error:#}")),
            }
        }
        if let Some(name) = site.args.only.iter().find(|n| !found.iter().any(|p| p.name == **n)) {
            bail!("there is no peer \"{name}\" here; {}", missing.join("; "));
        }
        Ok((found, missing))
    }

    /// Starts it on its core and waits until it accepts.
    pub fn start(&self, site: &Site, needs: Needs) -> Result<Running> {
        let failed = || format!("start of {}", self.name);
        site.cores
            .on_proxy_core(|| match &self.kind {
                Kind::Direct => Ok(Running {
                    address: ([127, 0, 0, 1], site.postgres().port()).into(),
                    pid: None,
                    _process: None,
                }),
                Kind::Pgherd { binary } => pgherd::start(binary, site, needs),
                Kind::PgBouncer { binary } => pgbouncer::start(binary, &self.name, site, needs),
                Kind::Custom { binary, template } => {
                    custom::start(binary, template, &self.name, site, needs)
                }
            })
            .with_context(failed)
    }

    /// Whether it has a process whose cost can be told.
    #[must_use]
    pub fn is_proxy(&self) -> bool {
        !matches!(self.kind, Kind::Direct)
    }

    /// Whether protocol-level prepared statements work in transaction mode.
    #[must_use]
    pub fn can_prepare(&self) -> bool {
        match &self.kind {
            Kind::PgBouncer { .. } => pgbouncer::can_prepare(&self.version),
            _ => true,
        }
    }
}

impl Running {
    fn own(child: Child, address: SocketAddr, log: &Path) -> Result<Running> {
        let pid = child.id();
        let keeper = Some(Keeper::process(&child, None).context("start /bin/sh")?);
        let mut owned = Owned { child, keeper };
        let end = Instant::now() + Duration::from_secs(START_SECONDS_MAX);
        while TcpStream::connect(address).is_err() {
            let ended = owned.child.try_wait().context("wait for a child")?;
            if ended.is_some() || Instant::now() > end {
                let log = std::fs::read_to_string(log).unwrap_or_default();
                bail!("it accepts no connections\n{}", log.trim());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Running { address, pid: Some(pid), _process: Some(Process::Other { _it: owned }) })
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.child.kill(); // It fails only when the child has ended.
        let _ = self.child.wait();
        if let Some(keeper) = self.keeper.take() {
            keeper.release();
        }
    }
}

fn wanted(only: &[String], name: &str) -> bool {
    only.is_empty() || only.iter().any(|o| o == name)
}

/// The first line that `binary --version` says.
fn version(binary: &Path) -> Result<String> {
    let output = Command::new(binary)
        .arg("--version")
        .output()
        .with_context(|| format!("run {} --version", binary.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// `name` in PATH, or in one of the `also`.
pub fn in_path(name: &str, also: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(also.iter().map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}
