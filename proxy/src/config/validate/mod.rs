//! What one value alone can't show: references, pairs, ranges.
//!
//! Each check reports at the value that should be changed. A check is skipped where a table that it
//! reads could not be read whole, so that one mistake is not told twice. Nothing here opens a file
//! or resolves a name. `herd` checks nodes, databases and users, `access` checks `[auth]`.

mod access;
mod herd;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use tracing_subscriber::EnvFilter;

use super::diagnose::Document;
use super::{ClientCertificate, ClientTlsMode, Config, ServerTlsMode};
use crate::limits;

/// A check: the top-level tables it reads, and what it does.
type Check = (&'static [&'static str], fn(&Config, &mut Document<'_>));

const CHECKS: &[Check] = &[
    (&["proxy"], listeners),
    (&["proxy"], ranges_of_proxy),
    (&["tls"], tls_client),
    (&["tls"], tls_server),
    (&["pool"], ranges_of_pool),
    (&["admin"], admin),
    (&["log"], log),
    (&["auth"], access::rules),
    (&["auth", "tls"], access::certificates),
    (&["auth", "databases"], access::query),
    (&["nodes"], herd::nodes),
    (&["nodes", "databases"], herd::databases),
    (&["databases"], herd::logins),
    (&["databases", "pool"], herd::sizes),
    (&["users"], herd::users),
];

/// Reports everything that contradicts something else.
pub(super) fn validate(config: &Config, document: &mut Document<'_>) {
    for (reads, check) in CHECKS {
        if document.are_sound(reads) {
            check(config, document);
        }
    }
}

/// What is allowed, but hardly meant: for `pgherd check` and the log.
#[must_use]
pub fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.databases.is_empty() {
        warnings.push("there are no [databases]: every client will be refused".to_owned());
    }
    if config.auth.rules.is_empty() {
        warnings.push("there are no [[auth.rules]]: every client will be refused".to_owned());
    }
    if access::asks_for_passwords(config)
        && config.auth.users_file.is_empty()
        && config.auth.query.is_empty()
    {
        let what =
            "neither auth.users_file nor auth.query is set: nobody can log in with a password";
        warnings.push(what.to_owned());
    }
    let used: BTreeSet<_> = config.databases.values().flat_map(|d| &d.nodes).collect();
    for name in config.nodes.keys().filter(|name| !used.contains(name)) {
        warnings.push(format!("no database uses the node \"{name}\""));
    }
    warnings
}

fn listeners(config: &Config, document: &mut Document<'_>) {
    let proxy = &config.proxy;
    if proxy.listen.is_empty() && proxy.unix_socket_dir.is_empty() {
        let what = "nothing to listen on; name an address here or set proxy.unix_socket_dir";
        document.report(&["proxy", "listen"], what);
    }
    let mut seen = BTreeSet::new();
    for (i, address) in proxy.listen.iter().enumerate() {
        let path = ["proxy", "listen", &i.to_string()];
        match port_of(address) {
            None => document.report(&path, not_an_address(address, 6432)),
            // Every port 0 is another port.
            Some(0) => {}
            Some(_) if !seen.insert(address) => {
                document.report(&path, format!("\"{address}\" is listed twice"));
            }
            Some(_) => {}
        }
    }
    if !proxy.unix_socket_dir.is_empty() && !proxy.unix_socket_dir.starts_with('/') {
        let what = format!("\"{}\" is not an absolute path", proxy.unix_socket_dir);
        document.report(&["proxy", "unix_socket_dir"], what);
    }
    let mode = u32::from_str_radix(&proxy.unix_socket_mode, 8).ok();
    if mode.is_none_or(|mode| mode > 0o777) {
        let what = format!(
            "\"{}\" is not an octal file mode; expected for example \"0770\"",
            proxy.unix_socket_mode
        );
        document.report(&["proxy", "unix_socket_mode"], what);
    }
    for (i, network) in proxy.proxy_protocol_from.iter().enumerate() {
        if !is_network(network) {
            let path = ["proxy", "proxy_protocol_from", &i.to_string()];
            document.report(&path, not_a_network(network));
        }
    }
}

fn ranges_of_proxy(config: &Config, document: &mut Document<'_>) {
    let proxy = &config.proxy;
    at_least_one(document, &["proxy", "listen_backlog"], u64::from(proxy.listen_backlog));
    let clients = proxy.max_client_connections as u64;
    at_least_one(document, &["proxy", "max_client_connections"], clients);
    some_time(document, &["proxy", "client_login_timeout"], proxy.client_login_timeout);
    if proxy.workers > limits::WORKERS_MAX {
        let what = format!("expected at most {}; 0 is one a core", limits::WORKERS_MAX);
        document.report(&["proxy", "workers"], what);
    }
}

