//! Cancel requests that arrive at the new process for clients of the old one.
//!
//! A key goes as process id, length and secret, big-endian. Keys are secrets: none is logged.

use std::io;
use std::sync::{Arc, OnceLock};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::hub::Hub;
use crate::limits;
use crate::session;

/// A cancel key on its way.
pub(super) type Key = (u32, Vec<u8>);

/// The way to the process that this one took over from. One process has at most one.
static WAY: OnceLock<mpsc::Sender<Key>> = OnceLock::new();

/// Sends a cancel key that is unknown here to the process that this one took over from, while that
/// drains; false: there is none, or it is busy with as many as it may be.
pub fn forward_cancel(pid: u32, secret: &[u8]) -> bool {
    let Some(way) = WAY.get() else { return false };
    secret.len() <= limits::CANCEL_SECRET_BYTES_MAX && way.try_send((pid, secret.to_vec())).is_ok()
}

/// Opens the way; what is forwarded comes out of the receiver.
pub(super) fn open() -> mpsc::Receiver<Key> {
    let (sender, receiver) = mpsc::channel(limits::CANCELS_IN_FLIGHT_MAX);
    let _ = WAY.set(sender);
    receiver
}

/// Writes keys until the old process is gone. Not cancel safe.
pub(super) async fn write(mut keys: mpsc::Receiver<Key>, link: &mut (impl AsyncWrite + Unpin)) {
    while let Some((pid, secret)) = keys.recv().await {
        let Ok(length) = u16::try_from(secret.len()) else { continue };
        let mut message = pid.to_be_bytes().to_vec();
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(&secret);
        if link.write_all(&message).await.is_err() {
            return;
        }
    }
}

/// The next key; none: the new process closed the link. Not cancel safe.
pub(super) async fn read(link: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Key>> {
    let pid = match link.read_u32().await {
        Ok(pid) => pid,
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    };
    let length = usize::from(link.read_u16().await?);
    if length > limits::CANCEL_SECRET_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut secret = vec![0; length];
    link.read_exact(&mut secret).await?;
    Ok(Some((pid, secret)))
}

/// Delivers keys to this process's sessions until the link closes. Not cancel safe.
pub(super) async fn deliver(hub: Arc<Hub>, link: &mut (impl AsyncRead + Unpin)) {
    let mut underway = JoinSet::new();
    while let Ok(Some((pid, secret))) = read(link).await {
        if underway.len() >= limits::CANCELS_IN_FLIGHT_MAX {
            let _ = underway.join_next().await;
        }
        let hub = hub.clone();
        underway.spawn(async move { session::cancel(&hub, pid, &secret).await });
        while underway.try_join_next().is_some() {}
    }
    while underway.join_next().await.is_some() {}
}
