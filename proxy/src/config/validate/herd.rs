//! Nodes, databases and users: names that exist, places that differ, sizes that fit.

use std::collections::{BTreeMap, BTreeSet};

use super::super::diagnose::{Document, unknown};
use super::super::{Config, Database, Node, Role};
use super::at_least_one;

/// The virtual database of the admin console.
const CONSOLE: &str = "pgherd";

pub(super) fn nodes(config: &Config, document: &mut Document<'_>) {
    let mut places = BTreeMap::new();
    for (name, node) in &config.nodes {
        if node.host.is_empty() {
            let what = "a node needs a host name, an address or the directory of a unix socket";
            document.report(&["nodes", name, "host"], what);
        }
        if node.port == 0 {
            document.report(&["nodes", name, "port"], "expected a port from 1 to 65535");
        }
        if let Some(other) = places.insert((node.host.as_str(), node.port), name) {
            let what = format!(
                "\"{name}\" is at the same host and port as \"{other}\"; list a server once"
            );
            document.report(&["nodes", name, "host"], what);
        }
    }
}

pub(super) fn databases(config: &Config, document: &mut Document<'_>) {
    for (name, database) in &config.databases {
        if name == CONSOLE {
            let what = format!("\"{CONSOLE}\" is the admin console's name; choose another one");
            document.report(&["databases", name], what);
        }
        if database.nodes.is_empty() {
            let what = format!("the database \"{name}\" is on no node; expected names of [nodes]");
            document.report(&["databases", name, "nodes"], what);
            continue;
        }
        if let Some(found) = listed_nodes(config, document, name, database) {
            roles(document, name, database, &found);
        }
    }
}

/// The nodes of a database; `None`: one is unknown, so nothing follows from the others.
fn listed_nodes<'c>(
    config: &'c Config,
    document: &mut Document<'_>,
    name: &str,
    database: &'c Database,
) -> Option<Vec<(&'c str, &'c Node)>> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    let mut all_known = true;
    for (i, node_name) in database.nodes.iter().enumerate() {
        let path = ["databases", name, "nodes", &i.to_string()];
        if !seen.insert(node_name) {
            document.report(&path, format!("\"{node_name}\" is listed twice"));
        }
        match config.nodes.get(node_name) {
            Some(node) => found.push((node_name.as_str(), node)),
            None => {
                let known: Vec<_> = config.nodes.keys().map(String::as_str).collect();
                document.report(&path, unknown("node", node_name, &known));
                all_known = false;
            }
        }
    }
    all_known.then_some(found)
}

fn roles(document: &mut Document<'_>, name: &str, database: &Database, found: &[(&str, &Node)]) {
    let of = |role| {
        let names = found.iter().filter(move |(_, node)| node.role == role);
        names.map(|(name, _)| *name).collect::<BTreeSet<_>>()
    };
    let (primaries, replicas) = (of(Role::Primary), of(Role::Replica));
    let path = ["databases", name, "nodes"];
    if primaries.len() > 1 {
        let names = primaries.into_iter().collect::<Vec<_>>().join(" and ");
        let what = format!(
            "{names} are both primaries, but the database \"{name}\" can have only one; \
             give the others role = \"replica\""
        );
        document.report(&path, what);
    } else if database.role == Role::Primary && primaries.is_empty() {
        let what = format!(
            "none of these nodes is a primary; the database \"{name}\" needs one, \
             or role = \"replica\" for reads only"
        );
        document.report(&path, what);
    } else if database.role == Role::Replica && replicas.is_empty() {
        let what = format!(
            "none of these nodes is a replica, but the database \"{name}\" has role = \"replica\""
        );
        document.report(&path, what);
    }
}

/// How pgherd logs in to a database's servers.
pub(super) fn logins(config: &Config, document: &mut Document<'_>) {
    for (name, database) in &config.databases {
        let inline = database.password.is_some();
        let file = database.password_file.is_some();
        if inline && file {
            let what = "both password and password_file are set; keep password_file";
            document.report(&["databases", name, "password"], what);
        }
        if (inline || file) && database.user.is_empty() {
            let key = if inline { "password" } else { "password_file" };
            let what = format!("{key} needs user beside it: whose password is it?");
            document.report(&["databases", name, key], what);
        }
    }
}

pub(super) fn sizes(config: &Config, document: &mut Document<'_>) {
    let pool = &config.pool;
    for (name, database) in &config.databases {
        if let Some(size) = database.size {
            at_least_one(document, &["databases", name, "size"], size as u64);
        }
        let size = database.size.unwrap_or(pool.size_default);
        let size_min = database.size_min.unwrap_or(pool.size_min);
        let overridden = database.size.is_some() || database.size_min.is_some();
        if overridden && size_min > size && size > 0 {
            let key = if database.size_min.is_some() { "size_min" } else { "size" };
            let what = format!(
                "the database \"{name}\" keeps at least {size_min} servers, \
                 but may have only {size}"
            );
            document.report(&["databases", name, key], what);
        }
    }
}

pub(super) fn users(config: &Config, document: &mut Document<'_>) {
    for (name, user) in &config.users {
        if let Some(size) = user.size {
            at_least_one(document, &["users", name, "size"], size as u64);
        }
    }
}
