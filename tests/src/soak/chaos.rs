//! What operators and mishaps do meanwhile: DDL, RELOAD, RECONNECT, killed servers, new settings of users.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::life::USERS;
use super::world::World;
use crate::{DATABASE, Fixture, USER};

/// One tick after the other; every order has its own count of them.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Time of one tick: DDL at each.
    pub tick: Duration,
    /// Ticks between two killed servers.
    pub kill: u64,
    /// Ticks between two RELOADs.
    pub reload: u64,
    /// Ticks between two RECONNECTs.
    pub reconnect: u64,
}

/// Disturbs until the world is over. Not cancel safe.
pub async fn disturb(fixture: Arc<Fixture>, world: Arc<World>, pace: Pace) {
    let mut tick = 0;
    while !world.is_over() {
        tokio::time::sleep(pace.tick).await;
        tick += 1;
        if let Err(error) = disturbance(&fixture, &world, pace, tick).await {
            world.accuse(format!("disturbance {tick}: {error:#}"));
        }
    }
}

async fn disturbance(
    fixture: &Arc<Fixture>,
    world: &World,
    pace: Pace,
    tick: u64,
) -> anyhow::Result<()> {
    let server = server(fixture).await?;
    let ddl = match tick % 4 {
        0 => "ALTER TABLE shape ADD b int DEFAULT 7",
        1 => "ALTER TABLE shape ALTER b TYPE text",
        2 => "ALTER TABLE shape ADD c int",
        _ => "ALTER TABLE shape DROP b; ALTER TABLE shape DROP c",
    };
    // The first round begins in the middle.
    if tick >= 4 {
        server.batch_execute(ddl).await.context(ddl)?;
        world.count("DDL");
    }
    if tick.is_multiple_of(pace.kill) {
        kill(&server, world).await?;
    }
    if tick.is_multiple_of(pace.reconnect) {
        let user = USERS.get(usize::try_from(tick)? % USERS.len()).unwrap_or(&USER);
        let fresh = world.fresh();
        server.batch_execute(&format!("ALTER ROLE {user} SET my.of_role = '{fresh}'")).await?;
        console(fixture, "RECONNECT").await?;
        world.count("RECONNECT");
    }
    if tick.is_multiple_of(pace.reload) {
        reload(fixture, world, tick).await?;
    }
    Ok(())
}

/// Ends some server's process, whatever it does.
async fn kill(server: &Client, world: &World) -> anyhow::Result<()> {
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid() \
               AND backend_type = 'client backend' ORDER BY random() LIMIT 1";
    // Counted first: a client may tell of it before we know.
    world.kills.fetch_add(1, Relaxed);
    server.execute(sql, &[]).await.context("pg_terminate_backend")?;
    world.count("killed server");
    Ok(())
}

/// A configuration with another size and another database, which a client then uses.
async fn reload(fixture: &Arc<Fixture>, world: &World, tick: u64) -> anyhow::Result<()> {
    let name = format!("extra{}", world.fresh());
    let size = 5 + tick % 2;
    let path = fixture.pgherd.config_path();
    let mut config: toml::Table = std::fs::read_to_string(&path)?.parse()?;
    let databases = config.get_mut("databases").and_then(|d| d.as_table_mut());
    let databases = databases.context("no databases")?;
    databases.retain(|key, _| !key.starts_with("extra"));
    let mut extra = databases.get(DATABASE).cloned().context("no database")?;
    let entry = extra.as_table_mut().context("no table")?;
    entry.insert("dbname".into(), DATABASE.into());
    databases.insert(name.clone(), extra);
    let pool = config.get_mut("pool").and_then(|p| p.as_table_mut()).context("no pool")?;
    pool.insert("size_default".into(), i64::try_from(size)?.into());
    let new = path.with_extension("new");
    std::fs::write(&new, toml::to_string(&config)?)?;
    std::fs::rename(&new, &path)?;
    console(fixture, "RELOAD").await?;
    world.count("RELOAD");
    let (client, connection) = tokio_postgres::connect(&fixture.dsn(USER, &name), NoTls).await?;
    let driver = tokio::spawn(connection);
    let row = client.query_one("SELECT current_database()::text", &[]).await;
    drop(client);
    let _ = driver.await;
    match row {
        Ok(row) => ensure!(row.get::<_, &str>(0) == DATABASE, "{name} leads elsewhere"),
        Err(error) if error.is_closed() => {}
        // Its server may be the one that was killed.
        Err(error) => {
            let killed = error.code().is_some_and(|c| super::world::KILLED.contains(&c.code()));
            ensure!(killed, "{name}: {error:?}");
        }
    }
    Ok(())
}

/// A client of PostgreSQL itself. Not cancel safe.
pub async fn server(fixture: &Fixture) -> anyhow::Result<Client> {
    let port = fixture.herd.primary.port();
    let dsn = format!(
        "host=127.0.0.1 port={port} user={USER} dbname={DATABASE} application_name=soak_direct"
    );
    let (client, connection) = tokio_postgres::connect(&dsn, NoTls).await.context("direct")?;
    tokio::spawn(connection);
    Ok(client)
}

/// One command of the admin console; the rows' first columns. Not cancel safe.
pub async fn console(fixture: &Fixture, command: &str) -> anyhow::Result<Vec<String>> {
    let dsn = fixture.dsn(USER, "pgherd");
    let (client, connection) = tokio_postgres::connect(&dsn, NoTls).await.context("console")?;
    let driver = tokio::spawn(connection);
    let rows = client.simple_query(command).await.with_context(|| command.to_owned());
    drop(client);
    let _ = driver.await;
    let first = |message: SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
        _ => None,
    };
    Ok(rows?.into_iter().filter_map(first).collect())
}
