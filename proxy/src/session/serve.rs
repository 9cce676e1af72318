//! The loop a query lives in: wait for a request, take a server, move bytes, give the server back.
//!
//! All of it runs in the client's own task: no channel, no other task, no timer on the way.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;

use super::buffers;
use super::expect::{Expect, Ours};
use super::pins;
use super::pump::Event;
use super::registry::{Doing, signal};
use super::state::Session;
use crate::clock::Moment;
use crate::error::{Fault, Report, sqlstate};
use crate::limits;
use crate::pool::{self, Pool, Served, Server, exec};
use crate::wire::frame::server_max;
use crate::wire::{self, Cut, build};

/// What a session does next.
#[derive(Debug)]
pub(super) enum Next {
    /// Serve on.
    On,
    /// The client is gone.
    Gone,
    /// Tell the client, then end.
    End(Box<Report>),
}

impl Session {
    /// Serves until the client leaves or must leave; then cleans up. Not cancel safe.
    pub(super) async fn run(mut self: Box<Self>) {
        let end = loop {
            let event = poll_fn(|cx| self.poll_event(cx)).await;
            match self.handle(event).await {
                Next::On => {}
                Next::Gone => break None,
                Next::End(report) => break Some(report),
            }
        };
        if let Some(report) = end {
            if let (Fault::Server, Some(server)) = (report.fault, &mut self.server) {
                // It said what no server says: nothing that it holds can be trusted.
                server.broken = true;
            }
            Box::pin(self.farewell(&report)).await;
        }
        // Boxed, as all that is rare: an idle client must not carry its memory.
        Box::pin(self.leave()).await;
    }

    async fn handle(&mut self, event: Event) -> Next {
        match event {
            Event::NeedServer => match self.acquire().await {
                Ok(()) => self.first_bytes(),
                Err(Refusal::Request(report)) => self.refuse_request(&report),
                Err(Refusal::End(report)) => Next::End(report),
                Err(Refusal::Gone) => Next::Gone,
            },
            Event::Fed | Event::Free => Next::On,
            Event::Listen => Box::pin(self.listen()).await,
            Event::Again => self.again(),
            Event::ServerLost => self.server_lost(),
            Event::ClientGone => Next::Gone,
            Event::Signal(told) => self.told(told),
            Event::Broken(report) => Next::End(report),
        }
    }

    /// An idle server, if there is one at once and it needs nothing that must be awaited.
    pub(super) fn take_server_now(&mut self) -> bool {
        let Some(pool) = self.hub.pools.pick(&self.targets) else { return false };
        let Some(server) = pool.try_checkout() else { return false };
        let ready = !server.applied.changes_identity(self.tracker.wanted());
        self.attach(server);
        if ready {
            self.begin_request();
        }
        ready
    }

    /// Takes a server, waiting for one if need be. Not cancel safe.
    async fn acquire(&mut self) -> Result<(), Refusal> {
        if self.server.is_none() {
            let server = match self.checkout_at_once() {
                Some(server) => server,
                None => self.wait_for_server().await?,
            };
            self.attach(server);
        }
        let wanted = self.tracker.wanted().clone();
        let Some(server) = &mut self.server else { return Err(Refusal::Gone) };
        if server.applied.changes_identity(&wanted) {
            let statements = server.applied.difference(&wanted);
            if let Err(error) = Box::pin(run_all(server, &statements)).await {
                server.broken = true;
                self.detach();
                let message = format!("the session's settings were refused: {error}");
                let report = Report::error(Fault::Client, sqlstate::CONNECTION_FAILURE, message);
                return Err(Refusal::Request(report.into()));
            }
            server.applied = wanted;
        }
        Ok(())
    }

    fn checkout_at_once(&self) -> Option<Box<Server>> {
        self.hub.pools.pick(&self.targets)?.try_checkout()
    }

