//! Cancel requests: from the key that pgherd gave its client to the server that runs its statement.
//!
//! The server is not handed to anybody else while a request is on its way to it, so it can never hit
//! another client's statement; when the statement is over already, nothing is sent.

use std::time::Duration;

use tokio::sync::Semaphore;

use super::registry::{Doing, signal};
use crate::hub::Hub;
use crate::limits;
use crate::pool::connect;

static IN_FLIGHT: Semaphore = Semaphore::const_new(limits::CANCELS_IN_FLIGHT_MAX);

/// Cancel requests that are on their way to their servers.
#[must_use]
pub fn in_flight() -> usize {
    limits::CANCELS_IN_FLIGHT_MAX.saturating_sub(IN_FLIGHT.available_permits())
}

/// Delivers a CancelRequest to the session with this key; false: there is none. Not cancel safe.
pub async fn cancel(hub: &Hub, pid: u32, secret: &[u8]) -> bool {
    let Some(session) = hub.sessions.find(pid, secret) else {
        // The key may be one of the process that handed its listeners to us.
        return crate::handover::forward_cancel(pid, secret);
    };
    if session.is_doing(Doing::Waiting) {
        session.signal(signal::CANCEL);
        if session.is_doing(Doing::Waiting) {
            return true;
        }
        // It has its server by now; what it was told goes when that is free again.
    }
    // The permit first: the guard keeps a server from its pool.
    let Ok(_permit) = IN_FLIGHT.acquire().await else { return true };
    let Some((server, _guard)) = session.cancel_target() else { return true };
    let settings = server.pool.settings.load_full();
    let tls = hub.tls.load_full();
    let send =
        connect::send_cancel(&settings.node, &settings.proxy, &tls, server.pid, &server.secret);
    match tokio::time::timeout(Duration::from_secs(limits::CANCEL_SECONDS_MAX), send).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(session = session.id, %error, "a cancel request did not reach its server");
        }
        Err(_) => tracing::warn!(session = session.id, "a cancel request timed out"),
    }
    true
}
