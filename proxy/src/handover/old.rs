//! The side that hands over.

use std::ffi::OsString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};

use super::{HandoverError, READY, VARIABLE, cancel, fds, io_error};
use crate::hub::Hub;
use crate::limits;

/// How this process was started: the new one is started the same way.
#[derive(Debug, Clone)]
pub struct Origin {
    program: PathBuf,
    arguments: Vec<OsString>,
}

/// A new process that serves.
#[derive(Debug)]
pub struct Successor {
    /// Its process id.
    pub pid: u32,
    link: UnixStream,
}

impl Origin {
    /// Asked at the start, because the kernel tells another path once the file was replaced.
    pub fn of_this_process() -> io::Result<Origin> {
        let program = std::env::current_exe()?;
        Ok(Origin { program, arguments: std::env::args_os().skip(1).collect() })
    }

    /// Any program.
    #[must_use]
    pub fn new(program: PathBuf, arguments: Vec<OsString>) -> Origin {
        Origin { program, arguments }
    }
}

impl Successor {
    /// Cancels what the new process asks for, until it or this process ends. Not cancel safe.
    pub async fn deliver_cancels(mut self, hub: Arc<Hub>) {
        cancel::deliver(hub, &mut self.link).await;
    }
}

/// Starts `origin` and hands `sockets` over. On an error, or when the future is dropped, the new
/// process is ended and this one may go on as before. Not cancel safe beyond that.
pub async fn hand_over(
    origin: &Origin,
    sockets: &[(String, BorrowedFd<'_>)],
) -> Result<Successor, HandoverError> {
    // tempfile makes directories that only their owner can enter.
    let directory = tempfile::Builder::new()
        .prefix("pgherd-")
        .tempdir()
        .map_err(io_error("make a directory for the hand-over"))?;
    let path = directory.path().join("handover");
    let listener = UnixListener::bind(&path).map_err(io_error("listen for the new process"))?;
    let mut child = Starting(Some(start(origin, &path)?));
    let limit = Duration::from_secs(limits::HANDOVER_SECONDS_MAX);
    let handed = tokio::time::timeout(limit, child.take_over(&listener, sockets)).await;
    let successor = match handed {
        Ok(result) => result?,
        Err(_) => return Err(HandoverError::Timeout(limits::HANDOVER_SECONDS_MAX)),
    };
    // It serves: from here on it lives on its own.
    child.0 = None;
    Ok(successor)
}

fn start(origin: &Origin, path: &std::path::Path) -> Result<Child, HandoverError> {
    Command::new(&origin.program)
        .args(&origin.arguments)
        .env(VARIABLE, path)
        // The watchdog is then the new process's duty: sd_watchdog_enabled(3) takes a missing id
        // for its own.
        .env_remove("WATCHDOG_PID")
        .spawn()
        .map_err(|source| HandoverError::Start { program: origin.program.clone(), source })
}

/// A child that is ended unless it is taken out.
struct Starting(Option<Child>);

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // Reaped by the runtime; nothing more can be done about an error here.
            let _ = child.start_kill();
        }
    }
}

impl Starting {
    /// Not cancel safe.
    async fn take_over(
        &mut self,
        listener: &UnixListener,
        sockets: &[(String, BorrowedFd<'_>)],
    ) -> Result<Successor, HandoverError> {
        let Some(child) = &mut self.0 else { return Err(HandoverError::Stranger) };
        let pid = child.id().unwrap_or_default();
        tokio::select! {
            biased;
            ended = child.wait() => {
                Err(HandoverError::Ended(ended.map_err(io_error("wait for the new process"))?))
            }
            handed = converse(listener, sockets, pid) => {
                Ok(Successor { pid, link: handed? })
            }
        }
    }
}

/// Not cancel safe.
async fn converse(
    listener: &UnixListener,
    sockets: &[(String, BorrowedFd<'_>)],
    pid: u32,
) -> Result<UnixStream, HandoverError> {
    let (link, _) = listener.accept().await.map_err(io_error("accept the new process"))?;
    let peer = link.peer_cred().map_err(io_error("ask who connected"))?;
    if peer.pid().and_then(|p| u32::try_from(p).ok()) != Some(pid) {
        return Err(HandoverError::Stranger);
    }
    let mut link = send(link, sockets).await?;
    let mut answer = [0; READY.len()];
    link.read_exact(&mut answer).await.map_err(io_error("hear from the new process"))?;
    if answer != READY {
        return Err(HandoverError::Protocol("it did not say that it is ready"));
    }
    Ok(link)
}

/// Sends on a thread that may block. Not cancel safe.
async fn send(
    link: UnixStream,
    sockets: &[(String, BorrowedFd<'_>)],
) -> Result<UnixStream, HandoverError> {
    let what = "send the listeners";
    let own = |(name, fd): &(String, BorrowedFd<'_>)| Ok((name.clone(), fd.try_clone_to_owned()?));
    let owned: Vec<(String, OwnedFd)> =
        sockets.iter().map(own).collect::<io::Result<_>>().map_err(io_error(what))?;
    let sending = tokio::task::spawn_blocking(move || {
        use std::os::fd::AsFd;
        let link = link.into_std().map_err(io_error(what))?;
        link.set_nonblocking(false).map_err(io_error(what))?;
        let borrowed: Vec<_> = owned.iter().map(|(n, fd)| (n.clone(), fd.as_fd())).collect();
        fds::send(&link, &borrowed)?;
        link.set_nonblocking(true).map_err(io_error(what))?;
        Ok(link)
    });
    let link = sending.await.map_err(|e| io_error(what)(io::Error::other(e)))??;
    UnixStream::from_std(link).map_err(io_error(what))
}