    async fn wait_for_server(&mut self) -> Result<Box<Server>, Refusal> {
        let Some(pool) = self.hub.pools.pick(&self.targets).cloned() else {
            let message = format!("database \"{}\" has no node to serve it", self.shared.database);
            let report = Report::error(Fault::Operator, sqlstate::CONNECTION_FAILURE, message);
            return Err(Refusal::Request(report.into()));
        };
        let mut wait = pool.wait(&self.waiter).map_err(|report| Refusal::Request(report.into()))?;
        self.shared.set_doing(Doing::Waiting, wait.since);
        self.request_at.get_or_insert(wait.since);
        let served = poll_fn(|cx| {
            if let Poll::Ready(served) = wait.poll(cx) {
                return Poll::Ready(Ok(served));
            }
            let mut told = self.signals(cx) & !(signal::NOTIFY | signal::DRAIN);
            if told & signal::TIMEOUT != 0
                && !self.shared.is_overdue(&self.hub.config.load(), Moment::now())
            {
                // It was about what the session did before.
                self.shared.clear(signal::TIMEOUT);
                told &= !signal::TIMEOUT;
            }
            if told != 0 {
                return Poll::Ready(Err(told));
            }
            self.poll_presence(cx).map(|()| Err(0))
        })
        .await;
        let waited = wait.since.elapsed();
        pool.stats.record_wait(u64::try_from(waited.as_micros()).unwrap_or(u64::MAX));
        drop(wait);
        match served {
            Ok(Served::Server(server)) => {
                // What came in the same moment was about the wait, not about the statement.
                self.shared.clear(signal::TIMEOUT);
                if self.shared.take(signal::CANCEL) {
                    pool.checkin(server, Moment::now());
                    return Err(Refusal::Request(canceled()));
                }
                Ok(server)
            }
            Ok(Served::Failed(report)) => {
                let report =
                    Report { severity: crate::error::Severity::Error, ..(*report).clone() };
                Err(Refusal::Request(report.into()))
            }
            Err(0) => Err(Refusal::Gone),
            Err(told) if told & signal::CANCEL != 0 => {
                self.shared.clear(signal::CANCEL);
                Err(Refusal::Request(canceled()))
            }
            Err(told) if told & signal::TIMEOUT != 0 => {
                self.shared.clear(signal::TIMEOUT);
                pool.wait_timeouts.fetch_add(1, Relaxed);
                Err(Refusal::Request(waited_too_long(&pool, waited).into()))
            }
            Err(_) => Err(Refusal::End(killed())),
        }
    }

    /// The server is this session's from now on.
    fn attach(&mut self, mut server: Box<Server>) {
        server.info.held_by.store(self.shared.id, Relaxed);
        self.shared.set_server(Some(server.info.clone()));
        self.mode = server.settings().mode;
        self.server = Some(server);
    }

    /// The session holds no server any more; it goes back to its pool.
    pub(super) fn detach(&mut self) {
        let Some(server) = self.server.take() else { return };
        self.shared.set_server(None);
        self.note_statements();
        if server.info.is_being_canceled() {
            // A cancel request is on its way to it: nobody else may be hit by it.
            let pool = server.info.pool.clone();
            self.hub.background.spawn(async move {
                server.info.cancels_arrived().await;
                pool.checkin(server, Moment::now());
            });
        } else {
            Pool::checkin_own(server, self.answered_at);
        }
    }

    /// A request begins, if the last one is over.
    pub(super) fn begin_request(&mut self) {
        if self.status != b'I' || !self.expects.is_empty() || self.in_batch {
            self.may_replay &= !self.replay.is_empty();
            let refused = self.server_stale && self.status == b'I' && !self.copy_in;
            if refused && self.expects.is_one_query() {
                // The client asks again before the ReadyForQuery behind the error, as tokio-postgres does.
                self.renew_statements();
            }
            if self.status == b'T' && self.expects.is_empty() && !self.in_batch {
                self.replay_reset();
            }
            return;
        }
        self.replay.clear();
        self.may_replay = true;
        self.replayed = false;
        self.sent = false;
        self.replay_settings();
        if self.expects.is_empty() {
            self.tell_reported();
        }
    }

    /// Keeps what was fed, while it may have to be sent again.
    pub(super) fn keep_replay(&mut self, data: &[u8], n: usize) {
        if !self.may_replay {
            return;
        }
        if self.replay.len() + n > limits::REQUEST_BYTES_MAX {
            self.may_replay = false;
            buffers::give(std::mem::take(&mut self.replay));
            return;
        }
        if self.replay.capacity() == 0 {
            self.replay = buffers::take();
        }
        self.replay.extend_from_slice(data.get(..n).unwrap_or_default());
    }

    /// A server has just been taken for what waits in the inbox.
    fn first_bytes(&mut self) -> Next {
        self.begin_request();
        self.feed_inbox()
    }

    fn feed_inbox(&mut self) -> Next {
        match self.feed_kept() {
            Event::Broken(report) => Next::End(report),
            Event::ClientGone => Next::Gone,
            _ => Next::On,
        }
    }

    /// The server is free: what it still carries of the session goes first.
    pub(super) fn free(&mut self) {
        if self.listening.on_server && self.shares() {
            self.listening.on_server = false;
            self.ask(b"UNLISTEN *", Ours::Query);
            return;
        }
        if self.server_stale {
            self.renew_statements();
            return;
        }
        if self.pins.recheck && self.shares() {
            self.pins.recheck = false;
            self.ask(pins::RECHECK.as_bytes(), Ours::Recheck);
            return;
        }
        if !self.is_releasable() {
            return;
        }
        buffers::give(std::mem::take(&mut self.replay));
        self.expects.shrink();
        self.detach();
    }

    /// A prepared statement is stale: all of the server's are forgotten, so that each is prepared again.
    fn renew_statements(&mut self) {
        self.server_stale = false;
        if let Some(server) = &mut self.server {
            server.prepared.clear();
        }
        self.ask(b"DEALLOCATE ALL", Ours::Query);
    }

    fn ask(&mut self, sql: &[u8], ours: Ours) {
        build::query(self.to_server.buffer(), sql);
        self.set_server_unnamed(0);
        self.expects.push(Expect::Ours(ours));
    }

