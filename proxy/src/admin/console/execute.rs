//! Does what a command says, for a user who may.

use super::command::{Command, Constant, Show, Shutdown};
use super::facts::Facts;
use super::table::{Column, Table, int, text};
use super::{DATABASE, INSUFFICIENT_PRIVILEGE, Rights, SERVER_VERSION, columns, show};
use crate::admin::actions;
use crate::error::{Fault, Report, sqlstate};
use crate::hub::Hub;

/// What a command answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Rows(Table),
    /// Nothing but its tag.
    Done(&'static str),
    Notice {
        message: &'static str,
        detail: Option<String>,
        tag: &'static str,
    },
    Begin,
    End(&'static str),
}

const HELP: &str = "
\tSHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|USERS|VERSION
\tSHOW NODES|PEERS|PEER_POOLS
\tSHOW FDS|SOCKETS|ACTIVE_SOCKETS|LISTS|MEM|STATE
\tSHOW DNS_HOSTS|DNS_ZONES
\tSHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS
\tSET key = arg
\tRELOAD
\tPAUSE [<db>]
\tRESUME [<db>]
\tDISABLE <db>
\tENABLE <db>
\tRECONNECT [<db>]
\tKILL [<db>]
\tKILL_CLIENT <client_id>
\tSHUTDOWN
\tSHUTDOWN WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS
\tWAIT_CLOSE [<db>]";

/// The columns that `command` answers with; none where it answers with a tag.
pub(super) fn columns(command: &Command) -> &'static [Column] {
    match command {
        Command::Show(show) => columns::of(*show),
        Command::Select(Constant::Int(_)) => const { &[int("?column?")] },
        Command::Select(Constant::Version) => const { &[text("version")] },
        Command::Select(Constant::Database) => const { &[text("current_database")] },
        Command::Select(Constant::User) => const { &[text("current_user")] },
        _ => &[],
    }
}

/// Executes `command` for `user`. Not cancel safe.
pub(super) async fn run(
    hub: &Hub,
    user: &str,
    rights: Rights,
    command: &Command,
) -> Result<Reply, Report> {
    if rights == Rights::Look && !is_harmless(command) {
        return Err(Report::error(
            Fault::Client,
            INSUFFICIENT_PRIVILEGE,
            format!("user \"{user}\" may only look"),
        )
        .hint("An operator adds it to admin.users."));
    }
    match command {
        Command::Show(Show::Help) => {
            let detail = Some(HELP.to_owned());
            Ok(Reply::Notice { message: "Console usage", detail, tag: "SHOW" })
        }
        Command::Show(what) => Ok(Reply::Rows(show::table(*what, &Facts::gather(hub, *what)))),
        Command::Select(constant) => {
            let value = match constant {
                Constant::Int(n) => super::table::Cell::Int(*n),
                Constant::Version => SERVER_VERSION.into(),
                Constant::Database => DATABASE.into(),
                Constant::User => user.into(),
            };
            Ok(Reply::Rows(Table { columns: columns(command), rows: vec![vec![value]] }))
        }
        Command::Begin => Ok(Reply::Begin),
        Command::End(tag) => Ok(Reply::End(tag)),
        Command::Nothing(tag) => Ok(Reply::Done(tag)),
        Command::Set { key, value } => set(hub, key, value),
        action => act(hub, action).await,
    }
}

async fn act(hub: &Hub, command: &Command) -> Result<Reply, Report> {
    match command {
        Command::Pause(db) => {
            not_console(db.as_deref(), "pause")?;
            actions::pause(hub, db.as_deref()).await.map(|()| Reply::Done("PAUSE"))
        }
        Command::Resume(db) => actions::resume(hub, db.as_deref()).map(|()| Reply::Done("RESUME")),
        Command::Disable(db) => {
            not_console(Some(db), "disable")?;
            actions::disable(hub, db).map(|()| Reply::Done("DISABLE"))
        }
        Command::Enable(db) => actions::enable(hub, db).map(|()| Reply::Done("ENABLE")),
        Command::Reconnect(db) => {
            not_console(db.as_deref(), "reconnect")?;
            actions::reconnect(hub, db.as_deref()).map(|()| Reply::Done("RECONNECT"))
        }
        Command::Kill(db) => {
            not_console(db.as_deref(), "kill")?;
            actions::kill(hub, db.as_deref()).map(|()| Reply::Done("KILL"))
        }
        Command::KillClient(id) => {
            actions::kill_client(hub, *id).map(|()| Reply::Done("KILL_CLIENT"))
        }
        Command::WaitClose(db) => {
            hub.pools.wait_reconnected(db.as_deref()).await;
            Ok(Reply::Done("WAIT_CLOSE"))
        }
        Command::Reload => reload(hub).await,
        Command::Shutdown(how) => {
            match how {
                Shutdown::Now => actions::shutdown(hub),
                // A drain waits for transactions and lets idle clients go, bounded by
                // proxy.drain_timeout: that is as near as pgherd comes to either.
                Shutdown::WaitForServers | Shutdown::WaitForClients => actions::drain(hub),
            }
            Ok(Reply::Done("SHUTDOWN"))
        }
        Command::Suspend => Err(Report::error(
            Fault::Client,
            sqlstate::FEATURE_NOT_SUPPORTED,
            "SUSPEND is not supported",
        )
        .hint("To replace the binary, send USR2: listeners are handed over. PAUSE stops queries.")),
        _ => Err(Report::error(Fault::Pgherd, sqlstate::INTERNAL, "command without an action")),
    }
}

async fn reload(hub: &Hub) -> Result<Reply, Report> {
    let report = actions::reload(hub).await?;
    if report.needs_restart.is_empty() {
        return Ok(Reply::Done("RELOAD"));
    }
    let detail = Some(report.needs_restart.join(", "));
    let message = "these changes take effect after a restart";
    Ok(Reply::Notice { message, detail, tag: "RELOAD" })
}

fn is_harmless(command: &Command) -> bool {
    match command {
        // Cancel keys and addresses of everybody.
        Command::Show(show) => *show != Show::Fds,
        Command::Select(_) | Command::Begin | Command::End(_) | Command::Nothing(_) => true,
        Command::Set { key, .. } => is_parameter(key),
        _ => false,
    }
}

fn is_parameter(key: &str) -> bool {
    super::command::PARAMETERS.iter().any(|(name, _)| *name == key)
}

fn not_console(database: Option<&str>, action: &str) -> Result<(), Report> {
    if database != Some(DATABASE) {
        return Ok(());
    }
    let message = format!("cannot {action} the console itself");
    Err(Report::error(Fault::Client, sqlstate::FEATURE_NOT_SUPPORTED, message))
}

fn set(hub: &Hub, key: &str, value: &str) -> Result<Reply, Report> {
    if is_parameter(key) {
        // Drivers set these without being asked, and expect success.
        return Ok(Reply::Done("SET"));
    }
    super::set::apply(hub, key, value).map(|()| Reply::Done("SET"))
}
