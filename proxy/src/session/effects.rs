//! From what the router says of a statement to what the session must remember once it succeeded.
//!
//! Pure: a plan in, [`Deed`]s out. They take effect when the server's CommandComplete arrives, not before.

use pgherd_router::plan::{DeallocateTarget, DiscardTarget, Effect, Plan, SetValue};

use super::pins::Reason;
use super::renamed::Renamed;
use super::settings::{Change, Value};

/// What a statement did to the session, once the server confirmed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// The settings changed.
    Settings(Change),
    /// COMMIT: its tag says whether it was one.
    Commit,
    /// ROLLBACK.
    Rollback,
    /// The server carries state that can't be replayed.
    Pin(Reason),
    /// Such state may be gone.
    MayUnpin,
    /// LISTEN.
    Listen(Box<[u8]>),
    /// UNLISTEN; none: all.
    Unlisten(Option<Box<[u8]>>),
    /// DEALLOCATE ALL, and a part of DISCARD ALL: the session names no statement any more.
    DeallocateAll,
    /// DEALLOCATE: the session's name, as the client wrote it.
    Deallocate(Box<[u8]>),
    /// PREPARE: the session's name for it, forgotten again if it fails.
    Prepare(Box<[u8]>),
}

/// The deeds of one message, each with the number of its statement.
#[derive(Debug, Default)]
pub struct Tracked {
    /// In order.
    pub deeds: Vec<(usize, Deed)>,
    /// Statements completed so far.
    pub completed: usize,
    /// Names in the message's text that were replaced.
    pub renamed: Vec<Renamed>,
}

impl Tracked {
    /// Of a prepared statement.
    #[must_use]
    pub fn of(deeds: &[Deed]) -> Option<Box<Tracked>> {
        if deeds.is_empty() {
            return None;
        }
        let deeds = deeds.iter().map(|deed| (0, deed.clone())).collect();
        Some(Box::new(Tracked { deeds, ..Tracked::default() }))
    }

    /// One more statement completed: its deeds.
    pub fn complete(&mut self) -> Vec<Deed> {
        let now = self.completed;
        self.completed += 1;
        let (done, rest) = self.deeds.drain(..).partition(|(n, _)| *n <= now);
        self.deeds = rest;
        let done: Vec<(usize, Deed)> = done;
        done.into_iter().map(|(_, deed)| deed).collect()
    }
}

/// Appends what `plan` of `sql` will have done. Ends of transactions matter only when something
/// before them must be committed or undone: `tracking` says so.
pub fn deeds_of(plan: &Plan, sql: &[u8], tracking: bool, mut add: impl FnMut(Deed)) {
    for effect in &plan.effects {
        match effect {
            // PREPARE TRANSACTION keeps settings, as COMMIT does (manual, PREPARE TRANSACTION).
            Effect::Commit { .. } | Effect::PrepareTransaction if tracking => add(Deed::Commit),
            Effect::Rollback { .. } if tracking => add(Deed::Rollback),
            Effect::Savepoint(name) => {
                add(Deed::Settings(Change::Savepoint(name.as_slice().into())))
            }
            Effect::RollbackTo(name) if tracking => {
                add(Deed::Settings(Change::RollbackTo(name.as_slice().into())));
            }
            Effect::Release(name) if tracking => {
                add(Deed::Settings(Change::Release(name.as_slice().into())));
            }
            Effect::Set { name, value } => add(Deed::Settings(change_of(name, value, plan, sql))),
            Effect::Reset(name) => add(Deed::Settings(Change::Reset(name.as_slice().into()))),
            Effect::ResetAll => add(Deed::Settings(Change::ResetAll)),
            Effect::SetComputed => add(Deed::Pin(Reason::Untold)),
            Effect::Discard(DiscardTarget::All) => {
                add(Deed::Settings(Change::DiscardAll));
                add(Deed::DeallocateAll);
                add(Deed::Unlisten(None));
                add(Deed::MayUnpin);
            }
            Effect::Discard(DiscardTarget::Temp) | Effect::MayUnpin => add(Deed::MayUnpin),
            Effect::Deallocate(DeallocateTarget::All) => add(Deed::DeallocateAll),
            Effect::Deallocate(DeallocateTarget::Name(name)) => {
                add(Deed::Deallocate(sql.get(name.clone()).unwrap_or_default().into()));
            }
            Effect::Listen(channel) => add(Deed::Listen(channel.as_slice().into())),
            Effect::Unlisten(channel) => {
                add(Deed::Unlisten(channel.as_ref().map(|c| c.as_slice().into())));
            }
            Effect::Pin(reason) => add(Deed::Pin((*reason).into())),
            _ => {}
        }
    }
}

fn change_of(name: &[u8], value: &SetValue, plan: &Plan, sql: &[u8]) -> Change {
    match value {
        SetValue::Default => Change::Reset(name.into()),
        SetValue::Literal(value) => {
            Change::Set(name.into(), Value::Literal(value.as_slice().into()))
        }
        SetValue::Raw => {
            let text = sql.get(plan.span.clone()).unwrap_or_default();
            Change::Set(name.into(), Value::Statement(text.into()))
        }
    }
}
