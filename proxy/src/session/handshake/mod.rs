//! From an accepted socket to an authenticated client: startup, TLS, proof.
//!
//! Each phase is a type that the next one consumes, so a stream can't be used in the wrong one:
//! `negotiate` settles encryption, `startup` reads what the client wants, `prove` finds out
//! whether it is who it says. One deadline bounds them all. Whoever is refused is told why, as far
//! as it speaks the protocol; nothing is told about users and databases before the proof.

mod line;
mod negotiate;
mod prove;
pub(crate) mod startup;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;

use self::negotiate::{Accepted, Negotiated, code};
use self::prove::Started;
use crate::auth::Credentials;
use crate::error::{Fault, Report, sqlstate};
use crate::hub::Hub;
use crate::limits;
use crate::net::{Peer, Socket, Stream};
use crate::wire;

/// The virtual database that is the admin console.
pub const CONSOLE: &str = "pgherd";

/// What a connection turned out to be.
#[derive(Debug)]
pub enum Arrival {
    /// A cancel request: the connection ends after it.
    Cancel {
        /// Process id of the key.
        pid: u32,
        /// Secret of the key: 4 to 256 bytes.
        secret: Box<[u8]>,
        /// Its connection: closed when the request has been delivered, which the client waits for.
        stream: Stream,
    },
    /// A client that proved who it is (AuthenticationOk is sent, nothing behind it).
    Client(Box<Authenticated>),
}

/// An authenticated client.
#[derive(Debug)]
pub struct Authenticated {
    /// Its connection; no byte behind the last authentication message has been read.
    pub stream: Stream,
    /// Where it comes from.
    pub peer: Peer,
    /// What it asked for.
    pub startup: Startup,
    /// What its proof lets us log in with.
    pub credentials: Credentials,
}

/// A startup packet.
#[derive(Debug, Clone, Default)]
pub struct Startup {
    /// Protocol in force after negotiation: `wire::version(3, 0)` or `(3, 2)`.
    pub protocol: u32,
    /// User.
    pub user: String,
    /// Database; the user's name when none was sent.
    pub database: String,
    /// `replication` as sent, when it is not a word for false.
    pub replication: Option<String>,
    /// Settings: startup parameters and `options` (`-c name=value`, `--name=value`), names lowercased except
    /// for the spelling PostgreSQL reports; without user, database, replication and `_pq_.*`.
    pub settings: Vec<(Box<str>, Box<str>)>,
}

/// Why a connection did not become a client.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// It closed between two messages: a port check, or a client that wants to ask its user for
    /// the password first.
    #[error("the client left")]
    Left,
    /// The connection broke.
    #[error("connection to the client lost: {0}")]
    Io(#[from] io::Error),
    /// It does not speak PostgreSQL's protocol; it was closed without a word, as by PostgreSQL.
    #[error("not a PostgreSQL client: {0}")]
    Malformed(&'static str),
    /// The TLS handshake failed; the client has had the alert.
    #[error("TLS handshake failed: {0}")]
    Tls(io::Error),
    /// It took longer than `proxy.client_login_timeout`, and has not even said who it is.
    #[error("no startup packet in time")]
    TimedOut,
    /// pgherd stops, and the client did not hurry.
    #[error("pgherd stops")]
    Stopping,
    /// Refused, and told so.
    #[error("refused: {} ({})", .0.message, .0.sqlstate)]
    Refused(Report),
}

impl HandshakeError {
    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            HandshakeError::Refused(report) => report.fault,
            HandshakeError::Stopping => Fault::Operator,
            _ => Fault::Client,
        }
    }
}

/// Takes a connection through all phases. Not cancel safe: the connection is lost.
pub async fn handshake(
    hub: &Arc<Hub>,
    socket: Socket,
    peer: Peer,
) -> Result<Arrival, HandshakeError> {
    let arrival = tokio::select! {
        biased;
        arrival = phases(hub, socket, peer) => arrival,
        () = out_of_time(hub) => Err(HandshakeError::Stopping),
    };
    if !matches!(arrival, Ok(_) | Err(HandshakeError::Left | HandshakeError::Stopping)) {
        hub.logins_failed.fetch_add(1, Relaxed);
    }
    arrival
}

