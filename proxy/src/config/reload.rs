//! A new configuration into a running process: all of it, or nothing.
//!
//! Everything that can fail (the file, certificates, users) is done before the first thing is
//! swapped. Keys that need a restart keep their old values, so that what the hub holds is always
//! what is in force.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use secrecy::ExposeSecret;
use serde_json::Value;
use tracing::{info, warn};

use super::load::located;
use super::{Config, ConfigError, Database};
use crate::auth::rules::Rules;
use crate::auth::users::Users;
use crate::hub::Hub;
use crate::tls::{Material, TlsError};

/// What a reload did, key by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReloadReport {
    /// Changed, and in force now.
    pub applied: Vec<String>,
    /// Changed in the file, but in force only after a restart (or a hand-over).
    pub needs_restart: Vec<String>,
}

/// Keys that are read once: sockets, threads and the pid file exist already.
const RESTART: &[&str] = &[
    "proxy.listen",
    "proxy.unix_socket_dir",
    "proxy.unix_socket_mode",
    "proxy.listen_backlog",
    "proxy.proxy_protocol",
    "proxy.proxy_protocol_from",
    "proxy.workers",
    "proxy.pid_file",
    "admin.listen",
    "admin.token_file",
    "log.format",
];

/// Whether a change of `key` (`section.key`) waits for a restart.
#[must_use]
pub fn needs_restart(key: &str) -> bool {
    RESTART.contains(&key)
}

/// What differs between two configurations.
#[must_use]
pub fn diff(old: &Config, new: &Config) -> ReloadReport {
    let (old_values, new_values) = (flat(old), flat(new));
    let keys: BTreeSet<_> = old_values.keys().chain(new_values.keys()).collect();
    let changed = keys.into_iter().filter(|key| old_values.get(*key) != new_values.get(*key));
    let (needs_restart, mut applied): (Vec<_>, Vec<_>) =
        changed.cloned().partition(|key| needs_restart(key));
    // A password is serialised as a mark only, so it is compared here.
    for (name, database) in &new.databases {
        let key = format!("databases.{name}.password");
        let old = old.databases.get(name);
        if old.is_some_and(|old| password(old) != password(database)) && !applied.contains(&key) {
            applied.push(key);
        }
    }
    applied.sort();
    ReloadReport { applied, needs_restart }
}

/// Reads the hub's file again and puts it in force. On an error everything stays as it was.
/// Not cancel safe: a reload that is dropped may or may not have happened.
pub async fn reload(hub: &Hub) -> Result<ReloadReport, ConfigError> {
    // Two reloads at once could leave one's users beside the other's rules.
    static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _guard = ONE_AT_A_TIME.lock().await;
    let result = read(hub).await;
    match &result {
        Ok(report) if *report == ReloadReport::default() => {
            info!("configuration read again: nothing changed but what its files hold");
        }
        Ok(report) => {
            info!(applied = report.applied.join(", "), "configuration reloaded");
            if !report.needs_restart.is_empty() {
                let keys = report.needs_restart.join(", ");
                warn!(keys, "these keys changed in the file, but need a restart");
            }
        }
        Err(error) => {
            warn!(%error, "configuration not reloaded; the old one stays in force");
        }
    }
    result
}

/// Not cancel safe.
async fn read(hub: &Hub) -> Result<ReloadReport, ConfigError> {
    let Some(path) = hub.config_path.clone() else { return Err(ConfigError::NoFile) };
    let loading = tokio::task::spawn_blocking(move || {
        let config = Config::load(&path)?;
        let parts = load_parts(&path, &config)?;
        Ok::<_, ConfigError>((config, parts))
    });
    let (mut config, parts) = match loading.await {
        Ok(loaded) => loaded?,
        Err(error) => return Err(ConfigError::Interrupted(error)),
    };
    let old = hub.config.load_full();
    let report = diff(&old, &config);
    keep(&old, &mut config);
    parts.swap_into(hub);
    hub.config.store(Arc::new(config));
    let config = hub.config.load_full();
    hub.pools.apply(&config);
    if old.log.level != config.log.level
        && let Err(error) = crate::log::set_filter(&config.log.level)
    {
        warn!(%error, "the log filter stays as it was");
    }
    Ok(report)
}

/// What the configuration names and a process holds in memory.
#[derive(Debug)]
pub struct Parts {
    /// TLS of both sides.
    pub tls: Material,
    /// Users of `auth.users_file`.
    pub users: Users,
    /// Compiled `auth.rules`.
    pub rules: Rules,
}

/// Loads everything that `config` names; `file` is where mistakes are told. Blocks.
pub fn load_parts(file: &Path, config: &Config) -> Result<Parts, ConfigError> {
    let tls = Material::load(&config.tls)
        .map_err(|e| located(file, &tls_key(&config.tls, &e), e.to_string()))?;
    for (name, database) in &config.databases {
        let Some(path) = &database.password_file else { continue };
        std::fs::File::open(path).map_err(|e| {
            let what = format!("cannot read {}: {e}", path.display());
            located(file, &["databases", name, "password_file"], what)
        })?;
    }
    let users = match config.auth.users_file.as_str() {
        "" => Users::default(),
        path => Users::load(Path::new(path))
            .map_err(|e| located(file, &["auth", "users_file"], format!("{path}: {e}")))?,
    };
    let rules = Rules::compile(&config.auth)
        .map_err(|e| located(file, &["auth", "rules"], e.to_string()))?;
    Ok(Parts { tls, users, rules })
}

