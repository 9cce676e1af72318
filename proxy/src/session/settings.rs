//! What a session has SET, and what a server carries: compared at checkout, replayed where they differ.
//!
//! Pure. Values are kept either as the string that `set_config` takes, or as the client's own SET
//! statement, which is replayed word by word. Transactions and savepoints undo settings as
//! PostgreSQL does (guc.c, `AtEOXact_GUC`).

use std::collections::BTreeMap;
use std::sync::Arc;

/// One setting's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// As `current_setting` would show it.
    Literal(Box<[u8]>),
    /// The client's SET statement.
    Statement(Box<[u8]>),
}

/// Settings by name; shared and compared by pointer where possible. Empty costs nothing.
#[derive(Debug, Clone, Default)]
pub struct Settings(Option<Arc<BTreeMap<Box<[u8]>, Value>>>);

impl PartialEq for Settings {
    #[inline]
    fn eq(&self, other: &Settings) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
            _ => false,
        }
    }
}

impl Eq for Settings {}

/// Names whose wrong value would be a hole: they are in force before a client's statement is sent.
const GUARDED: [&[u8]; 2] = [b"session_authorization", b"role"];

/// The one setting whose value may name a part of it: the rest stays as it was (variable.c,
/// `check_datestyle`).
pub const DATE_STYLE: &[u8] = b"datestyle";

impl Settings {
    /// Of a startup packet.
    #[must_use]
    pub fn from_startup(settings: &[(Box<str>, Box<str>)]) -> Settings {
        let mut all = Settings::default();
        for (name, value) in settings {
            let name = name.to_ascii_lowercase();
            all.set(name.as_bytes(), Value::Literal(value.as_bytes().into()));
        }
        all
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |map| map.len())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&Value> {
        self.0.as_ref()?.get(name)
    }

    /// Sets `name`.
    pub fn set(&mut self, name: &[u8], value: Value) {
        let map = Arc::make_mut(self.0.get_or_insert_default());
        map.insert(name.into(), value);
    }

    /// Forgets `name`.
    pub fn remove(&mut self, name: &[u8]) {
        let Some(arc) = &mut self.0 else { return };
        if !arc.contains_key(name) {
            return;
        }
        let map = Arc::make_mut(arc);
        map.remove(name);
        if map.is_empty() {
            self.0 = None;
        }
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], &Value)> {
        self.0.iter().flat_map(|map| map.iter().map(|(name, value)| (&**name, value)))
    }

    /// The statements that bring a server from `self` to `wanted`, in order; each is one Query.
    #[must_use]
    pub fn difference(&self, wanted: &Settings) -> Vec<Vec<u8>> {
        let mut statements = Vec::new();
        let mut have = self.clone();
        let plain = self.plain_difference(wanted);
        if !plain.is_empty() && self.has_identity() {
            // Others may not do what the login user may: a superuser's setting stays a superuser's.
            statements.push(b"RESET SESSION AUTHORIZATION;\nRESET ROLE;\n".to_vec());
            GUARDED.iter().for_each(|name| have.remove(name));
        }
        statements.extend(plain);
        // SET SESSION AUTHORIZATION resets the role (variable.c, `assign_session_authorization`).
        let before = statements.len();
        have.step(wanted, b"session_authorization", &mut statements);
        if statements.len() > before {
            let mut role = Vec::new();
            if let Some(value) = wanted.get(b"role") {
                append_set(&mut role, b"role", value);
                statements.push(role);
            }
        } else {
            have.step(wanted, b"role", &mut statements);
        }
        statements
    }

    /// The same, but who the session is stays as it is.
    #[must_use]
    pub fn plain_difference(&self, wanted: &Settings) -> Vec<Vec<u8>> {
        let mut statements = Vec::new();
        let mut main = Vec::new();
        // An encoding must be in force before text in it arrives.
        self.step(wanted, b"client_encoding", &mut statements);
        for (name, _) in self.iter() {
            if !is_special(name) && wanted.get(name).is_none() {
                append_reset(&mut main, name);
            }
        }
        for (name, value) in wanted.iter() {
            if !is_special(name) && self.get(name) != Some(value) {
                if name == DATE_STYLE && self.get(name).is_some() {
                    append_reset(&mut main, name);
                }
                append_set(&mut main, name, value);
            }
        }
        if !main.is_empty() {
            statements.push(main);
        }
        statements
    }

    fn has_identity(&self) -> bool {
        GUARDED.iter().any(|name| self.get(name).is_some())
    }

    fn step(&self, wanted: &Settings, name: &[u8], statements: &mut Vec<Vec<u8>>) {
        let (have, want) = (self.get(name), wanted.get(name));
        if have == want {
            return;
        }
        let mut sql = Vec::new();
        match want {
            Some(value) => append_set(&mut sql, name, value),
            None => append_reset(&mut sql, name),
        }
        statements.push(sql);
    }

    /// Whether `self` and `wanted` say the same of who the session is.
    #[must_use]
    pub fn is_same_identity(&self, wanted: &Settings) -> bool {
        GUARDED.iter().all(|name| self.get(name) == wanted.get(name))
    }

    /// Whether going from `self` to `wanted` changes who the session is, if only on the way: then it
    /// must be done, and seen to be done, before a client's statement is sent.
    #[must_use]
    pub fn changes_identity(&self, wanted: &Settings) -> bool {
        self != wanted && (!self.is_same_identity(wanted) || self.has_identity())
    }
}

