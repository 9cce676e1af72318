//! When a side is lost: what the other is told, and what becomes of the server.
//!
//! A server that dies outside of a transaction costs the client the statement that ran; inside one, or
//! with state that only it had, the connection. Nothing is retried unless no byte of it had left.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::buffers;
use super::expect::Expect;
use super::registry::Doing;
use super::serve::Next;
use super::state::Session;
use crate::clock::Moment;
use crate::config::PoolMode;
use crate::error::{Fault, Report, Severity, sqlstate};
use crate::limits;
use crate::pool::{Pool, Server, connect, exec};
use crate::wire::{self, Cut, build};

/// Time for the last words to a client.
const FAREWELL_SECONDS_MAX: u64 = 1;

impl Session {
    /// The request that waits in the inbox fails; the session goes on.
    pub(super) fn refuse_request(&mut self, report: &Report) -> Next {
        self.request_at = None;
        self.transaction_at = None;
        self.shared.set_doing(Doing::Idle, Moment::now());
        let Cut::Frame { kind, total } = wire::cut(&self.inbox, wire::frame::client_max) else {
            return Next::On;
        };
        report.encode(self.to_client.buffer());
        if matches!(kind, b'Q' | b'F') {
            build::ready(self.to_client.buffer(), b'I');
            let here = total.min(self.inbox.len());
            self.inbox.drain(..here);
            self.client_body_left = total - here;
            self.client_body_dropped = true;
        } else {
            self.skipping = true;
        }
        Next::On
    }

    /// The server is gone.
    pub(super) fn server_lost(&mut self) -> Next {
        let told = self.lost.take();
        let Some(mut server) = self.server.take() else { return Next::On };
        server.broken = true;
        let pool = server.info.pool.clone();
        self.shared.set_server(None);
        drop(server);
        let unsent = !self.sent && self.may_replay && told.is_none();
        let mid_row = self.server_body_left > 0 && !self.server_body_swallowed;
        let stateful =
            self.status != b'I' || self.pins.is_pinned() || self.mode == PoolMode::Session;
        self.from_server.clear();
        self.to_server.clear();
        self.server_body_left = 0;
        self.server_unflushed = false;
        self.flush_counters(&pool);
        let report = told.unwrap_or_else(|| {
            Report::error(
                Fault::Server,
                sqlstate::CONNECTION_FAILURE,
                "the server closed the connection unexpectedly",
            )
            .detail("Whether the statement took effect is not known.")
        });
        tracing::warn!(session = self.shared.id, node = %pool.key.node, error = %report.message,
            "a server was lost");
        if mid_row {
            return Next::Gone;
        }
        if stateful {
            return Next::End(Box::new(Report { severity: Severity::Fatal, ..report }));
        }
        if unsent {
            return self.start_over();
        }
        self.fail_outstanding(&report);
        Next::On
    }

    /// Nothing of the request had left: another server gets it, and nobody notices.
    fn start_over(&mut self) -> Next {
        self.forget_outstanding();
        let mut request = std::mem::take(&mut self.replay);
        request.extend_from_slice(&self.inbox);
        buffers::give(std::mem::replace(&mut self.inbox, request));
        self.client_body_left = 0;
        Next::On
    }

    fn forget_outstanding(&mut self) -> Vec<bool> {
        let mut ends = Vec::new();
        let dropped: Vec<_> = self.expects.drain().collect();
        for expect in dropped {
            if !matches!(expect, Expect::Ours(_)) {
                ends.push(expect.ends_ready());
            }
            self.not_done(expect);
        }
        self.in_batch = false;
        self.copy_in = false;
        self.early_syncs = 0;
        self.server_skips = false;
        self.errored = false;
        self.deeds_pending = 0;
        self.tracker.rollback();
        self.listening.rollback();
        self.listening.on_server = false;
        self.server_stale = false;
        self.request_at = None;
        self.transaction_at = None;
        self.shared.set_doing(Doing::Idle, Moment::now());
        ends
    }

    /// Every request that was with the server fails.
    fn fail_outstanding(&mut self, report: &Report) {
        let batch = self.in_batch;
        let skips = self.server_skips;
        let ends = self.forget_outstanding();
        let mut told = skips;
        for ends_ready in ends {
            if !told {
                report.encode(self.to_client.buffer());
                told = true;
            }
            if ends_ready {
                build::ready(self.to_client.buffer(), b'I');
                told = false;
            }
        }
        // The rest of an extended query is still to come; so may be the rest of a frame.
        self.skipping = batch || skips;
        if self.skipping && !told {
            report.encode(self.to_client.buffer());
        }
        self.client_body_dropped = true;
    }

