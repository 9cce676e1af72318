//! Doors for the fuzz targets into rooms that are closed to everyone else. Nothing in pgherd uses
//! them, and they promise nothing.

use crate::error::Report;
use crate::session::handshake::{Startup, startup};

/// A startup packet from its version on: what it says, and NegotiateProtocolVersion if one is due.
pub fn startup(packet: &[u8]) -> Result<(Startup, Vec<u8>), Report> {
    startup::parse(packet).map(|parsed| (parsed.startup, parsed.negotiation))
}

/// The key of a CancelRequest, behind its code.
#[must_use]
pub fn cancel_key(body: &[u8]) -> Option<(u32, Box<[u8]>)> {
    startup::cancel_key(body).ok()
}
