//! From an authenticated client to a session: which pool, which limits, and the greeting.
//!
//! The greeting is what a server of the pool reports under the client's startup settings. A pool
//! remembers it; only settings that it has not seen yet cost a visit to a server.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::handshake::Authenticated;
use super::registry::{Identity, Registered};
use super::serve::run_all;
use super::settings::Settings;
use crate::auth::Credentials;
use crate::error::{Fault, Report, sqlstate};
use crate::hub::Hub;
use crate::limits;
use crate::pool::{self, Pool, Reported, Served, Server, Waiter};
use crate::wire::{build, version};

/// Length of a cancel key's secret: protocol 3.0 has 4 bytes, 3.2 up to 256.
const SECRET_BYTES_OLD: usize = 4;
const SECRET_BYTES: usize = 32;

/// The pools for a client, or why it may not enter.
pub(super) fn admit(hub: &Hub, client: &Authenticated) -> Result<Vec<Arc<Pool>>, Report> {
    let config = hub.config.load();
    let (database, user) = (&client.startup.database, &client.startup.user);
    let targets = hub.pools.targets(&config, database, user).ok_or_else(|| {
        let message = format!("database \"{database}\" does not exist");
        Report::fatal(Fault::Client, sqlstate::INVALID_CATALOG_NAME, message)
    })?;
    if targets.is_empty() {
        let message = format!("database \"{database}\" has no node to serve it");
        return Err(Report::fatal(Fault::Operator, sqlstate::CANNOT_CONNECT_NOW, message));
    }
    if hub.pools.is_disabled(database) {
        let message = format!("database \"{database}\" is disabled");
        return Err(Report::fatal(Fault::Operator, sqlstate::CANNOT_CONNECT_NOW, message));
    }
    let of_database = config.database(database).and_then(|(_, db)| db.max_client_connections);
    let of_database = of_database.unwrap_or(config.pool.max_database_client_connections);
    let of_user = config.users.get(user).and_then(|user| user.max_client_connections);
    let of_user = of_user.unwrap_or(config.pool.max_user_client_connections);
    if of_database > 0 || of_user > 0 {
        let (in_database, by_user) = hub.sessions.count_of(database, user);
        if of_database > 0 && in_database >= of_database {
            return Err(too_many(format!("too many connections for database \"{database}\"")));
        }
        if of_user > 0 && by_user >= of_user {
            return Err(too_many(format!("too many connections for user \"{user}\"")));
        }
    }
    for target in &targets {
        if !matches!(client.credentials, Credentials::None) {
            target.credentials.store(Arc::new(client.credentials.clone()));
        }
    }
    Ok(targets)
}

fn too_many(message: String) -> Report {
    Report::fatal(Fault::Operator, sqlstate::TOO_MANY_CONNECTIONS, message)
}

/// Registers the session.
pub(super) fn register<'a>(hub: &'a Hub, client: &Authenticated, pool: &Pool) -> Registered<'a> {
    let settings = &client.startup.settings;
    let application_name = settings.iter().find(|(name, _)| &**name == "application_name");
    let old = client.startup.protocol < version(3, 2);
    hub.sessions.register(Identity {
        peer: client.peer,
        pool: pool.key.clone(),
        tls: client.stream.is_tls(),
        replication: match client.startup.replication.as_deref() {
            None => "none",
            Some("database") => "logical",
            Some(_) => "physical",
        },
        application_name: application_name.map(|(_, v)| v.to_string()).unwrap_or_default(),
        secret_bytes: if old { SECRET_BYTES_OLD } else { SECRET_BYTES },
    })
}

/// What the client is greeted with, and the one copy of its startup settings. Not cancel safe.
pub(super) async fn greeting(
    hub: &Hub,
    targets: &[Arc<Pool>],
    client: &Authenticated,
) -> Result<(Settings, Arc<Reported>), Report> {
    let settings = Settings::from_startup(&client.startup.settings);
    if settings.len() > limits::CLIENT_SETTINGS_MAX {
        let message = "too many settings in the startup packet";
        return Err(Report::fatal(Fault::Client, sqlstate::PROGRAM_LIMIT, message));
    }
    let Some(pool) = hub.pools.pick(targets) else {
        return Err(Report::fatal(Fault::Operator, sqlstate::CANNOT_CONNECT_NOW, "no node"));
    };
    if let Some(known) = pool.welcomes.get(&settings) {
        return Ok(known);
    }
    let mut server = borrow(pool).await?;
    let result = ask(&mut server, &settings).await;
    let reported = server.reported.clone();
    pool.checkin(server, crate::clock::Moment::now());
    result?;
    pool.welcomes.put(settings.clone(), reported.clone());
    Ok((settings, reported))
}

/// A server for a moment, before there is a session to hold it. Cancel safe.
async fn borrow(pool: &Arc<Pool>) -> Result<Box<Server>, Report> {
    if let Some(server) = pool.try_checkout() {
        return Ok(server);
    }
    let waiter = Arc::new(Waiter::default());
    let wait = pool.wait(&waiter)?;
    let limit = pool.settings.load().wait_timeout;
    let limit = if limit.is_zero() { Duration::MAX } else { limit };
    match tokio::time::timeout(limit, wait).await {
        Ok(Served::Server(server)) => Ok(server),
        Ok(Served::Failed(report)) => Err((*report).clone()),
        Err(_) => Err(match pool::last_error(pool) {
            Some(last) => (*last).clone(),
            None => too_many("no server became free in time".into()),
        }),
    }
}

/// Brings a server to the startup settings: the server itself says which are wrong. Not cancel safe.
async fn ask(server: &mut Server, settings: &Settings) -> Result<(), Report> {
    let statements = server.applied.difference(settings);
    match run_all(server, &statements).await {
        Ok(()) => {
            server.applied = settings.clone();
            Ok(())
        }
        Err(crate::pool::exec::ExecError::Refused { sqlstate, message }) => {
            server.broken = true;
            let known = match sqlstate.as_str() {
                "42704" => "42704",
                "42501" => "42501",
                "55P02" => "55P02",
                _ => "22023",
            };
            Err(Report::fatal(Fault::Client, known, message))
        }
        Err(error) => {
            let message = format!("the server could not take the session's settings: {error}");
            Err(Report::fatal(Fault::Server, sqlstate::CONNECTION_FAILURE, message))
        }
    }
}

/// Greets the client: parameters, cancel key, ready. Not cancel safe.
pub(super) async fn greet(
    client: &mut Authenticated,
    reported: &Reported,
    key: (u32, &[u8]),
) -> std::io::Result<()> {
    let mut out = Vec::with_capacity(512);
    for (name, value) in &reported.0 {
        build::parameter_status(&mut out, name, value);
    }
    build::backend_key(&mut out, key.0, key.1);
    build::ready(&mut out, b'I');
    client.stream.write_all(&out).await?;
    client.stream.flush().await
}
