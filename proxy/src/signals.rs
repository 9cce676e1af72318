//! What an operator or a service manager tells the process by signal.
//!
//! Only says what came; what is done about it stands in `cli::proxy`.

use std::io;

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// HUP: read the configuration again.
    Reload,
    /// TERM: new clients are refused, others finish.
    Drain,
    /// INT, QUIT: end now.
    Stop,
    /// USR2: a new process of the same file takes the listeners over.
    HandOver,
}

/// The signals, from the moment of its making.
#[derive(Debug)]
pub struct Signals {
    hangup: Stream,
    terminate: Stream,
    interrupt: Stream,
    quit: Stream,
    user: Stream,
}

impl Signals {
    /// Takes the signals over from their defaults, which would end the process. Needs a runtime.
    pub fn new() -> io::Result<Signals> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            user: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next signal; the more urgent one first. Cancel safe.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            biased;
            Some(()) = self.interrupt.recv() => Signal::Stop,
            Some(()) = self.quit.recv() => Signal::Stop,
            Some(()) = self.terminate.recv() => Signal::Drain,
            Some(()) = self.user.recv() => Signal::HandOver,
            Some(()) = self.hangup.recv() => Signal::Reload,
            // Every stream ended: the runtime is going down.
            else => std::future::pending().await,
        }
    }
}
