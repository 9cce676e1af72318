//! The SQL console: the virtual database `pgherd`, in PgBouncer's dialect.
//!
//! Our own handshake authenticated the client; pgwire's server speaks both query protocols behind
//! [`guard::FrameGuard`], which keeps malformed frames from its decoder.
//! [`command`] is the language, [`execute`] does, [`show`] and [`stats`] render. A console session
//! holds no server and no place in a pool, so it works when everything else waits.

mod columns;
mod command;
mod execute;
mod facts;
mod guard;
mod handlers;
mod set;
mod show;
mod stats;
mod table;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use pgwire::api::{ClientInfo, DefaultClient, NoopHandler, PgWireConnectionState};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireFrontendMessage;
use pgwire::tokio::server::{PgWireMessageServerCodec, process_error, process_message};
use tokio::io::AsyncWriteExt;
use tokio_util::codec::Framed;

use crate::config::Admin;
use crate::error::{Fault, Report, sqlstate};
use crate::hub::Hub;
use crate::net::{Peer, Stream};
use crate::session::handshake::Authenticated;
use crate::wire::build;
use command::Command;
use guard::{FrameGuard, GuardError};
use handlers::Console;

/// The console's name as a database.
pub const DATABASE: &str = "pgherd";

/// PgBouncer's way to say its version where a client expects PostgreSQL's: exporters and libpq
/// read the number in front.
pub(super) const SERVER_VERSION: &str = "1.18.0/pgherd";

/// SHOW VERSION: exporters take the number behind the first blank.
const VERSION: &str = concat!("pgherd ", env!("CARGO_PKG_VERSION"));

/// SQLSTATE syntax_error.
const SYNTAX_ERROR: &str = "42601";
/// SQLSTATE insufficient_privilege.
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// What a console user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rights {
    /// Everything: `admin.users`.
    All,
    /// SHOW: `admin.stats_users`.
    Look,
}

type Connection = Framed<FrameGuard<Stream>, PgWireMessageServerCodec<Command>>;

/// Serves an authenticated client of the console until it leaves. Not cancel safe.
pub async fn serve(hub: Arc<Hub>, client: Authenticated) {
    let Authenticated { mut stream, peer, startup, credentials: _ } = client;
    let user = startup.user;
    let Some(rights) = rights(&hub.config.load().admin, &user) else {
        let report = Report::fatal(
            Fault::Client,
            sqlstate::INVALID_AUTHORIZATION,
            format!("user \"{user}\" may not use the console"),
        )
        .hint("An operator adds it to admin.users or admin.stats_users.");
        refuse(&mut stream, &report).await;
        return;
    };
    if let Err(e) = stream.write_all(&welcome()).await {
        tracing::debug!(%peer, %user, error = %e, "console client left");
        return;
    }
    let secure = stream.is_tls();
    let mut info = DefaultClient::new(address(peer), secure);
    info.set_state(PgWireConnectionState::ReadyForQuery);
    let mut connection = Framed::new(FrameGuard::new(stream), PgWireMessageServerCodec::new(info));
    tracing::debug!(%peer, %user, "console session begins");
    let console = Arc::new(Console::new(Arc::clone(&hub), user.clone(), rights));
    if let Err(e) = converse(&hub, &mut connection, console).await {
        tracing::debug!(%peer, %user, error = %e, "console session broke");
    }
}

fn rights(admin: &Admin, user: &str) -> Option<Rights> {
    if admin.users.iter().any(|u| u == user) {
        Some(Rights::All)
    } else if admin.stats_users.iter().any(|u| u == user) {
        Some(Rights::Look)
    } else {
        None
    }
}

/// pgwire wants an address; nothing here reads it.
fn address(peer: Peer) -> SocketAddr {
    match peer {
        Peer::Tcp(addr) => addr,
        Peer::Unix => SocketAddr::from(([127, 0, 0, 1], 0)),
    }
}

