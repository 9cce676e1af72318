//! Between a console client's socket and pgwire's decoder: only whole, valid frames pass.
//!
//! pgwire's decoders read past a frame's end and panic on what is cut short. So each frame is held
//! back here until it is complete and its body says exactly what its type promises.
//! Reads never hand out a byte that was not checked; writes pass through untouched.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits;
use crate::wire::{Cut, HEADER_BYTES, Reader, WireError, cut};

/// A stream whose reads are whole, valid frames of a client.
#[derive(Debug)]
pub(super) struct FrameGuard<S> {
    inner: S,
    held: BytesMut,
    /// Bytes at the front of `held` that were checked and wait to be read.
    checked: usize,
    /// Set by the first frame that does not pass; the stream ends there.
    refused: Option<GuardError>,
}

/// Why a frame does not pass.
#[derive(Debug, thiserror::Error)]
pub(super) enum GuardError {
    /// Its length is impossible or above the console's limit.
    #[error("invalid length {length} of message type {kind:?}")]
    Length {
        /// Type byte.
        kind: char,
        /// The length as sent.
        length: u32,
    },
    /// Its body is not what its type promises.
    #[error(transparent)]
    Body(WireError),
    /// A client never sends this type here.
    #[error("unexpected message type {0:?}")]
    Kind(char),
}

impl<S> FrameGuard<S> {
    pub(super) fn new(inner: S) -> Self {
        FrameGuard { inner, held: BytesMut::new(), checked: 0, refused: None }
    }

    /// Checks what is held behind the checked bytes, frame by frame, until one is incomplete.
    fn advance(&mut self) -> Result<(), GuardError> {
        loop {
            let rest = self.held.get(self.checked..).unwrap_or_default();
            let (kind, total) = match cut(rest, console_max) {
                Cut::NeedHeader => return Ok(()),
                Cut::BadLength { kind, length } => {
                    return Err(GuardError::Length { kind: char::from(kind), length });
                }
                Cut::Frame { kind, total } => (kind, total),
            };
            let Some(body) = rest.get(HEADER_BYTES..total) else { return Ok(()) };
            if matches!(kind, b'd' | b'c' | b'f') {
                // A client whose COPY failed may still send its rest: postgres.c ignores it, too.
                let mut behind = self.held.split_off(self.checked);
                behind.advance(total);
                self.held.unsplit(behind);
            } else {
                check(kind, body)?;
                self.checked += total;
            }
        }
    }
}

/// The longest frame of a type that a console reads.
fn console_max(kind: u8) -> usize {
    match kind {
        b'Q' | b'P' | b'B' | b'd' => limits::CONSOLE_FRAME_BYTES_MAX,
        _ => limits::FRAME_SMALL_BYTES_MAX,
    }
}

/// Whether `body` is exactly what `kind` promises (manual, "Message Formats").
fn check(kind: u8, body: &[u8]) -> Result<(), GuardError> {
    let mut r = Reader::new(body);
    let checked = match kind {
        b'Q' => r.cstr("Query").and_then(|_| r.end("Query")),
        b'P' => parse(r),
        b'B' => bind(r),
        b'E' => r.cstr("Execute").and_then(|_| r.u32("Execute")).and_then(|_| r.end("Execute")),
        b'D' | b'C' => described(r),
        b'H' | b'S' | b'X' => r.end("Flush, Sync or Terminate"),
        other => return Err(GuardError::Kind(char::from(other))),
    };
    checked.map_err(GuardError::Body)
}

fn parse(mut r: Reader<'_>) -> Result<(), WireError> {
    r.cstr("Parse")?;
    r.cstr("Parse")?;
    let types = r.u16("Parse")?;
    r.bytes(usize::from(types) * 4, "Parse")?;
    r.end("Parse")
}

fn bind(mut r: Reader<'_>) -> Result<(), WireError> {
    r.cstr("Bind")?;
    r.cstr("Bind")?;
    let formats = r.u16("Bind")?;
    r.bytes(usize::from(formats) * 2, "Bind")?;
    for _ in 0..r.u16("Bind")? {
        match r.u32("Bind")? {
            // -1 is NULL.
            u32::MAX => {}
            length => {
                let length = i32::try_from(length).map_err(|_| WireError { what: "Bind" })?;
                r.bytes(usize::try_from(length).unwrap_or(usize::MAX), "Bind")?;
            }
        }
    }
    let formats = r.u16("Bind")?;
    r.bytes(usize::from(formats) * 2, "Bind")?;
    r.end("Bind")
}

fn described(mut r: Reader<'_>) -> Result<(), WireError> {
    match r.u8("Describe or Close")? {
        b'S' | b'P' => {}
        _ => return Err(WireError { what: "Describe or Close" }),
    }
    r.cstr("Describe or Close")?;
    r.end("Describe or Close")
}

impl<S: AsyncRead + Unpin> AsyncRead for FrameGuard<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.checked == 0 {
            // What was good before a refused frame is served first.
            if let Some(refused) = this.refused.take() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, refused)));
            }
            // `held` is bounded: a frame above the limit is refused as soon as its header is there.
            let mut scratch = [0u8; 4096];
            let mut buf = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.held.extend_from_slice(buf.filled());
            this.refused = this.advance().err();
        }
        let n = this.checked.min(out.remaining());
        out.put_slice(&this.held.split_to(n));
        this.checked -= n;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FrameGuard<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    /// What passes of `bytes`, and whether the stream then ended with an error.
    async fn check(bytes: &[u8], passes: &[u8], refused: bool) {
        let mut guard = FrameGuard::new(bytes);
        let mut got = Vec::new();
        let end = guard.read_to_end(&mut got).await;
        assert_eq!((got.as_slice(), end.is_err()), (passes, refused), "{bytes:?}");
    }

    #[tokio::test]
    async fn only_whole_valid_frames_pass() {
        let query = b"Q\0\0\0\x06a\0";
        check(query, query, false).await;
        check(&query[..5], b"", false).await;
        check(b"S\0\0\0\x04H\0\0\0\x04", b"S\0\0\0\x04H\0\0\0\x04", false).await;
        // These made the decoder panic or swallow the next frame.
        check(b"p\0\0\0\0", b"", true).await;
        check(b"d\0\0\0\0", b"", true).await;
        check(b"P\0\0\0\x06a\0S\0\0\0\x04", b"", true).await;
        check(b"Q\0\0\0\x0aab\0cd\0", b"", true).await;
        check(b"E\0\0\0\x05\0", b"", true).await;
        check(b"B\0\0\0\x0e\0\0\0\0\0\x01\0\0\0\x09", b"", true).await;
        check(b"D\0\0\0\x06X\0", b"", true).await;
        check(b"F\0\0\0\x04", b"", true).await;
        check(b"Q\x7f\0\0\0", b"", true).await;
        // Good frames before a bad one are served.
        check(b"S\0\0\0\x04p\0\0\0\0", b"S\0\0\0\x04", true).await;
        // The rest of a failed COPY is dropped.
        check(b"S\0\0\0\x04d\0\0\0\x05xH\0\0\0\x04", b"S\0\0\0\x04H\0\0\0\x04", false).await;
        check(
            b"B\0\0\0\x10\0\0\0\0\0\x01\xff\xff\xff\xff\0\0",
            b"B\0\0\0\x10\0\0\0\0\0\x01\xff\xff\xff\xff\0\0",
            false,
        )
        .await;
    }
}