    /// Tells the client why its connection ends. Cancel safe.
    pub(super) async fn farewell(&mut self, report: &Report) {
        if self.server_body_left > 0 {
            return;
        }
        report.encode(self.to_client.buffer());
        let client = &mut self.client;
        let pending = self.to_client.pending();
        let last_words = async {
            client.write_all(pending).await?;
            client.shutdown().await?;
            // Closing a socket with unread bytes would reset it, and the client would not see the reason.
            let mut waste = [0; 4096];
            let mut left = limits::LAST_WORDS_BYTES_MAX;
            while left > 0 {
                match client.read(&mut waste).await? {
                    0 => break,
                    n => left = left.saturating_sub(n),
                }
            }
            std::io::Result::Ok(())
        };
        let _ = tokio::time::timeout(Duration::from_secs(FAREWELL_SECONDS_MAX), last_words).await;
    }

    /// The session ends: its server is cleaned and given back, or closed. Not cancel safe.
    pub(super) async fn leave(mut self: Box<Self>) {
        self.listening.leave(&self.hub, self.pool().cloned(), self.shared.id).await;
        let Some(mut server) = self.server.take() else { return };
        self.shared.set_server(None);
        let pool = server.info.pool.clone();
        self.flush_counters(&pool);
        let clean = self.status == b'I'
            && self.expects.is_empty()
            && !self.in_batch
            && self.to_server.is_empty()
            && self.client_body_left == 0
            && self.from_server.is_empty();
        let in_block = self.status != b'I' && self.expects.is_empty() && self.to_server.is_empty();
        let mid = self.in_batch || self.client_body_left > 0 || self.server_body_left > 0;
        if server.broken || self.pins.spoils() {
            return;
        }
        if mid || !(clean || in_block) {
            // What runs is of no use to anyone.
            let limit = Duration::from_secs(limits::CLEAN_SECONDS_MAX);
            let _ = tokio::time::timeout(limit, cancel_running(&self, &pool, &mut server)).await;
            return;
        }
        let keeps = self.pins.is_pinned() || self.listening.on_server;
        let settings = pool.settings.load_full();
        if keeps && self.shares() && !exec::discards_all(&settings.server_reset_query) {
            // The next client may be anyone: what is not surely clean is closed.
            return;
        }
        let cleaning = async {
            if in_block {
                exec::run(&mut server, b"ROLLBACK").await?;
            }
            if keeps {
                exec::reset(&mut server, &settings.server_reset_query).await?;
            }
            server.info.cancels_arrived().await;
            Ok::<_, exec::ExecError>(())
        };
        let limit = Duration::from_secs(limits::CLEAN_SECONDS_MAX);
        match tokio::time::timeout(limit, cleaning).await {
            Ok(Ok(())) => pool.checkin(server, Moment::now()),
            Ok(Err(error)) => {
                tracing::warn!(node = %pool.key.node, %error, "a server could not be cleaned");
            }
            Err(_) => tracing::warn!(node = %pool.key.node, "a server was not cleaned in time"),
        }
    }
}

/// Cancels until the server has closed. A request that comes while the server is between two statements
/// is ignored (postgres.c, `DoingCommandRead`), and the next one would run on for nobody.
/// Cancel safe: what is left of the connection is closed.
async fn cancel_running(session: &Session, pool: &Pool, server: &mut Server) {
    if session.expects.is_empty() {
        return;
    }
    // Behind what runs, the server finds that nobody is there.
    if server.stream.shutdown().await.is_err() {
        return;
    }
    let settings = pool.settings.load_full();
    let tls = session.hub.tls.load_full();
    let mut waste = [0; 4096];
    loop {
        let cancel = connect::send_cancel(
            &settings.node,
            &settings.proxy,
            &tls,
            server.info.pid,
            &server.info.secret,
        );
        let limit = Duration::from_secs(limits::CANCEL_SECONDS_MAX);
        let _ = tokio::time::timeout(limit, cancel).await;
        let closed = async { while server.stream.read(&mut waste).await.is_ok_and(|n| n > 0) {} };
        let limit = Duration::from_millis(limits::CANCEL_RETRY_MS);
        if tokio::time::timeout(limit, closed).await.is_ok() {
            return;
        }
    }
}
