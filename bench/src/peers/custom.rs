//! `--peer`: another version of PgBouncer, or any program with a configuration file.

use std::path::{Path, PathBuf};
use std::process::Command;

use ::pgherd::local::free_port;
use anyhow::{Context as _, Result, bail};

use super::{Kind, Needs, Peer, Running, pgbouncer, version};
use crate::site::{NAME, Site};

pub(super) fn find(text: &str) -> Result<Peer> {
    let (name, rest) = text.split_once('=').context("--peer wants NAME=PATH[:CONFIG]")?;
    let Some((binary, template)) = rest.split_once(':') else {
        return pgbouncer::of(name, Path::new(rest));
    };
    let (binary, template) = (PathBuf::from(binary), PathBuf::from(template));
    for file in [&binary, &template] {
        if !file.is_file() {
            bail!("{name} skipped: no {}", file.display());
        }
    }
    let version = version(&binary)?;
    Ok(Peer { name: name.to_owned(), version, kind: Kind::Custom { binary, template } })
}

pub(super) fn start(
    binary: &Path,
    template: &Path,
    name: &str,
    site: &Site,
    needs: Needs,
) -> Result<Running> {
    let dir = site.directory(name)?;
    let users = site.users_file(&dir)?;
    let port = free_port()?;
    let text = std::fs::read_to_string(template)
        .with_context(|| format!("read {}", template.display()))?
        .replace("{port}", &port.to_string())
        .replace("{server_port}", &site.postgres().port().to_string())
        .replace("{database}", NAME)
        .replace("{user}", NAME)
        .replace("{users_file}", &users.display().to_string())
        .replace("{pool_size}", &site.args.pool_size.to_string())
        .replace("{clients}", &(needs.clients + 100).to_string());
    let config = dir.join(template.file_name().unwrap_or("config".as_ref()));
    site.write(&config, &text)?;
    let mut command = Command::new(binary);
    command.arg(&config);
    pgbouncer::spawn(command, site, &dir, port)
}
