//! Moving bytes both ways while a server is held, and the client's while none is.
//!
//! One poll serves both directions until nothing moves: a pipelining client and its server can both
//! be blocked on writing without blocking each other. A side is read only when what came from it
//! before has been written to the other: a slow reader slows the other side down through TCP.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffers;
use super::client::{Fed, violation};
use super::registry::signal;
use super::replies::Passed;
use super::state::Session;
use crate::error::Report;
use crate::limits;
use crate::net::Stream;
use crate::wire::frame::client_max;
use crate::wire::{self, Cut, HEADER_BYTES, build};

/// Why the pump stopped.
#[derive(Debug)]
pub(super) enum Event {
    /// A request waits for a server, or for its server to become who the session is.
    NeedServer,
    /// The client's bytes went to the held server.
    Fed,
    /// The server is free.
    Free,
    /// ReadyForQuery is held back until LISTEN is in force.
    Listen,
    /// The request must be sent again.
    Again,
    /// The server is gone.
    ServerLost,
    /// The client said goodbye, or vanished.
    ClientGone,
    /// Others told the session something.
    Signal(u8),
    /// The client, or the server, broke the protocol.
    Broken(Box<Report>),
}

/// The end of an extended query, mostly; data may end like this too, and then a server is taken early.
const SYNC: &[u8] = b"S\0\0\0\x04";

/// Bytes of the client that are done with.
pub(super) struct Scanned(pub(super) usize);

/// What the client's bytes ask for while no server is held.
enum Scan {
    /// More bytes.
    More(usize),
    /// A server, for what begins here.
    Server(usize),
    /// Nothing any more.
    Goodbye,
    /// It breaks the protocol.
    Violation(Box<Report>),
}

