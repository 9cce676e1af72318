//! The extended protocol: statements that sessions share, portals, and what must be put in front.
//!
//! A named statement of the client stands for a shared one, which is parsed once on each server
//! that needs it. The unnamed one passes through; it is kept so that a later Bind, which may meet
//! another server, finds it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pgherd_router::plan::{is_plain, statements};

use super::client::violation;
use super::effects::{Deed, Tracked, deeds_of};
use super::expect::{Created, Expect, Ours, Owed};
use super::query::{Inject, Renames, splice};
use super::state::{Session, Unnamed};
use super::statements::{NAME_PREFIX, Statement, Traits, Via, share};
use crate::error::{Fault, Report, sqlstate};
use crate::limits;
use crate::wire::{HEADER_BYTES, Reader, WireError, build};

/// Stamps of unnamed statements; 0 is none.
static STAMPS: AtomicU64 = AtomicU64::new(1);

impl From<WireError> for Box<Report> {
    fn from(error: WireError) -> Box<Report> {
        violation(error.to_string())
    }
}

/// What of a Parse or Bind names things.
struct Named<'a> {
    portal: &'a [u8],
    statement: &'a [u8],
    /// Behind the names.
    rest: &'a [u8],
}

impl Session {
    /// Parse.
    pub(super) fn parse(&mut self, frame: &[u8]) -> Result<(), Box<Report>> {
        self.note_request();
        self.in_batch = true;
        let mut r = Reader::new(frame.get(HEADER_BYTES..).unwrap_or_default());
        let name = r.cstr("Parse: name")?;
        let body = r.rest();
        let sql = r.cstr("Parse: text")?;
        let types = r.u16("Parse: number of parameter types")?;
        r.bytes(usize::from(types) * 4, "Parse: parameter types")?;
        r.end("Parse")?;
        if !self.shares() {
            self.note_resets(sql);
            if !name.is_empty() || self.is_watched(sql) {
                self.pins.add(super::pins::Reason::Untold);
            }
            self.forward(frame);
            self.expects.push(Expect::Parse(None));
            return Ok(());
        }
        let (deeds, renames) = self.look_into(sql)?;
        let edited = (!renames.edits.is_empty()).then(|| {
            let mut new = Vec::with_capacity(body.len() + 32);
            splice(&mut new, body, &renames.edits);
            new
        });
        let body = edited.as_deref().unwrap_or(body);
        let traits = Traits { deeds, uses: renames.uses.into() };
        if name.is_empty() {
            self.parse_unnamed(frame, body, traits, edited.is_some());
            return Ok(());
        }
        self.count(|s| &s.client_parse_count);
        self.parse_named(name, body, traits)
    }

    /// In session mode: whether the statement leaves something on the server.
    fn is_watched(&self, sql: &[u8]) -> bool {
        !is_plain(sql, self.lex) && statements(sql, self.lex).any(|plan| !plan.effects.is_empty())
    }

    fn look_into(&mut self, sql: &[u8]) -> Result<(Box<[Deed]>, Renames), Box<Report>> {
        let mut deeds = Vec::new();
        let mut renames = Renames::default();
        if is_plain(sql, self.lex) {
            return Ok((deeds.into(), renames));
        }
        // More than one statement is an error that the server reports.
        if let Some(plan) = statements(sql, self.lex).next()
            && !plan.effects.is_empty()
        {
            self.refuse_blocks(&plan)?;
            // When it is executed is not known yet, so ends of transactions always count.
            deeds_of(&plan, sql, true, |deed| deeds.push(deed));
            deeds.extend(self.rename(&plan, sql, Inject::Extended, &mut renames));
        }
        Ok((deeds.into(), renames))
    }

    fn parse_unnamed(&mut self, frame: &[u8], body: &[u8], traits: Traits, edited: bool) {
        let stamp = STAMPS.fetch_add(1, Relaxed);
        let mut kept = match self.prepared.unnamed.take() {
            Some(mut old) => {
                old.body.clear();
                old
            }
            None => Box::new(Unnamed { stamp, body: Vec::new(), traits: Traits::default() }),
        };
        kept.stamp = stamp;
        kept.traits = traits;
        kept.body.extend_from_slice(body);
        self.prepared.unnamed = Some(kept);
        if edited {
            build::frame(self.to_server.buffer(), b'P', |out| {
                out.push(0);
                out.extend_from_slice(body);
            });
        } else {
            self.forward(frame);
        }
        self.set_server_unnamed(stamp);
        self.expects.push(Expect::ParseUnnamed(stamp));
    }

