//! From the client to the server: frames are forwarded as they are, except where a prepared
//! statement is shared, or a setting is due.
//!
//! A server is held here. Whole frames are looked at; the bodies of large ones stream through.

use std::sync::atomic::Ordering::Relaxed;

use super::expect::{Expect, Ours, Owed};
use super::registry::Doing;
use super::state::Session;
use crate::clock::Moment;
use crate::config::PoolMode;
use crate::error::{Fault, Report, sqlstate};
use crate::limits;
use crate::wire::frame::client_max;
use crate::wire::{self, Cut, HEADER_BYTES};

/// The client broke the protocol; it is told, and the connection ends.
pub(super) fn violation(message: impl Into<String>) -> Box<Report> {
    Box::new(Report::fatal(Fault::Client, sqlstate::PROTOCOL_VIOLATION, message))
}

/// What became of a piece of the client's stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fed {
    /// So many bytes are done with.
    Consumed(usize),
    /// The same, and then the client said goodbye.
    Goodbye,
}

impl Session {
    /// Turns the client's bytes into the server's. What is left over is an incomplete frame.
    pub(super) fn feed(&mut self, data: &[u8]) -> Result<Fed, Box<Report>> {
        let mut at = 0;
        loop {
            let rest = data.get(at..).unwrap_or_default();
            if self.client_body_left > 0 {
                let n = self.client_body_left.min(rest.len());
                if !self.client_body_dropped {
                    self.to_server.push(rest.get(..n).unwrap_or_default());
                }
                self.client_body_left -= n;
                at += n;
                if self.client_body_left > 0 {
                    return Ok(Fed::Consumed(at));
                }
                continue;
            }
            let (kind, total) = match wire::cut(rest, client_max) {
                Cut::NeedHeader => return Ok(Fed::Consumed(at)),
                Cut::Frame { kind, total } => (kind, total),
                Cut::BadLength { kind, length } => return Err(bad_length(kind, length)),
            };
            if kind == b'X' {
                return Ok(Fed::Goodbye);
            }
            match rest.get(..total) {
                Some(frame) => {
                    self.frame(kind, frame)?;
                    at += total;
                }
                None => {
                    let taken = match kind {
                        // What the server skips needs no look at its content.
                        b'Q' | b'P' | b'B' | b'F' if self.server_skips => {
                            self.client_body_dropped = true;
                            self.client_body_left = total - rest.len();
                            rest.len()
                        }
                        _ => self.partial(kind, total, rest)?,
                    };
                    at += taken;
                    if taken == 0 {
                        return Ok(Fed::Consumed(at));
                    }
                }
            }
        }
    }

    /// The beginning of a frame that is not complete: a large one streams. Answers how much was taken.
    fn partial(&mut self, kind: u8, total: usize, rest: &[u8]) -> Result<usize, Box<Report>> {
        match kind {
            b'd' => {
                self.client_body_dropped = !self.takes_copy_data();
                if !self.client_body_dropped {
                    self.to_server.push(rest);
                }
                self.client_body_left = total - rest.len();
                Ok(rest.len())
            }
            b'B' if total > limits::REQUEST_BYTES_MAX => self.bind_head(total, rest),
            b'F' if total > limits::REQUEST_BYTES_MAX => {
                self.note_request();
                self.to_server.push(rest);
                self.expects.push(Expect::Function);
                self.client_body_dropped = false;
                self.client_body_left = total - rest.len();
                Ok(rest.len())
            }
            b'Q' | b'P' if total > limits::STATEMENT_INSPECTED_BYTES_MAX => {
                if rest.len() < limits::STATEMENT_INSPECTED_BYTES_MAX {
                    return Ok(0);
                }
                self.long_statement(kind, total, rest)
            }
            _ => Ok(0),
        }
    }

    /// A statement too long to be looked at: its server is kept from now on.
    fn long_statement(
        &mut self,
        kind: u8,
        total: usize,
        rest: &[u8],
    ) -> Result<usize, Box<Report>> {
        if kind == b'P' && rest.get(HEADER_BYTES) != Some(&0) {
            return Err(Report::fatal(
                Fault::Client,
                sqlstate::PROGRAM_LIMIT,
                "a named prepared statement may be 4 MiB long at most",
            )
            .hint("send it as an unnamed statement or as a simple query")
            .into());
        }
        self.note_request();
        self.may_replay = false;
        self.pins.add(super::pins::Reason::Untold);
        self.prepared.unnamed = None;
        if kind == b'P' {
            self.in_batch = true;
            self.set_server_unnamed(0);
        }
        let expect = if kind == b'P' { Expect::Parse(None) } else { Expect::Query(None) };
        self.expects.push(expect);
        self.to_server.push(rest);
        self.client_body_dropped = false;
        self.client_body_left = total - rest.len();
        Ok(rest.len())
    }

