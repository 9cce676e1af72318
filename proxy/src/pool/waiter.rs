//! A client's place in a pool's queue: made once a session, used again for every wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Poll, Waker};

use parking_lot::Mutex;

use super::server::Server;
use crate::error::Report;

/// Where one session waits. A wait allocates nothing.
#[derive(Debug, Default)]
pub struct Waiter {
    place: Mutex<Place>,
    /// When the wait began, microseconds since the process started; for `maxwait`.
    pub since_us: AtomicU64,
}

#[derive(Debug, Default)]
enum Place {
    #[default]
    Out,
    Queued(Option<Waker>),
    Served(Box<Server>),
    Failed(Arc<Report>),
}

/// What a wait came to.
#[derive(Debug)]
pub enum Served {
    /// A server.
    Server(Box<Server>),
    /// No server can be had.
    Failed(Arc<Report>),
}

impl Waiter {
    /// The session stands in the queue.
    pub(super) fn queue(&self, now_us: u64) {
        self.since_us.store(now_us, Relaxed);
        *self.place.lock() = Place::Queued(None);
    }

    /// The session left; what it was given meanwhile goes back.
    pub(super) fn leave(&self) -> Option<Box<Server>> {
        match std::mem::take(&mut *self.place.lock()) {
            Place::Served(server) => Some(server),
            _ => None,
        }
    }

    /// Hands over a server; it comes back when the session has left.
    pub(super) fn serve(&self, server: Box<Server>) -> Result<(), Box<Server>> {
        let mut place = self.place.lock();
        let Place::Queued(waker) = &mut *place else { return Err(server) };
        let waker = waker.take();
        *place = Place::Served(server);
        drop(place);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// No server can be had.
    pub(super) fn fail(&self, report: Arc<Report>) {
        let mut place = self.place.lock();
        let Place::Queued(waker) = &mut *place else { return };
        let waker = waker.take();
        *place = Place::Failed(report);
        drop(place);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// What the wait came to, or be woken then.
    pub(super) fn poll(&self, waker: &Waker) -> Poll<Served> {
        let mut place = self.place.lock();
        match std::mem::take(&mut *place) {
            Place::Served(server) => Poll::Ready(Served::Server(server)),
            Place::Failed(report) => Poll::Ready(Served::Failed(report)),
            Place::Queued(Some(old)) if old.will_wake(waker) => {
                *place = Place::Queued(Some(old));
                Poll::Pending
            }
            Place::Queued(_) | Place::Out => {
                *place = Place::Queued(Some(waker.clone()));
                Poll::Pending
            }
        }
    }
}
