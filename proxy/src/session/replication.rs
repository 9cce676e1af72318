//! Replication connections: passed through to the primary, frame by frame untouched.
//!
//! They need a server of their own for as long as they last, so they come from no pool.

use std::sync::Arc;

use tokio::io::{AsyncWriteExt, copy_bidirectional_with_sizes};

use super::handshake::Authenticated;
use super::registry::Shared;
use super::welcome;
use crate::error::{Fault, Report, sqlstate};
use crate::hub::Hub;
use crate::limits;
use crate::pool::connect::{self, Dial};
use crate::pool::{Pool, Reported, ServerInfo};

/// Serves a replication client until either side ends. Not cancel safe.
pub(super) async fn serve(
    hub: &Arc<Hub>,
    mut client: Authenticated,
    pool: &Arc<Pool>,
    shared: &Arc<Shared>,
) -> Result<(), (Report, Authenticated)> {
    let settings = pool.settings.load_full();
    let credentials = pool.credentials.load_full();
    let tls = hub.tls.load_full();
    let mut parameters: Vec<(&str, &str)> =
        client.startup.settings.iter().map(|(name, value)| (&**name, &**value)).collect();
    let mode = client.startup.replication.clone().unwrap_or_default();
    parameters.push(("replication", &mode));
    let dial = Dial {
        node: &settings.node,
        database: &settings.dbname,
        user: &settings.login_user,
        credentials: settings.login.as_ref().unwrap_or(&credentials),
        parameters: &parameters,
        tls: &tls,
        proxy: &settings.proxy,
    };
    let limit = settings.server_connect_timeout;
    let mut server = match tokio::time::timeout(limit, connect::connect(&dial)).await {
        Ok(Ok(server)) => server,
        Ok(Err(error)) => return Err((error.report(), client)),
        Err(_) => {
            let message = "the primary did not answer in time";
            let report = Report::fatal(Fault::Server, sqlstate::UNABLE_TO_CONNECT, message);
            return Err((report, client));
        }
    };
    let mut reported = Reported::default();
    for (name, value) in &server.parameters {
        reported.set(name.as_bytes(), value.as_bytes());
    }
    let key = (server.pid, std::mem::take(&mut server.secret));
    let info = Arc::new(ServerInfo::new(0, pool.clone(), key, server.stream.is_tls(), 0));
    shared.set_server(Some(info));
    shared.set_doing(super::registry::Doing::Running, crate::clock::Moment::now());
    if welcome::greet(&mut client, &reported, (shared.pid, shared.secret())).await.is_err() {
        return Ok(());
    }
    let size = limits::SCRATCH_BYTES;
    tokio::select! {
        biased;
        () = hub.stopping.cancelled() => {}
        _ = copy_bidirectional_with_sizes(&mut client.stream, &mut server.stream, size, size) => {}
    }
    let _ = server.stream.shutdown().await;
    let _ = client.stream.shutdown().await;
    Ok(())
}
