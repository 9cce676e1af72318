//! From an accepted socket to a startup packet: direct TLS, SSLRequest, GSSENCRequest.
//!
//! Nothing that arrived in plain text is ever used behind TLS (CVE-2021-23214): packets are read
//! exactly, and a client that sent more than its request is refused before it is answered.
//! Follows `ProcessSSLStartup` and `ProcessStartupPacket` (backend_startup.c).

use std::io;
use std::sync::Arc;

use rustix::net::RecvFlags;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::HandshakeError;
use super::line::Line;
use crate::error::{Fault, Report, sqlstate};
use crate::limits;
use crate::net::{Socket, Stream};
use crate::tls::{Material, Opening};
use crate::wire;

/// The first byte of a TLS record with a ClientHello; as a startup packet's length it would mean
/// hundreds of megabytes.
const TLS_HANDSHAKE: u8 = 0x16;

/// Phase 1: a plain socket of which nothing has been read.
pub(super) struct Accepted {
    pub(super) socket: Socket,
    pub(super) tls: Arc<Material>,
    pub(super) deadline: Instant,
}

/// Phase 2: encryption is settled, and the packet behind it has been read.
pub(super) struct Negotiated {
    pub(super) line: Line,
    pub(super) tls: Arc<Material>,
    /// From its code or version on: at least 4 bytes.
    pub(super) packet: Vec<u8>,
}

impl Accepted {
    /// To the first packet that is not about encryption. Not cancel safe.
    pub(super) async fn negotiate(mut self) -> Result<Negotiated, HandshakeError> {
        let (mut tls_done, mut gss_done) = (false, false);
        if self.starts_with_tls().await? {
            return self.upgrade(Opening::Direct).await;
        }
        for _ in 0..limits::STARTUP_PACKETS_MAX {
            let packet = Line::in_time(self.deadline, read_packet(&mut self.socket)).await??;
            match code(&packet) {
                wire::SSL_REQUEST if !tls_done => {
                    tls_done = true;
                    self =
                        self.refuse_stuffing("received unencrypted data after SSL request").await?;
                    // PostgreSQL has no TLS on unix sockets either.
                    if self.tls.accepts_tls() && matches!(self.socket, Socket::Tcp(_)) {
                        self.answer(b'S').await?;
                        return self.upgrade(Opening::Requested).await;
                    }
                    self.answer(b'N').await?;
                }
                wire::GSSENC_REQUEST if !gss_done => {
                    gss_done = true;
                    let what = "received unencrypted data after GSSAPI encryption request";
                    self = self.refuse_stuffing(what).await?;
                    self.answer(b'N').await?;
                }
                _ => {
                    let line = Line::new(Stream::Plain(self.socket), self.deadline);
                    return Ok(Negotiated { line, tls: self.tls, packet });
                }
            }
        }
        Err(HandshakeError::Malformed("too many startup packets"))
    }

    /// Whether the client opens with a ClientHello. Cancel safe.
    async fn starts_with_tls(&self) -> Result<bool, HandshakeError> {
        let Socket::Tcp(stream) = &self.socket else { return Ok(false) };
        let mut first = [0];
        match Line::in_time(self.deadline, stream.peek(&mut first)).await?? {
            0 => Err(HandshakeError::Left),
            _ => Ok(first == [TLS_HANDSHAKE]),
        }
    }

    /// Refuses a client that sent more than the request it must wait for an answer to: the rest
    /// was not encrypted, and may be another's. Not cancel safe.
    async fn refuse_stuffing(self, message: &str) -> Result<Accepted, HandshakeError> {
        if !has_more(&self.socket) {
            return Ok(self);
        }
        let report = Report::fatal(Fault::Client, sqlstate::PROTOCOL_VIOLATION, message).detail(
            "This could be either a client-software bug or evidence of an attempted \
             man-in-the-middle attack.",
        );
        Err(Line::new(Stream::Plain(self.socket), self.deadline).refuse(report).await)
    }

    async fn answer(&mut self, byte: u8) -> Result<(), HandshakeError> {
        Line::in_time(self.deadline, self.socket.write_all(&[byte])).await??;
        Ok(())
    }

    /// TLS, then the packet inside it. Not cancel safe.
    async fn upgrade(self, opening: Opening) -> Result<Negotiated, HandshakeError> {
        let accept = self.tls.accept(self.socket, opening);
        let mut stream =
            Line::in_time(self.deadline, accept).await?.map_err(HandshakeError::Tls)?;
        let packet = Line::in_time(self.deadline, read_packet(&mut stream)).await??;
        let line = Line::new(Stream::Accepted(stream), self.deadline);
        Ok(Negotiated { line, tls: self.tls, packet })
    }
}

/// The version or request code of a packet.
pub(super) fn code(packet: &[u8]) -> u32 {
    packet.first_chunk().map_or(0, |word| u32::from_be_bytes(*word))
}

/// One untyped packet, without its length; `Left` at a clean end. Not cancel safe.
async fn read_packet(
    stream: &mut (impl tokio::io::AsyncRead + Unpin),
) -> Result<Vec<u8>, HandshakeError> {
    let mut length = [0; 4];
    // The first byte alone tells a port check, or a client that disliked the last answer, from
    // a broken one.
    let (first, rest) = length.split_at_mut(1);
    match stream.read(first).await {
        Ok(0) => return Err(HandshakeError::Left),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(HandshakeError::Left);
        }
        other => other?,
    };
    stream.read_exact(rest).await?;
    let length = u32::from_be_bytes(length) as usize;
    // The limit of PostgreSQL does not count the length word itself.
    if !(8..=limits::STARTUP_PACKET_BYTES_MAX + 4).contains(&length) {
        return Err(HandshakeError::Malformed("invalid length of startup packet"));
    }
    let mut packet = vec![0; length - 4];
    stream.read_exact(&mut packet).await?;
    Ok(packet)
}

/// Whether a byte waits in the kernel. A peek, so it stays there.
fn has_more(socket: &Socket) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let mut byte = [0; 1];
    let peeked = match socket {
        Socket::Tcp(stream) => rustix::net::recv(stream, &mut byte, flags),
        Socket::Unix(stream) => rustix::net::recv(stream, &mut byte, flags),
    };
    matches!(peeked, Ok((n, _)) if n > 0)
}
