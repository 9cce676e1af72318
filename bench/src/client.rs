//! A client that speaks the protocol itself, for the loads that pgbench can't make.
//!
//! It blocks, trusts the server's lengths up to a bound, and knows only trust authentication. An
//! ErrorResponse is an error here: no load expects one.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use pgherd::wire::{self, Cut, HEADER_BYTES, build, frame, read};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::site::NAME;

/// Longest silence of a peer before a sample counts as failed.
const SILENCE_SECONDS_MAX: u64 = 60;

/// Loopback addresses that clients come from in turn: each has its own range of ports.
const SOURCES: usize = 64;

/// A connection that has logged in.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
    body: Vec<u8>,
}

/// The `number`th client's own loopback address.
#[must_use]
pub fn source(number: usize) -> Ipv4Addr {
    let host = u8::try_from(number % SOURCES).unwrap_or(0);
    Ipv4Addr::new(127, 0, 1, host + 1)
}

/// A TCP connection from `source`; std can't choose where one comes from.
pub fn connect(to: SocketAddr, source: Ipv4Addr) -> Result<TcpStream> {
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .context("open a socket")?;
    rustix::net::bind(&socket, &SocketAddrV4::new(source, 0))
        .with_context(|| format!("bind to {source}"))?;
    rustix::net::connect(&socket, &to).with_context(|| format!("connect to {to}"))?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).context("set TCP_NODELAY")?;
    stream
        .set_read_timeout(Some(Duration::from_secs(SILENCE_SECONDS_MAX)))
        .context("set a timeout")?;
    Ok(stream)
}

impl Client {
    /// Connects from `source` and logs in; `buffer_bytes` are read at once at most.
    pub fn open(to: SocketAddr, source: Ipv4Addr, buffer_bytes: usize) -> Result<Client> {
        let stream = BufReader::with_capacity(buffer_bytes, connect(to, source)?);
        let mut client = Client { stream, body: Vec::new() };
        let mut packet = Vec::new();
        build::untyped(&mut packet, |b| {
            b.extend_from_slice(&wire::version(3, 0).to_be_bytes());
            for text in ["user", NAME, "database", NAME, ""] {
                build::cstr(b, text.as_bytes());
            }
        });
        client.send(&packet)?;
        client.until(b'Z').context("log in")?;
        Ok(client)
    }

    /// Runs `sql` by the simple protocol and forgets its rows.
    pub fn query(&mut self, sql: &str) -> Result<u64> {
        let mut packet = Vec::new();
        build::query(&mut packet, sql.as_bytes());
        self.send(&packet)?;
        self.until(b'Z')
    }

    /// Sends whole frames.
    pub fn send(&mut self, packet: &[u8]) -> Result<()> {
        self.stream.get_mut().write_all(packet).context("send")
    }

    /// Reads up to a frame of `kind`; the bytes of everything read.
    pub fn until(&mut self, kind: u8) -> Result<u64> {
        let mut bytes = 0;
        loop {
            let (found, length) = self.frame()?;
            bytes += length;
            if found == kind {
                return Ok(bytes);
            }
        }
    }

    /// Reads one frame; its kind and its length.
    pub fn frame(&mut self) -> Result<(u8, u64)> {
        let mut header = [0; HEADER_BYTES];
        self.stream.read_exact(&mut header).context("read from the server")?;
        let Cut::Frame { kind, total } = wire::cut(&header, frame::server_max) else {
            bail!("the server sent a malformed frame");
        };
        self.body.resize(total - HEADER_BYTES, 0);
        self.stream.read_exact(&mut self.body).context("read from the server")?;
        if kind == b'E' {
            let field = |key| read::error_field(&self.body, key).unwrap_or_default();
            let text = |key| String::from_utf8_lossy(field(key)).into_owned();
            bail!("{} (SQLSTATE {})", text(b'M'), text(b'C'));
        }
        Ok((kind, total as u64))
    }
}
