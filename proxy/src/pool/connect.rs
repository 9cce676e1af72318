//! Opening one server connection: socket, TLS, login, until ReadyForQuery.
//!
//! What is said on an open connection stands in `login` and `ask`; why it can fail in `failure`.
//! Nothing here waits with a limit of its own (but for the next address's turn): callers do.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::auth::Credentials;
use crate::config::{Node, Proxy, ServerTlsMode};
use crate::limits;
use crate::net::{Socket, Stream};
use crate::tls::{self, Material};
use crate::wire::{self, build};

pub use super::ask::{query_with, simple_query};
pub use super::failure::ConnectError;

/// What to connect to and as whom.
#[derive(Debug)]
pub struct Dial<'a> {
    /// Where.
    pub node: &'a Node,
    /// Database on the server.
    pub database: &'a str,
    /// User on the server.
    pub user: &'a str,
    /// How to prove it.
    pub credentials: &'a Credentials,
    /// More startup parameters (`application_name`, `replication`, …).
    pub parameters: &'a [(&'a str, &'a str)],
    /// TLS of the server side.
    pub tls: &'a Arc<Material>,
    /// TCP keepalive and user timeout come from here.
    pub proxy: &'a crate::config::Proxy,
}

/// A server that says ReadyForQuery.
#[derive(Debug)]
pub struct LoggedIn {
    /// Its connection; every byte up to ReadyForQuery has been read, none behind it.
    pub stream: Stream,
    /// Its process id.
    pub pid: u32,
    /// Its cancel key.
    pub secret: Box<[u8]>,
    /// What it reported (ParameterStatus), in the order of arrival.
    pub parameters: Vec<(Box<str>, Box<str>)>,
}

/// Connects and logs in. Cancel safe: dropping closes the socket.
pub async fn connect(dial: &Dial<'_>) -> Result<LoggedIn, ConnectError> {
    let stream = open(dial.node, dial.proxy, dial.tls).await?;
    super::login::login(stream, dial).await
}

/// Sends a CancelRequest for the server process `pid` and waits until the server has taken it:
/// it closes the connection then (`ProcessCancelRequestPacket`, postmaster.c). Cancel safe: dropping
/// closes the socket, but whether the request arrived is not known.
pub async fn send_cancel(
    node: &Node,
    proxy: &Proxy,
    tls: &Arc<Material>,
    pid: u32,
    secret: &[u8],
) -> Result<(), ConnectError> {
    let mut stream = open(node, proxy, tls).await?;
    let mut request = Vec::new();
    build::cancel_request(&mut request, pid, secret);
    stream.write_all(&request).await.map_err(ConnectError::Broken)?;
    stream.flush().await.map_err(ConnectError::Broken)?;
    let mut answer = stream.take(limits::CANCEL_ANSWER_BYTES_MAX);
    match tokio::io::copy(&mut answer, &mut tokio::io::sink()).await {
        Ok(_) => Ok(()),
        // Servers close without saying goodbye to TLS, or with a reset.
        Err(error) if is_end(&error) => Ok(()),
        Err(error) => Err(ConnectError::Broken(error)),
    }
}

/// The socket, encrypted as far as `tls` says. Cancel safe: dropping closes the socket.
async fn open(node: &Node, proxy: &Proxy, tls: &Arc<Material>) -> Result<Stream, ConnectError> {
    if Path::new(&node.host).is_absolute() {
        // TLS over unix sockets is nothing that PostgreSQL speaks (be-secure.c).
        return open_unix(node).await.map(Stream::Plain);
    }
    // An IPv6 address may be written as in a URL.
    let host = node.host.trim_start_matches('[').trim_end_matches(']');
    let socket = open_tcp(host, node.port, proxy).await?;
    encrypt(socket, host, tls).await
}

async fn open_unix(node: &Node) -> Result<Socket, ConnectError> {
    let path = Path::new(&node.host).join(format!(".s.PGSQL.{}", node.port));
    let stream = UnixStream::connect(&path).await;
    let place = || path.display().to_string();
    stream.map(Socket::Unix).map_err(|source| ConnectError::Open { place: place(), source })
}

/// Every address of the name in turn, until one takes the connection.
async fn open_tcp(host: &str, port: u16, proxy: &Proxy) -> Result<Socket, ConnectError> {
    let place = || format!("{host}:{port}");
    let found = tokio::net::lookup_host((host, port)).await;
    let found = found.map_err(|source| ConnectError::Resolve { place: place(), source })?;
    let addresses: Vec<SocketAddr> = found.take(limits::NODE_ADDRESSES_MAX).collect();
    let mut reason = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (at, address) in addresses.iter().enumerate() {
        // The last one may take all of the caller's time.
        let is_last = at + 1 == addresses.len();
        match open_address(*address, proxy, is_last).await {
            Ok(stream) => return Ok(Socket::Tcp(stream)),
            Err(error) => reason = error,
        }
    }
    Err(ConnectError::Open { place: place(), source: reason })
}

async fn open_address(address: SocketAddr, proxy: &Proxy, is_last: bool) -> io::Result<TcpStream> {
    let connecting = TcpStream::connect(address);
    let stream = if is_last {
        connecting.await?
    } else {
        let wait_max = Duration::from_secs(limits::ADDRESS_SECONDS_MAX);
        tokio::time::timeout(wait_max, connecting).await??
    };
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    if !proxy.tcp_keepalive.is_zero() {
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(proxy.tcp_keepalive))?;
    }
    if !proxy.tcp_user_timeout.is_zero() {
        socket.set_tcp_user_timeout(Some(proxy.tcp_user_timeout))?;
    }
    Ok(stream)
}

/// SSLRequest and what follows from its answer. Exactly one byte is read of it: bytes that
/// somebody sent behind it in the clear reach the TLS handshake, which fails over them, and never
/// the login (CVE-2021-23222).
async fn encrypt(
    mut socket: Socket,
    host: &str,
    tls: &Arc<Material>,
) -> Result<Stream, ConnectError> {
    let mode = tls.server_mode();
    if mode == ServerTlsMode::Disable {
        return Ok(Stream::Plain(socket));
    }
    let mut request = Vec::new();
    build::untyped(&mut request, |body| body.extend(wire::SSL_REQUEST.to_be_bytes()));
    socket.write_all(&request).await.map_err(ConnectError::Broken)?;
    let mut answer = [0];
    if let Err(error) = socket.read_exact(&mut answer).await {
        return Err(broken(error));
    }
    match answer {
        [b'S'] => {
            let stream = tls.connect(socket, host).await.map_err(ConnectError::Tls)?;
            Ok(Stream::Connected(stream))
        }
        [b'N'] if mode == ServerTlsMode::Prefer => Ok(Stream::Plain(socket)),
        [b'N'] => Err(ConnectError::NoTls),
        // An ErrorResponse here could come from anybody: its text is not shown (CVE-2024-10977).
        [other] => Err(ConnectError::TlsAnswer(other)),
    }
}

/// The hash that SCRAM-SHA-256-PLUS binds to; none without TLS.
pub(super) fn end_point(stream: &Stream) -> Option<Vec<u8>> {
    match stream {
        Stream::Connected(stream) => tls::end_point_of_peer(stream),
        Stream::Plain(_) | Stream::Accepted(_) => None,
    }
}

/// An error of reading or writing.
pub(super) fn broken(error: io::Error) -> ConnectError {
    if is_end(&error) { ConnectError::Closed } else { ConnectError::Broken(error) }
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}
