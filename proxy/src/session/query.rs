//! Simple queries: what their statements do to the session, and SQL-level PREPARE, EXECUTE and
//! DEALLOCATE, whose names are replaced by those of shared statements.
//!
//! Text is never rebuilt from a parse tree: names are spliced into the client's own bytes.

use std::ops::Range;
use std::sync::Arc;

use pgherd_router::lex::LexOptions;
use pgherd_router::lex::value::name as identifier_of;
use pgherd_router::plan::{DeallocateTarget, Effect, Plan, is_plain, statements};

use super::effects::{Deed, Tracked, deeds_of};
use super::expect::{Expect, Ours, Step};
use super::renamed::renamed;
use super::state::{Freed, Session};
use super::statements::{self as shared, Statement, Via};
use crate::config::PoolMode;
use crate::error::{Fault, Report, sqlstate};
use crate::wire::{HEADER_BYTES, build};

/// Replacements of parts of a text, in order.
pub(super) type Edits = Vec<(Range<usize>, Box<str>)>;

/// What the names in a text come to.
#[derive(Debug, Default)]
pub(super) struct Renames {
    pub(super) edits: Edits,
    /// Statements that the text names, to be there whenever it runs.
    pub(super) uses: Vec<Arc<Statement>>,
}

/// How a statement of ours travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inject {
    /// As a simple query in front of a simple query.
    Simple,
    /// As an extended query: a simple one would end the implicit transaction of a pipeline.
    Extended,
}

impl Session {
    /// A simple query.
    pub(super) fn simple_query(&mut self, frame: &[u8]) -> Result<(), Box<Report>> {
        let sql = text_of(frame, HEADER_BYTES)?;
        self.note_request();
        if !self.shares() {
            self.note_resets(sql);
            self.watch_session_mode(sql);
            self.forward(frame);
            self.expects.push(Expect::Query(None));
            return Ok(());
        }
        if is_plain(sql, self.lex) {
            self.forward(frame);
            self.prepared.unnamed = None;
            self.set_server_unnamed(0);
            self.expects.push(Expect::Query(None));
            return Ok(());
        }
        let mut tracked: Option<Box<Tracked>> = None;
        let mut edits = Edits::new();
        for (n, plan) in statements(sql, self.lex).enumerate() {
            if plan.effects.is_empty() {
                continue;
            }
            self.refuse_blocks(&plan)?;
            let tracking = self.is_tracking() || tracked.is_some();
            let mut deeds = Vec::new();
            deeds_of(&plan, sql, tracking, |deed| deeds.push(deed));
            let mut renames = Renames { edits: std::mem::take(&mut edits), uses: Vec::new() };
            deeds.extend(self.rename(&plan, sql, Inject::Simple, &mut renames));
            edits = renames.edits;
            for deed in deeds {
                self.free_names(&deed);
                tracked.get_or_insert_default().deeds.push((n, deed));
            }
        }
        if !edits.is_empty() {
            let utf8 = self.reported.get(b"client_encoding") == Some(b"UTF8");
            tracked.get_or_insert_default().renamed = renamed(sql, &edits, utf8);
        }
        let tracked = self.track(tracked);
        if edits.is_empty() {
            self.forward(frame);
        } else {
            build::frame(self.to_server.buffer(), b'Q', |out| {
                splice(out, sql, &edits);
                out.push(0);
            });
        }
        self.prepared.unnamed = None;
        self.set_server_unnamed(0);
        self.expects.push(Expect::Query(tracked));
        Ok(())
    }

    /// In session mode statements pass untouched; the server is cleaned when they left state behind.
    fn watch_session_mode(&mut self, sql: &[u8]) {
        if self.pins.is_pinned() || is_plain(sql, self.lex) {
            return;
        }
        for plan in statements(sql, self.lex) {
            let leaves = |effect: &Effect| {
                !matches!(
                    effect,
                    Effect::Begin
                        | Effect::Commit { .. }
                        | Effect::Rollback { .. }
                        | Effect::Savepoint(_)
                        | Effect::RollbackTo(_)
                        | Effect::Release(_)
                        | Effect::SetLocal
                        | Effect::Notify
                        | Effect::CopyIn
                        | Effect::CopyOut
                )
            };
            if plan.effects.iter().any(leaves) {
                self.pins.add(super::pins::Reason::Untold);
                return;
            }
        }
    }

    /// Statement mode has no transaction blocks.
    pub(super) fn refuse_blocks(&self, plan: &Plan) -> Result<(), Box<Report>> {
        if self.mode == PoolMode::Statement
            && plan.effects.iter().any(|effect| matches!(effect, Effect::Begin))
        {
            return Err(Report::fatal(
                Fault::Client,
                sqlstate::FEATURE_NOT_SUPPORTED,
                "transaction blocks are not allowed in statement pooling mode",
            )
            .hint("use a database or user whose pool mode is transaction or session")
            .into());
        }
        Ok(())
    }