/// What follows AuthenticationOk. The key cancels nothing: no command here can be undone halfway.
fn welcome() -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in [
        ("server_version", SERVER_VERSION),
        ("client_encoding", "UTF8"),
        ("server_encoding", "UTF8"),
        ("DateStyle", "ISO"),
        ("TimeZone", "GMT"),
        ("integer_datetimes", "on"),
        ("standard_conforming_strings", "on"),
        ("is_superuser", "off"),
    ] {
        build::parameter_status(&mut out, name.as_bytes(), value.as_bytes());
    }
    // A pid is positive in every client's int32.
    build::backend_key(&mut out, fastrand::u32(1..=i32::MAX as u32), &rand::random::<[u8; 4]>());
    build::ready(&mut out, b'I');
    out
}

async fn refuse(stream: &mut Stream, report: &Report) {
    let mut out = Vec::new();
    report.encode(&mut out);
    // The client may be gone; there is nobody else to tell.
    let _ = stream.write_all(&out).await;
    let _ = stream.shutdown().await;
}

/// Message by message until the client leaves, the process drains or the protocol breaks.
async fn converse(hub: &Hub, connection: &mut Connection, console: Arc<Console>) -> io::Result<()> {
    loop {
        let idle_max = hub.config.load().proxy.client_idle_timeout;
        let idle_max = if idle_max.is_zero() { Duration::MAX } else { idle_max };
        let message = tokio::select! {
            message = tokio::time::timeout(idle_max, connection.next()) => match message {
                Ok(message) => message,
                Err(_) => return farewell(connection, idle_too_long()).await,
            },
            () = hub.draining.cancelled() => return farewell(connection, draining()).await,
            () = hub.stopping.cancelled() => return farewell(connection, draining()).await,
        };
        let message = match message {
            None => return Ok(()),
            Some(Ok(PgWireFrontendMessage::Terminate(_))) => return Ok(()),
            Some(Ok(message)) => message,
            Some(Err(e)) => return broken(connection, e).await,
        };
        let extended = message.is_extended_query();
        let done = tokio::select! {
            done = process(message, connection, &console) => done,
            // PAUSE may wait for long; the process does not wait for it.
            () = hub.stopping.cancelled() => return farewell(connection, draining()).await,
        };
        if let Err(e) = done {
            let fatal = e.is_fatal() || matches!(e, PgWireError::IoError(_));
            process_error(connection, e, extended).await?;
            if fatal {
                return Ok(());
            }
        }
    }
}

async fn process(
    message: PgWireFrontendMessage,
    connection: &mut Connection,
    console: &Arc<Console>,
) -> PgWireResult<()> {
    let nobody = Arc::new(NoopHandler);
    process_message(
        message,
        connection,
        Arc::clone(&nobody),
        Arc::clone(console),
        Arc::clone(console),
        Arc::clone(&nobody),
        nobody,
    )
    .await
}

async fn farewell(connection: &mut Connection, report: Report) -> io::Result<()> {
    process_error(connection, handlers::error(report), true).await
}

/// A frame that did not pass is the client's fault; a broken socket is nobody's business.
async fn broken(connection: &mut Connection, error: PgWireError) -> io::Result<()> {
    let detail = match &error {
        PgWireError::IoError(e) => match e.get_ref().and_then(|e| e.downcast_ref::<GuardError>()) {
            Some(refused) => refused.to_string(),
            None => return Ok(()),
        },
        other => other.to_string(),
    };
    let report =
        Report::fatal(Fault::Client, sqlstate::PROTOCOL_VIOLATION, "invalid frontend message")
            .detail(detail);
    farewell(connection, report).await
}

fn draining() -> Report {
    Report::fatal(
        Fault::Operator,
        sqlstate::ADMIN_SHUTDOWN,
        "terminating connection because pgherd is shutting down",
    )
    .hint("The admin HTTP keeps answering until the process ends.")
}

fn idle_too_long() -> Report {
    Report::fatal(
        Fault::Operator,
        sqlstate::IDLE_SESSION_TIMEOUT,
        "terminating connection because it was idle longer than proxy.client_idle_timeout",
    )
}

#[cfg(test)]
mod tests;
