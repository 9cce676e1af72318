//! A soak: clients that come and go and do everything at once for a long time before a real PostgreSQL,
//! while operators and mishaps disturb them. Nothing may grow, nothing may be left, no answer may be wrong.
//!
//! - [`world`] what all share; [`life`] a client's place; [`driver`], [`frames`] and [`vanish`] what it does.
//! - [`chaos`] DDL, RELOAD, RECONNECT, killed servers; [`sample`] what is looked at; [`verdict`] what is too much.
//!
//! `make soak` runs it for an hour, tests/tests/soak.rs for half a minute.

pub mod chaos;
pub mod driver;
pub mod frames;
pub mod life;
pub mod sample;
pub mod tls;
pub mod vanish;
pub mod verdict;
pub mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use chaos::Pace;
use sample::Sample;
use verdict::Bounds;
use world::World;

use crate::{Authority, Fixture, USER};

/// Servers of one pool at most.
const POOL_SIZE: usize = 6;
/// `pool.prepared_statements_max`.
const PREPARED: usize = 20;
/// Samples in one run.
const SAMPLES: u32 = 120;
/// Shorter runs are warm-up from end to end, as far as memory is concerned.
const MEMORY_MINUTES: u64 = 5;
/// Everything that ends takes less.
const SETTLE: Duration = Duration::from_secs(60);

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Clients at once.
    pub clients: usize,
    /// How long they go on.
    pub length: Duration,
    /// Of the clients' dice.
    pub seed: u64,
}

/// What a soak found.
#[derive(Debug)]
pub struct Report {
    /// In the order of time.
    pub samples: Vec<Sample>,
    /// Deeds, disturbances and losses.
    pub counts: BTreeMap<String, u64>,
    /// What is wrong; empty: all is well.
    pub findings: Vec<String>,
}

impl Plan {
    fn pace(&self) -> Pace {
        // RELOAD every minute in a long run, and a few times in a short one.
        let tick = (self.length / 40).clamp(Duration::from_millis(250), Duration::from_secs(5));
        Pace { tick, kill: 3, reload: 12, reconnect: 17 }
    }

    fn bounds(&self) -> Bounds {
        // `app` for every user, and databases that come with one RELOAD and go with the next.
        let pools = life::USERS.len() + 1 + 2;
        Bounds {
            clients: self.clients,
            servers: pools * POOL_SIZE,
            prepared: PREPARED,
            pools,
            names: life::USERS.len() + 1 + 3,
            judge_memory: self.length >= Duration::from_secs(MEMORY_MINUTES * 60),
        }
    }

    /// Runs it; every sample is told to `tell` as a line. Not cancel safe.
    pub async fn run(self, mut tell: impl FnMut(&str)) -> anyhow::Result<Report> {
        let authority = Authority::new()?;
        let fixture = Arc::new(fixture(&authority).await?);
        let connector = tls::Connector::new(&authority)?;
        let world = Arc::new(World::new(fixture.pgherd.address(), connector));
        let before = sample::look(&fixture, 0.0).await?;
        tell(&sample::heading());
        tell(&sample::line(&before));
        let start = Instant::now();
        let mut tasks: Vec<_> = (1..=self.clients)
            .map(|slot| {
                let slot = i32::try_from(slot).unwrap_or(i32::MAX);
                tokio::spawn(life::live(world.clone(), slot, self.seed))
            })
            .collect();
        tasks.push(tokio::spawn(chaos::disturb(fixture.clone(), world.clone(), self.pace())));
        let mut samples = Vec::new();
        for n in 1..=SAMPLES {
            let at = start + self.length * n / SAMPLES;
            tokio::time::sleep_until(at.into()).await;
            let sample = sample::look(&fixture, start.elapsed().as_secs_f64()).await?;
            tell(&sample::line(&sample));
            samples.push(sample);
        }
        world.over.store(true, Relaxed);
        for task in tasks {
            if let Err(error) = task.await {
                world.accuse(format!("a client's task: {error}"));
            }
        }
        let mut findings = world.wrong();
        findings.extend(verdict::grown(&samples, &self.bounds()));
        findings.extend(settle(&fixture, &before, start, &mut tell).await?);
        findings.extend(losses(&world));
        findings.extend(money(&fixture).await?);
        if let Some(line) = fixture.pgherd.log().lines().find(|l| l.contains("panicked")) {
            findings.push(format!("pgherd's log: {line}"));
        }
        Ok(Report { samples, counts: world.counts(), findings })
    }
}