fn is_special(name: &[u8]) -> bool {
    name == b"client_encoding" || GUARDED.contains(&name)
}

fn append_reset(sql: &mut Vec<u8>, name: &[u8]) {
    match name {
        b"session_authorization" => sql.extend_from_slice(b"RESET SESSION AUTHORIZATION"),
        _ => {
            sql.extend_from_slice(b"RESET ");
            append_name(sql, name);
        }
    }
    sql.extend_from_slice(b";\n");
}

/// A name, each part quoted: custom settings have dots.
fn append_name(sql: &mut Vec<u8>, name: &[u8]) {
    for (n, part) in name.split(|b| *b == b'.').enumerate() {
        if n > 0 {
            sql.push(b'.');
        }
        sql.push(b'"');
        for &byte in part {
            if byte == b'"' {
                sql.push(byte);
            }
            sql.push(byte);
        }
        sql.push(b'"');
    }
}

fn append_set(sql: &mut Vec<u8>, name: &[u8], value: &Value) {
    match value {
        Value::Statement(text) => sql.extend_from_slice(text),
        Value::Literal(value) => {
            sql.extend_from_slice(b"SELECT pg_catalog.set_config(");
            append_literal(sql, name);
            sql.extend_from_slice(b", ");
            append_value(sql, value);
            sql.extend_from_slice(b", false)");
        }
    }
    // A new line first: the statement may end in a comment.
    sql.extend_from_slice(b"\n;\n");
}

/// The value in the client's encoding. In some of these a byte of a character looks like a quote's or a
/// backslash's neighbour (SJIS: 0x95 0x5c), so what is not ASCII is written in digits.
fn append_value(sql: &mut Vec<u8>, value: &[u8]) {
    if value.is_ascii() {
        append_literal(sql, value);
        return;
    }
    sql.extend_from_slice(b"pg_catalog.convert_from(pg_catalog.decode('");
    for byte in value {
        for digit in [byte >> 4, byte & 15] {
            sql.push(if digit < 10 { b'0' + digit } else { b'a' - 10 + digit });
        }
    }
    sql.extend_from_slice(
        b"', 'hex'), pg_catalog.current_setting('client_encoding')::pg_catalog.name)",
    );
}

/// A string constant that means the same whatever standard_conforming_strings says.
pub fn append_literal(sql: &mut Vec<u8>, value: &[u8]) {
    let escaped = value.contains(&b'\\');
    sql.extend_from_slice(if escaped { b"E'" } else { b"'" });
    for &byte in value {
        if byte == b'\'' || byte == b'\\' {
            sql.push(byte);
        }
        sql.push(byte);
    }
    sql.push(b'\'');
}

/// What a statement did to the settings, once the server confirmed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// SET.
    Set(Box<[u8]>, Value),
    /// RESET, or SET … TO DEFAULT.
    Reset(Box<[u8]>),
    /// RESET ALL.
    ResetAll,
    /// DISCARD ALL: it also ends SET SESSION AUTHORIZATION and with that SET ROLE (discard.c).
    DiscardAll,
    /// SAVEPOINT.
    Savepoint(Box<[u8]>),
    /// ROLLBACK TO.
    RollbackTo(Box<[u8]>),
    /// RELEASE.
    Release(Box<[u8]>),
}

/// The session's and its server's view of the settings at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Views {
    /// What the session wants.
    session: Settings,
    /// What its server has: other than `session` after a RESET of what the startup packet set.
    server: Settings,
}

impl Views {
    /// SET SESSION AUTHORIZATION ends SET ROLE (miscinit.c, `SetSessionAuthorization`).
    fn leave_role(&mut self, name: &[u8]) {
        if name == b"session_authorization" {
            self.session.remove(b"role");
            self.server.remove(b"role");
        }
    }
}

