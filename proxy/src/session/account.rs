//! What a session counts, and that its client is still there while it waits.

use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::buffers;
use super::registry::Doing;
use super::state::Session;
use crate::clock::Moment;
use crate::limits;
use crate::metrics::stats::Request;
use crate::pool::Pool;

impl Session {
    /// A request was answered: its latency, and its transaction's if that is over too.
    pub(super) fn request_done(&mut self) {
        if !self.expects.is_empty() {
            return;
        }
        let now = Moment::now();
        self.answered_at = now;
        let doing = if self.status == b'I' { Doing::Idle } else { Doing::InTransaction };
        self.shared.set_doing(doing, now);
        let began = self.request_at.take();
        let transaction = if self.status == b'I' { self.transaction_at.take() } else { None };
        let Some(server) = &self.server else { return };
        server.info.pool.stats.record(&Request {
            query_us: began.map(|began| now.micros_since(began)),
            transaction_us: transaction.map(|began| now.micros_since(began)),
            received: std::mem::take(&mut self.bytes_in),
            sent: std::mem::take(&mut self.bytes_out),
        });
    }

    /// Bytes that belong to no request that was answered go to the pool's counters.
    pub(super) fn flush_counters(&mut self, pool: &Pool) {
        pool.stats.record(&Request {
            received: std::mem::take(&mut self.bytes_in),
            sent: std::mem::take(&mut self.bytes_out),
            ..Request::default()
        });
    }

    /// How many statements the client has names for, for `SHOW CLIENTS`.
    pub(super) fn note_statements(&self) {
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
