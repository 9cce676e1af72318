//! LISTEN in transaction mode: one connection a pool listens for all its sessions.
//!
//! A session's LISTEN goes to its server like any statement, so errors and transactions are
//! PostgreSQL's own. When it commits, ReadyForQuery is held back until the shared listener listens
//! too: a notification sent after the client saw its LISTEN succeed is never missed. The listener
//! reconnects by itself; what is sent while it is away is lost, as it is for a client that reconnects.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use super::registry::Shared;
use crate::hub::Hub;
use crate::limits;
use crate::net::Stream;
use crate::pool::connect::{self, Dial};
use crate::pool::{Pool, PoolKey};
use crate::wire::frame::server_max;
use crate::wire::{self, Cut, HEADER_BYTES, Reader, build};

/// Orders that wait for one listener.
const ORDERS_MAX: usize = 1_024;
/// Pause before the listener connects again; doubled while that fails.
const RECONNECT_MS: u64 = 500;
/// Longest such pause.
const RECONNECT_MS_MAX: u64 = 8_000;
/// A session waits so long for its LISTEN to be in force.
const SUBSCRIBE_SECONDS_MAX: u64 = 15;
/// A session asks so many listeners that may be ending.
const SUBSCRIBE_TRIES_MAX: usize = 3;

/// The channels of one session.
#[derive(Debug, Default)]
pub(super) struct Listening {
    /// In force.
    pub(super) channels: HashSet<Box<[u8]>>,
    /// Confirmed, their transaction not over: a channel, or none for UNLISTEN *; true to listen.
    pending: Vec<(Option<Box<[u8]>>, bool)>,
    /// Committed, to be brought into force.
    due: Vec<(Option<Box<[u8]>>, bool)>,
    /// The held server listens for us itself and must be told to stop.
    pub(super) on_server: bool,
}

impl Listening {
    /// LISTEN succeeded.
    pub(super) fn want(&mut self, channel: Box<[u8]>) {
        self.on_server = true;
        self.pending.push((Some(channel), true));
    }

    /// UNLISTEN succeeded; none: every channel.
    pub(super) fn unwant(&mut self, channel: Option<Box<[u8]>>) {
        if !self.channels.is_empty() || !self.pending.is_empty() {
            self.pending.push((channel, false));
        }
    }

    /// The transaction committed.
    pub(super) fn commit(&mut self) {
        self.due.append(&mut self.pending);
    }

    /// The transaction was rolled back.
    pub(super) fn rollback(&mut self) {
        self.pending.clear();
    }

    /// Whether the end of the transaction decides about something.
    pub(super) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether something must be brought into force.
    pub(super) fn must_wait(&self) -> bool {
        !self.due.is_empty()
    }

    /// The session ends. Cancel safe.
    pub(super) async fn leave(&mut self, hub: &Hub, pool: Option<Arc<Pool>>, session: u64) {
        if let Some(pool) = pool
            && !self.channels.is_empty()
        {
            self.channels.clear();
            hub.listeners.unsubscribe(&pool.key, None, session).await;
        }
    }

    /// Brings into force what was committed. Not cancel safe.
    pub(super) async fn bring_into_force(
        &mut self,
        hub: &Arc<Hub>,
        pool: &Arc<Pool>,
        session: &Arc<Shared>,
    ) -> Result<(), &'static str> {
        for (channel, listen) in std::mem::take(&mut self.due) {
            match (channel, listen) {
                (Some(channel), true) => {
                    if self.channels.contains(&channel) {
                        continue;
                    }
                    if self.channels.len() >= limits::CLIENT_CHANNELS_MAX {
                        return Err("too many channels in one session");
                    }
                    hub.listeners.subscribe(hub, pool, &channel, session).await?;
                    self.channels.insert(channel);
                }
                (Some(channel), false) => {
                    if self.channels.remove(&channel) {
                        hub.listeners.unsubscribe(&pool.key, Some(channel), session.id).await;
                    }
                }
                (None, _) => {
                    self.channels.clear();
                    hub.listeners.unsubscribe(&pool.key, None, session.id).await;
                }
            }
        }
        Ok(())
    }
}

/// The shared listeners of all pools.
#[derive(Debug, Default)]
pub struct Listeners {
    by_pool: DashMap<PoolKey, mpsc::Sender<Order>>,
}

#[derive(Debug)]
enum Order {
    Subscribe {
        channel: Box<[u8]>,
        session: Arc<Shared>,
        done: oneshot::Sender<()>,
    },
    /// None: every channel of the session.
    Unsubscribe {
        channel: Option<Box<[u8]>>,
        session: u64,
    },
}

