//! `pgherd proxy`: from the configuration to the last client.
//!
//! In order: configuration, log, certificates and users, sockets, then ready. Nothing is bound
//! before everything that can be wrong in files was read. `life` is what happens until the end.

mod life;

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Runtime;
use tracing::{info, warn};

use super::process::{self, PidFile};
use crate::config::reload::load_parts;
use crate::config::{Config, validate};
use crate::handover::{self, Origin, Predecessor};
use crate::hub::Hub;
use crate::listener::Listeners;
use crate::{admin, limits, log, pool, runtime};
use life::{Life, Outcome};

/// Runs until drained or stopped. A configuration that can't be used is a
/// [`ConfigError`](crate::config::ConfigError).
pub fn run(path: &Path) -> anyhow::Result<ExitCode> {
    let config = Config::load(path)?;
    log::init(&config.log).context("cannot start logging")?;
    let parts = load_parts(path, &config)?;
    let origin = Origin::of_this_process().context("cannot find the file of this program")?;
    info!(version = env!("CARGO_PKG_VERSION"), config = %path.display(), "pgherd starts");
    for warning in validate::warnings(&config) {
        warn!("{warning}");
    }
    process::raise_open_files(open_files(&config));

    let (inherited, predecessor) = match handover::inherit()? {
        Some((sockets, predecessor)) => (sockets, Some(predecessor)),
        None => (Vec::new(), None),
    };
    let data = runtime::data_plane(config.proxy.workers).context("cannot start threads")?;
    let control = runtime::control_plane().context("cannot start a thread")?;
    let workers = data.metrics().num_workers();
    let listeners = Listeners::adopt(inherited, &config.proxy)?;
    let pid_file = config.proxy.pid_file.clone();
    let hub = Hub::new(config, Some(path.to_path_buf()), parts, workers);
    hub.pools.set_runtime(data.handle().clone());
    let outcome = serve(&hub, listeners, &data, &control, predecessor, &origin, &pid_file);
    // Whatever is left was given its time.
    data.shutdown_timeout(Duration::from_secs(limits::STOP_SECONDS_MAX));
    control.shutdown_background();
    match outcome? {
        Outcome::Ended => info!("ended"),
        Outcome::HandedOver => info!("the last client left; the new process goes on"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Opens for clients, and stays until the end.
fn serve(
    hub: &Arc<Hub>,
    listeners: Listeners,
    data: &Runtime,
    control: &Runtime,
    predecessor: Option<Predecessor>,
    origin: &Origin,
    pid_file: &str,
) -> anyhow::Result<Outcome> {
    {
        // Clients live where their sockets were registered.
        let _data = data.enter();
        listeners.run(hub).context("cannot accept connections")?;
    }
    control.block_on(async {
        let patience = match predecessor {
            Some(_) => Duration::from_secs(limits::HANDOVER_ADMIN_SECONDS_MAX),
            None => Duration::ZERO,
        };
        hub.background.spawn(pool::janitor::run(hub.clone()));
        hub.background.spawn(admin::averages::run(hub.clone()));
        let admin = tokio::spawn(serve_admin(hub.clone(), patience));
        let life = Life::new(hub.clone(), listeners, admin)?;
        hub.ready.store(true, Relaxed);
        let _pid_file = match pid_file {
            "" => None,
            path => Some(
                PidFile::write(Path::new(path))
                    .with_context(|| format!("cannot write proxy.pid_file {path}"))?,
            ),
        };
        if let Some(predecessor) = predecessor {
            predecessor.ready()?;
            info!("took the listeners over");
        }
        process::tell(&[sd_notify::NotifyState::MainPid(std::process::id())]);
        process::tell_ready("serving");
        info!("ready");
        life.run(origin).await
    })
}

/// Serves the admin HTTP. Its address may still be taken, for `patience`, by the process that
/// hands over. Cancel safe.
async fn serve_admin(hub: Arc<Hub>, patience: Duration) -> io::Result<()> {
    let end = tokio::time::Instant::now() + patience;
    loop {
        match admin::http::serve(hub.clone()).await {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && tokio::time::Instant::now() < end =>
            {
                tokio::time::sleep(Duration::from_millis(limits::HANDOVER_ADMIN_RETRY_MS)).await;
            }
            result => return result,
        }
    }
}

/// Descriptors that clients and servers may need at most, and some for files.
fn open_files(config: &Config) -> u64 {
    let pools = config.databases.values().map(|d| d.size.unwrap_or(config.pool.size_default));
    let servers: usize = pools.sum();
    (config.proxy.max_client_connections.saturating_add(servers) as u64).saturating_add(64)
}
