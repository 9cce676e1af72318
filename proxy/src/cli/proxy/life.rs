//! A running proxy's control loop: signals, file changes, the watchdog, and the way to the end.
//!
//! Draining and stopping are the hub's tokens: whoever cancels them (a signal here, an operator on
//! the console) has the same thing happen.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context, bail};
use sd_notify::NotifyState;
use tokio::task::JoinHandle;
use tokio::time::Interval;
use tracing::{info, warn};

use super::super::process;
use crate::config::reload::reload;
use crate::config::watch::Watcher;
use crate::handover::{Origin, Successor, hand_over};
use crate::hub::Hub;
use crate::limits;
use crate::listener::Listeners;
use crate::signals::{Signal, Signals};

/// What a running proxy has, beside its clients.
#[derive(Debug)]
pub(super) struct Life {
    hub: Arc<Hub>,
    listeners: Listeners,
    admin: JoinHandle<io::Result<()>>,
    signals: Signals,
    watcher: Option<Watcher>,
    watchdog: Option<Interval>,
    /// How often TERM came: the second one means "now".
    terms: u32,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nobody serves.
    Ended,
    /// Another process serves.
    HandedOver,
}

/// What happens next.
enum Next {
    Signal(Signal),
    FileChanged,
    Drain,
    AdminEnded(io::Result<()>),
}

impl Life {
    /// Takes signals over. Needs a runtime.
    pub(super) fn new(
        hub: Arc<Hub>,
        listeners: Listeners,
        admin: JoinHandle<io::Result<()>>,
    ) -> anyhow::Result<Life> {
        let signals = Signals::new().context("cannot take signals over")?;
        let watcher = hub.config_path.as_deref().map(Watcher::new).transpose();
        let watcher = watcher.unwrap_or_else(|error| {
            warn!(%error, "cannot watch the configuration file; HUP still reloads it");
            None
        });
        Ok(Life {
            hub,
            listeners,
            admin,
            signals,
            watcher,
            watchdog: process::watchdog(),
            terms: 0,
        })
    }

    /// Runs until the process should end. Not cancel safe.
    pub(super) async fn run(mut self, origin: &Origin) -> anyhow::Result<Outcome> {
        let mut admin_ended = false;
        loop {
            match self.next(admin_ended).await {
                Next::Signal(Signal::Reload) | Next::FileChanged => self.reload().await,
                Next::Signal(Signal::HandOver) => {
                    if let Some(successor) = self.hand_over(origin).await {
                        return Ok(self.leave(successor).await);
                    }
                }
                Next::Signal(Signal::Drain) => self.terminate(),
                Next::Signal(Signal::Stop) => self.hub.stopping.cancel(),
                Next::Drain => return Ok(self.drain().await),
                // Without an address it has nothing to serve.
                Next::AdminEnded(Ok(())) => admin_ended = true,
                Next::AdminEnded(Err(error)) => {
                    self.hub.stopping.cancel();
                    self.listeners.close();
                    bail!("the admin HTTP cannot be served: {error}");
                }
            }
        }
    }

    fn terminate(&mut self) {
        self.terms += 1;
        self.hub.draining.cancel();
    }

    /// Cancel safe.
    async fn next(&mut self, admin_ended: bool) -> Next {
        loop {
            tokio::select! {
                biased;
                () = self.hub.stopping.cancelled() => return Next::Drain,
                () = self.hub.draining.cancelled() => return Next::Drain,
                signal = self.signals.next() => return Next::Signal(signal),
                ended = &mut self.admin, if !admin_ended => {
                    return Next::AdminEnded(ended.unwrap_or_else(|e| Err(io::Error::other(e))));
                }
                () = changed(&mut self.watcher) => return Next::FileChanged,
                () = tick(&mut self.watchdog) => process::tell(&[NotifyState::Watchdog]),
            }
        }
    }

    /// Not cancel safe.
    async fn reload(&self) {
        process::tell_reloading();
        // Logged by itself; an error leaves everything as it was, so the process stays ready.
        let status = match reload(&self.hub).await {
            Ok(_) => "serving",
            Err(_) => "serving; the last reload failed, see the log",
        };
        process::tell_ready(status);
    }

