//! How a client must prove itself: the first rule that fits decides, none means refused.
//!
//! The idea is pg_hba.conf's (PostgreSQL manual, "The pg_hba.conf File"); [`Rules`] are compiled once
//! for a configuration and asked once for a client.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use crate::config::{Auth, AuthMethod, AuthRule, RuleConnection};
use crate::error::{Fault, Report, sqlstate};
use crate::net::Peer;

/// The compiled `[[auth.rules]]`.
#[derive(Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
}

/// Certificate names to the users that they may be.
pub type CertificateMap = BTreeMap<String, Vec<String>>;

/// What the rules say about one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision<'a> {
    /// How it proves itself.
    pub method: AuthMethod,
    /// For `cert`: the map; none: the certificate names the user itself.
    pub map: Option<&'a CertificateMap>,
}

/// Why rules can't be compiled. `rule` counts from 1, as a person counts `[[auth.rules]]`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Neither an address nor a range.
    #[error("auth rule {rule}: \"{value}\" is neither \"all\" nor an address nor a CIDR range")]
    Address {
        /// Which rule.
        rule: usize,
        /// The value.
        value: String,
    },
    /// No such certificate map.
    #[error("auth rule {rule}: there is no [auth.certificate_maps.{value}]")]
    UnknownMap {
        /// Which rule.
        rule: usize,
        /// The map's name.
        value: String,
    },
    /// A map where no certificate is asked for.
    #[error("auth rule {rule}: map \"{value}\" has a meaning only with method \"cert\"")]
    MapWithoutCertificate {
        /// Which rule.
        rule: usize,
        /// The map's name.
        value: String,
    },
}

#[derive(Debug)]
struct Rule {
    connection: RuleConnection,
    databases: Vec<DatabaseName>,
    /// None: all.
    users: Option<Vec<String>>,
    /// None: all.
    addresses: Option<Vec<IpNet>>,
    method: AuthMethod,
    map: Option<CertificateMap>,
}

#[derive(Debug)]
enum DatabaseName {
    All,
    SameUser,
    Named(String),
}

impl Rules {
    /// Reads the rules of a configuration.
    pub fn compile(auth: &Auth) -> Result<Rules, RuleError> {
        let compiled =
            auth.rules.iter().enumerate().map(|(at, rule)| Rule::compile(at + 1, rule, auth));
        Ok(Rules { rules: compiled.collect::<Result<_, _>>()? })
    }

    /// What holds for a client; `tls` is whether its connection is encrypted.
    #[must_use]
    pub fn decide(&self, database: &str, user: &str, peer: Peer, tls: bool) -> Decision<'_> {
        let fits = |rule: &&Rule| {
            rule.fits_peer(peer, tls) && rule.fits_user(user) && rule.fits_database(database, user)
        };
        match self.rules.iter().find(fits) {
            Some(rule) => Decision { method: rule.method, map: rule.map.as_ref() },
            None => Decision { method: AuthMethod::Reject, map: None },
        }
    }
}

/// Whether the owner of a certificate may be `user`. `names` are the certificate's (CN and SANs);
/// without a map one of them must be the user's.
#[must_use]
pub fn certificate_user_matches(
    map: Option<&CertificateMap>,
    names: &[String],
    user: &str,
) -> bool {
    names.iter().any(|name| match map {
        None => name == user,
        Some(map) => map.get(name).is_some_and(|users| users.iter().any(|other| other == user)),
    })
}

/// What a client hears that no rule, or a rule of method `reject`, is about. PostgreSQL names the
/// client's own address too (`ClientAuthentication`, auth.c); nothing of pgherd's side is told.
#[must_use]
pub fn refusal(database: &str, user: &str, peer: Peer, tls: bool) -> Report {
    let from = match peer {
        Peer::Tcp(addr) => format!("host \"{}\"", addr.ip().to_canonical()),
        Peer::Unix => "the unix socket".to_owned(),
    };
    let encryption = if tls { "TLS encryption" } else { "no encryption" };
    let message = format!(
        "no auth rule admits {from}, user \"{user}\", database \"{database}\", {encryption}"
    );
    Report::fatal(Fault::Operator, sqlstate::INVALID_AUTHORIZATION, message)
}

