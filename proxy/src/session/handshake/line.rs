//! A client's connection during the handshake: exact reads and whole writes, all before one
//! deadline.
//!
//! Never reads ahead: a byte that belongs to TLS, or to the session, stays in the socket.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::HandshakeError;
use crate::error::{Fault, Report, sqlstate};
use crate::limits;
use crate::net::Stream;

/// A connection with a deadline.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) stream: Stream,
    deadline: Instant,
    /// Frames that go out with the next write.
    pending: Vec<u8>,
}

impl Line {
    pub(super) fn new(stream: Stream, deadline: Instant) -> Line {
        Line { stream, deadline, pending: Vec::new() }
    }

    /// Runs `work` before the deadline. As cancel safe as `work`.
    pub(super) async fn in_time<T>(
        deadline: Instant,
        work: impl Future<Output = T>,
    ) -> Result<T, HandshakeError> {
        timeout_at(deadline, work).await.map_err(|_| HandshakeError::TimedOut)
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Fills `buf`. Not cancel safe.
    pub(super) async fn read(&mut self, buf: &mut [u8]) -> Result<(), HandshakeError> {
        Line::in_time(self.deadline, self.stream.read_exact(buf)).await??;
        Ok(())
    }

    /// Queues `bytes` for the next `send`.
    pub(super) fn queue(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// Writes what was queued, then `bytes`. Not cancel safe.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), HandshakeError> {
        self.queue(bytes);
        let out = std::mem::take(&mut self.pending);
        let write = async {
            self.stream.write_all(&out).await?;
            self.stream.flush().await
        };
        Line::in_time(self.deadline, write).await??;
        Ok(())
    }

    /// Tells the client why and closes the connection. Not cancel safe.
    pub(super) async fn refuse(mut self, report: Report) -> HandshakeError {
        report.encode(&mut self.pending);
        let patience = Duration::from_millis(limits::FAREWELL_MS_MAX);
        // Whether the client hears it or not, the refusal stands.
        let _ = timeout(patience, self.farewell()).await;
        HandshakeError::Refused(report)
    }

    async fn farewell(&mut self) -> io::Result<()> {
        let out = std::mem::take(&mut self.pending);
        self.stream.write_all(&out).await?;
        self.stream.shutdown().await?;
        let mut waste = [0; 1024];
        let mut left = limits::FAREWELL_BYTES_MAX;
        while left > 0 {
            match self.stream.read(&mut waste).await? {
                0 => break,
                n => left = left.saturating_sub(n),
            }
        }
        Ok(())
    }

    /// Passes `error` on; a client whose time is over is told so (postgres.c,
    /// ProcessInterrupts). Not cancel safe.
    pub(super) async fn give_up(self, error: HandshakeError) -> HandshakeError {
        match error {
            HandshakeError::TimedOut => {
                let message = "canceling authentication due to timeout";
                let report = Report::fatal(Fault::Client, sqlstate::QUERY_CANCELED, message);
                self.refuse(report).await
            }
            error => error,
        }
    }
}
