//! After a RESET, what the startup packet set is set again: those values are what a client expects
//! RESET to go back to (guc.c, `PGC_S_CLIENT`), but the server was started before the client came.
//!
//! It happens in the client's own transaction, behind its request, so that a rollback undoes both.

use pgherd_router::plan::{DiscardTarget, Effect, SetValue, statements};

use super::expect::Ours;
use super::settings::Settings;
use super::state::Session;
use crate::wire::build;

/// What a client has reset, and is not in force again yet.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Resets {
    /// Nothing.
    #[default]
    None,
    /// These.
    Names(Vec<Box<[u8]>>),
    /// RESET ALL.
    All,
}

impl Resets {
    fn add(&mut self, name: &[u8]) {
        match self {
            Resets::None => *self = Resets::Names(vec![name.into()]),
            Resets::Names(names) => names.push(name.into()),
            Resets::All => {}
        }
    }

    /// What of `startup` is to be set again.
    fn of(&self, startup: &Settings) -> Settings {
        match self {
            Resets::None => Settings::default(),
            Resets::Names(names) => {
                let mut some = Settings::default();
                for name in names {
                    if let Some(value) = startup.get(name) {
                        some.set(name, value.clone());
                    }
                }
                some
            }
            // RESET ALL leaves alone who the session is (guc_tables.c, GUC_NO_RESET_ALL).
            Resets::All => {
                let mut all = startup.clone();
                all.remove(b"role");
                all.remove(b"session_authorization");
                all
            }
        }
    }
}

impl Session {
    /// In session mode, where settings are not followed otherwise: whether `sql` resets some.
    pub(super) fn note_resets(&mut self, sql: &[u8]) {
        if self.tracker.wanted().is_empty() || !mentions_reset(sql) {
            return;
        }
        for plan in statements(sql, self.lex) {
            for effect in &plan.effects {
                match effect {
                    Effect::Reset(name) | Effect::Set { name, value: SetValue::Default } => {
                        self.resets.add(name);
                    }
                    Effect::ResetAll | Effect::Discard(DiscardTarget::All) => {
                        self.resets = Resets::All;
                    }
                    _ => {}
                }
            }
        }
    }

    /// ReadyForQuery came: sets again what was reset.
    pub(super) fn restore_reset(&mut self, errored: bool) {
        if errored || self.status == b'E' {
            // The RESET was undone, or never done.
            self.resets = Resets::None;
            return;
        }
        let busy = !self.expects.is_empty() || self.in_batch || self.client_body_left > 0;
        if busy {
            return;
        }
        let statements = if self.shares() {
            // Out of a transaction the next request brings its settings along.
            if self.status == b'I' { return } else { self.tracker.restore() }
        } else {
            let resets = std::mem::take(&mut self.resets);
            if resets == Resets::None {
                return;
            }
            Settings::default().difference(&resets.of(self.tracker.wanted()))
        };
        for sql in statements {
            build::query(self.to_server.buffer(), &sql);
            self.ours(Ours::Settings);
            self.set_server_unnamed(0);
        }
    }
}

/// Parsing every statement in session mode would cost more than looking for these words.
fn mentions_reset(sql: &[u8]) -> bool {
    let has = |word: &[u8]| sql.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
    has(b"reset") || has(b"default") || has(b"discard")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::settings::Value;

    #[test]
    fn only_what_was_reset_is_set_again() {
        let mut startup = Settings::default();
        for name in [b"a".as_slice(), b"b", b"role"] {
            startup.set(name, Value::Literal(b"1".as_slice().into()));
        }
        let check = |names: &[&[u8]], expect: usize| {
            let mut resets = Resets::None;
            names.iter().for_each(|name| resets.add(name));
            assert_eq!(resets.of(&startup).len(), expect, "{names:?}");
        };
        check(&[], 0);
        check(&[b"a"], 1);
        check(&[b"a", b"c", b"a"], 1);
        check(&[b"b", b"role"], 2);
        assert_eq!(Resets::All.of(&startup).len(), 2);
    }

    #[test]
    fn words_are_found_in_any_case() {
        let check = |sql: &str, expect: bool| assert_eq!(mentions_reset(sql.as_bytes()), expect);
        check("ReSeT DateStyle", true);
        check("SET datestyle TO default", true);
        check("discard all", true);
        check("SELECT 1", false);
        check("", false);
    }
}