/// How long a client may take from its first byte to its last proof.
#[must_use]
pub fn patience(hub: &Hub) -> Duration {
    match hub.config.load().proxy.client_login_timeout {
        // 0 means no limit, as everywhere else; a timer needs some end.
        Duration::ZERO => Duration::from_secs(365 * 24 * 3600),
        limit => limit,
    }
}

/// Returns when the process no longer waits for a handshake: a silent connection must not hold up
/// a drain, but one that is speaking still hears why it can't stay. Cancel safe.
async fn out_of_time(hub: &Hub) {
    tokio::select! {
        () = hub.stopping.cancelled() => {}
        () = hub.draining.cancelled() => {
            tokio::time::sleep(Duration::from_millis(limits::HANDSHAKE_DRAIN_MS_MAX)).await;
        }
    }
}

async fn phases(hub: &Arc<Hub>, socket: Socket, peer: Peer) -> Result<Arrival, HandshakeError> {
    let deadline = Instant::now() + patience(hub);
    let negotiated = Accepted { socket, tls: hub.tls.load_full(), deadline }.negotiate().await?;
    if code(&negotiated.packet) == wire::CANCEL_REQUEST {
        // Never refused for a limit or a drain: it frees what others wait for.
        let body = negotiated.packet.get(4..).unwrap_or_default();
        let (pid, secret) =
            startup::cancel_key(body).map_err(|error| HandshakeError::Malformed(error.what))?;
        return Ok(Arrival::Cancel { pid, secret, stream: negotiated.line.stream });
    }
    let started = negotiated.start(hub, peer).await?;
    Ok(Arrival::Client(Box::new(started.authenticate(hub).await?)))
}

impl Negotiated {
    /// Phase 3: the client has said what it wants, and may try to prove that it may. Not cancel
    /// safe.
    async fn start(mut self, hub: &Hub, peer: Peer) -> Result<Started, HandshakeError> {
        let parsed = match startup::parse(&self.packet) {
            Ok(parsed) => parsed,
            Err(report) => return Err(self.line.refuse(report).await),
        };
        self.line.queue(&parsed.negotiation);
        let is_plain_tcp = !self.line.stream.is_tls() && matches!(peer, Peer::Tcp(_));
        let refusal = if is_plain_tcp && self.tls.requires_tls() {
            let message = "this server accepts only encrypted connections";
            let report = Report::fatal(Fault::Client, sqlstate::INVALID_AUTHORIZATION, message);
            Some(report.hint("Connect with sslmode=require or stronger."))
        } else {
            admission(hub, &parsed.startup)
        };
        match refusal {
            Some(report) => Err(self.line.refuse(report).await),
            None => Ok(Started { line: self.line, tls: self.tls, peer, startup: parsed.startup }),
        }
    }
}

/// Why nobody may enter now. An operator always may, to find out why the others may not.
fn admission(hub: &Hub, startup: &Startup) -> Option<Report> {
    if hub.draining.is_cancelled() && !hub.handed_over.load(Relaxed) {
        let message = "the database system is shutting down";
        return Some(Report::fatal(Fault::Operator, sqlstate::CANNOT_CONNECT_NOW, message));
    }
    // The connection itself is already counted.
    let is_full = hub.clients_now.load(Relaxed) > hub.config.load().proxy.max_client_connections;
    if is_full && startup.database != CONSOLE {
        let message = "sorry, too many clients already";
        let report = Report::fatal(Fault::Operator, sqlstate::TOO_MANY_CONNECTIONS, message);
        return Some(report.detail("The limit is proxy.max_client_connections."));
    }
    None
}

#[cfg(test)]
mod tests;
