//! SET of pgherd's own settings: the few that can change without the file.
//!
//! A change lasts until the next RELOAD, as in PgBouncer. Everything else belongs into the file,
//! where it survives a restart.

use crate::admin::settings::{pgbouncer_settings, settings};
use crate::config::Config;
use crate::error::{Fault, Report};
use crate::hub::Hub;
use crate::log::{self, LogError};

/// SQLSTATE invalid_parameter_value.
const INVALID_VALUE: &str = "22023";
/// SQLSTATE undefined_object, as PostgreSQL has it for an unknown parameter (guc.c).
const UNKNOWN: &str = "42704";
/// SQLSTATE cant_change_runtime_param.
const FIXED: &str = "55P02";

/// Sets `key` to `value`.
pub(super) fn apply(hub: &Hub, key: &str, value: &str) -> Result<(), Report> {
    let mut config = Config::clone(&hub.config.load());
    let flag = match key {
        "log_level" | "log.level" => {
            log::set_filter(value).map_err(|e| level_error(&e))?;
            value.clone_into(&mut config.log.level);
            None
        }
        "log_connections" | "log.connections" => Some(&mut config.log.connections),
        "log_disconnections" | "log.disconnections" => Some(&mut config.log.disconnections),
        "log_pooler_errors" | "log.pooler_errors" => Some(&mut config.log.pooler_errors),
        _ => return Err(refused(hub, key)),
    };
    if let Some(flag) = flag {
        *flag = boolean(value).ok_or_else(|| {
            let message = format!("parameter \"{key}\" requires a Boolean value");
            Report::error(Fault::Client, INVALID_VALUE, message)
        })?;
    }
    hub.config.store(config.into());
    tracing::info!(key, value, "SET by an operator");
    Ok(())
}

fn level_error(e: &LogError) -> Report {
    let code = match e {
        LogError::Filter(_) => INVALID_VALUE,
        LogError::Fixed => FIXED,
    };
    Report::error(Fault::Client, code, e.to_string())
}

fn refused(hub: &Hub, key: &str) -> Report {
    let config = hub.config.load();
    let known = settings(&config).into_iter().chain(pgbouncer_settings(&config));
    if known.into_iter().any(|s| s.key == key) {
        let message = format!("parameter \"{key}\" cannot be changed by SET");
        return Report::error(Fault::Client, FIXED, message)
            .detail("A SET would be forgotten at the next restart.")
            .hint("Change the configuration file, then RELOAD.");
    }
    let message = format!("unrecognized configuration parameter \"{key}\"");
    Report::error(Fault::Client, UNKNOWN, message).hint("SHOW CONFIG lists parameters.")
}

/// The words of PostgreSQL's `parse_bool` (bool.c) that people write.
fn boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "on" | "true" | "yes" => Some(true),
        "0" | "off" | "false" | "no" => Some(false),
        _ => None,
    }
}