fn tls_client(config: &Config, document: &mut Document<'_>) {
    let tls = &config.tls.client;
    let on = tls.mode != ClientTlsMode::Disable;
    for (key, value) in [("cert_file", &tls.cert_file), ("key_file", &tls.key_file)] {
        if on && value.is_empty() {
            let what = format!("tls.client.{key} is not set, but tls.client.mode asks for it");
            document.report(&["tls", "client", key], what);
        }
    }
    let asked = tls.client_certificate != ClientCertificate::None;
    if asked && !on {
        let what = "client certificates need TLS; set tls.client.mode to require, prefer or allow";
        document.report(&["tls", "client", "client_certificate"], what);
    }
    if asked && tls.ca_file.is_empty() {
        let what = "client certificates can't be checked without tls.client.ca_file";
        document.report(&["tls", "client", "client_certificate"], what);
    }
    if !matches!(tls.min_version.as_str(), "1.2" | "1.3") {
        let what = format!("\"{}\" is unknown; expected \"1.2\" or \"1.3\"", tls.min_version);
        document.report(&["tls", "client", "min_version"], what);
    }
}

fn tls_server(config: &Config, document: &mut Document<'_>) {
    let tls = &config.tls.server;
    let pairs = [
        ("cert_file", &tls.cert_file, "key_file", &tls.key_file),
        ("key_file", &tls.key_file, "cert_file", &tls.cert_file),
    ];
    for (key, value, other, other_value) in pairs {
        if !value.is_empty() && other_value.is_empty() {
            let what = format!("tls.server.{key} is of no use without tls.server.{other}");
            document.report(&["tls", "server", key], what);
        }
    }
    if tls.mode == ServerTlsMode::Disable && !tls.ca_file.is_empty() {
        let what = "tls.server.ca_file is set, but tls.server.mode is \"disable\"; \
                    expected for example \"verify-full\"";
        document.report(&["tls", "server", "mode"], what);
    }
}

fn ranges_of_pool(config: &Config, document: &mut Document<'_>) {
    let pool = &config.pool;
    at_least_one(document, &["pool", "size_default"], pool.size_default as u64);
    if pool.size_min > pool.size_default {
        let what = format!(
            "pool.size_min is {}, more than pool.size_default ({})",
            pool.size_min, pool.size_default
        );
        document.report(&["pool", "size_min"], what);
    }
    some_time(document, &["pool", "server_connect_timeout"], pool.server_connect_timeout);
}

fn admin(config: &Config, document: &mut Document<'_>) {
    let admin = &config.admin;
    if admin.listen.is_empty() {
        return;
    }
    let path = ["admin", "listen"];
    if port_of(&admin.listen).is_none() {
        document.report(&path, not_an_address(&admin.listen, 6433));
    } else if !is_loopback(&admin.listen) && admin.token_file.is_empty() {
        let what = format!(
            "\"{}\" is not a loopback address, so admin.token_file must be set; \
             otherwise anyone could stop this proxy",
            admin.listen
        );
        document.report(&path, what);
    }
}

fn log(config: &Config, document: &mut Document<'_>) {
    let level = &config.log.level;
    // An empty filter would log errors only; nobody means that.
    if level.trim().is_empty() || EnvFilter::builder().parse(level).is_err() {
        let what = format!(
            "\"{level}\" is no log level; expected error, warn, info, debug or trace, \
             or a filter such as \"info,pgherd::pool=debug\""
        );
        document.report(&["log", "level"], what);
    }
}

fn at_least_one(document: &mut Document<'_>, path: &[&str], value: u64) {
    if value == 0 {
        document.report(path, format!("{} must be at least 1", path.join(".")));
    }
}

fn some_time(document: &mut Document<'_>, path: &[&str], value: Duration) {
    if value.is_zero() {
        let what = format!("{} must be longer than \"0s\"", path.join("."));
        document.report(path, what);
    }
}

fn not_an_address(text: &str, port: u16) -> String {
    format!("\"{text}\" is not host:port; expected for example \"127.0.0.1:{port}\"")
}

fn not_a_network(text: &str) -> String {
    format!("\"{text}\" is not a network; expected for example \"10.0.0.0/8\" or \"::1/128\"")
}

/// The port of `host:port`, `[v6]:port` or `*:port`.
fn port_of(address: &str) -> Option<u16> {
    if let Ok(address) = address.parse::<SocketAddr>() {
        return Some(address.port());
    }
    let (host, port) = address.rsplit_once(':')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    // Digits and dots alone are a mistyped address, not a name.
    let is_host = !host.is_empty()
        && host.chars().all(is_name)
        && host.chars().any(|c| c.is_ascii_alphabetic());
    if host == "*" || is_host { port.parse().ok() } else { None }
}

fn is_loopback(address: &str) -> bool {
    match address.parse::<SocketAddr>() {
        Ok(address) => address.ip().is_loopback(),
        Err(_) => address.rsplit_once(':').is_some_and(|(host, _)| host == "localhost"),
    }
}

/// CIDR, or a single address.
fn is_network(text: &str) -> bool {
    text.parse::<IpNet>().is_ok() || text.parse::<IpAddr>().is_ok()
}