impl Rule {
    fn compile(number: usize, rule: &AuthRule, auth: &Auth) -> Result<Rule, RuleError> {
        let all = |names: &[String]| names.iter().any(|name| name == "all");
        let map =
            match rule.map.as_str() {
                "" => None,
                value if rule.method != AuthMethod::Cert => {
                    let value = value.to_owned();
                    return Err(RuleError::MapWithoutCertificate { rule: number, value });
                }
                value => Some(auth.certificate_maps.get(value).cloned().ok_or_else(|| {
                    RuleError::UnknownMap { rule: number, value: value.to_owned() }
                })?),
            };
        // Every value is read, even beside "all": a typing error is worth knowing.
        let mut addresses = Vec::new();
        for value in rule.addresses.iter().filter(|value| *value != "all") {
            let unknown = || RuleError::Address { rule: number, value: value.clone() };
            addresses.push(range(value).ok_or_else(unknown)?);
        }
        let databases = rule.databases.iter().map(|name| match name.as_str() {
            "all" => DatabaseName::All,
            "sameuser" => DatabaseName::SameUser,
            _ => DatabaseName::Named(name.clone()),
        });
        Ok(Rule {
            connection: rule.connection,
            databases: databases.collect(),
            users: (!all(&rule.users)).then(|| rule.users.clone()),
            addresses: (!all(&rule.addresses)).then_some(addresses),
            method: rule.method,
            map,
        })
    }

    fn fits_peer(&self, peer: Peer, tls: bool) -> bool {
        let addr = match peer {
            // A unix socket has no address: ranges are not about it.
            Peer::Unix => {
                return matches!(self.connection, RuleConnection::Any | RuleConnection::Local);
            }
            // Dual-stack listeners show IPv4 clients as ::ffff:a.b.c.d.
            Peer::Tcp(addr) => addr.ip().to_canonical(),
        };
        let connection = match self.connection {
            RuleConnection::Any | RuleConnection::Host => true,
            RuleConnection::Local => false,
            RuleConnection::HostTls => tls,
            RuleConnection::HostPlain => !tls,
        };
        let ranges = self.addresses.as_ref();
        connection && ranges.is_none_or(|ranges| ranges.iter().any(|range| range.contains(&addr)))
    }

    fn fits_user(&self, user: &str) -> bool {
        self.users.as_ref().is_none_or(|users| users.iter().any(|other| other == user))
    }

    fn fits_database(&self, database: &str, user: &str) -> bool {
        self.databases.iter().any(|name| match name {
            DatabaseName::All => true,
            DatabaseName::SameUser => database == user,
            DatabaseName::Named(name) => name == database,
        })
    }
}