    /// One whole frame.
    fn frame(&mut self, kind: u8, frame: &[u8]) -> Result<(), Box<Report>> {
        match kind {
            // The server drops them up to Sync (postgres.c, `ignore_till_sync`); so may we.
            _ if self.server_skips && kind != b'S' => Ok(()),
            b'Q' => self.simple_query(frame),
            b'P' => self.parse(frame),
            b'B' => self.bind(frame),
            b'D' => self.describe(frame),
            b'E' => self.execute(frame),
            b'C' => self.close(frame),
            b'S' => {
                self.forward(frame);
                self.in_batch = false;
                if self.copy_in {
                    self.early_syncs += 1;
                    return Ok(());
                }
                self.server_skips = false;
                let unsure = self.early_syncs > 0 || self.expects.may_have_early_sync();
                self.expects.push(Expect::Sync);
                if unsure {
                    self.mark_boundary();
                }
                Ok(())
            }
            b'H' => {
                if self.server_body_left == 0 && self.from_server.is_empty() {
                    // The server has nothing to say to what only pgherd answers.
                    self.settle();
                }
                self.forward(frame);
                Ok(())
            }
            b'd' | b'c' | b'f' => {
                if self.takes_copy_data() {
                    self.forward(frame);
                    if kind != b'd' && !self.copy_in {
                        self.expects.push(Expect::Owed(Owed::CopyEnd));
                    }
                    self.copy_in &= kind == b'd';
                    if kind != b'd' && self.early_syncs > 0 && self.expects.head_is_simple() {
                        // No Sync of the client's ends this COPY.
                        self.mark_boundary();
                    }
                }
                Ok(())
            }
            b'F' => {
                self.note_request();
                self.forward(frame);
                self.expects.push(Expect::Function);
                Ok(())
            }
            _ => Err(violation(format!("invalid frontend message type {kind}"))),
        }
    }

    /// Whether the server may be reading COPY data. When COPY failed and the client does not know
    /// yet, the server would ignore what is still under way (postgres.c); it may not be ours any more.
    pub(super) fn takes_copy_data(&self) -> bool {
        self.copy_in || !self.expects.is_empty()
    }

    /// A request begins, or goes on: what its end will be measured against.
    #[inline]
    pub(super) fn note_request(&mut self) {
        // The clock of a request that waited for its server runs already.
        if self.request_at.is_none() || self.transaction_at.is_none() {
            let now = Moment::now();
            let began = *self.request_at.get_or_insert(now);
            self.transaction_at.get_or_insert(began);
            self.shared.set_doing(Doing::Running, now);
        }
    }

    pub(super) fn forward(&mut self, frame: &[u8]) {
        self.to_server.push(frame);
    }

    /// Which unnamed statement the held server has.
    pub(super) fn set_server_unnamed(&mut self, stamp: u64) {
        if let Some(server) = &mut self.server {
            server.unnamed = stamp;
        }
    }

    pub(super) fn ours(&mut self, ours: Ours) {
        self.expects.push(Expect::Ours(ours));
    }

    /// Brings the server to the session's settings, in front of what follows. Those that decide who
    /// the session is are not for here: they are awaited at checkout.
    pub(super) fn replay_settings(&mut self) {
        let Some(server) = &mut self.server else { return };
        if server.applied == *self.tracker.wanted() {
            return;
        }
        let wanted = self.tracker.wanted().clone();
        // A server that was kept all along may be changed by its user only; checkout changes the user.
        let statements = if server.applied.is_same_identity(&wanted) {
            server.applied.plain_difference(&wanted)
        } else {
            server.applied.difference(&wanted)
        };
        server.applied = wanted;
        for sql in statements {
            wire::build::query(self.to_server.buffer(), &sql);
            self.ours(Ours::Settings);
            // A simple query drops the unnamed statement (postgres.c, `exec_simple_query`).
            self.set_server_unnamed(0);
        }
    }

    /// After a RESET the server has its own default, where the session has that of its startup packet:
    /// set again inside the same transaction, so that it is undone with it.
    pub(super) fn replay_reset(&mut self) {
        let Some(has) = self.tracker.server() else { return };
        if has == self.tracker.wanted() {
            return;
        }
        let statements = has.difference(self.tracker.wanted());
        self.tracker.caught_up();
        for sql in statements {
            wire::build::query(self.to_server.buffer(), &sql);
            self.ours(Ours::Settings);
            self.set_server_unnamed(0);
        }
    }

    /// Counts a message for `SHOW STATS`.
    pub(super) fn count(
        &self,
        of: impl Fn(&crate::metrics::stats::Shard) -> &std::sync::atomic::AtomicU64,
    ) {
        if let Some(pool) = self.pool() {
            of(pool.stats.here()).fetch_add(1, Relaxed);
        }
    }

    /// Whether statements are shared and settings tracked: not where the server stays anyway.
    pub(super) fn shares(&self) -> bool {
        self.mode != PoolMode::Session
    }
}

fn bad_length(kind: u8, length: u32) -> Box<Report> {
    let name = if kind.is_ascii_graphic() { char::from(kind) } else { '?' };
    violation(format!("invalid message length {length} for message type \"{name}\""))
}