    /// `None`: it failed, or someone wants this process to end; it goes on.
    /// Not cancel safe.
    async fn hand_over(&mut self, origin: &Origin) -> Option<Successor> {
        info!("handing over to a new process");
        let sockets = self.listeners.fds();
        let handing = hand_over(origin, &sockets);
        tokio::pin!(handing);
        loop {
            let signal = tokio::select! {
                biased;
                () = self.hub.stopping.cancelled() => return None,
                () = self.hub.draining.cancelled() => return None,
                signal = self.signals.next() => signal,
                () = tick(&mut self.watchdog) => {
                    process::tell(&[NotifyState::Watchdog]);
                    continue;
                }
                handed = &mut handing => return match handed {
                    Ok(successor) => Some(successor),
                    Err(error) => {
                        warn!(%error, "hand-over failed; this process goes on");
                        None
                    }
                },
            };
            match signal {
                Signal::Drain => {
                    self.terms += 1;
                    self.hub.draining.cancel();
                }
                Signal::Stop => self.hub.stopping.cancel(),
                // The new process reads the file now anyway; if it fails, HUP can be sent again.
                Signal::Reload | Signal::HandOver => info!("ignored during a hand-over"),
            }
        }
    }

    /// Leaves the clients to `successor`, except those that are here. Not cancel safe.
    async fn leave(mut self, successor: Successor) -> Outcome {
        info!(pid = successor.pid, "the new process serves; this one drains");
        process::tell(&[NotifyState::MainPid(successor.pid)]);
        // The new process waits for its address.
        self.admin.abort();
        let cancels = tokio::spawn(successor.deliver_cancels(self.hub.clone()));
        self.hub.ready.store(false, Relaxed);
        self.hub.handed_over.store(true, Relaxed);
        self.hub.draining.cancel();
        // Not closed: the unix socket's file belongs to the new process now.
        drop(self.listeners);
        wait_for_clients(&self.hub, &mut self.signals, self.terms).await;
        cancels.abort();
        Outcome::HandedOver
    }

    /// Refuses new clients and waits for the others. Not cancel safe.
    async fn drain(mut self) -> Outcome {
        self.hub.ready.store(false, Relaxed);
        let stop_limit = Duration::from_secs(limits::STOP_SECONDS_MAX);
        let drain_limit = self.hub.config.load().proxy.drain_timeout;
        process::tell_stopping(drain_limit.saturating_add(2 * stop_limit));
        self.hub.draining.cancel();
        self.listeners.close();
        wait_for_clients(&self.hub, &mut self.signals, self.terms).await;
        // The request that ended us may still wait for its answer.
        if !self.admin.is_finished() {
            let limit = Duration::from_secs(limits::ADMIN_FAREWELL_SECONDS_MAX);
            let _ = tokio::time::timeout(limit, &mut self.admin).await;
        }
        Outcome::Ended
    }
}

/// Waits for every client's task: `proxy.drain_timeout` for them to end by themselves, then a
/// moment for those that are told to. Not cancel safe.
async fn wait_for_clients(hub: &Hub, signals: &mut Signals, mut terms: u32) {
    let limit = hub.config.load().proxy.drain_timeout;
    hub.tasks.close();
    if !hub.stopping.is_cancelled() {
        info!(clients = hub.clients_now.load(Relaxed), limit = ?limit, "draining");
    }
    let deadline = tokio::time::sleep(limit);
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            biased;
            () = hub.stopping.cancelled() => break,
            () = hub.tasks.wait() => break,
            () = &mut deadline => {
                let clients = hub.clients_now.load(Relaxed);
                warn!(clients, "proxy.drain_timeout is over; closing those that are left");
                break;
            }
            signal = signals.next() => match signal {
                Signal::Stop => break,
                Signal::Drain => {
                    // After a hand-over or a drain from the console the first one changes nothing:
                    // a service manager sends it to every process. Who sends two does not want to
                    // wait.
                    terms += 1;
                    if terms > 1 {
                        break;
                    }
                }
                Signal::Reload | Signal::HandOver => {}
            },
        }
    }
    hub.stopping.cancel();
    let limit = Duration::from_secs(limits::STOP_SECONDS_MAX);
    if tokio::time::timeout(limit, hub.tasks.wait()).await.is_err() {
        warn!(tasks = hub.tasks.len(), "some tasks did not end in time");
    }
}

/// Cancel safe.
async fn changed(watcher: &mut Option<Watcher>) {
    match watcher {
        Some(watcher) => watcher.changed().await,
        None => std::future::pending().await,
    }
}

/// Cancel safe.
async fn tick(watchdog: &mut Option<Interval>) {
    match watchdog {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}