    fn parse_named(&mut self, name: &[u8], body: &[u8], traits: Traits) -> Result<(), Box<Report>> {
        if let Some(known) = self.prepared.named.get(name).cloned() {
            // PostgreSQL refuses a name that is taken; so does the server, under our name for it.
            self.ensure_prepared(&known, Inject::Extended);
            self.send_parse(&known, body);
            self.expects.push(Expect::Parse(None));
            return Ok(());
        }
        if self.prepared.named.len() >= limits::CLIENT_STATEMENTS_MAX {
            return Err(Report::fatal(
                Fault::Client,
                sqlstate::PROGRAM_LIMIT,
                "too many prepared statements in one session",
            )
            .into());
        }
        let statement = share(Via::Protocol, body, || traits);
        let created = Box::new(Created { name: name.into(), statement: statement.clone() });
        self.prepared.named.insert(name.into(), statement.clone());
        let has = self.server.as_mut().is_some_and(|s| s.prepared.touch(statement.id));
        if has {
            self.expects.push(Expect::Owed(Owed::Parse(created)));
        } else {
            self.send_parse(&statement, &statement.body);
            self.expects.push(Expect::Parse(Some(created)));
            self.note_prepared(statement);
        }
        Ok(())
    }

    fn send_parse(&mut self, statement: &Statement, body: &[u8]) {
        self.count(|s| &s.server_parse_count);
        build::frame(self.to_server.buffer(), b'P', |out| {
            build::cstr(out, statement.name.as_bytes());
            out.extend_from_slice(body);
        });
    }

    /// The client's name for a statement, and what the server is to be told instead.
    fn resolve(&mut self, name: &[u8]) -> Option<Arc<Statement>> {
        if !self.shares() {
            return None;
        }
        if name.is_empty() {
            self.ensure_unnamed();
            return None;
        }
        let statement = self.prepared.named.get(name).cloned()?;
        self.ensure_prepared(&statement, Inject::Extended);
        Some(statement)
    }

    /// The held server must have this session's unnamed statement, and nobody else's.
    fn ensure_unnamed(&mut self) {
        if let Some(unnamed) = &self.prepared.unnamed
            && !unnamed.traits.uses.is_empty()
        {
            for used in unnamed.traits.uses.clone() {
                self.ensure_prepared(&used, Inject::Extended);
            }
        }
        let has = self.server.as_ref().map_or(0, |server| server.unnamed);
        let wanted = self.prepared.unnamed.as_ref().map_or(0, |unnamed| unnamed.stamp);
        if has == wanted {
            return;
        }
        let out = self.to_server.buffer();
        match &self.prepared.unnamed {
            Some(unnamed) => {
                build::frame(out, b'P', |out| {
                    out.push(0);
                    out.extend_from_slice(&unnamed.body);
                });
                self.ours(Ours::ParseUnnamed);
            }
            None => {
                build::close_statement(out, b"");
                self.ours(Ours::CloseUnnamed);
            }
        }
        self.set_server_unnamed(wanted);
    }

    /// Bind.
    pub(super) fn bind(&mut self, frame: &[u8]) -> Result<(), Box<Report>> {
        let body = frame.get(HEADER_BYTES..).unwrap_or_default();
        let Some(named) = names(body) else {
            return Err(violation("invalid string in message"));
        };
        self.bind_names(frame.len(), &named, frame.len() - HEADER_BYTES - named.rest.len(), frame);
        Ok(())
    }

    /// The beginning of a Bind too large to be collected: its values stream through.
    pub(super) fn bind_head(&mut self, total: usize, part: &[u8]) -> Result<usize, Box<Report>> {
        let body = part.get(HEADER_BYTES..).unwrap_or_default();
        let Some(named) = names(body) else {
            let long = body.len() > limits::REQUEST_BYTES_MAX;
            return if long { Err(violation("invalid string in message")) } else { Ok(0) };
        };
        self.may_replay = false;
        let names_len = body.len() - named.rest.len();
        self.bind_names(total, &named, names_len, part);
        self.client_body_dropped = false;
        self.client_body_left = total - part.len();
        Ok(part.len())
    }

    /// A Bind of `total` bytes, of which `part` is here; its names take `names_len` bytes.
    fn bind_names(&mut self, total: usize, named: &Named<'_>, names_len: usize, part: &[u8]) {
        self.note_request();
        self.in_batch = true;
        self.count(|s| &s.bind_count);
        let statement = self.resolve(named.statement);
        self.note_portal(named, statement.as_deref());
        match &statement {
            Some(statement) => {
                let rest = total - HEADER_BYTES - names_len;
                let length = 4 + named.portal.len() + 1 + statement.name.len() + 1 + rest;
                let out = self.to_server.buffer();
                out.push(b'B');
                out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
                build::cstr(out, named.portal);
                build::cstr(out, statement.name.as_bytes());
                out.extend_from_slice(named.rest);
            }
            None => self.forward_foreign(part, named),
        }
        self.expects.push(Expect::Bind);
    }