    /// Replaces the names of SQL-level prepared statements, and sees to it that the server has them.
    /// Answers what follows from it: names that are new, and what executed statements do.
    pub(super) fn rename(
        &mut self,
        plan: &Plan,
        sql: &[u8],
        inject: Inject,
        renames: &mut Renames,
    ) -> Vec<Deed> {
        let mut deeds = Vec::new();
        for effect in &plan.effects {
            match effect {
                Effect::Prepare { name, body, statement } => {
                    let client_name = identifier(sql.get(name.clone()).unwrap_or_default());
                    if self.prepared.named.contains_key(&client_name) {
                        // The server must say that it exists already: it has a statement of ours.
                        self.rename_execute(name, &client_name, inject, renames);
                        continue;
                    }
                    let body = sql.get(body.clone()).unwrap_or_default();
                    let inner = sql.get(statement.clone()).unwrap_or_default();
                    let lex = self.lex;
                    let statement = shared::share(Via::Sql, body, || shared::Traits {
                        deeds: deeds_inside(inner, lex),
                        uses: Box::default(),
                    });
                    self.unprepare(&statement, inject);
                    self.note_prepared(statement.clone());
                    renames.edits.push((name.clone(), statement.name.clone()));
                    self.prepared.named.insert(client_name.clone(), statement);
                    deeds.push(Deed::Prepare(client_name));
                }
                Effect::Execute { name } => {
                    let client_name = identifier(sql.get(name.clone()).unwrap_or_default());
                    self.rename_execute(name, &client_name, inject, renames);
                    if let Some(statement) = self.prepared.named.get(&client_name) {
                        deeds.extend_from_slice(&statement.traits.deeds);
                    }
                }
                Effect::Deallocate(DeallocateTarget::Name(name)) => {
                    let client_name = identifier(sql.get(name.clone()).unwrap_or_default());
                    self.rename_execute(name, &client_name, inject, renames);
                }
                _ => {}
            }
        }
        deeds
    }

    fn rename_execute(
        &mut self,
        at: &Range<usize>,
        client_name: &[u8],
        inject: Inject,
        renames: &mut Renames,
    ) {
        let Some(statement) = self.prepared.named.get(client_name).cloned() else { return };
        self.ensure_prepared(&statement, inject);
        renames.edits.push((at.clone(), statement.name.clone()));
        // One level is all that PostgreSQL's EXECUTE gets to see; more would be a chain without end.
        if statement.traits.uses.is_empty() {
            renames.uses.push(statement);
        }
    }

    /// Sees to it that the server has `statement` when what follows reaches it.
    pub(super) fn ensure_prepared(&mut self, statement: &Arc<Statement>, inject: Inject) {
        for used in &statement.traits.uses {
            self.ensure_prepared(used, inject);
        }
        let Some(server) = &mut self.server else { return };
        if server.prepared.touch(statement.id) {
            return;
        }
        match statement.via {
            Via::Protocol => {
                let out = self.to_server.buffer();
                build::frame(out, b'P', |out| {
                    build::cstr(out, statement.name.as_bytes());
                    out.extend_from_slice(&statement.body);
                });
                self.count(|s| &s.server_parse_count);
                self.ours(Ours::Parse(statement.clone()));
                if inject == Inject::Simple {
                    // Its own Sync: a simple query follows.
                    build::sync(self.to_server.buffer());
                    self.ours(Ours::Query);
                }
            }
            Via::Sql => {
                let mut sql = b"PREPARE ".to_vec();
                sql.extend_from_slice(statement.name.as_bytes());
                // The body may begin with AS.
                sql.push(b' ');
                sql.extend_from_slice(&statement.body);
                self.inject(&sql, Ours::Prepare(statement.clone()), inject);
            }
        }
        self.note_prepared(statement.clone());
    }

    /// The client's PREPARE creates what the server may have already: then that goes first.
    fn unprepare(&mut self, statement: &Arc<Statement>, inject: Inject) {
        let had = self.server.as_mut().is_some_and(|server| server.prepared.remove(statement.id));
        if had {
            let sql = format!("DEALLOCATE {}", statement.name);
            self.inject(sql.as_bytes(), Ours::Query, inject);
        }
    }

    /// The server has `statement` from here on; the least used one makes room.
    pub(super) fn note_prepared(&mut self, statement: Arc<Statement>) {
        let Some(server) = &mut self.server else { return };
        let max = server.settings().prepared_statements_max;
        let evicted = server.prepared.insert(statement, max);
        let count = server.prepared.len();
        server.info.prepared.store(count, std::sync::atomic::Ordering::Relaxed);
        if let Some(evicted) = evicted {
            build::close_statement(self.to_server.buffer(), evicted.name.as_bytes());
            self.ours(Ours::Close(evicted));
        }
    }

