//! `--peer`: another version of PgBouncer, or any program with a configuration file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use ::pgherd::local::free_port;
use anyhow::{Context as _, Result, bail};

use super::{Access, Kind, Needs, Peer, Running, pgbouncer, version};
use crate::site::{NAME, Site};

/// A configuration with placeholders.
#[derive(Debug, Clone)]
pub(super) struct Template {
    file_name: OsString,
    text: String,
}

impl Template {
    fn read(path: &Path) -> Result<Template> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let file_name = path.file_name().unwrap_or("config".as_ref()).to_owned();
        Ok(Template { file_name, text })
    }

    /// Whether it can be told how clients prove who they are.
    pub(super) fn can_ask(&self) -> bool {
        self.text.contains("{auth}")
    }

    /// Whether it can be told to do TLS.
    pub(super) fn can_tls(&self) -> bool {
        self.text.contains("{cert_file}")
    }

    fn filled(&self, values: &[(&str, String)]) -> String {
        let fill = |text: String, (name, value): &(&str, String)| {
            text.replace(&format!("{{{name}}}"), value)
        };
        values.iter().fold(self.text.clone(), fill)
    }
}

pub(super) fn find(text: &str) -> Result<Peer> {
    let (name, rest) = text.split_once('=').context("--peer wants NAME=PATH[:CONFIG]")?;
    let Some((binary, template)) = rest.split_once(':') else {
        return pgbouncer::of(name, Path::new(rest));
    };
    let binary = PathBuf::from(binary);
    if !binary.is_file() {
        bail!("{name} skipped: no {}", binary.display());
    }
    let skipped = || format!("{name} skipped");
    let template = Template::read(Path::new(template)).with_context(skipped)?;
    let version = version(&binary).with_context(skipped)?;
    Ok(Peer { name: name.to_owned(), version, kind: Kind::Custom { binary, template } })
}

pub(super) fn start(
    binary: &Path,
    template: &Template,
    name: &str,
    site: &Site,
    needs: Needs,
) -> Result<Running> {
    let dir = site.directory(name)?;
    let users = site.users_file(&dir)?;
    let port = free_port()?;
    let files = site.tls.write(site, &dir)?;
    let auth = match needs.access {
        Access::Trust => "trust",
        Access::Scram => "scram-sha-256",
    };
    let text = template.filled(&[
        ("port", port.to_string()),
        ("server_port", site.postgres().port().to_string()),
        ("database", NAME.to_owned()),
        ("user", NAME.to_owned()),
        ("users_file", users.display().to_string()),
        ("pool_size", site.args.pool_size.to_string()),
        ("clients", (needs.clients + 100).to_string()),
        ("auth", auth.to_owned()),
        ("tls", if needs.tls { "require" } else { "disable" }.to_owned()),
        ("cert_file", files.cert.display().to_string()),
        ("key_file", files.key.display().to_string()),
    ]);
    let config = dir.join(&template.file_name);
    site.write(&config, &text)?;
    let mut command = Command::new(binary);
    command.arg(&config);
    pgbouncer::spawn(command, site, config, port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_and_tell_what_it_can_do() {
        let template = |text: &str| Template { file_name: "c".into(), text: text.into() };
        let values = [("port", "6432".to_owned()), ("auth", "trust".to_owned())];
        assert_eq!(
            template("listen {port} {auth} {other}").filled(&values),
            "listen 6432 trust {other}"
        );
        assert!(template("{auth}").can_ask() && !template("{port}").can_ask());
        assert!(template("{cert_file}").can_tls() && !template("{auth}").can_tls());
    }
}
