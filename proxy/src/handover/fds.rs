//! Sockets and their names as one message: a length, the names as JSON, and SCM_RIGHTS with the
//! first byte (unix(7)).

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::{HandoverError, io_error};
use crate::limits;

const ANCILLARY_BYTES: usize = rustix::cmsg_space!(ScmRights(limits::HANDOVER_SOCKETS_MAX));

/// Sends `sockets`. Blocks.
pub(super) fn send(
    link: &UnixStream,
    sockets: &[(String, BorrowedFd<'_>)],
) -> Result<(), HandoverError> {
    let failed = io_error("send the listeners");
    let (names, fds): (Vec<&str>, Vec<BorrowedFd<'_>>) =
        sockets.iter().map(|(name, fd)| (name.as_str(), *fd)).unzip();
    let mut message = Vec::new();
    let names = serde_json::to_vec(&names).unwrap_or_default();
    message.extend_from_slice(&u32::try_from(names.len()).unwrap_or(u32::MAX).to_be_bytes());
    message.extend_from_slice(&names);
    let mut space = [MaybeUninit::uninit(); ANCILLARY_BYTES];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(failed(io::Error::other("there are too many of them")));
    }
    let sent = sendmsg(link, &[IoSlice::new(&message)], &mut ancillary, SendFlags::NOSIGNAL)
        .map_err(|e| io_error("send the listeners")(e.into()))?;
    let mut stream = link;
    stream.write_all(message.get(sent..).unwrap_or_default()).map_err(failed)
}

/// Receives what [`send`] sent. Blocks.
pub(super) fn receive(link: &UnixStream) -> Result<Vec<(String, OwnedFd)>, HandoverError> {
    let mut fds = Vec::new();
    let mut length = [0; 4];
    let got =
        receive_first(link, &mut length, &mut fds).map_err(io_error("receive the listeners"))?;
    let mut stream = link;
    let mut fill = |buffer: &mut [u8]| {
        stream.read_exact(buffer).map_err(io_error("receive the listeners' names"))
    };
    fill(length.get_mut(got..).unwrap_or_default())?;
    let length = u32::from_be_bytes(length) as usize;
    if length > limits::HANDOVER_NAMES_BYTES_MAX {
        return Err(HandoverError::Protocol("the names are too long"));
    }
    let mut names = vec![0; length];
    fill(&mut names)?;
    let names: Vec<String> = serde_json::from_slice(&names)
        .map_err(|_| HandoverError::Protocol("the names are not JSON"))?;
    if names.len() != fds.len() {
        return Err(HandoverError::Protocol("names and sockets differ in number"));
    }
    Ok(names.into_iter().zip(fds).collect())
}

fn receive_first(link: &UnixStream, bytes: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); ANCILLARY_BYTES];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(bytes)];
    // Without CLOEXEC every later child would hold the listeners too.
    let message = recvmsg(link, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok(message.bytes)
}
