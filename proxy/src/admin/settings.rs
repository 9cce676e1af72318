//! Settings as rows of key, value and default: for SHOW CONFIG and `/api/v1/config`.
//!
//! Passwords and file contents never appear: only `[proxy]`, `[tls]`, `[auth]`, `[pool]`, `[admin]`
//! and `[log]` are shown, and none of their settings is a secret.

use std::time::Duration;

use serde::Serialize;

use crate::config::Config;
use crate::config::reload::needs_restart;

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// `section.key` as in the file, or PgBouncer's name for it.
    pub key: &'static str,
    /// In force now.
    pub value: String,
    /// Without a word in the file.
    pub default: String,
    /// Whether a reload applies it; false: needs a restart.
    pub changeable: bool,
}

/// Key, and how to read it.
type Entry = (&'static str, fn(&Config) -> String);

/// PgBouncer's name, our key, and how to read it in PgBouncer's unit.
type Alias = (&'static str, &'static str, fn(&Config) -> String);

/// Every setting under its own name.
#[must_use]
pub fn settings(config: &Config) -> Vec<Setting> {
    let defaults = Config::default();
    let row = |&(key, get): &Entry| setting(key, key, get(config), get(&defaults));
    [PROXY, SECURITY, POOL, REST].into_iter().flatten().map(row).collect()
}

/// The settings that PgBouncer has too, under its names and in its units: exporters read them.
#[must_use]
pub fn pgbouncer_settings(config: &Config) -> Vec<Setting> {
    let defaults = Config::default();
    let row = |&(name, key, get): &Alias| setting(name, key, get(config), get(&defaults));
    PGBOUNCER.iter().map(row).collect()
}

fn setting(name: &'static str, key: &str, value: String, default: String) -> Setting {
    Setting { key: name, value, default, changeable: !needs_restart(key) }
}

fn time(d: Duration) -> String {
    humantime::format_duration(d).to_string()
}

fn seconds(d: Duration) -> String {
    d.as_secs().to_string()
}

fn list(items: &[String]) -> String {
    items.join(", ")
}

/// An enum's word in the file.
pub(super) fn word(value: impl Serialize) -> String {
    // Unit variants always serialise, and as a string.
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

const PROXY: &[Entry] = &[
    ("proxy.listen", |c| list(&c.proxy.listen)),
    ("proxy.unix_socket_dir", |c| c.proxy.unix_socket_dir.clone()),
    ("proxy.unix_socket_mode", |c| c.proxy.unix_socket_mode.clone()),
    ("proxy.listen_backlog", |c| c.proxy.listen_backlog.to_string()),
    ("proxy.proxy_protocol", |c| c.proxy.proxy_protocol.to_string()),
    ("proxy.proxy_protocol_from", |c| list(&c.proxy.proxy_protocol_from)),
    ("proxy.workers", |c| c.proxy.workers.to_string()),
    ("proxy.max_client_connections", |c| c.proxy.max_client_connections.to_string()),
    ("proxy.client_login_timeout", |c| time(c.proxy.client_login_timeout)),
    ("proxy.client_idle_timeout", |c| time(c.proxy.client_idle_timeout)),
    ("proxy.idle_transaction_timeout", |c| time(c.proxy.idle_transaction_timeout)),
    ("proxy.query_timeout", |c| time(c.proxy.query_timeout)),
    ("proxy.drain_timeout", |c| time(c.proxy.drain_timeout)),
    ("proxy.tcp_keepalive", |c| time(c.proxy.tcp_keepalive)),
    ("proxy.tcp_user_timeout", |c| time(c.proxy.tcp_user_timeout)),
    ("proxy.pid_file", |c| c.proxy.pid_file.clone()),
];

const SECURITY: &[Entry] = &[
    ("tls.client.mode", |c| word(c.tls.client.mode)),
    ("tls.client.cert_file", |c| c.tls.client.cert_file.clone()),
    ("tls.client.key_file", |c| c.tls.client.key_file.clone()),
    ("tls.client.ca_file", |c| c.tls.client.ca_file.clone()),
    ("tls.client.client_certificate", |c| word(c.tls.client.client_certificate)),
    ("tls.client.min_version", |c| c.tls.client.min_version.clone()),
    ("tls.server.mode", |c| word(c.tls.server.mode)),
    ("tls.server.ca_file", |c| c.tls.server.ca_file.clone()),
    ("tls.server.cert_file", |c| c.tls.server.cert_file.clone()),
    ("tls.server.key_file", |c| c.tls.server.key_file.clone()),
    ("auth.rules", |c| format!("{} rules", c.auth.rules.len())),
    ("auth.users_file", |c| c.auth.users_file.clone()),
    ("auth.query", |c| c.auth.query.clone()),
    ("auth.query_user", |c| c.auth.query_user.clone()),
    ("auth.query_database", |c| c.auth.query_database.clone()),
    ("auth.query_cache_ttl", |c| time(c.auth.query_cache_ttl)),
];

const POOL: &[Entry] = &[
    ("pool.mode", |c| word(c.pool.mode)),
    ("pool.size_min", |c| c.pool.size_min.to_string()),
    ("pool.size_default", |c| c.pool.size_default.to_string()),
    ("pool.reserve_size", |c| c.pool.reserve_size.to_string()),
    ("pool.reserve_timeout", |c| time(c.pool.reserve_timeout)),
    ("pool.max_database_connections", |c| c.pool.max_database_connections.to_string()),
    ("pool.max_user_connections", |c| c.pool.max_user_connections.to_string()),
    ("pool.max_database_client_connections", |c| {
        c.pool.max_database_client_connections.to_string()
    }),
    ("pool.max_user_client_connections", |c| c.pool.max_user_client_connections.to_string()),
    ("pool.wait_timeout", |c| time(c.pool.wait_timeout)),
    ("pool.max_waiting", |c| c.pool.max_waiting.to_string()),
    ("pool.server_lifetime", |c| time(c.pool.server_lifetime)),
    ("pool.server_idle_timeout", |c| time(c.pool.server_idle_timeout)),
    ("pool.server_connect_timeout", |c| time(c.pool.server_connect_timeout)),
    ("pool.server_login_retry", |c| time(c.pool.server_login_retry)),
    ("pool.server_reset_query", |c| c.pool.server_reset_query.clone()),
    ("pool.prepared_statements_max", |c| c.pool.prepared_statements_max.to_string()),
];

const REST: &[Entry] = &[
    ("admin.listen", |c| c.admin.listen.clone()),
    ("admin.token_file", |c| c.admin.token_file.clone()),
    ("admin.users", |c| list(&c.admin.users)),
    ("admin.stats_users", |c| list(&c.admin.stats_users)),
    ("log.format", |c| word(c.log.format)),
    ("log.level", |c| c.log.level.clone()),
    ("log.connections", |c| c.log.connections.to_string()),
    ("log.disconnections", |c| c.log.disconnections.to_string()),
    ("log.pooler_errors", |c| c.log.pooler_errors.to_string()),
    ("log.stats_period", |c| time(c.log.stats_period)),
];

/// PgBouncer's manual, config: names, and seconds where it has seconds.
const PGBOUNCER: &[Alias] = &[
    ("admin_users", "admin.users", |c| list(&c.admin.users)),
    ("client_idle_timeout", "proxy.client_idle_timeout", |c| seconds(c.proxy.client_idle_timeout)),
    ("client_login_timeout", "proxy.client_login_timeout", |c| {
        seconds(c.proxy.client_login_timeout)
    }),
    ("default_pool_size", "pool.size_default", |c| c.pool.size_default.to_string()),
    ("idle_transaction_timeout", "proxy.idle_transaction_timeout", |c| {
        seconds(c.proxy.idle_transaction_timeout)
    }),
    ("listen_backlog", "proxy.listen_backlog", |c| c.proxy.listen_backlog.to_string()),
    ("log_connections", "log.connections", |c| u8::from(c.log.connections).to_string()),
    ("log_disconnections", "log.disconnections", |c| u8::from(c.log.disconnections).to_string()),
    ("log_pooler_errors", "log.pooler_errors", |c| u8::from(c.log.pooler_errors).to_string()),
    ("max_client_conn", "proxy.max_client_connections", |c| {
        c.proxy.max_client_connections.to_string()
    }),
    ("max_db_client_connections", "pool.max_database_client_connections", |c| {
        c.pool.max_database_client_connections.to_string()
    }),
    ("max_db_connections", "pool.max_database_connections", |c| {
        c.pool.max_database_connections.to_string()
    }),
    ("max_prepared_statements", "pool.prepared_statements_max", |c| {
        c.pool.prepared_statements_max.to_string()
    }),
    ("max_user_client_connections", "pool.max_user_client_connections", |c| {
        c.pool.max_user_client_connections.to_string()
    }),
    ("max_user_connections", "pool.max_user_connections", |c| {
        c.pool.max_user_connections.to_string()
    }),
    ("min_pool_size", "pool.size_min", |c| c.pool.size_min.to_string()),
    ("pidfile", "proxy.pid_file", |c| c.proxy.pid_file.clone()),
    ("pool_mode", "pool.mode", |c| word(c.pool.mode)),
    ("query_timeout", "proxy.query_timeout", |c| seconds(c.proxy.query_timeout)),
    ("query_wait_timeout", "pool.wait_timeout", |c| seconds(c.pool.wait_timeout)),
    ("reserve_pool_size", "pool.reserve_size", |c| c.pool.reserve_size.to_string()),
    ("reserve_pool_timeout", "pool.reserve_timeout", |c| seconds(c.pool.reserve_timeout)),
    ("server_connect_timeout", "pool.server_connect_timeout", |c| {
        seconds(c.pool.server_connect_timeout)
    }),
    ("server_idle_timeout", "pool.server_idle_timeout", |c| seconds(c.pool.server_idle_timeout)),
    ("server_lifetime", "pool.server_lifetime", |c| seconds(c.pool.server_lifetime)),
    ("server_login_retry", "pool.server_login_retry", |c| seconds(c.pool.server_login_retry)),
    ("server_reset_query", "pool.server_reset_query", |c| c.pool.server_reset_query.clone()),
    ("stats_period", "log.stats_period", |c| seconds(c.log.stats_period)),
    ("stats_users", "admin.stats_users", |c| list(&c.admin.stats_users)),
    ("unix_socket_dir", "proxy.unix_socket_dir", |c| c.proxy.unix_socket_dir.clone()),
    ("unix_socket_mode", "proxy.unix_socket_mode", |c| c.proxy.unix_socket_mode.clone()),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AuthMethod, PoolMode, ServerTlsMode};

    #[test]
    fn words_are_those_of_the_file() {
        let check = |found: String, expect: &str| assert_eq!(found, expect);
        check(word(PoolMode::Transaction), "transaction");
        check(word(ServerTlsMode::VerifyCa), "verify-ca");
        check(word(AuthMethod::ScramSha256), "scram-sha-256");
    }

    #[test]
    fn values_and_defaults() {
        let mut config = Config::default();
        config.pool.size_default = 7;
        config.pool.wait_timeout = Duration::from_secs(90);
        let check = |rows: Vec<Setting>, key: &str, value: &str, default: &str| {
            let row = rows.into_iter().find(|r| r.key == key).unwrap();
            assert_eq!((row.value.as_str(), row.default.as_str()), (value, default), "{key}");
        };
        check(settings(&config), "pool.size_default", "7", "20");
        check(settings(&config), "pool.wait_timeout", "1m 30s", "2m");
        check(pgbouncer_settings(&config), "query_wait_timeout", "90", "120");
        check(pgbouncer_settings(&config), "max_client_conn", "10000", "10000");
        let changeable = |key| settings(&config).iter().find(|s| s.key == key).unwrap().changeable;
        assert!(changeable("pool.mode") && !changeable("proxy.listen"));
    }

    /// A new setting must be shown, or stand here with the reason.
    #[test]
    fn every_setting_is_shown() {
        // Lists and tables of their own: rules are counted, nodes, databases and users have routes.
        let elsewhere = ["auth.certificate_maps", "nodes", "databases", "users"];
        let mut keys = Vec::new();
        flatten("", &serde_json::to_value(Config::default()).unwrap(), &mut keys);
        let shown: Vec<_> = settings(&Config::default()).iter().map(|s| s.key).collect();
        keys.retain(|key| !elsewhere.contains(&key.as_str()) && !shown.contains(&key.as_str()));
        assert!(keys.is_empty(), "not shown: {keys:?}");
    }

    fn flatten(path: &str, value: &serde_json::Value, keys: &mut Vec<String>) {
        match value.as_object().filter(|object| !object.is_empty()) {
            None => keys.push(path.to_owned()),
            Some(object) => {
                for (key, value) in object {
                    let dot = if path.is_empty() { "" } else { "." };
                    flatten(&format!("{path}{dot}{key}"), value, keys);
                }
            }
        }
    }
}
