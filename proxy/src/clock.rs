//! The clock of the query path: a monotone number that is cheap to read and to subtract.
//!
//! `std::time::Instant` checks and normalises seconds and nanoseconds at each subtraction, which showed in
//! instruction counts. Read once when a request arrives and once when it was answered.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A point in time, nanoseconds of CLOCK_MONOTONIC. Means nothing in another process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// Now.
    #[must_use]
    #[inline]
    #[allow(clippy::cast_sign_loss)] // the time since boot is not negative
    pub fn now() -> Moment {
        let time = clock_gettime(ClockId::Monotonic);
        Moment((time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64))
    }

    /// The time since `earlier`; zero if that is later.
    #[must_use]
    #[inline]
    pub const fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The same, whole microseconds.
    #[must_use]
    #[inline]
    pub const fn micros_since(self, earlier: Moment) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000
    }

    /// The time since then.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Moment::now().since(self)
    }

    /// As a number, to be kept in an atomic.
    #[must_use]
    #[inline]
    pub const fn to_nanos(self) -> u64 {
        self.0
    }

    /// From such a number.
    #[must_use]
    #[inline]
    pub const fn from_nanos(nanos: u64) -> Moment {
        Moment(nanos)
    }
}
