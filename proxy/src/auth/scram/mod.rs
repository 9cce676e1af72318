//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, both roles (RFC 5802, RFC 7677, RFC 5929).
//!
//! Messages go in, messages come out: nothing here knows a socket, a clock or a random source
//! (nonces and salts are arguments). States consume themselves, so that no step can be repeated.
//! The rules that RFCs leave open are PostgreSQL's (auth-scram.c for the server, fe-auth-scram.c
//! for the client). `server` checks a client, `client` logs in to a server, `salted` remembers the
//! expensive part, `messages` reads and never trusts.

mod client;
mod messages;
mod salted;
mod server;
#[cfg(test)]
mod tests;

pub use client::{Challenge, Client, ClientFirst, ClientSecret};
pub use salted::SaltedPasswords;
pub use server::{Account, Challenged, Server};

use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::ScramKeys;
use crate::error::{Fault, Report, sqlstate};
use crate::limits;

/// Bytes of a SHA-256 digest, and so of every key here.
pub const KEY_BYTES: usize = 32;

/// Bytes of the salts that pgherd makes; PostgreSQL's `SCRAM_DEFAULT_SALT_LEN` (scram-common.h).
pub const SALT_BYTES: usize = 16;

/// PostgreSQL's `SCRAM_SHA_256_DEFAULT_ITERATIONS` (scram-common.h).
pub const ITERATIONS_DEFAULT: NonZeroU32 = match NonZeroU32::new(4096) {
    Some(iterations) => iterations,
    None => NonZeroU32::MIN,
};

/// Without channel binding.
pub const MECHANISM: &str = "SCRAM-SHA-256";

/// With it.
pub const MECHANISM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// A digest or a key.
type Key = [u8; KEY_BYTES];

/// What PostgreSQL keeps instead of a password (`pg_authid.rolpassword`).
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    /// Rounds of PBKDF2.
    pub iterations: NonZeroU32,
    /// Salt.
    pub salt: Box<[u8]>,
    stored_key: Key,
    server_key: Key,
}

/// Why an exchange ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// A message that does not say what its place in the exchange demands.
    #[error("malformed SCRAM message: {0}")]
    Malformed(&'static str),
    /// The client named a mechanism that was not offered.
    #[error("client selected an invalid SASL authentication mechanism")]
    Mechanism,
    /// The server offers no mechanism that can be used here.
    #[error("none of the server's SASL authentication mechanisms are supported")]
    NoMechanism,
    /// Only tls-server-end-point is known.
    #[error("unsupported SCRAM channel-binding type")]
    BindingType,
    /// The client believes that PLUS was not offered, but it was: somebody removed it on the way.
    #[error("SCRAM channel binding negotiation error")]
    Downgrade,
    /// The client sees another certificate than ours.
    #[error("SCRAM channel binding check failed")]
    BindingMismatch,
    /// A part of the RFC that PostgreSQL has not either.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The other side's nonce does not continue ours.
    #[error("invalid SCRAM response: nonce does not match")]
    Nonce,
    /// Wrong password, or no such user: deliberately one.
    #[error("the proof does not fit the verifier")]
    Proof,
    /// The server asks for more work than anyone configures.
    #[error("the server asks for {0} SCRAM iterations, more than pgherd computes")]
    TooDear(u32),
    /// The server does not know the user's verifier: it may be an impostor.
    #[error("the server's SCRAM signature is wrong")]
    ServerSignature,
    /// The server ended the exchange with an error of RFC 5802.
    #[error("the server ended the SCRAM exchange: {0}")]
    ServerSays(String),
}

