//! The PostgreSQL wire protocol, as far as a relay must know it.
//!
//! Frames are cut here and nowhere else; views borrow from one whole frame and must consume it
//! entirely. `pgwire`'s decoders never see raw network bytes: they panic on hostile ones.
//! Source: PostgreSQL manual, chapter "Frontend/Backend Protocol", and src/include/libpq/protocol.h.

pub mod build;
pub mod frame;
pub mod read;

pub use frame::{Cut, HEADER_BYTES, cut};
pub use read::{Reader, WireError};

/// Protocol version number of `major.minor` as it stands in a startup packet.
#[must_use]
pub const fn version(major: u16, minor: u16) -> u32 {
    ((major as u32) << 16) | minor as u32
}

/// CancelRequest, SSLRequest and GSSENCRequest stand where a version would.
pub const CANCEL_REQUEST: u32 = version(1234, 5678);
/// SSLRequest.
pub const SSL_REQUEST: u32 = version(1234, 5679);
/// GSSENCRequest.
pub const GSSENC_REQUEST: u32 = version(1234, 5680);