impl Listeners {
    /// `session` hears `channel` when this returns. Cancel safe.
    async fn subscribe(
        &self,
        hub: &Arc<Hub>,
        pool: &Arc<Pool>,
        channel: &[u8],
        session: &Arc<Shared>,
    ) -> Result<(), &'static str> {
        // A listener ends when nobody listens; an order may come too late for it.
        for _ in 0..SUBSCRIBE_TRIES_MAX {
            let orders = self.listener(hub, pool);
            let (done, confirmed) = oneshot::channel();
            let order =
                Order::Subscribe { channel: channel.into(), session: session.clone(), done };
            if orders.send(order).await.is_err() {
                continue;
            }
            let limit = Duration::from_secs(SUBSCRIBE_SECONDS_MAX);
            match tokio::time::timeout(limit, confirmed).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(_)) => {}
                Err(_) => break,
            }
        }
        Err("the shared listener has no connection")
    }

    /// Cancel safe.
    pub(super) async fn unsubscribe(
        &self,
        key: &PoolKey,
        channel: Option<Box<[u8]>>,
        session: u64,
    ) {
        let orders = self.by_pool.get(key).map(|orders| orders.clone());
        if let Some(orders) = orders {
            let _ = orders.send(Order::Unsubscribe { channel, session }).await;
        }
    }

    /// Pools with a listener.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_pool.len()
    }

    /// Whether nobody listens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_pool.is_empty()
    }

    fn listener(&self, hub: &Arc<Hub>, pool: &Arc<Pool>) -> mpsc::Sender<Order> {
        let mut entry = self.by_pool.entry(pool.key.clone()).or_insert_with(|| spawn(hub, pool));
        if entry.is_closed() {
            *entry = spawn(hub, pool);
        }
        entry.clone()
    }
}

fn spawn(hub: &Arc<Hub>, pool: &Arc<Pool>) -> mpsc::Sender<Order> {
    let (orders, inbox) = mpsc::channel(ORDERS_MAX);
    let listener = Listener {
        pool: pool.clone(),
        hub: hub.clone(),
        orders: inbox,
        wanted: HashMap::new(),
        unconfirmed: Vec::new(),
        pause_ms: RECONNECT_MS,
    };
    let (hub_too, key) = (hub.clone(), pool.key.clone());
    hub.background.spawn(async move {
        listener.run().await;
        // Its inbox is closed by now; a successor's is not.
        hub_too.listeners.by_pool.remove_if(&key, |_, orders| orders.is_closed());
    });
    orders
}

/// The task behind one shared listener.
struct Listener {
    pool: Arc<Pool>,
    hub: Arc<Hub>,
    orders: mpsc::Receiver<Order>,
    wanted: HashMap<Box<[u8]>, HashMap<u64, Arc<Shared>>>,
    /// Sessions whose LISTEN waits for the next connection.
    unconfirmed: Vec<oneshot::Sender<()>>,
    pause_ms: u64,
}

/// Why a connection of the listener ended.
enum Ended {
    /// Nobody listens any more, or the process stops.
    Done,
    /// It broke.
    Broken(String),
}

impl Listener {
    /// Runs until nobody listens. Cancel safe.
    async fn run(mut self) {
        loop {
            let ended = tokio::select! {
                biased;
                () = self.hub.stopping.clone().cancelled_owned() => return,
                ended = self.connection() => ended,
            };
            match ended {
                Ended::Done => return,
                Ended::Broken(error) => {
                    tracing::warn!(pool = %self.pool.key.database, error,
                        "the shared listener lost its connection and opens another");
                    if !self.pause().await {
                        return;
                    }
                }
            }
        }
    }

    /// Waits before the next connection, taking orders meanwhile: nobody who leaves must wait for a
    /// server that is down. Answers whether anybody still listens. Cancel safe.
    async fn pause(&mut self) -> bool {
        let pause = tokio::time::sleep(Duration::from_millis(self.pause_ms));
        self.pause_ms = (self.pause_ms * 2).min(RECONNECT_MS_MAX);
        tokio::pin!(pause);
        loop {
            let order = tokio::select! {
                () = &mut pause => return !self.wanted.is_empty(),
                order = self.orders.recv() => order,
            };
            match order {
                Some(Order::Subscribe { channel, session, done }) => {
                    self.wanted.entry(channel).or_default().insert(session.id, session);
                    self.unconfirmed.push(done);
                }
                Some(Order::Unsubscribe { channel, session }) => {
                    self.forget(channel.as_deref(), session);
                }
                None => return false,
            }
        }
    }

    /// `session` listens no more, to `channel` or to anything; the channels that nobody hears now.
    fn forget(&mut self, channel: Option<&[u8]>, session: u64) -> Vec<Box<[u8]>> {
        let mut unheard = Vec::new();
        self.wanted.retain(|name, sessions| {
            if channel.is_none_or(|c| *c == **name) {
                sessions.remove(&session);
            }
            if sessions.is_empty() {
                unheard.push(name.clone());
            }
            !sessions.is_empty()
        });
        unheard
    }

