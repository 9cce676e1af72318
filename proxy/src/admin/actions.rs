//! What an operator can do, whatever the way: console, HTTP and `pgherd ctl` come through here.
//!
//! Who may do it is decided by those who call.

use std::fmt::Display;

use crate::config::reload::{ReloadReport, reload as reload_config};
use crate::error::{Fault, Report, sqlstate};
use crate::hub::Hub;

/// SQLSTATE object_not_in_prerequisite_state.
const WRONG_STATE: &str = "55000";
/// SQLSTATE config_file_error.
const CONFIG_FILE_ERROR: &str = "F0000";
/// SQLSTATE undefined_object.
const UNDEFINED_OBJECT: &str = "42704";

/// Stops checkouts of `database` (of all when none), and returns when its servers are free.
/// Cancel safe: the pause itself stays.
pub async fn pause(hub: &Hub, database: Option<&str>) -> Result<(), Report> {
    audit("PAUSE", database);
    known(hub, database)?;
    hub.pools.pause(database);
    hub.pools.wait_paused(database).await;
    Ok(())
}

/// Undoes [`pause`] and [`kill`].
pub fn resume(hub: &Hub, database: Option<&str>) -> Result<(), Report> {
    audit("RESUME", database);
    if hub.pools.resume(database) {
        return Ok(());
    }
    let message = match database {
        Some(name) => format!("database \"{name}\" is not paused"),
        None => "no database is paused".to_owned(),
    };
    Err(Report::error(Fault::Client, WRONG_STATE, message))
}

/// Refuses new clients of `database`.
pub fn disable(hub: &Hub, database: &str) -> Result<(), Report> {
    audit("DISABLE", Some(database));
    known(hub, Some(database))?;
    hub.pools.disable(database);
    Ok(())
}

/// Undoes [`disable`].
pub fn enable(hub: &Hub, database: &str) -> Result<(), Report> {
    audit("ENABLE", Some(database));
    known(hub, Some(database))?;
    // As in PgBouncer, a database that was not disabled is no error.
    hub.pools.enable(database);
    Ok(())
}

/// Closes clients and servers of `database` at once, and pauses it.
pub fn kill(hub: &Hub, database: Option<&str>) -> Result<(), Report> {
    audit("KILL", database);
    known(hub, database)?;
    // Pause first, so that a client who comes back at once finds no server.
    hub.pools.kill(database);
    hub.sessions.kill_database(database);
    Ok(())
}

/// Ends one client.
pub fn kill_client(hub: &Hub, id: u64) -> Result<(), Report> {
    audit("KILL_CLIENT", Some(id));
    if hub.sessions.kill(id) {
        return Ok(());
    }
    let message = format!("there is no client with id {id}");
    Err(Report::error(Fault::Client, UNDEFINED_OBJECT, message)
        .hint("SHOW CLIENTS lists clients and their ids."))
}

/// Has every server of `database` replaced when it is next free.
pub fn reconnect(hub: &Hub, database: Option<&str>) -> Result<(), Report> {
    audit("RECONNECT", database);
    known(hub, database)?;
    hub.pools.reconnect(database);
    Ok(())
}

/// Reads the configuration file and applies what can change while running. Not cancel safe.
pub async fn reload(hub: &Hub) -> Result<ReloadReport, Report> {
    audit("RELOAD", None::<&str>);
    reload_config(hub).await.map_err(|e| {
        Report::error(Fault::Operator, CONFIG_FILE_ERROR, "reload failed, nothing was changed")
            .detail(e.to_string())
            .hint(
                "Correct the file and reload again; `pgherd check` shows errors without a reload.",
            )
    })
}

/// New clients are refused, idle ones leave, busy ones finish; then the process ends.
pub fn drain(hub: &Hub) {
    audit("DRAIN", None::<&str>);
    hub.draining.cancel();
    hub.sessions.drain();
}

/// Everything ends now.
pub fn shutdown(hub: &Hub) {
    audit("SHUTDOWN", None::<&str>);
    hub.stopping.cancel();
}

/// All databases are always known; one must stand in the configuration, or `"*"` must.
fn known(hub: &Hub, database: Option<&str>) -> Result<(), Report> {
    let Some(name) = database else { return Ok(()) };
    if hub.config.load().database(name).is_some() {
        return Ok(());
    }
    let message = format!("no such database: \"{name}\"");
    Err(Report::error(Fault::Client, sqlstate::INVALID_CATALOG_NAME, message)
        .hint("SHOW DATABASES lists databases."))
}

fn audit(action: &str, target: Option<impl Display>) {
    match target {
        Some(target) => tracing::info!(%target, "{action} by an operator"),
        None => tracing::info!("{action} by an operator"),
    }
}
