//! Cutting frames: type byte, big-endian length that counts itself, body.

use crate::limits;

/// Type byte and length word.
pub const HEADER_BYTES: usize = 5;

/// What stands at the start of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Fewer bytes than a header.
    NeedHeader,
    /// A header; `total` bytes with it, of which perhaps not all are there yet.
    Frame {
        /// Type byte.
        kind: u8,
        /// Header and body, bytes.
        total: usize,
    },
    /// The length is below 4 or above the limit of its type.
    BadLength {
        /// Type byte.
        kind: u8,
        /// The length as sent.
        length: u32,
    },
}

/// Looks at the header at the start of `buf`; `max` bounds the body of a frame of a given type.
#[must_use]
#[inline]
pub fn cut(buf: &[u8], max: fn(u8) -> usize) -> Cut {
    let Some((&[kind, a, b, c, d], _)) = buf.split_first_chunk::<HEADER_BYTES>() else {
        return Cut::NeedHeader;
    };
    let length = u32::from_be_bytes([a, b, c, d]);
    if length < 4 || (length as usize) > max(kind) {
        return Cut::BadLength { kind, length };
    }
    Cut::Frame { kind, total: length as usize + 1 }
}

/// The limit for frames of clients after authentication (postgres.c, `SocketBackend`).
#[must_use]
#[inline]
pub fn client_max(kind: u8) -> usize {
    match kind {
        b'Q' | b'P' | b'B' | b'F' | b'd' => limits::FRAME_LARGE_BYTES_MAX,
        _ => limits::FRAME_SMALL_BYTES_MAX,
    }
}

/// The limit for frames of servers.
#[must_use]
#[inline]
pub fn server_max(_kind: u8) -> usize {
    limits::SERVER_FRAME_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_are_bounded() {
        let check = |bytes: &[u8], expect| assert_eq!(cut(bytes, client_max), expect, "{bytes:?}");
        check(b"", Cut::NeedHeader);
        check(b"Q\0\0\0", Cut::NeedHeader);
        check(b"Q\0\0\0\x05\0", Cut::Frame { kind: b'Q', total: 6 });
        check(b"S\0\0\0\x04", Cut::Frame { kind: b'S', total: 5 });
        check(b"S\0\0\0\x03", Cut::BadLength { kind: b'S', length: 3 });
        check(b"S\xff\xff\xff\xff", Cut::BadLength { kind: b'S', length: u32::MAX });
        check(b"Q\x40\0\0\0", Cut::BadLength { kind: b'Q', length: 0x4000_0000 });
        check(b"E\0\0\x27\x11", Cut::BadLength { kind: b'E', length: 10_001 });
    }
}
