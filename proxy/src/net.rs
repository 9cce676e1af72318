//! Sockets of every kind as one type, so that sessions and pools know only bytes.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A plain socket.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// Unix domain.
    Unix(UnixStream),
}

/// A connection to a client or a server.
pub enum Stream {
    /// Without TLS.
    Plain(Socket),
    /// TLS that a client opened.
    Accepted(Box<tokio_rustls::server::TlsStream<Socket>>),
    /// TLS that we opened.
    Connected(Box<tokio_rustls::client::TlsStream<Socket>>),
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP; behind a PROXY header, the address it names.
    Tcp(SocketAddr),
    /// Over a unix-domain socket.
    Unix,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(addr) => addr.fmt(f),
            Peer::Unix => f.write_str("unix"),
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stream::Plain(s) => write!(f, "Plain({s:?})"),
            Stream::Accepted(_) => f.write_str("Accepted(tls)"),
            Stream::Connected(_) => f.write_str("Connected(tls)"),
        }
    }
}

impl Stream {
    /// Whether the runtime knows that nothing has arrived. Costs no system call and wakes nobody later; false also
    /// when only a read can tell, as with TLS.
    #[must_use]
    #[inline]
    pub fn is_silent(&self) -> bool {
        // Never called unless something has arrived, and then it changes nothing.
        let stop = || io::Result::<()>::Err(io::ErrorKind::Other.into());
        let looked = match self {
            Stream::Plain(Socket::Tcp(s)) => s.try_io(Interest::READABLE, stop),
            Stream::Plain(Socket::Unix(s)) => s.try_io(Interest::READABLE, stop),
            _ => return false,
        };
        looked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Whether bytes are encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        !matches!(self, Stream::Plain(_))
    }
}

macro_rules! delegate {
    ($self:ident, $s:ident => $call:expr; $($variant:path),+) => {
        match $self.get_mut() { $( $variant($s) => { let $s = Pin::new($s); $call } ),+ }
    };
}

impl AsyncRead for Socket {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self, s => s.poll_read(cx, buf); Socket::Tcp, Socket::Unix)
    }
}

impl AsyncWrite for Socket {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, s => s.poll_write(cx, buf); Socket::Tcp, Socket::Unix)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, s => s.poll_flush(cx); Socket::Tcp, Socket::Unix)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, s => s.poll_shutdown(cx); Socket::Tcp, Socket::Unix)
    }
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self, s => s.poll_read(cx, buf);
            Stream::Plain, Stream::Accepted, Stream::Connected)
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, s => s.poll_write(cx, buf);
            Stream::Plain, Stream::Accepted, Stream::Connected)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, s => s.poll_flush(cx);
            Stream::Plain, Stream::Accepted, Stream::Connected)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, s => s.poll_shutdown(cx);
            Stream::Plain, Stream::Accepted, Stream::Connected)
    }
}
