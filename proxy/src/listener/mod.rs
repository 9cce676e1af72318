//! Accepts connections: opens the sockets, and starts one task for each client.
//!
//! That task is the last one a client causes. Accepting never waits for a client, never ends
//! because of one, and stops when the process drains. `bind` opens, `proxy_protocol` and `unix`
//! are what their names say; the way goes on in `session::handshake`.

mod bind;
pub mod proxy_protocol;
mod unix;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures::FutureExt;
use ipnet::IpNet;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::time::{sleep, timeout};
use tracing::{debug, error, info, warn};

use crate::config;
use crate::error::Fault;
use crate::hub::Hub;
use crate::limits;
use crate::net::{Peer, Socket};
use crate::session;
use crate::session::handshake::{Arrival, CONSOLE, HandshakeError, handshake, patience};

pub use bind::{BindError, Listeners};

impl Listeners {
    /// Starts accepting, in tasks that end when the hub drains. The sockets themselves stay open
    /// until [`Listeners::close`] or drop: whoever drains must do one of them, or clients would
    /// go on waiting in the backlog.
    pub fn run(&self, hub: &Arc<Hub>) -> io::Result<()> {
        for listener in &self.tcp {
            let listener = TcpListener::from_std(listener.socket.try_clone()?)?;
            let (hub, from) = (hub.clone(), self.proxies.clone());
            hub.tasks.clone().spawn(async move { accept_tcp(hub, listener, from).await });
        }
        for listener in &self.unix {
            let listener = UnixListener::from_std(listener.socket.try_clone()?)?;
            let hub = hub.clone();
            hub.tasks.clone().spawn(async move { accept_unix(hub, listener).await });
        }
        Ok(())
    }

    /// The sockets with the names that [`Listeners::adopt`] knows them by.
    #[must_use]
    pub fn fds(&self) -> Vec<(String, BorrowedFd<'_>)> {
        let tcp = self.tcp.iter().map(|l| (l.name.clone(), l.socket.as_fd()));
        let unix = self.unix.iter().map(|l| (l.name.clone(), l.socket.as_fd()));
        tcp.chain(unix).collect()
    }
}

/// Cancel safe.
async fn accept_tcp(hub: Arc<Hub>, listener: TcpListener, proxies: Option<Arc<[IpNet]>>) {
    while has_room(&hub).await {
        let accepted = tokio::select! {
            biased;
            () = hub.draining.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                tune(&stream, &hub.config.load().proxy);
                // An IPv4 client of a dual-stack socket is still an IPv4 client in the rules.
                let ip = address.ip().to_canonical();
                let peer = Peer::Tcp((ip, address.port()).into());
                start(&hub, Socket::Tcp(stream), peer, proxies.clone());
            }
            Err(error) => after_failure(&error).await,
        }
    }
}

/// Cancel safe.
async fn accept_unix(hub: Arc<Hub>, listener: UnixListener) {
    while has_room(&hub).await {
        let accepted = tokio::select! {
            biased;
            () = hub.draining.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => start(&hub, Socket::Unix(stream), Peer::Unix, None),
            Err(error) => after_failure(&error).await,
        }
    }
}

/// Waits while too many connections are still being refused; false: the process drains.
/// They stay in the backlog, so nobody (and no cancel request) is turned away unheard. Cancel safe.
async fn has_room(hub: &Hub) -> bool {
    loop {
        let max = hub.config.load().proxy.max_client_connections;
        if hub.clients_now.load(Relaxed) < max.saturating_add(limits::LOGINS_OVER_LIMIT_MAX) {
            return !hub.draining.is_cancelled();
        }
        tokio::select! {
            () = hub.draining.cancelled() => return false,
            () = sleep(Duration::from_millis(limits::ACCEPT_PAUSE_MS)) => {}
        }
    }
}

/// A failed accept is the client's (it left already) or the machine's (out of descriptors or
/// memory); the second would fail again at once, so it is given time. Cancel safe.
async fn after_failure(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
        debug!(%error, "a client left before it was accepted");
        return;
    }
    warn!(%error, "cannot accept; raise the limit of open files if this persists");
    sleep(Duration::from_millis(limits::ACCEPT_PAUSE_MS)).await;
}