    /// A statement is on its way that frees names: they are free for what is sent behind it.
    pub(super) fn free_names(&mut self, deed: &Deed) {
        let mut freed = Freed::default();
        match deed {
            Deed::DeallocateAll => {
                freed.names = std::mem::take(&mut self.prepared.named);
                if let Some(server) = &mut self.server {
                    freed.on_server = Some(std::mem::take(&mut server.prepared));
                    server.info.prepared.store(0, std::sync::atomic::Ordering::Relaxed);
                }
            }
            Deed::Deallocate(name) => {
                let name = identifier(name);
                if let Some(statement) = self.prepared.named.remove(&name) {
                    self.forget_on_server(&statement);
                    freed.names.insert(name, statement);
                }
            }
            _ => return,
        }
        self.prepared.freed.push_back(freed);
    }

    /// The server refused: what the oldest of them took is there still.
    pub(super) fn unfree_names(&mut self) {
        let Some(freed) = self.prepared.freed.pop_front() else { return };
        let server = self.server.as_mut().map(|server| &mut server.prepared);
        match (server, freed.on_server) {
            (Some(now), Some(before)) => now.merge(before),
            (Some(now), None) => {
                for statement in freed.names.values() {
                    now.insert(statement.clone(), usize::MAX);
                }
            }
            (None, _) => {}
        }
        for (name, statement) in freed.names {
            self.prepared.named.entry(name).or_insert(statement);
        }
    }

    pub(super) fn forget_on_server(&mut self, statement: &Statement) {
        if let Some(server) = &mut self.server {
            server.prepared.remove(statement.id);
            let count = server.prepared.len();
            server.info.prepared.store(count, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// A statement of ours in front of what follows.
    pub(super) fn inject(&mut self, sql: &[u8], ours: Ours, how: Inject) {
        let out = self.to_server.buffer();
        match how {
            Inject::Simple => {
                build::query(out, sql);
                self.ours(ours);
                self.set_server_unnamed(0);
            }
            Inject::Extended => {
                let name = b"__pgherd_step";
                build::frame(out, b'P', |out| {
                    build::cstr(out, name);
                    build::cstr(out, sql);
                    out.extend_from_slice(&[0, 0]);
                });
                build::frame(out, b'B', |out| {
                    build::cstr(out, name);
                    build::cstr(out, name);
                    out.extend_from_slice(&[0; 6]);
                });
                build::frame(out, b'E', |out| {
                    build::cstr(out, name);
                    out.extend_from_slice(&[0; 4]);
                });
                build::close_statement(out, name);
                for step in [Step::Parse, Step::Bind, Step::Execute, Step::Close] {
                    self.ours(Ours::Step(step));
                }
            }
        }
    }
}

/// What executing the statement inside a PREPARE does.
fn deeds_inside(sql: &[u8], lex: LexOptions) -> Box<[Deed]> {
    let mut deeds = Vec::new();
    for plan in statements(sql, lex) {
        deeds_of(&plan, sql, true, |deed| deeds.push(deed));
    }
    deeds.into()
}

/// The zero-terminated text that ends a frame.
pub(super) fn text_of(frame: &[u8], from: usize) -> Result<&[u8], Box<Report>> {
    match frame.get(from..).and_then(<[u8]>::split_last) {
        Some((0, text)) if memchr::memchr(0, text).is_none() => Ok(text),
        _ => Err(super::client::violation("invalid string in message")),
    }
}

/// Appends `text` with `edits` done.
pub(super) fn splice(out: &mut Vec<u8>, text: &[u8], edits: &Edits) {
    let mut at = 0;
    for (range, new) in edits {
        out.extend_from_slice(text.get(at..range.start).unwrap_or_default());
        out.extend_from_slice(new.as_bytes());
        at = range.end;
    }
    out.extend_from_slice(text.get(at..).unwrap_or_default());
}

/// An identifier as PostgreSQL stores it: folded to lower case unless quoted.
pub(super) fn identifier(written: &[u8]) -> Box<[u8]> {
    identifier_of(written).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spliced_into_the_text() {
        let mut out = Vec::new();
        let edits = vec![(8..9, "x1".into()), (14..15, "x2".into())];
        splice(&mut out, b"PREPARE a AS  b -- c", &edits);
        assert_eq!(out, b"PREPARE x1 AS  x2 -- c");
    }

    #[test]
    fn identifiers_are_folded() {
        let check = |written: &str, expect: &str| {
            assert_eq!(&*identifier(written.as_bytes()), expect.as_bytes(), "{written}");
        };
        check("Foo", "foo");
        check("\"Foo\"", "Foo");
        check("\"a\"\"b\"", "a\"b");
        check("\"\"\"\"", "\"");
    }
}
