//! The PROXY protocol, version 2: a balancer in front tells where a client really comes from.
//!
//! Never believed from an address that the operator did not list, and never optional once it is
//! switched on: a client could otherwise write the header itself. Source: HAProxy's
//! `proxy-protocol.txt`, section 2.2. Version 1, a line of text, is refused.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::limits;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family, length.
const HEADER_BYTES: usize = 16;

/// Why a header is refused.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// The connection broke before the header was whole.
    #[error("PROXY header cut short: {0}")]
    Io(#[from] io::Error),
    /// Not a header of version 2.
    #[error("no PROXY protocol v2 header")]
    Signature,
    /// More addresses and extensions than anyone needs.
    #[error("PROXY header of {0} bytes")]
    TooLong(usize),
    /// A command or family that the protocol does not have, or too few bytes for it.
    #[error("malformed PROXY header: {0}")]
    Malformed(&'static str),
}

/// Reads one header, exactly; `None`: the balancer speaks for itself (a health check), or the
/// client's address has no meaning here. Not cancel safe: the connection is lost.
pub async fn read(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<SocketAddr>, HeaderError> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header).await?;
    let length = check(&header)?;
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    address(header[12], header[13], &rest)
}

/// How many bytes follow `header`.
fn check(header: &[u8; HEADER_BYTES]) -> Result<usize, HeaderError> {
    if header[..12] != SIGNATURE || header[12] >> 4 != 2 {
        return Err(HeaderError::Signature);
    }
    let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if length > limits::PROXY_HEADER_BYTES_MAX {
        return Err(HeaderError::TooLong(length));
    }
    Ok(length)
}

/// The source address in what follows the fixed part; extensions (TLVs) behind it are skipped.
fn address(command: u8, family: u8, rest: &[u8]) -> Result<Option<SocketAddr>, HeaderError> {
    match command & 0x0f {
        0 => return Ok(None),
        1 => {}
        _ => return Err(HeaderError::Malformed("unknown command")),
    }
    match family {
        0x11 => {
            let Some((&[a, b, c, d, _, _, _, _, p, q, _, _], _)) = rest.split_first_chunk() else {
                return Err(HeaderError::Malformed("too short for TCP over IPv4"));
            };
            let port = u16::from_be_bytes([p, q]);
            Ok(Some(SocketAddr::new(IpAddr::from([a, b, c, d]), port)))
        }
        0x21 => {
            let Some((both, _)) = rest.split_first_chunk::<36>() else {
                return Err(HeaderError::Malformed("too short for TCP over IPv6"));
            };
            let mut ip = [0; 16];
            ip.copy_from_slice(&both[..16]);
            let port = u16::from_be_bytes([both[32], both[33]]);
            // An IPv4 client of a dual-stack balancer is still an IPv4 client in the rules.
            Ok(Some(SocketAddr::new(IpAddr::from(ip).to_canonical(), port)))
        }
        // A client that reached the balancer over a unix socket is local to the balancer, not to
        // us: it must not meet the rules for local connections.
        0x00 | 0x31 => Ok(None),
        _ => Err(HeaderError::Malformed("family is neither TCP nor unix stream")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut out = SIGNATURE.to_vec();
        out.extend([command, family]);
        out.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        out.extend(rest);
        out
    }

    async fn parse(bytes: &[u8]) -> Result<(Option<SocketAddr>, usize), HeaderError> {
        let mut rest = bytes;
        let address = read(&mut rest).await?;
        Ok((address, rest.len()))
    }

    const V4: &[u8] = &[192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 0x19, 0x20];

    #[tokio::test]
    async fn headers_are_read_exactly() {
        let mut v6 = [0; 36];
        v6[0] = 0xfd;
        v6[15] = 7;
        v6[33] = 99;
        let mut mapped = [0; 36];
        mapped[10..16].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 9]);
        let with_tlv = [V4, &[0x03, 0, 2, 1, 2]].concat();
        for (command, family, rest, expect) in [
            (0x21, 0x11, V4, Some("192.0.2.7:12345")),
            (0x21, 0x11, with_tlv.as_slice(), Some("192.0.2.7:12345")),
            (0x21, 0x21, &v6, Some("[fd00::7]:99")),
            (0x21, 0x21, &mapped, Some("192.0.2.9:0")),
            (0x20, 0x00, &[], None),
            (0x20, 0x11, V4, None),
            (0x21, 0x00, &[], None),
            (0x21, 0x31, &[0; 216], None),
        ] {
            let mut bytes = header(command, family, rest);
            bytes.extend(b"tail");
            let expect = expect.map(|address| address.parse().unwrap());
            assert_eq!(parse(&bytes).await.unwrap(), (expect, 4), "{command} {family}");
        }
    }

    #[tokio::test]
    async fn other_bytes_are_refused() {
        let whole = header(0x21, 0x11, V4);
        for length in 0..whole.len() {
            assert!(parse(&whole[..length]).await.is_err(), "{length}");
        }
        for bytes in [
            header(0x11, 0x11, V4),
            header(0x22, 0x11, V4),
            header(0x21, 0x12, V4),
            header(0x21, 0x11, &V4[..11]),
            header(0x21, 0x21, V4),
            header(0x21, 0x11, &[0; limits::PROXY_HEADER_BYTES_MAX + 1]),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 6432\r\n".to_vec(),
            [&[0, 0, 0, 8, 4, 210, 22, 47][..], &[0; 40]].concat(),
        ] {
            assert!(parse(&bytes).await.is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(command in any::<u8>(), family in any::<u8>(),
                                  rest in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = address(command, family, &rest);
        }
    }
}
