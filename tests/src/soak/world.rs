//! What all clients of a soak share: where to go, what to count, and what went wrong.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use tokio_postgres::error::SqlState;

use super::tls::Connector;
use crate::Frame;

/// Wrong answers that are kept; the first ones tell the story.
const WRONG_KEPT: usize = 20;

/// What all clients share.
#[derive(Debug)]
pub struct World {
    /// Where pgherd listens.
    pub address: SocketAddr,
    /// Opens TLS connections.
    pub tls: Connector,
    /// Everybody leaves.
    pub over: AtomicBool,
    /// Servers that were killed on purpose so far.
    pub kills: AtomicU64,
    /// Numbers that never come again: for texts, names, values.
    fresh: AtomicU64,
    counts: Mutex<BTreeMap<String, u64>>,
    wrong: Mutex<Vec<String>>,
}

/// Why a client's deed ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// What a client must live with: its server was killed, it met a deadlock. The word is counted.
    Lost(String),
    /// What must never happen.
    Wrong(String),
}

/// What a deed comes to.
pub type Outcome = Result<(), Trouble>;

/// A word for a connection that ended without a reason given.
pub const CLOSED: &str = "closed";

/// SQLSTATEs of a server that was killed: its own FATAL, and pgherd's word when it said nothing.
pub const KILLED: [&str; 3] = ["57P01", "08006", CLOSED];

/// Transactions that meet each other in a circle.
const DEADLOCK: &str = "40P01";

impl World {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(address: SocketAddr, tls: Connector) -> World {
        World {
            address,
            tls,
            over: AtomicBool::new(false),
            kills: AtomicU64::new(0),
            fresh: AtomicU64::new(1),
            counts: Mutex::default(),
            wrong: Mutex::default(),
        }
    }

    /// A number that never came before.
    pub fn fresh(&self) -> u64 {
        self.fresh.fetch_add(1, Relaxed)
    }

    /// Whether everybody is to leave.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    /// One more of `what`.
    pub fn count(&self, what: &str) {
        *self.counts.lock().entry(what.to_owned()).or_default() += 1;
    }

    /// How often each thing happened.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.lock().clone()
    }

    /// Something that must never happen.
    pub fn accuse(&self, what: String) {
        let mut wrong = self.wrong.lock();
        if wrong.len() < WRONG_KEPT {
            wrong.push(what);
        }
    }

    /// What must never happen, and did.
    #[must_use]
    pub fn wrong(&self) -> Vec<String> {
        self.wrong.lock().clone()
    }
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Trouble {
        match error.code() {
            Some(code) => from_code(code.code(), &format!("{error:?}")),
            None if error.is_closed() || is_io(&error) => Trouble::Lost(CLOSED.into()),
            None => Trouble::Wrong(format!("{error:?}")),
        }
    }
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}

fn from_code(code: &str, what: &str) -> Trouble {
    if KILLED.contains(&code) || code == DEADLOCK {
        Trouble::Lost(code.to_owned())
    } else {
        Trouble::Wrong(what.to_owned())
    }
}

/// The trouble that an ErrorResponse means to who expected none.
#[must_use]
pub fn from_frame(frame: &Frame, asked: &str) -> Trouble {
    let code = frame.field(b'C');
    from_code(&code, &format!("{asked}: {code} {}", frame.field(b'M')))
}

/// `found` must be `expect`.
pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expect: &T) -> Outcome {
    if found == expect {
        Ok(())
    } else {
        Err(Trouble::Wrong(format!("{what}: {found:?}, not {expect:?}")))
    }
}

/// A statement that must fail with `state`.
pub fn refused<T>(
    what: &str,
    found: Result<T, tokio_postgres::Error>,
    state: &SqlState,
) -> Outcome {
    match found {
        Ok(_) => Err(Trouble::Wrong(format!("{what} succeeds"))),
        Err(error) if error.code() == Some(state) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A client's own dice: what it does is the same in every run with the same seed, when it does it is not.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Of client `n` in a run with `seed`.
    #[must_use]
    pub fn new(seed: u64, n: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(n.wrapping_mul(7_919) + 1))
    }

    /// 0 to `sides` - 1. Knuth's MMIX generator; its upper bits are the random ones.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides.max(1)
    }
}
