//! Prepared statements that sessions share: one for each text and parameter types.
//!
//! Servers know them by a name of ours; a session maps its own names to them. A statement lives as
//! long as a session names it or a server may still have it under use; the registry holds it weakly.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Weak};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use parking_lot::Mutex;

use super::effects::Deed;
use crate::pool::Pool;

/// What our names begin with.
pub const NAME_PREFIX: &str = "__pgherd_";

/// How a statement was prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Via {
    /// By a Parse message: the body is text, terminator and parameter types.
    Protocol,
    /// By `PREPARE`: the body is what stands behind the name.
    Sql,
}

/// A statement that servers know by a name of ours.
#[derive(Debug)]
pub struct Statement {
    /// Unique in the process.
    pub id: u64,
    /// Its name on servers.
    pub name: Box<str>,
    /// How it was prepared.
    pub via: Via,
    /// What it was prepared from.
    pub body: Box<[u8]>,
    /// What follows from its text.
    pub traits: Traits,
    /// Pools whose servers accepted it. As weak references, because the address of a pool that a reload removed
    /// may be another's later.
    accepted_by: Mutex<Vec<Weak<Pool>>>,
}

/// What a session must know of a statement beside its text.
#[derive(Debug, Default)]
pub struct Traits {
    /// What executing it does to a session.
    pub deeds: Box<[Deed]>,
    /// Statements that its EXECUTE names: a server needs them too.
    pub uses: Box<[Arc<Statement>]>,
}

impl Statement {
    /// Whether a server of `pool` accepted it before: its text is valid there.
    #[must_use]
    pub fn is_accepted_by(&self, pool: &Arc<Pool>) -> bool {
        self.accepted_by.lock().iter().any(|known| is_same(known, pool))
    }

    /// A server of `pool` accepted it.
    pub fn accepted_by(&self, pool: &Arc<Pool>) {
        let mut pools = self.accepted_by.lock();
        if !pools.iter().any(|known| is_same(known, pool)) {
            pools.retain(|known| known.strong_count() > 0);
            pools.push(Arc::downgrade(pool));
        }
    }
}

fn is_same(known: &Weak<Pool>, pool: &Arc<Pool>) -> bool {
    std::ptr::eq(known.as_ptr(), Arc::as_ptr(pool))
}

type Key = (Via, Box<[u8]>);

#[derive(Debug, Default)]
struct Registry {
    known: DashMap<Key, Weak<Statement>>,
    next: AtomicU64,
}

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::default);

/// The name of statement `id` on servers.
#[must_use]
pub fn name_of(id: u64) -> String {
    format!("{NAME_PREFIX}{id}")
}

/// The shared statement for `body`; `traits` is asked when it is new.
#[must_use]
pub fn share(via: Via, body: &[u8], traits: impl FnOnce() -> Traits) -> Arc<Statement> {
    match REGISTRY.known.entry((via, body.into())) {
        Entry::Occupied(mut known) => {
            if let Some(statement) = known.get().upgrade() {
                return statement;
            }
            let new = make(via, body, traits());
            known.insert(Arc::downgrade(&new));
            new
        }
        Entry::Vacant(place) => {
            let new = make(via, body, traits());
            place.insert(Arc::downgrade(&new));
            new
        }
    }
}

/// The shared statement for `body`, if there is one.
#[must_use]
pub fn find(via: Via, body: &[u8]) -> Option<Arc<Statement>> {
    REGISTRY.known.get(&(via, body.into())).and_then(|known| known.upgrade())
}

fn make(via: Via, body: &[u8], traits: Traits) -> Arc<Statement> {
    let id = REGISTRY.next.fetch_add(1, Relaxed) + 1;
    let (name, body) = (name_of(id).into(), body.into());
    Arc::new(Statement { id, name, via, body, traits, accepted_by: Mutex::default() })
}

impl Drop for Statement {
    fn drop(&mut self) {
        let key = (self.via, std::mem::take(&mut self.body));
        REGISTRY.known.remove_if(&key, |_, weak| weak.strong_count() == 0);
    }
}

/// How many statements are shared now.
#[must_use]
pub fn count() -> usize {
    REGISTRY.known.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_text_is_one_statement_until_nobody_names_it() {
        let a = share(Via::Protocol, b"SELECT 'statements test'\0\0\0", Traits::default);
        let b = share(Via::Protocol, b"SELECT 'statements test'\0\0\0", Traits::default);
        let c = share(Via::Sql, b"SELECT 'statements test'\0\0\0", Traits::default);
        assert!(Arc::ptr_eq(&a, &b));
        assert_ne!(a.id, c.id);
        let id = a.id;
        drop((a, b));
        let again = share(Via::Protocol, b"SELECT 'statements test'\0\0\0", Traits::default);
        assert_ne!(again.id, id, "a server may still have the old one under its name");
    }
}
