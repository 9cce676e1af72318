//! Clients that connect, ask once and leave, over and over: what a login costs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, NoTls};

use super::{
    Access, Cell, Name, Needs, Scenario, Stage, TRANSACTION_METRICS, Whose, Work, trusted,
};
use crate::client;
use crate::measure::{Meter, Metric, Sample, latencies};
use crate::site::NAME;
use crate::tls::Tls;

/// Connections at once.
const CLIENTS: usize = 4;

/// Connections of each client before measuring.
const WARM_UP_CONNECTIONS: usize = 8;

/// Connections of each client whose system calls are counted.
const COUNTED_CONNECTIONS: usize = 50;

pub(super) fn scenario() -> Scenario {
    let cell = |name: &str, access, tls| Cell {
        name: name.to_owned(),
        needs: Needs { access, tls, ..trusted(CLIENTS) },
        whose: Whose::All,
        work: Work::Connect { clients: CLIENTS },
    };
    Scenario {
        name: Name::Connect,
        about: format!(
            "Login, one SELECT and disconnect are one transaction, {CLIENTS} at once. TLS is 1.3 with X25519 and \
             ECDSA P-256, a full handshake each time; SCRAM is without channel binding."
        ),
        metrics: TRANSACTION_METRICS,
        headline: Metric::CpuUs,
        cells: vec![
            cell("plain", Access::Trust, false),
            cell("TLS", Access::Trust, true),
            cell("SCRAM", Access::Scram, false),
            cell("TLS, SCRAM", Access::Scram, true),
        ],
    }
}

pub(super) fn run(needs: Needs, clients: usize, stage: &Stage<'_>) -> Result<Sample> {
    let mut config = Config::new();
    // TLS, if any, is there before the startup packet.
    config.user(NAME).dbname(NAME).ssl_mode(SslMode::Disable);
    if needs.access == Access::Scram {
        config.password(&stage.site.password);
    }
    let tls = needs.tls.then(|| Arc::clone(&stage.site.tls));
    let login = Login { config, to: stage.address, tls };
    // Its futures stay on this thread, which is kept away from the proxy's core.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")?;
    let everyone = |until| runtime.block_on(everyone(&login, clients, until));
    everyone(Until::Count(WARM_UP_CONNECTIONS))?;
    let meter = Meter::start(stage.pid, &stage.site.cores)?;
    let began = Instant::now();
    let end = Until::Time(began + Duration::from_secs(stage.site.args.seconds));
    let latency_us = everyone(end)?;
    let seconds = began.elapsed().as_secs_f64();
    let mut sample = Sample::default();
    meter.stop(latency_us.len(), &mut sample)?;
    sample.set_load(latency_us.len(), seconds, &latency_us);
    if let Some(counts) = stage.count(|| everyone(Until::Count(COUNTED_CONNECTIONS)).map(drop))? {
        counts.set((COUNTED_CONNECTIONS * clients) as u64, &mut sample);
    }
    Ok(sample)
}

/// What a connection needs.
#[derive(Debug, Clone)]
struct Login {
    config: Config,
    to: SocketAddr,
    tls: Option<Arc<Tls>>,
}

#[derive(Debug, Clone, Copy)]
enum Until {
    Count(usize),
    Time(Instant),
}

/// `clients` that connect again and again, and how long each connection took. Not cancel safe.
async fn everyone(login: &Login, clients: usize, until: Until) -> Result<Histogram<u64>> {
    let tasks: Vec<_> =
        (0..clients).map(|number| tokio::spawn(repeat(login.clone(), number, until))).collect();
    let mut all = latencies()?;
    for task in tasks {
        all.add(task.await.context("a client panicked")??).context("add latencies")?;
    }
    Ok(all)
}

/// Not cancel safe.
async fn repeat(login: Login, number: usize, until: Until) -> Result<Histogram<u64>> {
    let mut histogram = latencies()?;
    let mut turn = 0;
    while match until {
        Until::Count(count) => turn < count,
        Until::Time(end) => Instant::now() < end,
    } {
        let began = Instant::now();
        // Ports of one address would run out: each is blocked for a minute after its connection.
        once(&login, number + turn).await?;
        histogram.saturating_record(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
        turn += 1;
    }
    Ok(histogram)
}

/// Not cancel safe.
async fn once(login: &Login, turn: usize) -> Result<()> {
    let stream = client::connect(login.to, client::source(turn))?;
    stream.set_nonblocking(true).context("make a socket non-blocking")?;
    let stream = TcpStream::from_std(stream).context("register a socket")?;
    match &login.tls {
        Some(tls) => converse(&login.config, tls.connect(stream).await?).await,
        None => converse(&login.config, stream).await,
    }
}

/// Not cancel safe.
async fn converse<S>(config: &Config, stream: S) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (client, connection) = config.connect_raw(stream, NoTls).await.context("log in")?;
    let ask = async {
        let asked = client.simple_query("SELECT 1").await;
        drop(client); // The connection ends with its client.
        asked
    };
    let (asked, ended) = tokio::join!(ask, connection);
    asked.context("SELECT 1")?;
    ended.context("disconnect")
}