async fn fixture(authority: &Authority) -> anyhow::Result<Fixture> {
    let pair = authority.issue("server", "pgherd", &["127.0.0.1"])?;
    let users = authority.ca_file().with_file_name("users.txt");
    std::fs::write(&users, "\"sam\" \"secret\"\n")?;
    let config = format!(
        "[proxy]\nmax_client_connections = 1000\n\
         [pool]\nsize_default = {POOL_SIZE}\nprepared_statements_max = {PREPARED}\n\
         [admin]\nusers = [\"{USER}\"]\n\
         [tls.client]\nmode = \"allow\"\ncert_file = '{cert}'\nkey_file = '{key}'\n\
         [auth]\nusers_file = '{users}'\n\
         [[auth.rules]]\nusers = [\"sam\"]\nmethod = \"scram-sha-256\"\n\
         [[auth.rules]]\nmethod = \"trust\"\n",
        cert = pair.cert.display(),
        key = pair.key.display(),
        users = users.display(),
    );
    let (accounts, each) = (driver::ACCOUNTS, driver::EACH);
    let mut setup = format!(
        "CREATE TABLE account (id int PRIMARY KEY, sum int); \
         INSERT INTO account SELECT n, {each} FROM generate_series(0, {accounts} - 1) n; \
         CREATE TABLE own (client int, n bigint, text text); CREATE INDEX ON own (client); \
         CREATE TABLE shape (id int PRIMARY KEY, a int); \
         INSERT INTO shape SELECT n, n FROM generate_series(1, 10) n; \
         GRANT ALL ON account, own, shape TO PUBLIC;"
    );
    for user in life::USERS {
        setup.push_str(&format!("CREATE ROLE {user} LOGIN;"));
    }
    Ok(Fixture::builder().config(&config).setup(&setup).start().await)
}

/// Waits until everything is as it was before; what is left after long enough.
async fn settle(
    fixture: &Arc<Fixture>,
    before: &Sample,
    start: Instant,
    tell: &mut impl FnMut(&str),
) -> anyhow::Result<Vec<String>> {
    let end = Instant::now() + SETTLE;
    // No client is left, so nobody needs a server; a statement lives as long as a session or server knows it.
    chaos::console(fixture, "RECONNECT").await?;
    loop {
        let now = sample::look(fixture, start.elapsed().as_secs_f64()).await?;
        let mut left = verdict::left_over(before, &now);
        if left.is_empty() || Instant::now() > end {
            tell(&sample::line(&now));
            if !left.is_empty() {
                left.extend(sample::backends(fixture).await?);
            }
            return Ok(left);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A killed server costs at most one client its connection or statement.
fn losses(world: &World) -> Option<String> {
    let counts = world.counts();
    let of = |word: &str| counts.get(&format!("lost: {word}")).copied().unwrap_or_default();
    let lost: u64 = world::KILLED.iter().map(|word| of(word)).sum();
    let kills = world.kills.load(Relaxed);
    (lost > kills).then(|| format!("{lost} clients lost a server, but only {kills} were killed"))
}

/// Whatever happened to transactions, money was only moved; and what never committed is not there.
async fn money(fixture: &Fixture) -> anyhow::Result<Option<String>> {
    let server = chaos::server(fixture).await?;
    let asked = "SELECT (SELECT sum(sum) FROM account), (SELECT count(*) FROM own WHERE n < 0)";
    let row = server.query_one(asked, &[]).await?;
    let found: (i64, i64) = (row.get(0), row.get(1));
    let total = i64::try_from(driver::ACCOUNTS * driver::EACH)?;
    let wrong = found != (total, 0);
    Ok(wrong.then(|| format!("(money, rows never committed) is {found:?}, not ({total}, 0)")))
}