/// A CIDR range or one address; IPv4 in IPv6's clothes becomes IPv4, as peers do.
fn range(value: &str) -> Option<IpNet> {
    let range = match value.parse::<IpNet>() {
        Ok(range) => range,
        Err(_) => IpNet::from(value.parse::<IpAddr>().ok()?),
    };
    match (range, range.addr().to_canonical()) {
        (IpNet::V6(mapped), IpAddr::V4(addr)) if mapped.prefix_len() >= 96 => {
            Some(IpNet::V4(Ipv4Net::new(addr, mapped.prefix_len() - 96).ok()?))
        }
        _ => Some(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(rules: &str) -> Auth {
        toml::from_str(rules).unwrap()
    }

    fn peer(text: &str) -> Peer {
        match text {
            "unix" => Peer::Unix,
            ip => Peer::Tcp((ip.parse::<IpAddr>().unwrap(), 5000).into()),
        }
    }

    const RULES: &str = r#"
        [[rules]]
        connection = "local"
        method = "trust"
        [[rules]]
        users = ["evil"]
        method = "reject"
        [[rules]]
        connection = "host-tls"
        addresses = ["10.0.0.0/8", "fd00::/8"]
        method = "cert"
        map = "m"
        [[rules]]
        connection = "host-plain"
        databases = ["sameuser"]
        addresses = ["::ffff:192.168.0.0/112"]
        method = "md5"
        [[rules]]
        connection = "host"
        databases = ["app", "shop"]
        users = ["ann"]
        addresses = ["192.168.1.1", "all"]
        [certificate_maps.m]
        "ann.example" = ["ann", "bob"]
    "#;

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rules = Rules::compile(&auth(RULES)).unwrap();
        let check = |from: &str, tls, database: &str, user: &str, expect: AuthMethod| {
            let decision = rules.decide(database, user, peer(from), tls);
            assert_eq!(decision.method, expect, "{from} {tls} {database} {user}");
            assert_eq!(decision.map.is_some(), expect == AuthMethod::Cert);
        };
        check("unix", false, "app", "evil", AuthMethod::Trust);
        check("127.0.0.1", false, "app", "evil", AuthMethod::Reject);
        check("10.1.2.3", true, "x", "y", AuthMethod::Cert);
        check("::ffff:10.1.2.3", true, "x", "y", AuthMethod::Cert);
        check("fd00::1", true, "x", "y", AuthMethod::Cert);
        check("fe80::1", true, "x", "y", AuthMethod::Reject);
        check("10.1.2.3", false, "x", "y", AuthMethod::Reject);
        check("192.168.3.4", false, "ann", "ann", AuthMethod::Md5);
        check("::ffff:192.168.3.4", false, "ann", "ann", AuthMethod::Md5);
        check("192.168.3.4", true, "ann", "ann", AuthMethod::Reject);
        check("192.169.3.4", false, "ann", "ann", AuthMethod::Reject);
        check("8.8.8.8", true, "shop", "ann", AuthMethod::ScramSha256);
        check("8.8.8.8", true, "shop", "bob", AuthMethod::Reject);
        check("8.8.8.8", true, "all", "ann", AuthMethod::Reject);
    }

    #[test]
    fn without_rules_nobody_comes_in_and_the_default_is_scram() {
        let rules = Rules::compile(&Auth { rules: vec![], ..Auth::default() }).unwrap();
        assert_eq!(rules.decide("d", "u", Peer::Unix, false).method, AuthMethod::Reject);
        let rules = Rules::compile(&Auth::default()).unwrap();
        assert_eq!(rules.decide("d", "u", Peer::Unix, false).method, AuthMethod::ScramSha256);
        assert_eq!(rules.decide("d", "u", peer("::1"), true).method, AuthMethod::ScramSha256);
    }

    #[test]
    fn wrong_rules_are_named() {
        let check = |rule: &str, expect: &str| {
            let rules = format!("[[rules]]\nmethod = \"trust\"\n[[rules]]\n{rule}");
            let error = Rules::compile(&auth(&rules)).unwrap_err().to_string();
            assert_eq!(error, expect, "{rule}");
        };
        let what = "is neither \"all\" nor an address nor a CIDR range";
        check("addresses = [\"10.0.0.0/33\"]", &format!("auth rule 2: \"10.0.0.0/33\" {what}"));
        check("addresses = [\"all\", \"x\"]", &format!("auth rule 2: \"x\" {what}"));
        check(
            "method = \"cert\"\nmap = \"m\"",
            "auth rule 2: there is no [auth.certificate_maps.m]",
        );
        check("map = \"m\"", "auth rule 2: map \"m\" has a meaning only with method \"cert\"");
    }

    #[test]
    fn certificates_name_users() {
        let auth = auth(RULES);
        let map = auth.certificate_maps.get("m");
        let check = |map, names: &[&str], user: &str, expect| {
            let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
            assert_eq!(certificate_user_matches(map, &names, user), expect, "{names:?} {user}");
        };
        check(None, &[], "ann", false);
        check(None, &["x", "ann"], "ann", true);
        check(None, &["Ann"], "ann", false);
        check(map, &["ann"], "ann", false);
        check(map, &["x", "ann.example"], "bob", true);
        check(map, &["ann.example"], "eve", false);
    }

    #[test]
    fn a_refusal_names_the_clients_side_only() {
        let report = refusal("app", "ann", peer("::ffff:10.0.0.1"), false);
        assert_eq!(report.sqlstate, "28000");
        assert_eq!(
            report.message,
            "no auth rule admits host \"10.0.0.1\", user \"ann\", database \"app\", no encryption"
        );
    }
}
