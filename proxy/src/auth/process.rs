//! What one process keeps to itself: the secret behind fake salts, nonces, salted passwords.
//!
//! It is the only source of randomness in `auth`; the rooms beside it get what they need as values.

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use base64::Engine as _;

use super::scram::{SALT_BYTES, SaltedPasswords};
use crate::limits;

/// Bytes of a nonce before base64; PostgreSQL's `SCRAM_RAW_NONCE_LEN` (scram-common.h).
const NONCE_BYTES: usize = 18;

static SECRET: LazyLock<[u8; 32]> = LazyLock::new(rand::random);

static SALTED: LazyLock<SaltedPasswords> =
    LazyLock::new(|| SaltedPasswords::new(rand::random(), limits::SALTED_PASSWORDS_MAX));

/// A SCRAM nonce: fresh, printable, without a comma.
#[must_use]
pub fn nonce() -> String {
    base64::engine::general_purpose::STANDARD.encode(rand::random::<[u8; NONCE_BYTES]>())
}

/// A salt for MD5 authentication.
#[must_use]
pub fn md5_salt() -> [u8; 4] {
    rand::random()
}

/// The salt of a user who has no verifier: one with a plain password, or one who does not exist.
/// The same at each attempt, and nobody can compute it (`scram_mock_salt`, auth-scram.c).
#[must_use]
pub fn salt_of(user: &str) -> [u8; SALT_BYTES] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &*SECRET);
    let tag = hmac::sign(&key, user.as_bytes());
    let mut salt = [0; SALT_BYTES];
    for (to, from) in salt.iter_mut().zip(tag.as_ref()) {
        *to = *from;
    }
    salt
}

/// The salted passwords of both roles.
#[must_use]
pub fn salted_passwords() -> &'static SaltedPasswords {
    &SALTED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn salts_are_stable_and_nonces_are_not() {
        assert_eq!(salt_of("ann"), salt_of("ann"));
        assert_ne!(salt_of("ann"), salt_of("bob"));
        assert_ne!(nonce(), nonce());
        assert_eq!(nonce().len(), 24);
    }
}