/// The settings of one session over its transactions.
#[derive(Debug, Default)]
pub struct Tracker {
    startup: Settings,
    committed: Settings,
    open: Option<Box<Open>>,
    /// DateStyle was set, and what came of it is not known yet.
    date_style_due: bool,
}

/// A transaction that changed settings.
#[derive(Debug, Default)]
struct Open {
    views: Views,
    savepoints: Vec<(Box<[u8]>, Views)>,
    /// Savepoints were set before anything changed: they all stand for the committed state.
    changed: bool,
}

impl Open {
    /// Another session user: the role that was set is none any more (miscinit.c, `SetSessionUserId`).
    fn forget_role(&mut self, changed: &[u8]) {
        if changed == b"session_authorization" {
            self.views.session.remove(b"role");
            self.views.server.remove(b"role");
        }
    }
}

impl Tracker {
    /// For a session that started with `startup`.
    #[must_use]
    pub fn new(startup: Settings) -> Tracker {
        Tracker { committed: startup.clone(), startup, open: None, date_style_due: false }
    }

    /// What a server should have now.
    #[must_use]
    pub fn wanted(&self) -> &Settings {
        self.open.as_ref().map_or(&self.committed, |open| &open.views.session)
    }

    /// What the held server has now, if that changed since the transaction began.
    #[must_use]
    pub fn server(&self) -> Option<&Settings> {
        self.open.as_ref().filter(|open| open.changed).map(|open| &open.views.server)
    }

    /// The server was brought to what the session wants, inside the transaction.
    pub fn caught_up(&mut self) {
        if let Some(open) = &mut self.open {
            open.views.server = open.views.session.clone();
        }
    }

    /// Whether a transaction changed something, or set a savepoint, and is not over.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// A confirmed change.
    pub fn apply(&mut self, change: &Change) {
        let committed = &self.committed;
        let open = self.open.get_or_insert_with(|| {
            let views = Views { session: committed.clone(), server: committed.clone() };
            Box::new(Open { views, savepoints: Vec::new(), changed: false })
        });
        match change {
            Change::Set(name, value) => {
                self.date_style_due |= **name == *DATE_STYLE;
                open.views.leave_role(name);
                open.forget_role(name);
                open.views.session.set(name, value.clone());
                open.views.server.set(name, value.clone());
                open.changed = true;
            }
            Change::DiscardAll => {
                open.views = Views { session: self.startup.clone(), server: Settings::default() };
                open.changed = true;
            }
            Change::Reset(name) => {
                open.forget_role(name);
                open.views.leave_role(name);
                match self.startup.get(name) {
                    Some(value) => open.views.session.set(name, value.clone()),
                    None => open.views.session.remove(name),
                }
                open.views.server.remove(name);
                open.changed = true;
            }
            Change::ResetAll => {
                // Not reset by RESET ALL: they have GUC_NO_RESET_ALL (guc_tables.c).
                let kept = |settings: &Settings, fresh: &mut Settings| {
                    for name in GUARDED {
                        match settings.get(name) {
                            Some(value) => fresh.set(name, value.clone()),
                            None => fresh.remove(name),
                        }
                    }
                };
                let mut session = self.startup.clone();
                kept(&open.views.session, &mut session);
                let mut server = Settings::default();
                kept(&open.views.server, &mut server);
                open.views = Views { session, server };
                open.changed = true;
            }
            Change::Savepoint(name) => open.savepoints.push((name.clone(), open.views.clone())),
            Change::RollbackTo(name) => {
                if let Some(at) = open.savepoints.iter().rposition(|(n, _)| n == name) {
                    open.savepoints.truncate(at + 1);
                    if let Some((_, views)) = open.savepoints.last() {
                        open.views = views.clone();
                    }
                }
            }
            Change::Release(name) => {
                if let Some(at) = open.savepoints.iter().rposition(|(n, _)| n == name) {
                    open.savepoints.truncate(at);
                }
            }
        }
    }

    /// The transaction committed; answers what the server has now.
    pub fn commit(&mut self) -> Option<Settings> {
        let open = self.open.take()?;
        if !open.changed {
            return None;
        }
        self.committed = open.views.session;
        // Mostly the same: then one copy, so that comparing them is comparing pointers.
        let same = open.views.server == self.committed;
        Some(if same { self.committed.clone() } else { open.views.server })
    }

    /// Whether [`Tracker::date_style_is`] has something to learn.
    #[must_use]
    pub fn is_date_style_due(&self) -> bool {
        self.date_style_due
    }

