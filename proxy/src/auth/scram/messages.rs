//! The four messages of an exchange: strict reading of bounded bytes, never a panic.
//!
//! Each reader wants its attributes in the RFC's order and tolerates extensions only where
//! PostgreSQL does (`read_attr_value` and `read_any_attr`, auth-scram.c).

use std::num::NonZeroU32;

use super::{BASE64, Key, ScramError, bounded, key_of_base64};
use base64::Engine as _;

/// What a client says about channel binding (gs2-cbind-flag).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flag {
    /// `n`: it can't.
    Cannot,
    /// `y`: it could, but thinks that the server can't.
    ServerCannot,
    /// `p=tls-server-end-point`: it does.
    EndPoint,
}

impl Flag {
    /// gs2-header.
    pub(super) fn header(self) -> &'static str {
        match self {
            Flag::Cannot => "n,,",
            Flag::ServerCannot => "y,,",
            Flag::EndPoint => "p=tls-server-end-point,,",
        }
    }
}

/// client-first-message. The user in it is not read: the startup packet named it.
#[derive(Debug)]
pub(super) struct ClientFirst<'a> {
    pub(super) flag: Flag,
    /// client-first-message-bare.
    pub(super) bare: &'a [u8],
    pub(super) nonce: &'a [u8],
}

/// client-final-message.
#[derive(Debug)]
pub(super) struct ClientFinal<'a> {
    /// base64 of gs2-header and binding data.
    pub(super) binding: &'a [u8],
    pub(super) nonce: &'a [u8],
    pub(super) proof: Key,
    /// client-final-message-without-proof.
    pub(super) without_proof: &'a [u8],
}

/// server-first-message.
#[derive(Debug)]
pub(super) struct ServerFirst<'a> {
    pub(super) nonce: &'a [u8],
    pub(super) salt: Vec<u8>,
    pub(super) iterations: NonZeroU32,
}

/// Attributes in turn: `a=value,b=value`.
struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    fn any(&mut self) -> Result<(u8, &'a [u8]), ScramError> {
        let malformed = ScramError::Malformed("Attribute expected.");
        let (name, rest) = match self.rest {
            [name, b'=', rest @ ..] if name.is_ascii_alphabetic() => (*name, rest),
            _ => return Err(malformed),
        };
        let end = memchr::memchr(b',', rest).unwrap_or(rest.len());
        let (value, rest) = rest.split_at(end);
        // The comma is eaten; a comma at the very end leaves nothing, as in PostgreSQL.
        self.rest = rest.get(1..).unwrap_or_default();
        Ok((name, value))
    }

    fn value(&mut self, name: u8, what: &'static str) -> Result<&'a [u8], ScramError> {
        match self.any() {
            Ok((found, value)) if found == name => Ok(value),
            _ => Err(ScramError::Malformed(what)),
        }
    }

    fn end(&self) -> Result<(), ScramError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(ScramError::Malformed("Garbage at the end of the message."))
    }
}

pub(super) fn client_first(message: &[u8]) -> Result<ClientFirst<'_>, ScramError> {
    let message = bounded(message)?;
    let (flag, rest) = match message {
        [b'n', b',', rest @ ..] => (Flag::Cannot, rest),
        [b'y', b',', rest @ ..] => (Flag::ServerCannot, rest),
        [b'p', b'=', rest @ ..] => {
            let comma = memchr::memchr(b',', rest)
                .ok_or(ScramError::Malformed("Comma expected behind the channel-binding type."))?;
            let (kind, rest) = rest.split_at(comma);
            if kind != b"tls-server-end-point" {
                return Err(ScramError::BindingType);
            }
            (Flag::EndPoint, rest.get(1..).unwrap_or_default())
        }
        _ => return Err(ScramError::Malformed("Unexpected channel-binding flag.")),
    };
    let bare = match rest {
        [b',', bare @ ..] => bare,
        [b'a', ..] => {
            let what = "client uses authorization identity, but it is not supported";
            return Err(ScramError::Unsupported(what));
        }
        _ => return Err(ScramError::Malformed("Unexpected attribute in client-first-message.")),
    };
    if bare.first() == Some(&b'm') {
        return Err(ScramError::Unsupported("client requires an unsupported SCRAM extension"));
    }
    let mut attributes = Attributes { rest: bare };
    attributes.value(b'n', "User name expected in client-first-message.")?;
    let nonce = attributes.value(b'r', "Nonce expected in client-first-message.")?;
    if nonce.is_empty() || !printable(nonce) {
        return Err(ScramError::Malformed("Non-printable characters in SCRAM nonce."));
    }
    while !attributes.rest.is_empty() {
        attributes.any()?;
    }
    Ok(ClientFirst { flag, bare, nonce })
}

pub(super) fn client_final(message: &[u8]) -> Result<ClientFinal<'_>, ScramError> {
    let message = bounded(message)?;
    let mut attributes = Attributes { rest: message };
    let binding = attributes.value(b'c', "Channel binding expected in client-final-message.")?;
    let nonce = attributes.value(b'r', "Nonce expected in client-final-message.")?;
    loop {
        // The comma before this attribute does not belong to what is signed.
        let signed = message.len().saturating_sub(attributes.rest.len() + 1);
        let (name, value) = attributes.any()?;
        if name == b'p' {
            let proof = key_of_base64(value)
                .ok_or(ScramError::Malformed("Malformed proof in client-final-message."))?;
            attributes.end()?;
            let without_proof = message.get(..signed).unwrap_or_default();
            return Ok(ClientFinal { binding, nonce, proof, without_proof });
        }
    }
}

pub(super) fn server_first(message: &[u8]) -> Result<ServerFirst<'_>, ScramError> {
    let mut attributes = Attributes { rest: bounded(message)? };
    let nonce = attributes.value(b'r', "Nonce expected in server-first-message.")?;
    let salt = attributes.value(b's', "Salt expected in server-first-message.")?;
    let iterations = attributes.value(b'i', "Iterations expected in server-first-message.")?;
    attributes.end()?;
    let salt = BASE64
        .decode(salt)
        .ok()
        .filter(|salt| !salt.is_empty())
        .ok_or(ScramError::Malformed("Malformed salt in server-first-message."))?;
    let iterations = Some(iterations)
        .filter(|digits| digits.iter().all(u8::is_ascii_digit))
        .and_then(|digits| str::from_utf8(digits).ok()?.parse().ok())
        .ok_or(ScramError::Malformed("Malformed iteration count in server-first-message."))?;
    Ok(ServerFirst { nonce, salt, iterations })
}

/// server-final-message: the server's signature.
pub(super) fn server_final(message: &[u8]) -> Result<Key, ScramError> {
    let mut attributes = Attributes { rest: bounded(message)? };
    match attributes.any()? {
        (b'e', reason) => Err(ScramError::ServerSays(String::from_utf8_lossy(reason).into_owned())),
        (b'v', signature) => {
            attributes.end()?;
            key_of_base64(signature)
                .ok_or(ScramError::Malformed("Malformed signature in server-final-message."))
        }
        _ => Err(ScramError::Malformed("Signature expected in server-final-message.")),
    }
}

/// Printable ASCII without the comma (RFC 5802; `is_scram_printable`).
pub(super) fn printable(nonce: &[u8]) -> bool {
    nonce.iter().all(|&byte| matches!(byte, 0x21..=0x7e) && byte != b',')
}
