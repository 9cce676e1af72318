//! What is compared: the direct connection, pgherd, PgBouncer, HAProxy, and what `--peer` names.
//!
//! Every proxy is a child process with the same job: transaction pooling, the same pool size, the same
//! clients at most, no query log. A peer that is not installed is skipped with a line that says so.

mod custom;
mod haproxy;
mod pgbouncer;
mod pgherd;

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use ::pgherd::local::keeper::Keeper;
use anyhow::{Context as _, Result, bail};
use rustix::thread::CpuSet;

use crate::measure::process::Counters;
use crate::site::Site;

/// The peer that ratios are about.
pub const REFERENCE: &str = "pgbouncer";

/// Clients that a peer without pools can serve: the instance allows 200 connections, and some are ours.
const UNPOOLED_CLIENTS_MAX: usize = 150;

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
    HaProxy { binary: PathBuf },
    Custom { binary: PathBuf, template: custom::Template },
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
    /// Whether clients ask for TLS.
    pub tls: bool,
    /// Whether clients use protocol-level prepared statements.
    pub prepared: bool,
    /// Clients at once.
    pub clients: usize,
    /// Threads; otherwise as many as the cores where it is started.
    pub workers: Option<u32>,
}

/// A peer that accepts connections; it ends when this is dropped.
#[derive(Debug)]
pub struct Running {
    /// Where clients connect.
    pub address: SocketAddr,
    /// The proxy's process; the direct connection has none.
    pub pid: Option<u32>,
    /// What it was told.
    configuration: PathBuf,
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
    /// The direct connection, pgherd, PgBouncer, HAProxy and `--peer`s; a line for each that is missing.
    pub fn find(site: &Site) -> Result<(Vec<Peer>, Vec<String>)> {
        let direct = Peer {
            name: "direct".into(),
            version: format!("PostgreSQL {}", site.version()?),
            kind: Kind::Direct,
        };
        let mut candidates =
            vec![Ok(direct), pgherd::find(site), pgbouncer::find(site), haproxy::find(site)];
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

    /// Starts it on the proxy's core and waits until it accepts.
    pub fn start(&self, site: &Site, needs: Needs) -> Result<Running> {
        self.start_on(&site.cores.proxy_set(), site, needs)
    }

    /// Starts it on these cores and waits until it accepts.
    pub fn start_on(&self, cores: &CpuSet, site: &Site, needs: Needs) -> Result<Running> {
        let failed = || format!("start of {}", self.name);
        site.cores
            .on(cores, || match &self.kind {
                Kind::Direct => Ok(Running {
                    address: ([127, 0, 0, 1], site.postgres().port()).into(),
                    pid: None,
                    configuration: site.postgres().data_dir().join("postgresql.conf"),
                    _process: None,
                }),
                Kind::Pgherd { binary } => pgherd::start(binary, site, needs),
                Kind::PgBouncer { binary } => pgbouncer::start(binary, &self.name, site, needs),
                Kind::HaProxy { binary } => haproxy::start(binary, site, needs),
                Kind::Custom { binary, template } => {
                    custom::start(binary, template, &self.name, site, needs)
                }
            })
            .with_context(failed)
    }

    /// What it is told for a plain load, with the directory of the run left out.
    pub fn configuration(&self, site: &Site) -> Result<String> {
        let needs = Needs {
            access: Access::Trust,
            tls: false,
            prepared: false,
            clients: UNPOOLED_CLIENTS_MAX,
            workers: None,
        };
        let running = self.start(site, needs)?;
        let text = std::fs::read_to_string(&running.configuration)
            .with_context(|| format!("read {}", running.configuration.display()))?;
        Ok(text.replace(&site.home().display().to_string(), "…"))
    }

    /// Whether it has a process whose cost can be told.
    #[must_use]
    pub fn is_proxy(&self) -> bool {
        !matches!(self.kind, Kind::Direct)
    }

    /// Whether it is the one that is built here.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        matches!(self.kind, Kind::Pgherd { .. })
    }

    /// What of `needs` it can't do.
    #[must_use]
    pub fn lacks(&self, needs: &Needs) -> Option<String> {
        let asks = needs.access == Access::Scram;
        let why = match &self.kind {
            Kind::Direct if asks || needs.tls => "PostgreSQL trusts here, and without TLS",
            Kind::HaProxy { .. } if asks || needs.tls => {
                "relays bytes: it neither asks for passwords nor ends PostgreSQL's TLS"
            }
            Kind::Direct | Kind::HaProxy { .. } if needs.clients > UNPOOLED_CLIENTS_MAX => {
                "does not pool, and there are not so many servers"
            }
            Kind::PgBouncer { .. } if needs.prepared && !pgbouncer::can_prepare(&self.version) => {
                return Some(format!(
                    "{} has no prepared statements in transaction mode",
                    self.version
                ));
            }
            Kind::Custom { template, .. } if asks && !template.can_ask() => {
                "its configuration has no {auth}"
            }
            Kind::Custom { template, .. } if needs.tls && !template.can_tls() => {
                "its configuration has no {cert_file}"
            }
            _ => return None,
        };
        Some(why.to_owned())
    }
}

impl Running {
    /// Whether it still lives.
    pub fn check(&self) -> Result<()> {
        self.pid.map_or(Ok(()), |pid| Counters::read(pid).map(drop).context("the proxy ended"))
    }

    fn own(child: Child, port: u16, configuration: PathBuf, log: &Path) -> Result<Running> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
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
        let process = Some(Process::Other { _it: owned });
        Ok(Running { address, pid: Some(pid), configuration, _process: process })
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
    said(binary, "--version")
}

/// The first line that `binary argument` says.
fn said(binary: &Path, argument: &str) -> Result<String> {
    let output = Command::new(binary)
        .arg(argument)
        .output()
        .with_context(|| format!("run {} {argument}", binary.display()))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_cannot_do_is_known_beforehand() {
        let plain = Needs {
            access: Access::Trust,
            tls: false,
            prepared: false,
            clients: 64,
            workers: None,
        };
        let scram = Needs { access: Access::Scram, ..plain };
        let tls = Needs { tls: true, ..plain };
        let prepared = Needs { prepared: true, ..plain };
        let many = Needs { clients: 10_000, ..plain };
        let peer = |kind, version: &str| Peer { name: "it".into(), version: version.into(), kind };
        let check = |peer: &Peer, needs: Needs, able: bool| {
            assert_eq!(peer.lacks(&needs).is_none(), able, "{peer:?} {needs:?}");
        };
        let binary = PathBuf::new;
        let all = [plain, scram, tls, prepared, many];
        for (kind, version, able) in [
            (Kind::Direct, "", [true, false, false, true, false]),
            (Kind::HaProxy { binary: binary() }, "", [true, false, false, true, false]),
            (Kind::Pgherd { binary: binary() }, "", [true; 5]),
            (
                Kind::PgBouncer { binary: binary() },
                "PgBouncer 1.18.0",
                [true, true, true, false, true],
            ),
            (Kind::PgBouncer { binary: binary() }, "PgBouncer 1.25.2", [true; 5]),
        ] {
            let peer = peer(kind, version);
            all.into_iter().zip(able).for_each(|(needs, able)| check(&peer, needs, able));
        }
    }
}
