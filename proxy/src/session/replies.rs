//! From the server to the client: type and length are looked at, bodies of a few types.
//!
//! Rows pass as one range of the buffer they were read into. What answers a message of ours is left
//! out, what pgherd owes the client is put in where its turn comes.

use super::effects::{Deed, Tracked};
use super::expect::{Expect, Ours, Owed, Step};
use super::renamed::{Renamed, in_clients_words, without_position};
use super::settings::Change;
use super::state::Session;
use crate::error::{Fault, Report, sqlstate};
use crate::limits;
use crate::pool::exec;
use crate::wire::frame::server_max;
use crate::wire::{self, Cut, HEADER_BYTES, Reader, build, read};

/// What to do with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The client gets it.
    Forward,
    /// It was for us.
    Swallow,
    /// Stop here, and ask again: something must be awaited first.
    Hold,
    /// The server ends its session.
    Lost,
    /// The whole request goes to the server once more.
    Again,
    /// The client gets what `rewritten` holds instead: the body of an ErrorResponse.
    Rewritten,
}

/// How far a piece of the server's stream got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passed {
    /// All of it, up to an incomplete frame.
    All,
    /// ReadyForQuery waits until LISTEN is in force.
    Hold,
    /// The server said that it ends.
    Lost,
    /// The request is to be sent again.
    Again,
}

/// Where in a piece of the server's stream we are.
struct Cursor<'a> {
    data: &'a [u8],
    at: usize,
    /// The bytes from here to `at` are the client's and not passed on yet.
    from: usize,
}

impl Cursor<'_> {
    /// The next `n` bytes are not the client's.
    fn skip(&mut self, n: usize) {
        self.at += n;
        self.from = self.at;
    }
}

impl Session {
    /// Passes the server's bytes on; what is incomplete is kept in `from_server`.
    pub(super) fn pass(&mut self, data: &[u8]) -> Result<Passed, Box<Report>> {
        let mut cursor = Cursor { data, at: 0, from: 0 };
        let mut passed = Passed::All;
        while passed == Passed::All && cursor.at < data.len() {
            if self.server_body_left > 0 {
                self.pass_body(&mut cursor);
                continue;
            }
            self.pass_plain(&mut cursor);
            if cursor.at == data.len() {
                break;
            }
            match self.pass_frame(&mut cursor)? {
                Some(next) => passed = next,
                None => break,
            }
        }
        self.flush(&mut cursor);
        let rest = data.get(cursor.at..).unwrap_or_default();
        if passed != Passed::Lost && !rest.is_empty() {
            self.from_server.extend_from_slice(rest);
        }
        Ok(passed)
    }

    /// The frames of most answers, which decide nothing: whole ones, of requests that leave nothing behind.
    /// What is different in any way is left to [`Session::pass_frame`].
    fn pass_plain(&mut self, cursor: &mut Cursor<'_>) {
        if self.early_syncs > 0 {
            return;
        }
        while let Some(head) = self.expects.head() {
            let rest = cursor.data.get(cursor.at..).unwrap_or_default();
            let Cut::Frame { kind, total } = wire::cut(rest, server_max) else { return };
            if total > rest.len() {
                return;
            }
            let answered = match (head, kind) {
                (Expect::Query(None) | Expect::Execute(None), b'D')
                | (Expect::Query(None), b'T' | b'C' | b'I') => false,
                (Expect::ParseUnnamed(_), b'1')
                | (Expect::Bind, b'2')
                | (Expect::Close, b'3')
                | (Expect::Describe, b'T' | b'n')
                | (Expect::Execute(None), b'C' | b'I' | b's') => true,
                _ => return,
            };
            cursor.at += total;
            if answered {
                self.expects.pop();
            }
        }
    }

    /// More of a frame that streams.
    fn pass_body(&mut self, cursor: &mut Cursor<'_>) {
        let n = self.server_body_left.min(cursor.data.len() - cursor.at);
        if self.server_body_swallowed {
            self.flush(cursor);
            cursor.from = cursor.at + n;
        }
        self.server_body_left -= n;
        cursor.at += n;
    }

