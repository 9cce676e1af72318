//! How many entries each of pgherd's own tables holds: what could grow, made visible.
//!
//! Counting locks each table for a moment; it is done when somebody asks, never on a query's way.

use crate::auth::process::salted_passwords;
use crate::hub::Hub;
use crate::session::{cancel, statements};

/// A table and its entries now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// In `SHOW MEM` and as the label of `pgherd_table_entries`; docs/watching.md explains each.
    pub name: &'static str,
    /// Entries.
    pub entries: usize,
}

/// Every table that comes and goes with clients, servers and their statements.
#[must_use]
pub fn tables(hub: &Hub) -> Vec<Table> {
    let pools = hub.pools.tables();
    [
        ("sessions", hub.sessions.len()),
        ("statements", statements::count()),
        ("pools", pools.pools),
        ("servers", pools.servers),
        ("waiting", pools.waiting),
        ("starving", pools.starving),
        ("limits", pools.limits),
        ("welcomes", pools.welcomes),
        ("listeners", hub.listeners.len()),
        ("cancels", cancel::in_flight()),
        ("auth_answers", hub.auth_query.remembered()),
        ("salted_passwords", salted_passwords().len()),
        ("client_tasks", hub.tasks.len()),
        ("server_tasks", pools.tasks),
        ("background_tasks", hub.background.len()),
    ]
    .map(|(name, entries)| Table { name, entries })
    .into()
}
