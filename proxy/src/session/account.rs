//! What a session counts, and that its client is still there while it waits.

use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, ReadBuf};

use super::buffers;
use super::registry::Doing;
use super::state::Session;
use crate::limits;
use crate::pool::Pool;

impl Session {
    /// A request was answered: its latency, and its transaction's if that is over too.
    pub(super) fn request_done(&mut self) {
        if !self.expects.is_empty() {
            return;
        }
        let now = Instant::now();
        self.shared.set_busy(false);
        let doing = if self.status == b'I' { Doing::Idle } else { Doing::InTransaction };
        self.shared.set_doing(doing, now);
        let began = self.request_at.take();
        let transaction = if self.status == b'I' { self.transaction_at.take() } else { None };
        let Some(server) = &self.server else { return };
        let stats = &server.info.pool.stats;
        if let Some(began) = began {
            stats.record_query(micros(began, now));
        }
        if let Some(began) = transaction {
            let here = stats.here();
            here.xact_count.fetch_add(1, Relaxed);
            here.xact_time_us.fetch_add(micros(began, now), Relaxed);
        }
    }

    /// Bytes so far go to the pool's counters.
    pub(super) fn flush_counters(&mut self, pool: &Pool) {
        let here = pool.stats.here();
        here.received.fetch_add(std::mem::take(&mut self.bytes_in), Relaxed);
        here.sent.fetch_add(std::mem::take(&mut self.bytes_out), Relaxed);
        self.shared.prepared.store(self.prepared.named.len(), Relaxed);
    }

    /// Ready when the client is gone. What it sends meanwhile is kept, up to the limit of a request.
    pub(super) fn poll_presence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.inbox.len() < limits::REQUEST_BYTES_MAX {
            let n = buffers::with_scratch(|scratch| {
                let mut buf = ReadBuf::new(scratch);
                if ready!(Pin::new(&mut self.client).poll_read(cx, &mut buf)).is_err() {
                    return Poll::Ready(0);
                }
                self.inbox.extend_from_slice(buf.filled());
                Poll::Ready(buf.filled().len())
            });
            let n = ready!(n);
            self.bytes_in += n as u64;
            if n == 0 {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

fn micros(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u64::MAX)
}
