//! HAProxy as a peer: a relay of bytes. It pools nothing and knows nothing of the protocol, so each client has a
//! server of its own, and it takes part where that is enough.

use std::path::Path;
use std::process::Command;

use ::pgherd::local::free_port;
use anyhow::{Context as _, Result};

use super::{Kind, Needs, Peer, Running, in_path, pgbouncer, said};
use crate::site::Site;

pub(super) fn find(site: &Site) -> Result<Peer> {
    let binary = match &site.args.haproxy {
        Some(path) => path.clone(),
        None => in_path("haproxy", &["/usr/sbin"])
            .context("HAProxy skipped: not installed (Debian, Ubuntu: apt-get install haproxy)")?,
    };
    // "HAProxy version 2.6.12-1+deb12u4 2026/01/01 - https://haproxy.org/"
    let text = said(&binary, "-v").context("HAProxy skipped")?;
    let version = text.split(" - ").next().unwrap_or_default().to_owned();
    Ok(Peer { name: "haproxy".into(), version, kind: Kind::HaProxy { binary } })
}

pub(super) fn start(binary: &Path, site: &Site, needs: Needs) -> Result<Running> {
    let dir = site.directory("haproxy")?;
    let port = free_port()?;
    let text = format!(
        "global\n  maxconn {clients}\n  nbthread 1\n\
         defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1h\n  timeout server 1h\n\
         listen postgres\n  bind 127.0.0.1:{port}\n  server one 127.0.0.1:{server}\n",
        clients = needs.clients + 100,
        server = site.postgres().port(),
    );
    let config = dir.join("haproxy.cfg");
    site.write(&config, &text)?;
    let mut command = Command::new(binary);
    command.arg("-db").arg("-f").arg(&config); // In the foreground.
    pgbouncer::spawn(command, site, config, port)
}
