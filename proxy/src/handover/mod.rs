//! The listeners' way from a running process to a new one, without one refused connection.
//!
//! The old process starts the new one with `PGHERD_HANDOVER=<socket>` and sends it the listening
//! sockets over that socket; the new one says when it serves. Until then the old one goes on, and
//! if the new one fails it just goes on. Both hold the same sockets, so no connection is lost in
//! between. The link stays open while the old process drains: cancel requests for its clients
//! arrive at the new one, which sends them back ([`forward_cancel`]).
//!
//! `old` is that side, `new` the other, `fds` carries sockets and `cancel` keys.

mod cancel;
mod fds;
mod new;
mod old;

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

pub use cancel::forward_cancel;
pub use new::{Predecessor, inherit};
pub use old::{Origin, Successor, hand_over};

/// Environment variable that names the socket on which a new process finds the old one.
pub const VARIABLE: &str = "PGHERD_HANDOVER";

/// What the new process says when it serves.
const READY: &[u8] = b"ready\n";

/// Why a hand-over failed. The old process goes on.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// Something between the two broke.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The program can't be started.
    #[error("cannot start {program}: {source}", program = program.display())]
    Start {
        /// The file.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The new process ended; its own log says why.
    #[error("the new process ended before it was ready ({0}); see its log lines above")]
    Ended(ExitStatus),
    /// The new process did not get ready.
    #[error("the new process was not ready within {0} seconds")]
    Timeout(u64),
    /// Someone else connected.
    #[error("a process that was not started for it asked for the listeners")]
    Stranger,
    /// The other side says something unknown; probably an incompatible version.
    #[error("the other process speaks another hand-over protocol: {0}")]
    Protocol(&'static str),
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> HandoverError {
    move |source| HandoverError::Io { what, source }
}

#[cfg(test)]
mod tests;
