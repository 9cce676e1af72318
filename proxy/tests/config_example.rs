//! `config.example.toml` shows every key of the configuration with its true default, and no other.
//!
//! The keys come from the types themselves: what they serialise is what the file must show.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what went wrong by panicking

use std::collections::{BTreeMap, BTreeSet};

use pgherd::config::{AuthRule, Config, Database, Node, User, validate};
use serde::Serialize;
use serde_json::Value;

const EXAMPLE: &str = include_str!("../../config.example.toml");

/// Tables whose keys are names that the operator chooses.
const HERD: [&str; 3] = ["nodes", "databases", "users"];

/// Every key of `value` with its path, also those that are null.
fn keys(value: &impl Serialize) -> BTreeMap<String, Value> {
    fn walk(path: &str, value: Value, out: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (key, value) in map {
                    let dot = if path.is_empty() { "" } else { "." };
                    walk(&format!("{path}{dot}{key}"), value, out);
                }
            }
            value => {
                out.insert(path.to_owned(), value);
            }
        }
    }
    let mut out = BTreeMap::new();
    walk("", serde_json::to_value(value).unwrap(), &mut out);
    out
}

/// The same without the herd.
fn settings(value: &impl Serialize) -> BTreeMap<String, Value> {
    let mut keys = keys(value);
    keys.retain(|key, _| !HERD.iter().any(|herd| key.split('.').next() == Some(herd)));
    keys
}

/// The example with the keys that are commented out: `#key = …` and `#[table]`, but not prose.
fn uncommented() -> String {
    let uncomment = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()) => {
            rest.to_owned()
        }
        _ => line.to_owned(),
    };
    EXAMPLE.lines().map(uncomment).collect::<Vec<_>>().join("\n")
}

/// The keys of every table in `path`, or of every element of the array there.
fn shown(document: &toml::Table, path: &[&str]) -> BTreeSet<String> {
    let root = toml::Value::Table(document.clone());
    let value = path.iter().fold(&root, |value, step| &value[*step]);
    let tables: Vec<_> = match value {
        toml::Value::Array(items) => items.iter().filter_map(toml::Value::as_table).collect(),
        toml::Value::Table(map) => map.values().filter_map(toml::Value::as_table).collect(),
        _ => Vec::new(),
    };
    tables.into_iter().flat_map(|table| table.keys().cloned()).collect()
}

#[test]
fn the_example_is_valid_with_and_without_its_commented_keys() {
    let config = Config::parse(EXAMPLE, "config.example.toml").unwrap();
    // Who may log in is the one thing that nobody can choose for the operator.
    assert!(validate::warnings(&config).iter().all(|w| w.contains("users_file")));
    Config::parse(&uncommented(), "config.example.toml").unwrap();
}

#[test]
fn every_setting_is_shown_with_its_default() {
    let config = Config::parse(EXAMPLE, "config.example.toml").unwrap();
    let defaults = settings(&Config::default());
    assert_eq!(settings(&config), defaults);

    // The file itself, not what the types make of it: nothing may be left to a default.
    let document: toml::Table = EXAMPLE.parse().unwrap();
    let in_file: BTreeSet<_> = settings(&document).into_keys().collect();
    assert_eq!(in_file, defaults.into_keys().collect());
}

#[test]
fn every_key_of_a_node_a_database_a_user_and_a_rule_is_shown() {
    let document: toml::Table = uncommented().parse().unwrap();
    let check = |path: &[&str], expect: BTreeMap<String, Value>| {
        assert_eq!(shown(&document, path), expect.into_keys().collect(), "{path:?}");
    };
    check(&["nodes"], keys(&toml::from_str::<Node>("host = \"h\"").unwrap()));
    check(&["databases"], keys(&toml::from_str::<Database>("nodes = []").unwrap()));
    check(&["users"], keys(&User::default()));
    check(&["auth", "rules"], keys(&AuthRule::default()));
}

#[test]
fn what_holds_for_a_node_and_a_database_that_say_nothing_is_shown() {
    let config = Config::parse(EXAMPLE, "config.example.toml").unwrap();
    let node: Node = toml::from_str("host = \"127.0.0.1\"").unwrap();
    assert_eq!(keys(&config.nodes["pg1"]), keys(&node));
    let database: Database = toml::from_str("nodes = [\"pg1\"]").unwrap();
    assert_eq!(keys(&config.databases["app"]), keys(&database));

    let config = Config::parse(&uncommented(), "config.example.toml").unwrap();
    let (app, pool) = (&config.databases["app"], &config.pool);
    assert_eq!(app.mode, Some(pool.mode));
    assert_eq!(app.size_min, Some(pool.size_min));
    assert_eq!(app.size, Some(pool.size_default));
    assert_eq!(app.reserve_size, Some(pool.reserve_size));
    assert_eq!(app.max_connections, Some(pool.max_database_connections));
    assert_eq!(app.max_client_connections, Some(pool.max_database_client_connections));
    assert_eq!(app.wait_timeout, Some(pool.wait_timeout));
}
