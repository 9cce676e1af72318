//! pgherd as a peer: the binary that was built beside this program, unless another is named.

use std::fmt::Write as _;
use std::path::Path;

use ::pgherd::local;
use anyhow::{Context as _, Result, bail};

use super::{Access, Kind, Needs, Peer, Process, Running, version};
use crate::site::{NAME, Site};

pub(super) fn find(site: &Site) -> Result<Peer> {
    let binary = match &site.args.pgherd {
        Some(path) => path.clone(),
        None => std::env::current_exe().context("find this program")?.with_file_name("pgherd"),
    };
    if !binary.is_file() {
        bail!("pgherd skipped: no {} (cargo build --release -p pgherd)", binary.display());
    }
    let version = version(&binary)?;
    Ok(Peer { name: "pgherd".into(), version, kind: Kind::Pgherd { binary } })
}

pub(super) fn start(binary: &Path, site: &Site, needs: Needs) -> Result<Running> {
    let dir = site.directory("pgherd")?;
    let users = site.users_file(&dir)?;
    let method = match needs.access {
        Access::Trust => "trust",
        Access::Scram => "scram-sha-256",
    };
    let workers = needs.workers.unwrap_or(0); // 0: one a core, and it sees only those that are its own.
    let mut text = String::new(); // It takes everything: writing to it can't fail.
    if needs.tls {
        let files = site.tls.write(site, &dir)?;
        let _ = write!(
            text,
            "[tls.client]\nmode = \"require\"\ncert_file = '{}'\nkey_file = '{}'\n",
            files.cert.display(),
            files.key.display()
        );
    }
    let _ = write!(
        text,
        "[proxy]\nworkers = {workers}\nmax_client_connections = {clients}\n\
         [tls.server]\nmode = \"disable\"\n\
         [auth]\nusers_file = '{users}'\n[[auth.rules]]\nmethod = \"{method}\"\n\
         [pool]\nmode = \"transaction\"\nsize_default = {pool}\nmax_waiting = {clients}\n\
         [log]\nlevel = \"error\"\nstats_period = \"0s\"\n\
         [nodes.one]\nhost = \"127.0.0.1\"\nport = {port}\n\
         [databases.{NAME}]\nnodes = [\"one\"]\n",
        clients = needs.clients + 100,
        users = users.display(),
        pool = site.args.pool_size,
        port = site.postgres().port(),
    );
    let it = Box::new(local::Pgherd::start(binary, &dir, &text)?);
    let (address, pid) = (it.address(), it.pid());
    let configuration = dir.join("pgherd.toml"); // as `local::Pgherd` calls it
    Ok(Running { address, pid, configuration, _process: Some(Process::Pgherd { _it: it }) })
}
