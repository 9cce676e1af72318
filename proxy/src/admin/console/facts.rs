//! What SHOW needs to know, taken from the hub at one moment: rendering it is then pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::command::Show;
use crate::admin::averages::{self, Span};
use crate::config::Config;
use crate::hub::{ClientSnapshot, Hub, PoolSnapshot, ServerSnapshot};
use crate::metrics::process::{self, Memory};
use crate::metrics::stats::Totals;
use crate::metrics::tables::{self, Table};

/// A moment of the hub.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) config: Arc<Config>,
    pub(super) pools: Vec<PoolSnapshot>,
    pub(super) clients: Vec<ClientSnapshot>,
    pub(super) servers: Vec<ServerSnapshot>,
    /// Totals of each database, and what it did of late.
    pub(super) stats: BTreeMap<String, (Totals, Span)>,
    /// Whether a database is paused, and whether it is disabled: orders hold without pools, too.
    pub(super) held: BTreeMap<String, (bool, bool)>,
    /// Everything is paused.
    pub(super) all_paused: bool,
    pub(super) clients_now: usize,
    pub(super) memory: Memory,
    pub(super) tables: Vec<Table>,
}

impl Facts {
    /// What `show` needs, and no more: with many clients a snapshot is not free.
    pub(super) fn gather(hub: &Hub, show: Show) -> Facts {
        use Show as S;
        let mut facts = Facts { config: hub.config.load_full(), ..Facts::default() };
        if matches!(
            show,
            S::Databases
                | S::Pools
                | S::Lists
                | S::Users
                | S::Stats
                | S::StatsTotals
                | S::StatsAverages
                | S::Totals
                | S::Nodes
        ) {
            facts.pools = hub.pools.snapshot();
        }
        if matches!(
            show,
            S::Clients
                | S::Servers
                | S::Sockets
                | S::ActiveSockets
                | S::Lists
                | S::Users
                | S::Databases
        ) {
            facts.clients = hub.sessions.snapshot();
        }
        if matches!(show, S::Servers | S::Sockets | S::ActiveSockets | S::Lists) {
            facts.servers = hub.pools.servers();
        }
        if matches!(show, S::Stats | S::StatsTotals | S::StatsAverages | S::Totals) {
            facts.stats = stats(hub, &facts.pools);
        }
        if show == S::Databases {
            let configured = facts.config.databases.keys();
            let names = configured.chain(facts.pools.iter().map(|p| &p.database));
            let held = |name: &String| {
                let orders = (hub.pools.is_paused(name), hub.pools.is_disabled(name));
                (name.clone(), orders)
            };
            facts.held = names.map(held).collect();
        }
        // No database has an empty name, so only an order for all pauses it.
        facts.all_paused = hub.pools.is_paused("");
        if show == S::Mem {
            facts.memory = process::memory();
            facts.tables = tables::tables(hub);
        }
        facts.clients_now = hub.clients_now.load(Relaxed);
        facts
    }
}

fn stats(hub: &Hub, pools: &[PoolSnapshot]) -> BTreeMap<String, (Totals, Span)> {
    let now = Instant::now();
    averages::by_database(pools)
        .into_iter()
        .map(|(database, totals)| {
            let span = hub.averages.span(&database, &totals, now, hub.started);
            (database, (totals, span))
        })
        .collect()
}