impl Session {
    /// Moves bytes until something is to be done that must be awaited, or that is rare. Cancel safe.
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        buffers::with_scratch(|scratch| {
            loop {
                let event = match self.server {
                    None => ready!(self.poll_idle(scratch, cx)),
                    Some(_) => ready!(self.poll_held(scratch, cx)),
                };
                match event {
                    Event::Fed => {}
                    Event::Free => self.free(),
                    event => return Poll::Ready(event),
                }
            }
        })
    }

    /// Without a server: waits for a request. Cancel safe.
    fn poll_idle(&mut self, scratch: &mut [u8], cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            let told = self.signals(cx);
            if told != 0 {
                return Poll::Ready(Event::Signal(told));
            }
            if let Poll::Ready(Err(_)) = self.poll_write_client(cx) {
                return Poll::Ready(Event::ClientGone);
            }
            if !self.to_client.is_empty() || self.client_unflushed {
                return Poll::Pending;
            }
            if self.goodbye {
                return Poll::Ready(Event::ClientGone);
            }
            if !self.inbox.is_empty() {
                let data = std::mem::take(&mut self.inbox);
                let event = self.idle_bytes(&data);
                if self.inbox.is_empty() {
                    buffers::give(data);
                }
                if let Some(event) = event {
                    return Poll::Ready(event);
                }
                if !self.to_client.is_empty() {
                    continue;
                }
            }
            let Ok(n) = ready!(poll_read(&mut self.client, cx, scratch)) else {
                return Poll::Ready(Event::ClientGone);
            };
            if n == 0 {
                return Poll::Ready(Event::ClientGone);
            }
            let data = scratch.get(..n).unwrap_or_default();
            self.bytes_in += n as u64;
            if !self.inbox.is_empty() {
                self.inbox.extend_from_slice(data);
            } else if let Some(event) = self.idle_bytes(data) {
                return Poll::Ready(event);
            }
        }
    }

    /// What others told the session; its task is woken for more.
    #[inline]
    pub(super) fn signals(&mut self, cx: &Context<'_>) -> u8 {
        // A task's waker stays the same, so it is handed over once.
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            self.shared.register(cx.waker());
            self.waker = Some(cx.waker().clone());
        }
        self.shared.signals()
    }

    /// Bytes of the client while no server is held. With one at hand at once, they go to it.
    fn idle_bytes(&mut self, data: &[u8]) -> Option<Event> {
        match self.scan(data) {
            Scan::More(at) => {
                self.keep(data, at);
                None
            }
            Scan::Goodbye => Some(Event::ClientGone),
            Scan::Violation(report) => Some(Event::Broken(report)),
            Scan::Server(at) => {
                if !self.take_server_now() {
                    self.keep(data, at);
                    return Some(Event::NeedServer);
                }
                Some(self.feed_and_keep(data.get(at..).unwrap_or_default()))
            }
        }
    }

    /// Feeds `data` to the held server and keeps the rest.
    fn feed_and_keep(&mut self, data: &[u8]) -> Event {
        match self.fed(data) {
            Ok(n) => {
                self.keep_replay(data, n);
                self.keep(data, n);
                Event::Fed
            }
            Err(event) => event,
        }
    }

    /// Feeds what was kept of the client's bytes to the held server.
    pub(super) fn feed_kept(&mut self) -> Event {
        let kept = std::mem::take(&mut self.inbox);
        match self.fed(&kept) {
            // A long statement is collected without being copied each time.
            Ok(0) => self.inbox = kept,
            Ok(n) => {
                self.keep_replay(&kept, n);
                self.keep(&kept, n);
                buffers::give(kept);
            }
            Err(event) => return event,
        }
        Event::Fed
    }

    /// Feeds `data` to the held server: how much of it is done with, or what is to be done instead.
    fn fed(&mut self, data: &[u8]) -> Result<usize, Event> {
        match self.feed(data) {
            Ok(Fed::Consumed(n)) => Ok(n),
            Ok(Fed::Goodbye) if self.in_batch || self.expects.is_empty() => Err(Event::ClientGone),
            Ok(Fed::Goodbye) => {
                // What was asked before is answered first.
                self.goodbye = true;
                self.may_replay = false;
                Err(Event::Fed)
            }
            Err(report) => Err(Event::Broken(report)),
        }
    }

    fn keep(&mut self, data: &[u8], from: usize) {
        let rest = data.get(from..).unwrap_or_default();
        if !rest.is_empty() {
            if self.inbox.capacity() == 0 {
                self.inbox = buffers::take();
            }
            self.inbox.extend_from_slice(rest);
        }
    }

    /// Whether the request has come so far that a server should be taken for it.
    fn scan(&mut self, data: &[u8]) -> Scan {
        let mut start = 0;
        let mut at = 0;
        loop {
            let rest = data.get(at..).unwrap_or_default();
            if self.client_body_left > 0 {
                let n = self.client_body_left.min(rest.len());
                self.client_body_left -= n;
                at += n;
                start = at;
                if self.client_body_left > 0 {
                    return Scan::More(start);
                }
                continue;
            }
            let (kind, total) = match wire::cut(rest, client_max) {
                Cut::NeedHeader => return Scan::More(start),
                Cut::Frame { kind, total } => (kind, total),
                Cut::BadLength { .. } => {
                    return Scan::Violation(violation("invalid message length"));
                }
            };
            // A body would make the server complain.
            let whole = total == HEADER_BYTES;
            match kind {
                b'X' => return Scan::Goodbye,
                b'S' if whole && (self.skipping || at == start) => {
                    // Nothing was asked: nobody but us needs to answer.
                    self.skipping = false;
                    build::ready(self.to_client.buffer(), b'I');
                    at += total;
                    start = at;
                }
                b'H' if whole && at == start => {
                    at += total;
                    start = at;
                }
                // Data that follows its COPY at once.
                b'd' | b'c' | b'f' if at > start && !self.skipping => return Scan::Server(start),
                // A COPY failed before its data was all here, or a failed request is skipped.
                b'd' | b'c' | b'f' => {
                    self.client_body_left = total;
                    self.client_body_dropped = true;
                }
                _ if self.skipping => {
                    self.client_body_left = total;
                    self.client_body_dropped = true;
                }
                b'Q' | b'F' | b'S' | b'H' | b'P' | b'B' | b'D' | b'E' | b'C' => {
                    if at == start
                        && let Some(Scanned(n)) = self.answer_locally(rest)
                    {
                        at += n;
                        start = at;
                        continue;
                    }
                    if at == start && data.ends_with(SYNC) {
                        // It says all that it wants, which needs no closer look here.
                        return Scan::Server(start);
                    }
                    // A client that is slow to say what it wants keeps no server from others.
                    let is_long = data.len() - start > limits::REQUEST_BYTES_MAX;
                    if rest.len() < total && !is_long {
                        return Scan::More(start);
                    }
                    if is_long || matches!(kind, b'Q' | b'F' | b'S' | b'H') {
                        return Scan::Server(start);
                    }
                    at += total;
                }
                _ => {
                    let message = format!("invalid frontend message type {kind}");
                    return Scan::Violation(violation(message));
                }
            }
        }
    }

    /// With a server: moves bytes until it is free, or something is in the way. Cancel safe.
    fn poll_held(&mut self, scratch: &mut [u8], cx: &mut Context<'_>) -> Poll<Event> {
        let told = self.signals(cx);
        if told & !(signal::NOTIFY | signal::DRAIN | signal::CANCEL) != 0
            || (told != 0 && self.is_quiet())
        {
            return Poll::Ready(Event::Signal(told));
        }
        loop {
            // Only reading makes work for another turn: writing comes first, and what it frees is read below.
            let mut moved = false;
            if let Poll::Ready(Err(_)) = self.poll_write_server(cx) {
                return Poll::Ready(Event::ServerLost);
            }
            if let Poll::Ready(Err(_)) = self.poll_write_client(cx) {
                return Poll::Ready(Event::ClientGone);
            }
            if self.is_releasable() {
                return Poll::Ready(Event::Free);
            }
            if self.goodbye && self.is_answered() {
                return Poll::Ready(Event::ClientGone);
            }
            if self.to_client.is_empty() && !self.client_unflushed {
                match self.poll_read_server(scratch, cx) {
                    // Mostly that was the whole answer: then the next turn writes it and is the last, and
                    // asking a client that waits for it would be in vain.
                    Poll::Ready(Ok(Passed::All)) if self.is_releasable() => continue,
                    Poll::Ready(Ok(Passed::All)) => moved = true,
                    Poll::Ready(Ok(Passed::Hold)) => return Poll::Ready(Event::Listen),
                    Poll::Ready(Ok(Passed::Again)) => return Poll::Ready(Event::Again),
                    Poll::Ready(Ok(Passed::Lost)) => return Poll::Ready(Event::ServerLost),
                    Poll::Ready(Err(report)) => return Poll::Ready(Event::Broken(report)),
                    Poll::Pending => {}
                }
                if self.pins.recheck && self.is_quiet() {
                    return Poll::Ready(Event::Free);
                }
            }
            if self.to_server.is_empty() && !self.server_unflushed && !self.goodbye {
                match self.poll_read_client(scratch, cx) {
                    Poll::Ready(Some(event)) => return Poll::Ready(event),
                    Poll::Ready(None) => moved = true,
                    Poll::Pending => {}
                }
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }

    /// Whether a client that said goodbye has its answers, or the server waits for what will not come.
    fn is_answered(&self) -> bool {
        let all = self.expects.is_empty() && self.to_client.is_empty() && !self.client_unflushed;
        all || self.copy_in
    }

    /// Whether neither side is in the middle of anything.
    pub(super) fn is_quiet(&self) -> bool {
        self.status == b'I'
            && self.expects.is_empty()
            && !self.in_batch
            && !self.server_skips
            && self.client_body_left == 0
            && self.server_body_left == 0
    }

    fn poll_read_server(
        &mut self,
        scratch: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Poll<Result<Passed, Box<Report>>> {
        let Some(server) = &mut self.server else { return Poll::Ready(Ok(Passed::Lost)) };
        let n = match ready!(poll_read(&mut server.stream, cx, scratch)) {
            Ok(0) | Err(_) => return Poll::Ready(Ok(Passed::Lost)),
            Ok(n) => n,
        };
        let data = scratch.get(..n).unwrap_or_default();
        if self.from_server.is_empty() {
            return Poll::Ready(self.pass(data));
        }
        self.from_server.extend_from_slice(data);
        Poll::Ready(self.pass_kept())
    }

    /// Passes what was kept of the server's bytes.
    pub(super) fn pass_kept(&mut self) -> Result<Passed, Box<Report>> {
        let kept = std::mem::take(&mut self.from_server);
        let passed = self.pass(&kept);
        buffers::give(kept);
        passed
    }

    /// Reads the client and feeds the server; an event when the client is gone or broke the protocol.
    fn poll_read_client(
        &mut self,
        scratch: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Poll<Option<Event>> {
        let n = match ready!(poll_read(&mut self.client, cx, scratch)) {
            Ok(0) | Err(_) => return Poll::Ready(Some(Event::ClientGone)),
            Ok(n) => n,
        };
        self.bytes_in += n as u64;
        let data = scratch.get(..n).unwrap_or_default();
        self.begin_request();
        let event = if self.inbox.is_empty() {
            self.feed_and_keep(data)
        } else {
            self.inbox.extend_from_slice(data);
            self.feed_kept()
        };
        Poll::Ready(match event {
            Event::Fed => None,
            event => Some(event),
        })
    }

    /// Writes what waits for the client; answers how much went.
    fn poll_write_client(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.to_client.is_empty() && !self.client_unflushed {
            return Poll::Ready(Ok(0));
        }
        let mut total = 0;
        while !self.to_client.is_empty() {
            let client = Pin::new(&mut self.client);
            match client.poll_write(cx, self.to_client.pending())? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(n) => {
                    self.bytes_out += n as u64;
                    total += n;
                    self.to_client.wrote(n);
                }
                Poll::Pending if total > 0 => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.client.is_tls() {
            self.client_unflushed = Pin::new(&mut self.client).poll_flush(cx)?.is_pending();
        }
        Poll::Ready(Ok(total))
    }

    fn poll_write_server(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(server) = &mut self.server else { return Poll::Ready(Ok(0)) };
        if self.to_server.is_empty() && !self.server_unflushed {
            return Poll::Ready(Ok(0));
        }
        let mut total = 0;
        while !self.to_server.is_empty() {
            match Pin::new(&mut server.stream).poll_write(cx, self.to_server.pending())? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(n) => {
                    total += n;
                    self.to_server.wrote(n);
                    self.sent = true;
                }
                Poll::Pending if total > 0 => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        if server.stream.is_tls() {
            self.server_unflushed = Pin::new(&mut server.stream).poll_flush(cx)?.is_pending();
        }
        Poll::Ready(Ok(total))
    }
}

/// Reads into `into`. Each poll that comes in vain puts the task on the socket's list again: the runtime may have taken
/// it off to wake it for what was read meanwhile, and does not tell.
#[inline]
fn poll_read(
    stream: &mut Stream,
    cx: &mut Context<'_>,
    into: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buf = ReadBuf::new(into);
    ready!(Pin::new(stream).poll_read(cx, &mut buf))?;
    Poll::Ready(Ok(buf.filled().len()))
}
