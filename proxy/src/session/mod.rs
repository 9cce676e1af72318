//! A client's life: handshake, greeting, then the loop a query lives in.
//!
//! One task a client owns its socket and, while it holds one, its server. Read next: `serve` for the
//! loop, `pump` for the bytes, `client` and `replies` for what is looked at on the way.

mod account;
mod buffers;
pub mod cancel;
mod client;
mod effects;
mod expect;
mod extended;
pub mod handshake;
pub mod listen;
mod local;
mod lost;
mod pins;
mod pump;
mod query;
pub mod registry;
mod renamed;
mod replication;
mod replies;
mod resets;
mod serve;
pub mod settings;
mod state;
pub mod statements;
mod welcome;

pub use cancel::cancel;

use std::sync::Arc;

use tokio::io::AsyncWriteExt;

use crate::clock::Moment;
use crate::config::PoolMode;
use crate::error::{Report, Severity};
use crate::hub::Hub;
use crate::pool::{Pool, Reported};
use handshake::Authenticated;
use registry::Shared;
use settings::{Settings, Tracker};
use state::Session;

/// Serves an authenticated client until it leaves. Not cancel safe.
pub async fn serve(hub: Arc<Hub>, client: Authenticated) {
    let targets = match welcome::admit(&hub, &client) {
        Ok(targets) => targets,
        Err(report) => return Box::pin(refuse(client, &report)).await,
    };
    let Some(first) = targets.first().cloned() else { return };
    let registered = welcome::register(&hub, &client, &first);
    let shared = registered.shared.clone();
    if hub.config.load().log.connections {
        tracing::info!(session = shared.id, client = %client.peer, user = %shared.user,
            database = %shared.database, "client connected");
    }
    if client.startup.replication.is_some() {
        let replication = Box::pin(replication::serve(&hub, client, &first, &shared));
        if let Err((report, client)) = replication.await {
            refuse(client, &report).await;
        }
        return;
    }
    let session = match Box::pin(open(&hub, client, targets, &shared)).await {
        Some(session) => session,
        None => return,
    };
    session.run().await;
    if hub.config.load().log.disconnections {
        tracing::info!(session = shared.id, "client disconnected");
    }
}

/// Greets the client and makes its session. Not cancel safe.
async fn open(
    hub: &Arc<Hub>,
    mut client: Authenticated,
    targets: Vec<Arc<Pool>>,
    shared: &Arc<Shared>,
) -> Option<Box<Session>> {
    let (startup, reported) = match welcome::greeting(hub, &targets, &client).await {
        Ok(greeting) => greeting,
        Err(report) => {
            refuse(client, &report).await;
            return None;
        }
    };
    let key = (shared.pid, shared.secret());
    welcome::greet(&mut client, &reported, key).await.ok()?;
    Some(new_session(hub.clone(), client, targets, shared.clone(), (startup, reported)))
}

fn new_session(
    hub: Arc<Hub>,
    client: Authenticated,
    targets: Vec<Arc<Pool>>,
    shared: Arc<Shared>,
    (startup, reported): (Settings, Arc<Reported>),
) -> Box<Session> {
    let mode = targets.first().map_or(PoolMode::Transaction, |pool| pool.settings.load().mode);
    let mut session = Box::new(Session {
        hub,
        shared,
        client: client.stream,
        targets,
        waiter: Arc::default(),
        server: None,
        mode,
        inbox: Vec::new(),
        to_server: Default::default(),
        to_client: Default::default(),
        waker: None,
        client_unflushed: false,
        server_unflushed: false,
        from_server: Vec::new(),
        client_body_left: 0,
        client_body_dropped: false,
        server_body_left: 0,
        server_body_swallowed: false,
        expects: Default::default(),
        status: b'I',
        in_batch: false,
        goodbye: false,
        copy_in: false,
        early_syncs: 0,
        server_skips: false,
        skipping: false,
        errored: false,
        tracker: Tracker::new(startup),
        resets: Default::default(),
        deeds_pending: 0,
        prepared: Default::default(),
        pins: Default::default(),
        listening: Default::default(),
        reported,
        lex: Default::default(),
        replay: Vec::new(),
        may_replay: false,
        replayed: false,
        sent: false,
        server_stale: false,
        prepare_failed: None,
        rewritten: Vec::new(),
        lost: None,
        request_at: None,
        transaction_at: None,
        answered_at: Moment::now(),
        bytes_in: 0,
        bytes_out: 0,
    });
    session.learn_lexing();
    session
}

/// Tells a client why it may not enter. Not cancel safe.
async fn refuse(mut client: Authenticated, report: &Report) {
    let mut out = Vec::new();
    // What would be an error later ends a connection that never began.
    Report { severity: Severity::Fatal, ..report.clone() }.encode(&mut out);
    let _ = client.stream.write_all(&out).await;
    let _ = client.stream.shutdown().await;
}
