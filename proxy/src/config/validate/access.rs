//! `[auth]`: rules that can fit, certificates that can be asked for, a query that can be put.

use super::super::diagnose::{Document, unknown};
use super::super::{
    AuthMethod, AuthRule, ClientCertificate, ClientTlsMode, Config, RuleConnection,
};
use super::{is_network, not_a_network};

/// Whether some rule wants a password.
pub(super) fn asks_for_passwords(config: &Config) -> bool {
    let wants = |r: &AuthRule| matches!(r.method, AuthMethod::ScramSha256 | AuthMethod::Md5);
    config.auth.rules.iter().any(wants)
}

pub(super) fn rules(config: &Config, document: &mut Document<'_>) {
    for (i, rule) in config.auth.rules.iter().enumerate() {
        let i = i.to_string();
        let lists = [
            ("databases", &rule.databases),
            ("users", &rule.users),
            ("addresses", &rule.addresses),
        ];
        for (key, list) in lists {
            if list.is_empty() {
                let what = format!("an empty list fits nobody; expected names or \"all\" in {key}");
                document.report(&["auth", "rules", &i, key], what);
            }
        }
        for (j, address) in rule.addresses.iter().enumerate() {
            if address != "all" && !is_network(address) {
                let path = ["auth", "rules", &i, "addresses", &j.to_string()];
                document.report(&path, not_a_network(address));
            }
        }
        rule_map(config, document, &i, rule);
    }
}

fn rule_map(config: &Config, document: &mut Document<'_>, i: &str, rule: &AuthRule) {
    if rule.map.is_empty() {
        return;
    }
    let path = ["auth", "rules", i, "map"];
    if rule.method != AuthMethod::Cert {
        document.report(&path, "a map is for certificates; expected method = \"cert\" beside it");
    } else if !config.auth.certificate_maps.contains_key(&rule.map) {
        let known: Vec<_> = config.auth.certificate_maps.keys().map(String::as_str).collect();
        document.report(&path, unknown("certificate map", &rule.map, &known));
    }
}

/// Rules that ask for a certificate need a listener that asks for one.
pub(super) fn certificates(config: &Config, document: &mut Document<'_>) {
    let tls = &config.tls.client;
    for (i, rule) in config.auth.rules.iter().enumerate() {
        if rule.method != AuthMethod::Cert {
            continue;
        }
        let path = ["auth", "rules", &i.to_string(), "method"];
        if matches!(rule.connection, RuleConnection::Local | RuleConnection::HostPlain) {
            let what = "certificates come with TLS only; expected connection = \"host-tls\"";
            document.report(&path, what);
        } else if tls.mode == ClientTlsMode::Disable {
            let what = "certificates come with TLS only, but tls.client.mode is \"disable\"";
            document.report(&path, what);
        } else if tls.client_certificate == ClientCertificate::None {
            let what = "no client is asked for a certificate; \
                        set tls.client.client_certificate to optional or require";
            document.report(&path, what);
        }
    }
}

pub(super) fn query(config: &Config, document: &mut Document<'_>) {
    let auth = &config.auth;
    if auth.query.is_empty() {
        if !auth.query_user.is_empty() {
            let what = "auth.query_user has nothing to ask; set auth.query too";
            document.report(&["auth", "query_user"], what);
        }
        return;
    }
    if auth.query_user.is_empty() {
        let what = "auth.query needs auth.query_user, the user of auth.users_file that asks it";
        document.report(&["auth", "query"], what);
    }
    if !auth.query.contains("$1") {
        let what = "auth.query must take the user's name as $1, for example \
                    \"SELECT usename, passwd FROM pg_shadow WHERE usename = $1\"";
        document.report(&["auth", "query"], what);
    }
    if !auth.query_database.is_empty() && config.database(&auth.query_database).is_none() {
        let known: Vec<_> = config.databases.keys().map(String::as_str).collect();
        let what = unknown("database", &auth.query_database, &known);
        document.report(&["auth", "query_database"], what);
    }
}