/// Socket options are a matter of speed and of noticing dead peers: a failure is not fatal.
fn tune(stream: &TcpStream, proxy: &config::Proxy) {
    let socket = SockRef::from(stream);
    let mut result = socket.set_tcp_nodelay(true);
    if !proxy.tcp_keepalive.is_zero() {
        let keepalive = TcpKeepalive::new().with_time(proxy.tcp_keepalive);
        result = result.and(socket.set_tcp_keepalive(&keepalive));
    }
    if !proxy.tcp_user_timeout.is_zero() {
        result = result.and(socket.set_tcp_user_timeout(Some(proxy.tcp_user_timeout)));
    }
    if let Err(error) = result {
        debug!(%error, "cannot set socket options");
    }
}

/// Counts a connection while it lasts.
struct Counted(Arc<Hub>);

impl Counted {
    fn new(hub: Arc<Hub>) -> Counted {
        hub.clients_now.fetch_add(1, Relaxed);
        hub.clients_total.fetch_add(1, Relaxed);
        Counted(hub)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.clients_now.fetch_sub(1, Relaxed);
    }
}

fn start(hub: &Arc<Hub>, socket: Socket, peer: Peer, proxies: Option<Arc<[IpNet]>>) {
    let counted = Counted::new(hub.clone());
    hub.tasks.spawn(async move {
        let life = live(counted.0.clone(), socket, peer, proxies);
        // One client's panic ends that client only; the hook has printed where it was.
        if AssertUnwindSafe(life).catch_unwind().await.is_err() {
            error!(%peer, "a client's task panicked: this is a bug in pgherd");
        }
        drop(counted);
    });
}

/// A connection's whole life. Not cancel safe.
async fn live(hub: Arc<Hub>, mut socket: Socket, mut peer: Peer, proxies: Option<Arc<[IpNet]>>) {
    if let Some(networks) = proxies {
        let behind = Box::pin(behind_proxy(&hub, &mut socket, peer, &networks));
        let Some(client) = behind.await else { return };
        peer = client;
    }
    // Boxed, so that the memory of the handshake is free while the client is served.
    match Box::pin(handshake(&hub, socket, peer)).await {
        Ok(Arrival::Cancel { pid, secret, stream }) => {
            Box::pin(session::cancel(&hub, pid, &secret)).await;
            // The client waits for this end: then its cancel request has arrived (fe-cancel.c).
            drop(stream);
        }
        Ok(Arrival::Client(client)) if client.startup.database == CONSOLE => {
            Box::pin(crate::admin::console::serve(hub, *client)).await;
        }
        Ok(Arrival::Client(client)) => session::serve(hub, *client).await,
        Err(error) => log_failure(&hub, peer, &error),
    }
}

fn log_failure(hub: &Hub, peer: Peer, error: &HandshakeError) {
    match error {
        HandshakeError::Left | HandshakeError::Stopping => debug!(%peer, %error, "no login"),
        // A server that can't be asked, or a bug, concerns the operator; a wrong password does
        // only if the log says so.
        _ if matches!(error.fault(), Fault::Server | Fault::Pgherd) => {
            warn!(%peer, %error, "login failed");
        }
        _ if hub.config.load().log.pooler_errors => info!(%peer, %error, "login failed"),
        _ => debug!(%peer, %error, "login failed"),
    }
}

/// The client that the PROXY header names; `None`: close. Not cancel safe.
async fn behind_proxy(
    hub: &Hub,
    socket: &mut Socket,
    peer: Peer,
    networks: &[IpNet],
) -> Option<Peer> {
    let Peer::Tcp(balancer) = peer else { return Some(peer) };
    if !networks.is_empty() && !networks.iter().any(|network| network.contains(&balancer.ip())) {
        debug!(%peer, "not in proxy.proxy_protocol_from");
        return None;
    }
    match timeout(patience(hub), proxy_protocol::read(socket)).await {
        Ok(Ok(client)) => Some(client.map_or(peer, Peer::Tcp)),
        Ok(Err(error)) => {
            debug!(%peer, %error, "bad PROXY header");
            None
        }
        Err(_) => {
            debug!(%peer, "no PROXY header in time");
            None
        }
    }
}

#[cfg(test)]
mod tests;