/// The key that an error of TLS material is about.
fn tls_key(tls: &super::Tls, error: &TlsError) -> [&'static str; 3] {
    let (client, server) = (&tls.client, &tls.server);
    let files = [
        ("client", "cert_file", &client.cert_file),
        ("client", "key_file", &client.key_file),
        ("client", "ca_file", &client.ca_file),
        ("server", "cert_file", &server.cert_file),
        ("server", "key_file", &server.key_file),
        ("server", "ca_file", &server.ca_file),
    ];
    let about = match error {
        TlsError::Read { file, .. } | TlsError::Content { file, .. } => file,
        TlsError::KeyMismatch { key, .. } => key,
        TlsError::MinVersion(_) => return ["tls", "client", "min_version"],
        TlsError::Missing { .. } | TlsError::Setup(_) => return ["tls", "", ""],
    };
    let found = files.iter().find(|(.., name)| Path::new(name) == about);
    found.map_or(["tls", "", ""], |(side, key, _)| ["tls", side, key])
}

impl Parts {
    fn swap_into(self, hub: &Hub) {
        hub.tls.store(Arc::new(self.tls));
        hub.users.store(Arc::new(self.users));
        hub.rules.store(Arc::new(self.rules));
        hub.auth_query.forget();
    }
}

/// Puts the old values of [`RESTART`] into `new`.
fn keep(old: &Config, new: &mut Config) {
    let (from, to) = (&old.proxy, &mut new.proxy);
    to.listen.clone_from(&from.listen);
    to.unix_socket_dir.clone_from(&from.unix_socket_dir);
    to.unix_socket_mode.clone_from(&from.unix_socket_mode);
    to.listen_backlog = from.listen_backlog;
    to.proxy_protocol = from.proxy_protocol;
    to.proxy_protocol_from.clone_from(&from.proxy_protocol_from);
    to.workers = from.workers;
    to.pid_file.clone_from(&from.pid_file);
    new.admin.listen.clone_from(&old.admin.listen);
    new.admin.token_file.clone_from(&old.admin.token_file);
    new.log.format = old.log.format;
}

fn password(database: &Database) -> Option<&str> {
    database.password.as_ref().map(ExposeSecret::expose_secret)
}

/// Every set key as `section.name.key`.
fn flat(config: &Config) -> BTreeMap<String, Value> {
    let mut out = BTreeMap::new();
    // Plain data with string keys always serialises.
    let value = serde_json::to_value(config).unwrap_or_default();
    flatten(String::new(), value, &mut out);
    out
}

fn flatten(path: String, value: Value, out: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(map) => {
            let dot = if path.is_empty() { "" } else { "." };
            for (key, value) in map {
                flatten(format!("{path}{dot}{key}"), value, out);
            }
        }
        // An absent key is the same as an absent table around it.
        Value::Null => {}
        value => {
            out.insert(path, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERD: &str = "[nodes.a]\nhost = \"h\"\n[databases.d]\nnodes = [\"a\"]\nuser = \"u\"\n";

    fn check(old: &str, new: &str, applied: &[&str], needs_restart: &[&str]) {
        let parse = |text: &str| Config::parse(&format!("{text}\n{HERD}"), "p.toml").unwrap();
        let (old, mut new) = (parse(old), parse(new));
        let report = diff(&old, &new);
        assert_eq!(report.applied, applied);
        assert_eq!(report.needs_restart, needs_restart);
        // What is kept for a restart is told again by the next reload, and nothing else is.
        let file = new.clone();
        keep(&old, &mut new);
        assert_eq!(diff(&old, &new).needs_restart, [""; 0]);
        let again = diff(&new, &file);
        assert_eq!((again.applied, again.needs_restart), (vec![], report.needs_restart));
    }

    #[test]
    fn changes_are_told_by_key() {
        check("", "", &[], &[]);
        check(
            "[pool]\nsize_default = 5\n[log]\nlevel = \"debug\"",
            "[pool]\nsize_default = 6\n[proxy]\nquery_timeout = \"1s\"",
            &["log.level", "pool.size_default", "proxy.query_timeout"],
            &[],
        );
        check(
            "",
            "[databases.e]\nnodes = [\"a\"]\n",
            &[
                "databases.e.connect_query",
                "databases.e.dbname",
                "databases.e.nodes",
                "databases.e.role",
                "databases.e.user",
            ],
            &[],
        );
        check("", "[users.u]\nsize = 3", &["users.u.size"], &[]);
    }

    #[test]
    fn what_needs_a_restart_is_kept() {
        check(
            "",
            concat!(
                "[proxy]\nlisten = [\"127.0.0.1:1\"]\nunix_socket_dir = \"/tmp\"\n",
                "unix_socket_mode = \"0700\"\nlisten_backlog = 5\nproxy_protocol = true\n",
                "proxy_protocol_from = [\"10.0.0.0/8\"]\nworkers = 3\npid_file = \"p\"\n",
                "[admin]\nlisten = \"\"\ntoken_file = \"t\"\n[log]\nformat = \"json\"\n",
            ),
            &[],
            &[
                "admin.listen",
                "admin.token_file",
                "log.format",
                "proxy.listen",
                "proxy.listen_backlog",
                "proxy.pid_file",
                "proxy.proxy_protocol",
                "proxy.proxy_protocol_from",
                "proxy.unix_socket_dir",
                "proxy.unix_socket_mode",
                "proxy.workers",
            ],
        );
    }

    #[test]
    fn a_changed_password_is_noticed_and_not_told() {
        let parse = |password: &str| {
            let text = format!("{HERD}password = \"{password}\"\n");
            Config::parse(&text, "p.toml").unwrap()
        };
        let report = diff(&parse("one"), &parse("two"));
        assert_eq!(report.applied, ["databases.d.password"]);
        assert_eq!(diff(&parse("one"), &parse("one")), ReloadReport::default());
        assert!(!serde_json::to_string(&parse("one")).unwrap().contains("\"one\""));
    }
}