    /// LISTEN committed: it must be in force before the client hears so.
    async fn listen(&mut self) -> Next {
        let Some(pool) = self.pool().cloned() else { return Next::Gone };
        let (hub, shared) = (self.hub.clone(), self.shared.clone());
        if let Err(why) = self.listening.bring_into_force(&hub, &pool, &shared).await {
            let report = Report::fatal(Fault::Server, sqlstate::CONNECTION_FAILURE, why);
            return Next::End(
                report.hint("LISTEN is served by a connection of its own; see the log").into(),
            );
        }
        match self.pass_kept() {
            Ok(_) => Next::On,
            Err(report) => Next::End(report),
        }
    }

    /// A prepared statement went stale: out of a transaction the request is sent again, once.
    fn again(&mut self) -> Next {
        self.replayed = true;
        // The error is not the client's to see; what came behind it in the same piece is still to be read.
        if let Cut::Frame { total, .. } = wire::cut(&self.from_server, server_max) {
            self.from_server.drain(..total.min(self.from_server.len()));
        }
        let dropped: Vec<_> = self.expects.drain().collect();
        for expect in dropped {
            self.not_done(expect);
        }
        // The answer to the request's own Sync.
        self.expects.push(Expect::Ours(Ours::Query));
        self.renew_statements();
        let request = std::mem::take(&mut self.replay);
        let fed = self.feed(&request);
        self.replay = request;
        match fed.and_then(|_| self.pass_kept()) {
            Ok(_) => Next::On,
            Err(report) => Next::End(report),
        }
    }

    /// What others told the session.
    fn told(&mut self, told: u8) -> Next {
        if told & signal::KILL != 0 {
            return Next::End(killed());
        }
        if told & signal::OVERFLOW != 0 {
            let message = "too many notifications wait for this client";
            return Next::End(
                Report::fatal(Fault::Client, sqlstate::PROGRAM_LIMIT, message).into(),
            );
        }
        if told & signal::TIMEOUT != 0 {
            // It may have gone on since the janitor looked.
            self.shared.clear(signal::TIMEOUT);
            if self.shared.is_overdue(&self.hub.config.load(), Moment::now()) {
                return Next::End(self.timed_out().into());
            }
        }
        if told & signal::NOTIFY != 0 {
            for frame in self.shared.take_notes() {
                self.to_client.push(&frame);
            }
        }
        if told & signal::CANCEL != 0 {
            // The statement it was about is over.
            self.shared.clear(signal::CANCEL);
        }
        if told & signal::DRAIN != 0 {
            if self.server.is_none() && self.inbox.is_empty() {
                return Next::End(killed());
            }
            self.shared.clear(signal::DRAIN);
        }
        Next::On
    }

    fn timed_out(&self) -> Report {
        let (sqlstate, message) = if self.shared.is_doing(Doing::InTransaction) {
            (
                sqlstate::IDLE_IN_TRANSACTION,
                "terminating connection due to idle-in-transaction timeout",
            )
        } else if self.shared.is_doing(Doing::Running) {
            (sqlstate::QUERY_CANCELED, "canceling statement due to query timeout")
        } else {
            (sqlstate::IDLE_SESSION_TIMEOUT, "terminating connection due to idle-session timeout")
        };
        Report::fatal(Fault::Client, sqlstate, message)
    }
}

/// Why there is no server.
#[derive(Debug)]
pub(super) enum Refusal {
    /// This request fails, the session goes on.
    Request(Box<Report>),
    /// The session ends.
    End(Box<Report>),
    /// The client vanished meanwhile.
    Gone,
}

/// Runs statements of ours one after the other. Not cancel safe.
pub(super) async fn run_all(
    server: &mut Server,
    statements: &[Vec<u8>],
) -> Result<(), exec::ExecError> {
    for sql in statements {
        exec::run(server, sql).await?;
    }
    server.unnamed = 0;
    Ok(())
}

fn canceled() -> Box<Report> {
    let message = "canceling statement due to user request";
    Box::new(Report::error(Fault::Client, sqlstate::QUERY_CANCELED, message))
}

/// The session is ended by an operator.
pub(super) fn killed() -> Box<Report> {
    Box::new(Report::fatal(
        Fault::Operator,
        sqlstate::ADMIN_SHUTDOWN,
        "terminating connection due to administrator command",
    ))
}

fn waited_too_long(pool: &Arc<Pool>, waited: std::time::Duration) -> Report {
    let seconds = waited.as_secs_f32();
    let report = Report::error(
        Fault::Operator,
        sqlstate::TOO_MANY_CONNECTIONS,
        format!("no server became free within {seconds:.1} s"),
    );
    match pool::last_error(pool) {
        Some(last) => Report { sqlstate: last.sqlstate, fault: Fault::Server, ..report }
            .detail(format!("The last login to a server failed: {}", last.message)),
        None => report.hint("pool.wait_timeout bounds the wait; pool.size_default the servers"),
    }
}
