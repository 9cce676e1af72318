//! The side that takes over.

use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::{HandoverError, READY, VARIABLE, cancel, fds, io_error};
use crate::limits;

/// The process that this one takes over from.
#[derive(Debug)]
pub struct Predecessor {
    link: UnixStream,
}

/// The listeners that a running process hands over, by name; none: this process was started on its
/// own. Blocks; call it before anything is bound.
#[allow(clippy::type_complexity)] // a pair, taken apart at once
pub fn inherit() -> Result<Option<(Vec<(String, OwnedFd)>, Predecessor)>, HandoverError> {
    std::env::var_os(VARIABLE).map(|path| connect(&path)).transpose()
}

pub(super) fn connect(
    path: &OsStr,
) -> Result<(Vec<(String, OwnedFd)>, Predecessor), HandoverError> {
    let link = UnixStream::connect(path).map_err(io_error("reach the old process"))?;
    let patience = Some(Duration::from_secs(limits::HANDOVER_SECONDS_MAX));
    let limited = link.set_read_timeout(patience).and_then(|()| link.set_write_timeout(patience));
    limited.map_err(io_error("bound the wait for the old process"))?;
    let sockets = fds::receive(&link)?;
    Ok((sockets, Predecessor { link }))
}

impl Predecessor {
    /// Says that this process serves: the old one stops accepting now. From here on cancel keys
    /// can be forwarded. Needs a runtime.
    pub fn ready(self) -> Result<(), HandoverError> {
        let mut link = self.link;
        link.write_all(READY).map_err(io_error("tell the old process"))?;
        let failed = io_error("keep the way to the old process");
        let link = link.set_nonblocking(true).and_then(|()| tokio::net::UnixStream::from_std(link));
        let mut link = link.map_err(failed)?;
        let keys = cancel::open();
        tokio::spawn(async move { cancel::write(keys, &mut link).await });
        Ok(())
    }
}