impl ScramError {
    /// What the client of our server role is told; `Proof` is PostgreSQL's sentence about `user`.
    #[must_use]
    pub fn report(&self, user: &str) -> Report {
        let fatal = |state, message: String| Report::fatal(Fault::Client, state, message);
        match self {
            ScramError::Proof => super::failed(user),
            ScramError::Malformed(detail) => {
                fatal(sqlstate::PROTOCOL_VIOLATION, "malformed SCRAM message".into())
                    .detail(*detail)
            }
            ScramError::Nonce => {
                fatal(sqlstate::PROTOCOL_VIOLATION, "invalid SCRAM response".into())
                    .detail("Nonce does not match.")
            }
            ScramError::Downgrade => fatal(sqlstate::INVALID_AUTHORIZATION, self.to_string())
                .detail(
                    "The client supports SCRAM channel binding but thinks the server does not.  \
                     However, this server does support channel binding.",
                ),
            ScramError::BindingMismatch => fatal(sqlstate::INVALID_AUTHORIZATION, self.to_string()),
            ScramError::Unsupported(_) => fatal(sqlstate::FEATURE_NOT_SUPPORTED, self.to_string()),
            _ => fatal(sqlstate::PROTOCOL_VIOLATION, self.to_string()),
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(..)")
    }
}

impl Verifier {
    /// Reads `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, as `parse_scram_secret`
    /// does (auth-scram.c).
    #[must_use]
    pub fn parse(text: &str) -> Option<Verifier> {
        let rest = text.strip_prefix(MECHANISM)?.strip_prefix('$')?;
        let (head, keys) = rest.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        if !iterations.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let salt = BASE64.decode(salt).ok().filter(|salt| !salt.is_empty())?;
        Some(Verifier {
            iterations: iterations.parse().ok()?,
            salt: salt.into_boxed_slice(),
            stored_key: key_of_base64(stored_key.as_bytes())?,
            server_key: key_of_base64(server_key.as_bytes())?,
        })
    }

    /// The text that `parse` reads. It is as secret as a password hash: never log it.
    #[must_use]
    pub fn format(&self) -> String {
        let [salt, stored, server] =
            [&*self.salt, &self.stored_key, &self.server_key].map(|part| BASE64.encode(part));
        format!("{MECHANISM}${}:{salt}${stored}:{server}", self.iterations)
    }

    /// From a salted password.
    #[must_use]
    pub fn from_salted(salted: &Key, salt: &[u8], iterations: NonZeroU32) -> Verifier {
        let keys = keys(salted);
        Verifier {
            iterations,
            salt: salt.into(),
            stored_key: sha256(&keys.client_key),
            server_key: keys.server_key,
        }
    }
}

/// `SaltedPassword` of RFC 5802: as expensive as `iterations` says.
#[must_use]
pub fn salted_password(password: &str, salt: &[u8], iterations: NonZeroU32) -> Key {
    let mut salted = [0; KEY_BYTES];
    let prepared = prepare(password);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, prepared.as_bytes(), &mut salted);
    salted
}

/// SASLprep; what it forbids is used as it is, and so is what it would leave empty
/// (`pg_saslprep`, saslprep.c, and its callers).
fn prepare(password: &str) -> std::borrow::Cow<'_, str> {
    match stringprep::saslprep(password) {
        Ok(prepared) if !prepared.is_empty() => prepared,
        _ => password.into(),
    }
}

/// ClientKey and ServerKey of a salted password.
#[must_use]
fn keys(salted: &Key) -> ScramKeys {
    ScramKeys {
        client_key: hmac_sha256(salted, &[b"Client Key"]),
        server_key: hmac_sha256(salted, &[b"Server Key"]),
    }
}

fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Key {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let mut context = hmac::Context::with_key(&key);
    for part in parts {
        context.update(part);
    }
    copied(context.sign().as_ref())
}

fn sha256(data: &[u8]) -> Key {
    copied(digest::digest(&digest::SHA256, data).as_ref())
}

/// The library's tags are slices; SHA-256's are always `KEY_BYTES` long.
fn copied(tag: &[u8]) -> Key {
    let mut key = [0; KEY_BYTES];
    for (to, from) in key.iter_mut().zip(tag) {
        *to = *from;
    }
    key
}

fn xor(a: &Key, b: &Key) -> Key {
    let mut out = *a;
    for (to, from) in out.iter_mut().zip(b) {
        *to ^= from;
    }
    out
}

fn key_of_base64(text: &[u8]) -> Option<Key> {
    BASE64.decode(text).ok()?.try_into().ok()
}

/// What a client that binds sends as `c=`, before base64: gs2 header and certificate hash.
fn binding_data(end_point: &[u8]) -> Vec<u8> {
    [b"p=tls-server-end-point,,", end_point].concat()
}

/// Messages are short; what is longer is not SCRAM.
fn bounded(message: &[u8]) -> Result<&[u8], ScramError> {
    if message.is_empty() {
        return Err(ScramError::Malformed("The message is empty."));
    }
    if message.len() > limits::AUTH_MESSAGE_BYTES_MAX {
        return Err(ScramError::Malformed("The message is too long."));
    }
    if memchr::memchr(0, message).is_some() {
        return Err(ScramError::Malformed("Message length does not match input length."));
    }
    Ok(message)
}
