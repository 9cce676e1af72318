//! The state of one session: its client, the server it holds, and what is owed between them.
//!
//! `serve` moves it from state to state; `client` turns a client's frames into a server's, `replies` the
//! other way round. Everything here is owned by one task.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use pgherd_router::lex::{Encoding, LexOptions};

use super::buffers::Outbox;
use super::effects::{Deed, Tracked};
use super::expect::Expects;
use super::listen::Listening;
use super::pins::Pins;
use super::registry::Shared;
use super::resets::Resets;
use super::settings::Tracker;
use super::statements::{Statement, Traits};
use crate::clock::Moment;
use crate::config::PoolMode;
use crate::error::Report;
use crate::hub::Hub;
use crate::limits;
use crate::net::Stream;
use crate::pool::server::PreparedSet;
use crate::pool::{Pool, Reported, Server, Waiter};

/// A client and all that pgherd knows of it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) hub: Arc<Hub>,
    /// What others may see and do: cancel, kill, show.
    pub(super) shared: Arc<Shared>,
    pub(super) client: Stream,
    /// The pools that can serve it, one a node.
    pub(super) targets: Vec<Arc<Pool>>,
    /// Its place in a pool's queue.
    pub(super) waiter: Arc<Waiter>,
    pub(super) server: Option<Box<Server>>,
    pub(super) mode: PoolMode,

    /// Bytes of the client that wait for a server, or for the rest of their frame.
    pub(super) inbox: Vec<u8>,
    pub(super) to_server: Outbox,
    pub(super) to_client: Outbox,
    /// The waker that `shared` has.
    pub(super) waker: Option<Waker>,
    /// Bytes are left inside TLS.
    pub(super) client_unflushed: bool,
    pub(super) server_unflushed: bool,
    /// Bytes of the server that wait for the rest of their frame.
    pub(super) from_server: Vec<u8>,
    /// Bytes of a client's frame that are forwarded as they come.
    pub(super) client_body_left: usize,
    pub(super) client_body_dropped: bool,
    /// Bytes of a server's frame that are forwarded, or swallowed, as they come.
    pub(super) server_body_left: usize,
    pub(super) server_body_swallowed: bool,

    pub(super) expects: Expects,
    /// Transaction status of the last ReadyForQuery: `I`, `T` or `E`.
    pub(super) status: u8,
    /// An extended query was begun and its Sync not sent.
    pub(super) in_batch: bool,
    /// The client said goodbye behind a request, which is still answered first (`PostgresMain`, postgres.c).
    pub(super) goodbye: bool,
    /// The client sends COPY data.
    pub(super) copy_in: bool,
    /// Syncs that were sent before the end of a COPY's data. It ignores those that it reads; the server
    /// answers those that it finds behind an error.
    pub(super) early_syncs: usize,
    /// After an error in the extended protocol: the server answers nothing up to Sync.
    pub(super) server_skips: bool,
    /// The same when pgherd itself failed the request: frames up to Sync are dropped here.
    pub(super) skipping: bool,
    /// An error came since the transaction, or the request, began.
    pub(super) errored: bool,

    pub(super) tracker: Tracker,
    /// Settings that the client reset and that are due again.
    pub(super) resets: Resets,
    /// Deeds that are sent and not confirmed.
    pub(super) deeds_pending: usize,
    pub(super) prepared: Prepared,
    pub(super) pins: Pins,
    pub(super) listening: Listening,
    /// What the client was told (ParameterStatus).
    pub(super) reported: Arc<Reported>,
    pub(super) lex: LexOptions,

    /// The request as it came, while it may have to be sent again.
    pub(super) replay: Vec<u8>,
    /// `replay` holds the whole request, nothing of its answer was forwarded.
    pub(super) may_replay: bool,
    /// It was sent again once.
    pub(super) replayed: bool,
    /// A byte of the request left for the server.
    pub(super) sent: bool,
    /// A prepared statement on the server has a result of another shape now.
    pub(super) server_stale: bool,
    /// Why a statement of the session could not be prepared again; the body of an ErrorResponse.
    pub(super) prepare_failed: Option<Box<[u8]>>,
    /// What a client gets instead of an ErrorResponse that passes right now.
    pub(super) rewritten: Vec<u8>,
    /// What to do about a broken server.
    pub(super) lost: Option<Report>,

    pub(super) request_at: Option<Moment>,
    pub(super) transaction_at: Option<Moment>,
    /// When the last request was answered.
    pub(super) answered_at: Moment,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

/// What executing a portal does, by the portal's name.
pub(super) type Portals = HashMap<Box<[u8]>, Box<[Deed]>>;

/// The client's prepared statements and portals.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// Named ones: by Parse or PREPARE, which share their names in PostgreSQL too.
    pub(super) named: HashMap<Box<[u8]>, Arc<Statement>>,
    pub(super) unnamed: Option<Box<Unnamed>>,
    /// Portals whose execution does something to the session.
    pub(super) portals: Option<Box<Portals>>,
    /// What each DEALLOCATE that is on its way took, in their order.
    pub(super) freed: VecDeque<Freed>,
}

/// Names that are free for the client's next messages although the server has not confirmed it yet:
/// pipelines use them again at once. They come back if it refuses.
#[derive(Debug, Default)]
pub(super) struct Freed {
    pub(super) names: HashMap<Box<[u8]>, Arc<Statement>>,
    /// The server's own, when all go.
    pub(super) on_server: Option<PreparedSet>,
}

/// The unnamed statement, kept in case another server must learn it.
#[derive(Debug)]
pub(super) struct Unnamed {
    /// Unique in the process: which unnamed statement a server has.
    pub(super) stamp: u64,
    /// Behind the name: text, terminator, parameter types.
    pub(super) body: Vec<u8>,
    pub(super) traits: Traits,
}

impl Session {
    /// Whether a server may go back to its pool now.
    pub(super) fn is_releasable(&self) -> bool {
        self.status == b'I'
            && self.expects.is_empty()
            && !self.in_batch
            // An error was answered, the ReadyForQuery behind it is still to come.
            && !self.server_skips
            && !self.copy_in
            && self.client_body_left == 0
            && self.server_body_left == 0
            // A long request is on its way (`scan` took the server for it).
            && self.inbox.len() <= limits::REQUEST_BYTES_MAX
            && self.mode != PoolMode::Session
            && !self.pins.is_pinned()
    }

    /// Whether ends of transactions must be watched.
    pub(super) fn is_tracking(&self) -> bool {
        self.tracker.is_open() || self.deeds_pending > 0 || self.listening.is_pending()
    }

    /// Deeds are sent: they count until they are confirmed or void.
    pub(super) fn track(&mut self, tracked: Option<Box<Tracked>>) -> Option<Box<Tracked>> {
        if let Some(tracked) = &tracked {
            self.deeds_pending += tracked.deeds.len();
        }
        tracked
    }

    /// The pool of the held server, or of the first target.
    pub(super) fn pool(&self) -> Option<&Arc<Pool>> {
        match &self.server {
            Some(server) => Some(&server.info.pool),
            None => self.targets.first(),
        }
    }

    /// How the client's text is to be read, from what its server reported.
    pub(super) fn learn_lexing(&mut self) {
        let on = self.reported.get(b"standard_conforming_strings") != Some(b"off");
        let encoding = self.reported.get(b"client_encoding").unwrap_or(b"UTF8");
        self.lex.standard_conforming_strings = on;
        self.lex.encoding = Encoding::from_name(encoding);
    }
}
