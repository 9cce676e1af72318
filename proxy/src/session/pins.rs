//! Why a session keeps its server: state on it that can't be replayed on another.

use pgherd_router::plan::PinReason;

/// One reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Temporary tables and their like.
    Temporary,
    /// A cursor WITH HOLD.
    HoldCursor,
    /// A session's advisory lock.
    AdvisoryLock,
    /// A loaded library.
    Load,
    /// State that its text does not tell: a computed setting, a very long statement, a random seed.
    Untold,
}

impl From<PinReason> for Reason {
    fn from(reason: PinReason) -> Reason {
        match reason {
            PinReason::TempTable | PinReason::TempSchema => Reason::Temporary,
            PinReason::HoldCursor => Reason::HoldCursor,
            PinReason::AdvisoryLock => Reason::AdvisoryLock,
            PinReason::Load => Reason::Load,
            _ => Reason::Untold,
        }
    }
}

/// The reasons of one session, as bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pins {
    bits: u8,
    /// A reason may be gone: worth a question when the transaction is over.
    pub recheck: bool,
}

const TEMP: u8 = 1;
const HOLD: u8 = 2;
const LOCK: u8 = 4;
const LOAD: u8 = 8;
const OTHER: u8 = 16;
const FIRM: u8 = LOAD | OTHER;

/// Asks the server which reasons are left; one row of three booleans in the order of the bits.
/// Whatever lies in a schema depends on it: that is how the server itself finds what to remove from the
/// temporary one (namespace.c, `RemoveTempRelations`).
pub const RECHECK: &str = "SELECT \
    EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.refobjid = pg_catalog.pg_my_temp_schema() \
    AND d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass), \
    EXISTS (SELECT 1 FROM pg_catalog.pg_cursors c WHERE c.is_holdable), \
    EXISTS (SELECT 1 FROM pg_catalog.pg_locks l WHERE l.locktype = 'advisory' AND l.pid = pg_catalog.pg_backend_pid())";

impl Pins {
    /// Whether the server is kept.
    #[must_use]
    #[inline]
    pub fn is_pinned(self) -> bool {
        self.bits != 0
    }

    /// One more reason.
    pub fn add(&mut self, reason: Reason) {
        let bit = match reason {
            Reason::Temporary => TEMP,
            Reason::HoldCursor => HOLD,
            Reason::AdvisoryLock => LOCK,
            Reason::Load => LOAD,
            Reason::Untold => OTHER,
        };
        self.bits |= bit;
        // Its transaction may be rolled back, or the state may end with it (ON COMMIT DROP).
        self.recheck |= bit & FIRM == 0;
    }

    /// The answer to [`RECHECK`]: temporary tables, held cursors, advisory locks.
    pub fn found(&mut self, left: [bool; 3]) {
        self.recheck = false;
        for (bit, left) in [TEMP, HOLD, LOCK].into_iter().zip(left) {
            if !left {
                self.bits &= !bit;
            }
        }
    }

    /// Whether the server can't be cleaned for another session (LOAD can't be undone).
    #[must_use]
    pub fn spoils(self) -> bool {
        self.bits & LOAD != 0
    }

    /// For `SHOW CLIENTS`.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self.bits {
            0 => "",
            b if b & TEMP != 0 => "temporary table",
            b if b & HOLD != 0 => "cursor with hold",
            b if b & LOCK != 0 => "advisory lock",
            b if b & LOAD != 0 => "loaded library",
            _ => "computed setting or very long statement",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_ends_when_its_reason_is_gone() {
        let mut pins = Pins::default();
        pins.add(Reason::Temporary);
        pins.add(Reason::AdvisoryLock);
        assert!(pins.is_pinned() && pins.recheck);
        pins.found([false, false, true]);
        assert!(pins.is_pinned() && !pins.recheck);
        pins.found([true, true, false]);
        assert!(!pins.is_pinned());
        pins.add(Reason::Load);
        assert!(!pins.recheck);
        pins.found([false, false, false]);
        assert!(pins.is_pinned() && pins.spoils());
    }
}