    /// A Bind of the unnamed statement, or of one that this session does not have. A name of ours is
    /// not the client's to use: an empty portal name of the same length keeps lengths, so it is bent.
    fn forward_foreign(&mut self, part: &[u8], named: &Named<'_>) {
        let at = self.to_server.buffer().len();
        self.forward(part);
        if self.shares() && named.statement.starts_with(NAME_PREFIX.as_bytes()) {
            let name_at = at + HEADER_BYTES + named.portal.len() + 1;
            if let Some(byte) = self.to_server.buffer().get_mut(name_at) {
                *byte = b'~';
            }
        }
    }

    /// Remembers what executing the portal will do.
    fn note_portal(&mut self, named: &Named<'_>, statement: Option<&Statement>) {
        let deeds = match statement {
            Some(statement) => &statement.traits.deeds,
            None if named.statement.is_empty() => match &self.prepared.unnamed {
                Some(unnamed) => &unnamed.traits.deeds,
                None => return,
            },
            None => return,
        };
        if !deeds.is_empty() {
            let portals = self.prepared.portals.get_or_insert_default();
            portals.insert(named.portal.into(), deeds.clone());
        } else if let Some(portals) = &mut self.prepared.portals {
            portals.remove(named.portal);
        }
    }

    /// Execute.
    pub(super) fn execute(&mut self, frame: &[u8]) -> Result<(), Box<Report>> {
        self.note_request();
        self.in_batch = true;
        let mut tracked = None;
        if let Some(portals) = &self.prepared.portals {
            let mut r = Reader::new(frame.get(HEADER_BYTES..).unwrap_or_default());
            let portal = r.cstr("Execute: portal")?;
            tracked = portals.get(portal).and_then(|deeds| Tracked::of(deeds));
        }
        let tracked = self.track(tracked);
        for (_, deed) in tracked.iter().flat_map(|tracked| &tracked.deeds) {
            self.free_names(deed);
        }
        self.forward(frame);
        self.expects.push(Expect::Execute(tracked));
        Ok(())
    }

    /// Describe.
    pub(super) fn describe(&mut self, frame: &[u8]) -> Result<(), Box<Report>> {
        self.note_request();
        self.in_batch = true;
        self.target(frame, b'D', "Describe")?;
        self.expects.push(Expect::Describe);
        Ok(())
    }

    /// Close.
    pub(super) fn close(&mut self, frame: &[u8]) -> Result<(), Box<Report>> {
        self.note_request();
        self.in_batch = true;
        let mut r = Reader::new(frame.get(HEADER_BYTES..).unwrap_or_default());
        let kind = r.u8("Close: kind")?;
        let name = r.cstr("Close: name")?;
        r.end("Close")?;
        if kind == b'S' && self.shares() {
            if name.is_empty() {
                self.prepared.unnamed = None;
                self.set_server_unnamed(0);
            } else if let Some(statement) = self.prepared.named.remove(name) {
                // The server keeps it for the next session.
                let closed = Box::new(Created { name: name.into(), statement });
                self.expects.push(Expect::Owed(Owed::Close(closed)));
                return Ok(());
            } else if name.starts_with(NAME_PREFIX.as_bytes()) {
                build::close_statement(self.to_server.buffer(), b"~");
                self.expects.push(Expect::Close);
                return Ok(());
            }
        }
        self.forward(frame);
        self.expects.push(Expect::Close);
        Ok(())
    }

    /// Forwards a Describe of a statement under the server's name for it.
    fn target(&mut self, frame: &[u8], message: u8, what: &'static str) -> Result<(), Box<Report>> {
        let mut r = Reader::new(frame.get(HEADER_BYTES..).unwrap_or_default());
        let kind = r.u8(what)?;
        let name = r.cstr(what)?;
        r.end(what)?;
        let statement = if kind == b'S' { self.resolve(name) } else { None };
        let foreign = kind == b'S' && self.shares() && name.starts_with(NAME_PREFIX.as_bytes());
        let new = match &statement {
            Some(statement) => statement.name.as_bytes(),
            None if foreign => b"~",
            None => {
                self.forward(frame);
                return Ok(());
            }
        };
        build::frame(self.to_server.buffer(), message, |out| {
            out.push(kind);
            build::cstr(out, new);
        });
        Ok(())
    }
}

/// Portal and statement at the start of a Bind's body; none: not complete.
fn names(body: &[u8]) -> Option<Named<'_>> {
    let mut r = Reader::new(body);
    let portal = r.cstr("Bind: portal").ok()?;
    let statement = r.cstr("Bind: statement").ok()?;
    Some(Named { portal, statement, rest: r.rest() })
}