    /// Out of a transaction, what the server reports as DateStyle: `SET datestyle = DMY` keeps the style
    /// that was, so the statement alone would mean something else on another server. Answers whether the
    /// setting is said in these words from now on.
    pub fn date_style_is(&mut self, reported: &[u8]) -> bool {
        if self.open.is_some() || !std::mem::take(&mut self.date_style_due) {
            return false;
        }
        let set = self.committed.get(DATE_STYLE).is_some();
        if set {
            self.committed.set(DATE_STYLE, Value::Literal(reported.into()));
        }
        set
    }

    /// In a transaction: the statements that bring the server back to what the session wants, after a
    /// RESET of what the startup packet set. They count as sent. Who the session is stays out of it.
    pub fn restore(&mut self) -> Vec<Vec<u8>> {
        let Some(open) = &mut self.open else { return Vec::new() };
        let Views { session, server } = &mut open.views;
        if session == server || !server.is_same_identity(session) {
            return Vec::new();
        }
        let statements = server.plain_difference(session);
        *server = session.clone();
        statements
    }

    /// The transaction was rolled back; answers what the server has now.
    pub fn rollback(&mut self) -> Option<Settings> {
        let open = self.open.take()?;
        open.changed.then(|| self.committed.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lit(value: &str) -> Value {
        Value::Literal(value.as_bytes().into())
    }

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let mut all = Settings::default();
        for (name, value) in pairs {
            all.set(name.as_bytes(), lit(value));
        }
        all
    }

    fn set(name: &str, value: &str) -> Change {
        Change::Set(name.as_bytes().into(), lit(value))
    }

    #[test]
    fn difference_is_only_what_differs() {
        let check = |from: &[(&str, &str)], to: &[(&str, &str)], expect: &[&str]| {
            let sql = settings(from).difference(&settings(to));
            let sql: Vec<_> = sql.iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect();
            assert_eq!(sql, expect, "{from:?} -> {to:?}");
        };
        check(&[], &[], &[]);
        check(&[("a", "1")], &[("a", "1")], &[]);
        check(&[("a", "1")], &[], &["RESET \"a\";\n"]);
        check(&[], &[("a.b", "1")], &["SELECT pg_catalog.set_config('a.b', '1', false)\n;\n"]);
        check(
            &[("a", "1"), ("b", "2")],
            &[("b", "it's \\")],
            &["RESET \"a\";\nSELECT pg_catalog.set_config('b', E'it''s \\\\', false)\n;\n"],
        );
        check(
            &[("role", "x")],
            &[("client_encoding", "LATIN1"), ("a", "1")],
            &[
                "RESET SESSION AUTHORIZATION;\nRESET ROLE;\n",
                "SELECT pg_catalog.set_config('client_encoding', 'LATIN1', false)\n;\n",
                "SELECT pg_catalog.set_config('a', '1', false)\n;\n",
            ],
        );
        // What only a superuser may set is not set as the role.
        check(
            &[("role", "x")],
            &[("a", "1"), ("role", "x")],
            &[
                "RESET SESSION AUTHORIZATION;\nRESET ROLE;\n",
                "SELECT pg_catalog.set_config('a', '1', false)\n;\n",
                "SELECT pg_catalog.set_config('role', 'x', false)\n;\n",
            ],
        );
        check(
            &[("role", "x")],
            &[("role", "x"), ("session_authorization", "y")],
            &[
                "SELECT pg_catalog.set_config('session_authorization', 'y', false)\n;\n",
                "SELECT pg_catalog.set_config('role', 'x', false)\n;\n",
            ],
        );
        assert!(settings(&[("role", "x")]).changes_identity(&settings(&[])));
        assert!(!settings(&[("a", "x")]).changes_identity(&settings(&[])));
        assert!(
            settings(&[("a", "x"), ("role", "x")]).changes_identity(&settings(&[("role", "x")]))
        );
    }

    #[test]
    fn a_value_with_a_byte_like_a_backslash_is_not_escaped() {
        let mut sjis = Settings::default();
        sjis.set(b"a", Value::Literal(b"\x95\x5c"[..].into()));
        let sql = Settings::default().difference(&sjis);
        let expect = "SELECT pg_catalog.set_config('a', pg_catalog.convert_from(pg_catalog.decode(\
                      '955c', 'hex'), pg_catalog.current_setting('client_encoding')::pg_catalog.name), \
                      false)\n;\n";
        assert_eq!(String::from_utf8_lossy(&sql[0]), expect);
    }

    #[test]
    fn rolled_back_settings_are_forgotten() {
        let mut t = Tracker::new(settings(&[("s", "0")]));
        t.apply(&set("a", "1"));
        assert_eq!(t.wanted(), &settings(&[("a", "1"), ("s", "0")]));
        assert_eq!(t.rollback(), Some(settings(&[("s", "0")])));
        assert_eq!(t.wanted(), &settings(&[("s", "0")]));
        t.apply(&set("a", "1"));
        assert_eq!(t.commit(), Some(settings(&[("a", "1"), ("s", "0")])));
        assert_eq!(t.wanted(), &settings(&[("a", "1"), ("s", "0")]));
    }

    #[test]
    fn savepoints_undo_what_came_after_them() {
        let mut t = Tracker::new(Settings::default());
        t.apply(&set("a", "1"));
        t.apply(&Change::Savepoint(b"s".as_slice().into()));
        t.apply(&set("a", "2"));
        t.apply(&set("b", "2"));
        t.apply(&Change::RollbackTo(b"s".as_slice().into()));
        assert_eq!(t.wanted(), &settings(&[("a", "1")]));
        t.apply(&set("c", "3"));
        t.apply(&Change::Release(b"s".as_slice().into()));
        t.apply(&Change::RollbackTo(b"s".as_slice().into()));
        t.commit();
        assert_eq!(t.wanted(), &settings(&[("a", "1"), ("c", "3")]));
    }

    #[test]
    fn reset_goes_back_to_the_startup_packet() {
        let mut t = Tracker::new(settings(&[("tz", "UTC")]));
        t.apply(&set("tz", "CET"));
        t.apply(&set("x", "1"));
        t.commit();
        t.apply(&Change::Reset(b"tz".as_slice().into()));
        assert_eq!(t.wanted(), &settings(&[("tz", "UTC"), ("x", "1")]));
        // The server itself went back to its own default.
        assert_eq!(t.server(), Some(&settings(&[("x", "1")])));
        t.apply(&Change::ResetAll);
        assert_eq!(t.commit(), Some(Settings::default()));
        assert_eq!(t.wanted(), &settings(&[("tz", "UTC")]));
    }

    #[test]
    fn a_new_session_user_has_no_role() {
        let mut t = Tracker::new(Settings::default());
        t.apply(&set("session_authorization", "alice"));
        t.apply(&set("role", "bob"));
        t.commit();
        t.apply(&set("session_authorization", "carol"));
        assert_eq!(t.wanted(), &settings(&[("session_authorization", "carol")]));
        t.apply(&set("role", "bob"));
        t.apply(&Change::Reset(b"session_authorization".as_slice().into()));
        assert_eq!(t.wanted(), &settings(&[]));
    }

    #[test]
    fn a_part_of_date_style_is_kept_as_the_whole() {
        let mut t = Tracker::new(settings(&[("datestyle", "Postgres")]));
        assert!(!t.date_style_is(b"Postgres, MDY"), "nobody set it");
        t.apply(&set("datestyle", "ymd"));
        assert!(!t.date_style_is(b"Postgres, YMD"), "in a transaction");
        t.commit();
        assert!(t.date_style_is(b"Postgres, YMD"));
        assert_eq!(t.wanted(), &settings(&[("datestyle", "Postgres, YMD")]));
        let from = settings(&[("datestyle", "SQL, DMY")]);
        let sql = from.difference(&settings(&[("datestyle", "ISO")])).concat();
        assert!(sql.starts_with(b"RESET \"datestyle\";\nSELECT"));
    }

    #[test]
    fn a_reset_in_a_transaction_is_made_good_there() {
        let mut t = Tracker::new(settings(&[("tz", "UTC")]));
        assert!(t.restore().is_empty());
        t.apply(&Change::Reset(b"tz".as_slice().into()));
        assert_eq!(t.restore().len(), 1);
        assert!(t.restore().is_empty());
        assert_eq!(t.commit(), Some(settings(&[("tz", "UTC")])));
    }

    #[test]
    fn another_session_user_has_no_role() {
        let mut t = Tracker::new(Settings::default());
        t.apply(&set("role", "bob"));
        t.apply(&set("session_authorization", "alice"));
        t.commit();
        assert_eq!(t.wanted(), &settings(&[("session_authorization", "alice")]));
        t.apply(&set("role", "bob"));
        t.apply(&Change::DiscardAll);
        assert_eq!(t.commit(), Some(Settings::default()));
        assert_eq!(t.wanted(), &Settings::default());
    }

    #[test]
    fn reset_all_keeps_the_role() {
        let mut t = Tracker::new(Settings::default());
        t.apply(&set("role", "bob"));
        t.apply(&set("a", "1"));
        t.apply(&Change::ResetAll);
        t.commit();
        assert_eq!(t.wanted(), &settings(&[("role", "bob")]));
    }
}