    async fn connection(&mut self) -> Ended {
        let mut stream = match self.connect().await {
            Ok(stream) => stream,
            Err(error) => return Ended::Broken(error),
        };
        let mut buffer = Vec::new();
        let channels: Vec<_> = self.wanted.keys().cloned().collect();
        for channel in channels {
            if let Err(error) = self.execute(&mut stream, &mut buffer, "LISTEN", &channel).await {
                return Ended::Broken(error);
            }
        }
        self.pause_ms = RECONNECT_MS;
        for done in self.unconfirmed.drain(..) {
            let _ = done.send(());
        }
        loop {
            let mut chunk = [0; 4096];
            let result = tokio::select! {
                order = self.orders.recv() => match order {
                    Some(order) => match self.obey(&mut stream, &mut buffer, order).await {
                        Ok(()) if self.wanted.is_empty() => return Ended::Done,
                        result => result,
                    },
                    None => return Ended::Done,
                },
                read = stream.read(&mut chunk) => match read {
                    Ok(0) => Err("closed by the server".to_owned()),
                    Ok(n) => {
                        buffer.extend_from_slice(chunk.get(..n).unwrap_or_default());
                        self.deliver(&mut buffer).map(|_| ())
                    }
                    Err(error) => Err(error.to_string()),
                },
            };
            if let Err(error) = result {
                return Ended::Broken(error);
            }
        }
    }

    async fn connect(&self) -> Result<Stream, String> {
        let settings = self.pool.settings.load_full();
        let credentials = self.pool.credentials.load_full();
        let tls = self.hub.tls.load_full();
        let dial = Dial {
            node: &settings.node,
            database: &settings.dbname,
            user: &settings.login_user,
            credentials: settings.login.as_ref().unwrap_or(&credentials),
            parameters: &[("application_name", "pgherd listener")],
            tls: &tls,
            proxy: &settings.proxy,
        };
        let attempt = connect::connect(&dial);
        match tokio::time::timeout(settings.server_connect_timeout, attempt).await {
            Ok(Ok(server)) => Ok(server.stream),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("timed out".into()),
        }
    }

    async fn obey(
        &mut self,
        stream: &mut Stream,
        buffer: &mut Vec<u8>,
        order: Order,
    ) -> Result<(), String> {
        match order {
            Order::Subscribe { channel, session, done } => {
                let is_new = !self.wanted.contains_key(&channel);
                self.wanted.entry(channel.clone()).or_default().insert(session.id, session);
                if is_new {
                    self.execute(stream, buffer, "LISTEN", &channel).await?;
                }
                let _ = done.send(());
            }
            Order::Unsubscribe { channel, session } => {
                let unheard = self.forget(channel.as_deref(), session);
                for channel in unheard {
                    self.execute(stream, buffer, "UNLISTEN", &channel).await?;
                }
            }
        }
        Ok(())
    }

    /// One statement on the listener's connection. Not cancel safe.
    async fn execute(
        &mut self,
        stream: &mut Stream,
        buffer: &mut Vec<u8>,
        verb: &str,
        channel: &[u8],
    ) -> Result<(), String> {
        let mut sql = format!("{verb} \"").into_bytes();
        for &byte in channel {
            if byte == b'"' {
                sql.push(byte);
            }
            sql.push(byte);
        }
        sql.push(b'"');
        let mut frame = Vec::new();
        build::query(&mut frame, &sql);
        let io = |error: std::io::Error| error.to_string();
        stream.write_all(&frame).await.map_err(io)?;
        stream.flush().await.map_err(io)?;
        while !self.deliver(buffer)? {
            let mut chunk = [0; 4096];
            let n = stream.read(&mut chunk).await.map_err(io)?;
            if n == 0 {
                return Err("closed by the server".into());
            }
            buffer.extend_from_slice(chunk.get(..n).unwrap_or_default());
        }
        Ok(())
    }

    /// Delivers whole frames of `buffer`; answers whether one was ReadyForQuery.
    fn deliver(&self, buffer: &mut Vec<u8>) -> Result<bool, String> {
        let mut at = 0;
        let mut ready = false;
        while !ready {
            let rest = buffer.get(at..).unwrap_or_default();
            let Cut::Frame { kind, total } = wire::cut(rest, server_max) else { break };
            if total > limits::SERVER_FRAME_INSPECTED_BYTES_MAX {
                return Err("a frame is too long".into());
            }
            let Some(frame) = rest.get(..total) else { break };
            let body = frame.get(HEADER_BYTES..).unwrap_or_default();
            match kind {
                b'A' => self.notify(frame, body),
                b'Z' => ready = true,
                b'E' => {
                    let message = wire::read::error_field(body, b'M').unwrap_or_default();
                    return Err(String::from_utf8_lossy(message).into_owned());
                }
                _ => {}
            }
            at += total;
        }
        buffer.drain(..at);
        Ok(ready)
    }

    fn notify(&self, frame: &[u8], body: &[u8]) {
        let mut r = Reader::new(body);
        let _ = r.u32("pid");
        let Ok(channel) = r.cstr("channel") else { return };
        for session in self.wanted.get(channel).into_iter().flat_map(HashMap::values) {
            session.notify(frame);
        }
    }
}
