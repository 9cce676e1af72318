//! PgBouncer as a peer; it refuses to run as root, so it runs as PostgreSQL's user.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ::pgherd::local::binaries::Account;
use ::pgherd::local::free_port;
use anyhow::{Context as _, Result};

use super::{Access, Kind, Needs, Peer, REFERENCE, Running, in_path, version};
use crate::site::{NAME, Site};

pub(super) fn find(site: &Site) -> Result<Peer> {
    let binary = match &site.args.pgbouncer {
        Some(path) => path.clone(),
        None => in_path("pgbouncer", &["/usr/sbin"]).context(
            "PgBouncer skipped: not installed (Debian, Ubuntu: apt-get install pgbouncer)",
        )?,
    };
    of(REFERENCE, &binary)
}

pub(super) fn of(name: &str, binary: &Path) -> Result<Peer> {
    let version = version(binary).with_context(|| format!("{name} skipped"))?;
    let kind = Kind::PgBouncer { binary: binary.to_path_buf() };
    Ok(Peer { name: name.to_owned(), version, kind })
}

/// `max_prepared_statements` came with 1.21 (its changelog).
pub(super) fn can_prepare(version: &str) -> bool {
    let number = version.rsplit(' ').next().unwrap_or_default();
    let mut parts = number.split('.').map(|p| p.parse::<u32>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    (major, minor) >= (1, 21)
}

pub(super) fn start(binary: &Path, name: &str, site: &Site, needs: Needs) -> Result<Running> {
    let dir = site.directory(name)?;
    let users = site.users_file(&dir)?;
    let port = free_port()?;
    let access = match needs.access {
        Access::Trust => "trust",
        Access::Scram => "scram-sha-256",
    };
    let prepared =
        if can_prepare(&version(binary)?) { "max_prepared_statements = 200\n" } else { "" };
    let tls = match needs.tls {
        true => {
            let files = site.tls.write(site, &dir)?;
            format!(
                "client_tls_sslmode = require\nclient_tls_cert_file = {}\nclient_tls_key_file = {}\n",
                files.cert.display(),
                files.key.display()
            )
        }
        false => String::new(),
    };
    let text = format!(
        "[databases]\n{NAME} = host=127.0.0.1 port={server}\n\
         [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
         auth_type = {access}\nauth_file = {users}\n\
         pool_mode = transaction\ndefault_pool_size = {pool}\nmax_client_conn = {clients}\n{prepared}{tls}\
         server_tls_sslmode = disable\nignore_startup_parameters = extra_float_digits\n\
         log_connections = 0\nlog_disconnections = 0\nlog_pooler_errors = 0\nstats_period = 3600\n",
        server = site.postgres().port(),
        users = users.display(),
        pool = site.args.pool_size,
        clients = needs.clients + 100,
    );
    let config = dir.join("pgbouncer.ini");
    site.write(&config, &text)?;
    let mut command = Command::new(binary);
    command.arg("-q").arg(&config);
    spawn(command, site, config, port)
}

/// Starts `command` as PostgreSQL's user, in the directory of its configuration; its output goes into a file there.
pub(super) fn spawn(
    mut command: Command,
    site: &Site,
    config: PathBuf,
    port: u16,
) -> Result<Running> {
    let dir = config.parent().context("a configuration has a directory")?;
    let log = dir.join("log");
    let file = File::create(&log).with_context(|| format!("create {}", log.display()))?;
    command.current_dir(dir).stdin(Stdio::null()).process_group(0);
    command.stdout(file.try_clone().context("duplicate a file")?).stderr(file);
    if let Account::Postgres { uid, gid } = site.binaries().account() {
        command.uid(uid).gid(gid);
    }
    let program = command.get_program().to_owned();
    let child = command.spawn().with_context(|| format!("start {}", program.display()))?;
    Running::own(child, port, config, &log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prepared_statements_need_1_21() {
        let check = |version, expect| assert_eq!(can_prepare(version), expect, "{version}");
        check("PgBouncer 1.18.0", false);
        check("PgBouncer 1.20.1", false);
        check("PgBouncer 1.21.0", true);
        check("PgBouncer 1.25.2", true);
        check("PgBouncer 2.0.0", true);
        check("something else", false);
    }
}