    /// The next frame, or the beginning of one that streams; none: it is not complete.
    fn pass_frame(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<Passed>, Box<Report>> {
        let rest = cursor.data.get(cursor.at..).unwrap_or_default();
        let (kind, total) = match wire::cut(rest, server_max) {
            Cut::NeedHeader => return Ok(None),
            Cut::Frame { kind, total } => (kind, total),
            Cut::BadLength { .. } => return Err(broken("a frame's length")),
        };
        if kind == b'E' {
            // Whether the request may be sent again depends on what the client has seen of it.
            self.flush(cursor);
        } else if self.owes() {
            self.flush(cursor);
            self.settle();
        }
        if streams(kind) || total > limits::SERVER_FRAME_INSPECTED_BYTES_MAX {
            return self.begin_stream(kind, total, rest);
        }
        let Some(frame) = rest.get(..total) else { return Ok(None) };
        match self.reply(kind, frame)? {
            Verdict::Forward => cursor.at += total,
            Verdict::Swallow => {
                self.flush(cursor);
                cursor.skip(total);
            }
            Verdict::Rewritten => {
                self.flush(cursor);
                let body = std::mem::take(&mut self.rewritten);
                build::frame(self.to_client.buffer(), kind, |out| out.extend_from_slice(&body));
                self.may_replay = false;
                cursor.skip(total);
            }
            Verdict::Hold => return Ok(Some(Passed::Hold)),
            Verdict::Lost => return Ok(Some(Passed::Lost)),
            Verdict::Again => return Ok(Some(Passed::Again)),
        }
        if self.owes() {
            self.flush(cursor);
            self.settle();
        }
        Ok(Some(Passed::All))
    }

    /// A row, or a frame too long to be looked into.
    fn begin_stream(
        &mut self,
        kind: u8,
        total: usize,
        rest: &[u8],
    ) -> Result<Option<Passed>, Box<Report>> {
        if kind == b'E' {
            return self.long_error(total, rest);
        }
        self.server_body_swallowed = self.head_is_ours(kind);
        if self.is_recheck_row(kind) {
            let Some(frame) = rest.get(..total) else { return Ok(None) };
            self.recheck_row(frame);
        }
        self.server_body_left = total;
        Ok(Some(Passed::All))
    }

    /// The client gets everything up to here.
    fn flush(&mut self, cursor: &mut Cursor<'_>) {
        if let Some(range) = cursor.data.get(cursor.from..cursor.at)
            && !range.is_empty()
        {
            self.may_replay = false;
            self.to_client.push(range);
        }
        cursor.from = cursor.at;
    }

    /// An error too long to be looked into whole, as one that quotes a large value: what matters stands in
    /// front (elog.c, `send_message_to_frontend`). None: not even that is here.
    fn long_error(&mut self, total: usize, rest: &[u8]) -> Result<Option<Passed>, Box<Report>> {
        let Some(head) = rest.get(HEADER_BYTES..limits::ERROR_HEAD_BYTES) else { return Ok(None) };
        Ok(Some(match self.error(head)? {
            Verdict::Lost => Passed::Lost,
            Verdict::Again => Passed::Again,
            verdict => {
                self.server_body_swallowed = verdict == Verdict::Swallow;
                self.server_body_left = total;
                Passed::All
            }
        }))
    }

    /// Whether the client's next answer is pgherd's own.
    fn owes(&self) -> bool {
        matches!(self.expects.head(), Some(Expect::Owed(_)))
    }

    /// Gives the client what is owed and due.
    pub(super) fn settle(&mut self) {
        while let Some(Expect::Owed(owed)) = self.expects.head() {
            match owed {
                Owed::Parse(_) => build::parse_complete(self.to_client.buffer()),
                Owed::Close(_) => build::close_complete(self.to_client.buffer()),
                Owed::CopyEnd => {}
            }
            self.may_replay = false;
            self.expects.pop();
        }
    }

    fn head_is_ours(&self, kind: u8) -> bool {
        match self.expects.head() {
            Some(Expect::Ours(ours)) => ours.is_query() || (kind == b'D' && is_step(ours)),
            _ => false,
        }
    }

    fn is_recheck_row(&self, kind: u8) -> bool {
        kind == b'D' && matches!(self.expects.head(), Some(Expect::Ours(Ours::Recheck)))
    }

    /// The row that says what still pins the server.
    fn recheck_row(&mut self, frame: &[u8]) {
        let mut r = Reader::new(frame.get(HEADER_BYTES + 2..).unwrap_or_default());
        let mut column = || {
            let length = r.u32("column").unwrap_or(0);
            let value = r.bytes(length as usize, "column").unwrap_or_default();
            exec::is_true(Some(&Some(value.into())))
        };
        let left = [column(), column(), column()];
        self.pins.found(left);
        self.shared.set_pinned(self.pins.reason());
    }

    /// One whole frame that is not a row.
    fn reply(&mut self, kind: u8, frame: &[u8]) -> Result<Verdict, Box<Report>> {
        let body = frame.get(HEADER_BYTES..).unwrap_or_default();
        let ours = match self.expects.head() {
            Some(Expect::Ours(ours)) => ours.is_query(),
            _ => false,
        };
        match kind {
            b'Z' => self.ready(body.first().copied().unwrap_or(b'I')),
            b'E' => self.error(body),
            b'S' => self.parameter(body, ours),
            b'C' | b'I' | b's' if !ours => Ok(self.completed(kind, body)),
            b'1' | b'2' | b'3' if !ours => self.answered(kind),
            b'T' | b'n' if !ours => Ok(self.described()),
            b'G' | b'W' if !ours => {
                let begun = self.expects.begin_copy();
                self.copy_in = !begun.ended;
                self.early_syncs = begun.early_syncs;
                Ok(Verdict::Forward)
            }
            b'A' => Ok(self.notification()),
            b'I' if self.expects.see_boundary() => Ok(Verdict::Swallow),
            _ if ours => Ok(Verdict::Swallow),
            b'N' | b't' | b'H' | b'V' | b'c' | b'K' | b'v' => Ok(Verdict::Forward),
            _ => Err(broken("an unknown message type")),
        }
    }

    /// ParseComplete, BindComplete, CloseComplete.
    fn answered(&mut self, kind: u8) -> Result<Verdict, Box<Report>> {
        let verdict = match (kind, self.expects.head()) {
            (b'1', Some(Expect::Parse(_) | Expect::ParseUnnamed(_))) => Verdict::Forward,
            (b'2', Some(Expect::Bind)) => Verdict::Forward,
            (b'3', Some(Expect::Close)) => Verdict::Forward,
            (
                b'1',
                Some(Expect::Ours(Ours::Parse(_) | Ours::ParseUnnamed | Ours::Step(Step::Parse))),
            )
            | (b'2', Some(Expect::Ours(Ours::Step(Step::Bind))))
            | (
                b'3',
                Some(Expect::Ours(Ours::Close(_) | Ours::CloseUnnamed | Ours::Step(Step::Close))),
            ) => Verdict::Swallow,
            _ => return Err(broken("an answer to nothing")),
        };
        if let Some(Expect::Parse(Some(created))) = self.expects.pop()
            && let Some(pool) = self.pool()
        {
            created.statement.accepted_by(pool);
        }
        Ok(verdict)
    }

    fn described(&mut self) -> Verdict {
        if matches!(self.expects.head(), Some(Expect::Describe)) {
            self.expects.pop();
        }
        Verdict::Forward
    }

    /// CommandComplete, EmptyQueryResponse, PortalSuspended.
    fn completed(&mut self, kind: u8, body: &[u8]) -> Verdict {
        let deeds = match self.expects.head_mut() {
            Some(Expect::Query(Some(tracked))) => tracked.complete(),
            Some(Expect::Execute(Some(tracked))) if kind == b'C' => tracked.complete(),
            Some(Expect::Ours(Ours::Step(Step::Execute))) => {
                self.expects.pop();
                return Verdict::Swallow;
            }
            _ => Vec::new(),
        };
        if !deeds.is_empty() {
            self.deeds_pending -= deeds.len().min(self.deeds_pending);
            for deed in deeds {
                self.done(deed, body);
            }
        }
        self.early_syncs = 0;
        if matches!(self.expects.head(), Some(Expect::Execute(_)))
            && let Some(Expect::Execute(Some(rest))) = self.expects.pop()
        {
            self.void(*rest);
        }
        Verdict::Forward
    }

    /// A deed is confirmed.
    fn done(&mut self, deed: Deed, tag: &[u8]) {
        match deed {
            Deed::Settings(change) => {
                if matches!(change, Change::Reset(_) | Change::ResetAll | Change::DiscardAll) {
                    self.spoil_connect_query();
                }
                self.tracker.apply(&change);
            }
            Deed::Commit if tag.starts_with(b"ROLLBACK") => self.transaction_undone(),
            Deed::Commit => self.transaction_kept(),
            Deed::Rollback => self.transaction_undone(),
            Deed::Pin(reason) => {
                self.pins.add(reason);
                self.shared.set_pinned(self.pins.reason());
            }
            Deed::MayUnpin => self.pins.recheck |= self.pins.is_pinned(),
            Deed::Listen(channel) => self.listening.want(channel),
            Deed::Unlisten(channel) => self.listening.unwant(channel),
            Deed::DeallocateAll | Deed::Deallocate(_) => {
                self.prepared.freed.pop_front();
            }
            Deed::Prepare(_) => {}
        }
    }

    /// RESET may have undone what `connect_query` set: the server is not given to another session.
    fn spoil_connect_query(&mut self) {
        if let Some(server) = &mut self.server
            && !server.info.pool.settings.load().connect_query.is_empty()
        {
            server.broken = true;
        }
    }

    /// Deeds that will not happen.
    fn void(&mut self, tracked: Tracked) {
        self.deeds_pending -= tracked.deeds.len().min(self.deeds_pending);
        for (_, deed) in tracked.deeds {
            match deed {
                Deed::Prepare(name) => {
                    if let Some(statement) = self.prepared.named.remove(&name) {
                        self.forget_on_server(&statement);
                    }
                }
                Deed::DeallocateAll | Deed::Deallocate(_) => self.unfree_names(),
                _ => {}
            }
        }
    }

    fn transaction_kept(&mut self) {
        if let Some(applied) = self.tracker.commit() {
            self.set_applied(applied);
        }
        self.listening.commit();
    }

    fn transaction_undone(&mut self) {
        if let Some(applied) = self.tracker.rollback() {
            self.set_applied(applied);
        }
        self.listening.rollback();
    }

    /// What a SET of DateStyle came to.
    fn learn_date_style(&mut self) {
        if !self.tracker.is_date_style_due() {
            return;
        }
        let Some(server) = &mut self.server else { return };
        let Some(reported) = server.reported.get(b"DateStyle") else { return };
        let same = server.applied == *self.tracker.wanted();
        if self.tracker.date_style_is(reported) && same {
            server.applied = self.tracker.wanted().clone();
        }
    }

    fn set_applied(&mut self, applied: super::settings::Settings) {
        if let Some(server) = &mut self.server {
            server.applied = applied;
        }
    }

    /// ErrorResponse.
    fn error(&mut self, body: &[u8]) -> Result<Verdict, Box<Report>> {
        let severity = read::error_field(body, b'V').or_else(|| read::error_field(body, b'S'));
        if matches!(severity, Some(b"FATAL" | b"PANIC")) {
            self.lost = Some(report_of(body));
            return Ok(Verdict::Lost);
        }
        self.count(|s| &s.server_errors);
        if let Some(Expect::Ours(ours)) = self.expects.head()
            && ours.is_query()
        {
            self.ours_failed(body);
            return Ok(Verdict::Swallow);
        }
        if is_stale_plan(body) {
            if self.may_replay && !self.replayed && self.expects.is_one_batch() && !self.in_batch {
                return Ok(Verdict::Again);
            }
            self.server_stale = true;
        }
        self.errored = true;
        if self.expects.head_is_simple() {
            let Some(Expect::Query(tracked)) = self.expects.head_mut() else {
                return Ok(Verdict::Forward);
            };
            let Some(mut tracked) = tracked.take() else { return Ok(Verdict::Forward) };
            let renamed = std::mem::take(&mut tracked.renamed);
            self.void(*tracked);
            if !renamed.is_empty() {
                self.rewritten = self.reword(body, &renamed);
                return Ok(Verdict::Rewritten);
            }
            return Ok(Verdict::Forward);
        }
        self.settle();
        self.skip();
        Ok(Verdict::Forward)
    }

    /// An error about a text with names of ours. That the server lacks a statement is no news to the
    /// client; why it could not be prepared there is.
    fn reword(&mut self, body: &[u8], renamed: &[Renamed]) -> Vec<u8> {
        let missing = read::error_field(body, b'C') == Some(b"26000");
        match std::mem::take(&mut self.prepare_failed) {
            Some(why) if missing => without_position(&why),
            _ => in_clients_words(body, renamed),
        }
    }

    /// What was sent behind an error, up to Sync, will not happen.
    fn skip(&mut self) {
        let mut dropped = Vec::new();
        if !self.expects.skip_to_sync(|expect| dropped.push(expect)) {
            self.server_skips = true;
        }
        self.copy_in = false;
        for expect in dropped {
            self.not_done(expect);
        }
    }

    /// One message was not carried out.
    pub(super) fn not_done(&mut self, expect: Expect) {
        match expect {
            Expect::Parse(Some(created)) => {
                self.prepared.named.remove(&created.name);
                self.forget_on_server(&created.statement);
            }
            Expect::Owed(Owed::Parse(created)) => {
                self.prepared.named.remove(&created.name);
            }
            Expect::Owed(Owed::Close(closed)) => {
                let closed = *closed;
                self.prepared.named.insert(closed.name, closed.statement);
            }
            Expect::ParseUnnamed(stamp) => {
                // A Parse that fails leaves no unnamed statement (postgres.c, `exec_parse_message`).
                if self.prepared.unnamed.as_ref().is_some_and(|unnamed| unnamed.stamp == stamp) {
                    self.prepared.unnamed = None;
                }
                self.set_server_unnamed(u64::MAX);
            }
            Expect::Parse(None) | Expect::Ours(Ours::ParseUnnamed | Ours::CloseUnnamed) => {
                // What the server has under no name is not known; u64::MAX is nobody's stamp.
                self.set_server_unnamed(u64::MAX);
            }
            Expect::Ours(Ours::Parse(statement) | Ours::Prepare(statement)) => {
                self.forget_on_server(&statement);
            }
            Expect::Ours(Ours::Close(statement)) => {
                if let Some(server) = &mut self.server {
                    server.prepared.insert(statement, usize::MAX);
                }
            }
            Expect::Execute(Some(tracked)) | Expect::Query(Some(tracked)) => self.void(*tracked),
            _ => {}
        }
    }

    /// A simple query of ours failed.
    fn ours_failed(&mut self, body: &[u8]) {
        match self.expects.head() {
            Some(Expect::Ours(Ours::Prepare(statement))) => {
                let statement = statement.clone();
                self.forget_on_server(&statement);
                self.prepare_failed = Some(body.into());
            }
            Some(Expect::Ours(Ours::Settings)) => {
                let report = report_of(body);
                tracing::warn!(session = self.shared.id, error = %report.message,
                    "a setting of the session was refused by its next server");
                if let Some(server) = &mut self.server {
                    server.broken = true;
                }
            }
            Some(Expect::Ours(Ours::Recheck)) => self.pins.recheck = false,
            // A cancel request may hit even an empty query: the next ReadyForQuery is its own.
            Some(Expect::Ours(Ours::Boundary { .. })) => {
                self.expects.see_boundary();
            }
            _ => {}
        }
    }

    /// ReadyForQuery.
    fn ready(&mut self, status: u8) -> Result<Verdict, Box<Report>> {
        if self.is_answer_to_early_sync() {
            self.status = status;
            if status == b'I' {
                self.transaction_undone();
                self.errored = false;
            }
            if self.expects.is_empty() {
                self.server_skips = false;
                self.in_batch = false;
                self.request_done();
                self.early_syncs -= 1;
                if self.early_syncs > 0 {
                    self.mark_boundary();
                }
            }
            return Ok(Verdict::Forward);
        }
        if let Some(Expect::Ours(_)) = self.expects.head() {
            self.expects.pop();
            // Only once all of ours are through: what is true in between is nobody's business.
            if !matches!(self.expects.head(), Some(Expect::Ours(ours)) if ours.is_query()) {
                self.tell_reported();
            }
            return Ok(Verdict::Swallow);
        }
        match self.expects.head() {
            Some(Expect::Query(_) | Expect::Function | Expect::Sync) => {}
            _ => return Err(broken("ReadyForQuery for nothing")),
        }
        if status == b'I' {
            if self.is_tracking() {
                if self.errored { self.transaction_undone() } else { self.transaction_kept() }
            }
            self.learn_date_style();
            if self.listening.must_wait() {
                return Ok(Verdict::Hold);
            }
            self.prepared.portals = None;
        }
        let errored = std::mem::take(&mut self.errored);
        self.prepare_failed = None;
        self.status = status;
        self.copy_in = false;
        if let Some(Expect::Query(Some(tracked))) = self.expects.pop() {
            self.void(*tracked);
        }
        while matches!(self.expects.head(), Some(Expect::Owed(Owed::CopyEnd))) {
            self.expects.pop();
        }
        if self.early_syncs > 0 && self.expects.is_empty() {
            // A COPY of a simple query failed with a Sync among its data.
            self.mark_boundary();
        }
        self.restore_reset(errored);
        self.request_done();
        Ok(Verdict::Forward)
    }

    /// COPY failed before it read a Sync that was sent early: the server answers that one too
    /// (postgres.c, `ignore_till_sync`).
    fn is_answer_to_early_sync(&self) -> bool {
        match self.expects.head() {
            None => self.early_syncs > 0,
            Some(Expect::Ours(Ours::Boundary { seen })) => !seen,
            _ => false,
        }
    }

    /// How many Syncs the server answers can only be told by what it answers behind them.
    pub(super) fn mark_boundary(&mut self) {
        self.early_syncs = 0;
        build::query(self.to_server.buffer(), b"");
        self.set_server_unnamed(0);
        self.ours(Ours::Boundary { seen: false });
    }

    /// ParameterStatus.
    fn parameter(&mut self, body: &[u8], ours: bool) -> Result<Verdict, Box<Report>> {
        let (name, value) = read::parameter_status(body).map_err(|_| broken("ParameterStatus"))?;
        if let Some(server) = &mut self.server {
            server.reported = exec::changed(server, name, value);
            if !ours {
                self.reported = server.reported.clone();
                self.learn_lexing();
            }
        }
        Ok(if ours { Verdict::Swallow } else { Verdict::Forward })
    }

    /// Tells the client where what its server reports differs from what it was told.
    pub(super) fn tell_reported(&mut self) {
        let Some(server) = &self.server else { return };
        if std::sync::Arc::ptr_eq(&server.reported, &self.reported) {
            return;
        }
        let now = server.reported.clone();
        for (name, value) in &now.0 {
            if self.reported.get(name) != Some(value) {
                build::parameter_status(self.to_client.buffer(), name, value);
            }
        }
        self.reported = now;
        self.learn_lexing();
    }

    /// A server notifies this session only while it still listens itself; the shared listener does it.
    fn notification(&self) -> Verdict {
        if self.shares() { Verdict::Swallow } else { Verdict::Forward }
    }
}

/// Types whose bodies are never looked into.
fn streams(kind: u8) -> bool {
    matches!(kind, b'D' | b'd')
}

fn is_step(ours: &Ours) -> bool {
    matches!(ours, Ours::Step(_))
}

/// plancache.c, `RevalidateCachedQuery`: the statement's result changed its shape.
fn is_stale_plan(body: &[u8]) -> bool {
    read::error_field(body, b'C') == Some(b"0A000")
        && read::error_field(body, b'R') == Some(b"RevalidateCachedQuery")
}

/// A server's error as a report.
fn report_of(body: &[u8]) -> Report {
    let field = |key| read::error_field(body, key).map(|v| String::from_utf8_lossy(v).into_owned());
    let state = field(b'C').unwrap_or_default();
    let sqlstate = match state.as_str() {
        "57P01" => sqlstate::ADMIN_SHUTDOWN,
        "57P02" => "57P02",
        "57P03" => sqlstate::CANNOT_CONNECT_NOW,
        "57P04" => "57P04",
        "57P05" => sqlstate::IDLE_SESSION_TIMEOUT,
        "25P03" => sqlstate::IDLE_IN_TRANSACTION,
        "53200" => "53200",
        "08P01" => sqlstate::PROTOCOL_VIOLATION,
        "XX000" => sqlstate::INTERNAL,
        _ => sqlstate::CONNECTION_FAILURE,
    };
    let message = field(b'M').unwrap_or_else(|| "the server ended the session".into());
    let mut report = Report::error(Fault::Server, sqlstate, message);
    report.detail = field(b'D');
    report.hint = field(b'H');
    report
}

/// The server broke the protocol.
fn broken(what: &str) -> Box<Report> {
    Box::new(Report::fatal(
        Fault::Server,
        sqlstate::PROTOCOL_VIOLATION,
        format!("the server broke the protocol: {what}"),
    ))
}
