//! A whole herd on this machine: PostgreSQL instances, their replicas, and pgherd before them.
//!
//! The one launcher, used by `pgherd demo`, the tests and the benchmarks alike. It is blocking code:
//! it serves no client, and `Drop` must be able to clean up. It never touches an instance that it did
//! not start, listens on loopback only, and leaves neither processes nor directories behind, even when
//! it is killed ([`keeper`]).
//! - [`binaries`] where PostgreSQL is, and as whom it runs; [`home`] directories and ports.
//! - [`postgres`] one instance; [`herd`] a primary with replicas; [`sql`] asking an instance.
//! - [`pgherd`] the proxy as a child process; [`demo`] the command.

use std::io;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

pub mod binaries;
pub mod demo;
pub mod herd;
pub mod home;
pub mod keeper;
pub mod pgherd;
pub mod postgres;
pub mod sql;

pub use binaries::Binaries;
pub use herd::Herd;
pub use home::{Home, free_port};
pub use pgherd::Pgherd;
pub use postgres::{Options, Postgres, Stop};

/// What can go wrong when a herd is started on this machine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No PostgreSQL was found.
    #[error(
        "no PostgreSQL server binaries found (looked in {looked}); install them \
         (Debian, Ubuntu: apt-get install postgresql) or set PGHERD_PG_BIN to the directory that holds `postgres`"
    )]
    NoPostgres {
        /// Where was looked.
        looked: String,
    },
    /// We are root, and PostgreSQL refuses to be.
    #[error(
        "PostgreSQL refuses to run as root and this machine has no user `postgres`; \
         create one (useradd --system postgres) or run as another user"
    )]
    NoAccount,
    /// A directory that PostgreSQL's user can't use.
    #[error("{}: {why}", .dir.display())]
    Directory {
        /// Which.
        dir: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Its answer.
        source: io::Error,
    },
    /// A program ended with an error, or too early.
    #[error("{what} failed ({status})\n{output}")]
    Failed {
        /// Which program.
        what: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said.
        output: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {seconds} s\n{output}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
        /// The end of the log.
        output: String,
    },
    /// PostgreSQL refused a statement of ours.
    #[error("PostgreSQL refused `{sql}`: {message}")]
    Sql {
        /// The statement.
        sql: String,
        /// Its answer.
        message: String,
    },
    /// A configuration that is not TOML, or of the wrong shape.
    #[error("configuration: {0}")]
    Config(String),
}

/// Names what was tried in an I/O error.
fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let what = what.into();
    move |source| Error::Io { what, source }
}

/// Waits for `child` until `limit` is over; `None`: it still runs.
fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sends `signal` to a child that has not been waited for: until then its id can't belong to another.
fn signal(child: &Child, signal: rustix::process::Signal) {
    // The only error is ESRCH: it ended already, which is what most signals are for.
    let _ = rustix::process::kill_process(rustix::process::Pid::from_child(child), signal);
}

/// The last lines of a log file, for error messages.
fn log_tail(path: &std::path::Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let from = bytes.len().saturating_sub(crate::limits::LOCAL_LOG_TAIL_BYTES_MAX);
    String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).into_owned()
}
