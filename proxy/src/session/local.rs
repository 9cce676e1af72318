//! Requests that need no server: naming a statement that the pool's servers have accepted before,
//! and forgetting names.
//!
//! Besides saving a checkout this avoids a deadlock: a client program may wait for the answer to
//! its Parse while its other connections hold every server of the pool (pgbench does).

use std::sync::Arc;

use super::pump::Scanned;
use super::state::Session;
use super::statements::{self, Statement, Via};
use crate::limits;
use crate::wire::frame::client_max;
use crate::wire::{self, Cut, HEADER_BYTES, Reader, build};

/// One message that pgherd can answer itself.
enum Answer<'a> {
    Named(&'a [u8], Arc<Statement>),
    Closed(&'a [u8]),
}

impl Session {
    /// Answers the request at the start of `data` if no server is needed for any of it.
    pub(super) fn answer_locally(&mut self, data: &[u8]) -> Option<Scanned> {
        // Most requests are not for here: one look at the type tells.
        if !matches!(data.first(), Some(b'P' | b'C')) || !self.shares() {
            return None;
        }
        let mut answers = Vec::new();
        let mut at = 0;
        loop {
            let rest = data.get(at..)?;
            let Cut::Frame { kind, total } = wire::cut(rest, client_max) else { return None };
            let body = rest.get(HEADER_BYTES..total)?;
            at += total;
            match kind {
                b'P' => answers.push(self.known_parse(body, &answers)?),
                b'C' => answers.push(known_close(body)?),
                b'S' => break,
                _ => return None,
            }
        }
        for answer in answers {
            match answer {
                Answer::Named(name, statement) => {
                    self.count(|s| &s.client_parse_count);
                    self.prepared.named.insert(name.into(), statement);
                    build::parse_complete(self.to_client.buffer());
                }
                Answer::Closed(name) => {
                    self.prepared.named.remove(name);
                    build::close_complete(self.to_client.buffer());
                }
            }
        }
        build::ready(self.to_client.buffer(), b'I');
        Some(Scanned(at))
    }

    fn known_parse<'a>(&self, body: &'a [u8], before: &[Answer<'a>]) -> Option<Answer<'a>> {
        let mut r = Reader::new(body);
        let name = r.cstr("Parse: name").ok()?;
        let taken = self.prepared.named.contains_key(name)
            || self.prepared.named.len() >= limits::CLIENT_STATEMENTS_MAX;
        let is_new = |known: &Answer<'_>| !matches!(known, Answer::Named(n, _) if *n == name);
        if name.is_empty() || taken || !before.iter().all(is_new) {
            return None;
        }
        let statement = statements::find(Via::Protocol, r.rest())?;
        let pool = self.pool()?;
        statement.is_accepted_by(pool).then_some(Answer::Named(name, statement))
    }
}

fn known_close(body: &[u8]) -> Option<Answer<'_>> {
    let name = body.strip_prefix(b"S")?.strip_suffix(b"\0")?;
    (!name.is_empty() && memchr::memchr(0, name).is_none()).then_some(Answer::Closed(name))
}
