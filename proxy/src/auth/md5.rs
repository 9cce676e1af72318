//! MD5 passwords, both roles, for verifiers that nobody has renewed yet.
//!
//! PostgreSQL manual, "Password Authentication"; src/common/md5_common.c. Whoever steals such a
//! verifier can log in with it: SCRAM is better in every way.

use md5::{Digest as _, Md5};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

/// Hex digits of a digest.
const HEX_DIGITS: usize = 32;

/// `md5(password || user)` as 32 hex digits: what PostgreSQL stores behind "md5".
#[must_use]
pub fn hash(user: &str, password: &str) -> SecretString {
    SecretString::from(hex(&[password.as_bytes(), user.as_bytes()]))
}

/// What a client answers to AuthenticationMD5Password: "md5" and `md5(hash || salt)`.
#[must_use]
pub fn response(hash: &SecretString, salt: [u8; 4]) -> String {
    format!("md5{}", hex(&[hash.expose_secret().as_bytes(), &salt]))
}

/// Whether `given` is the answer to `salt`; takes the same time wherever they differ.
#[must_use]
pub fn verify(hash: &SecretString, salt: [u8; 4], given: &[u8]) -> bool {
    given.ct_eq(response(hash, salt).as_bytes()).into()
}

/// The hash of a verifier `md5<32 hex digits>`; as in `get_password_type` (crypt.c), upper case
/// digits make it a plain password.
#[must_use]
pub fn parse(text: &str) -> Option<SecretString> {
    let digits = text.strip_prefix("md5")?;
    let hex = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
    (digits.len() == HEX_DIGITS && digits.bytes().all(hex)).then(|| SecretString::from(digits))
}

fn hex(parts: &[&[u8]]) -> String {
    let mut digest = Md5::new();
    for part in parts {
        digest.update(part);
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use postgres_protocol::authentication::md5_hash;

    use super::*;

    #[test]
    fn answers_are_those_of_other_clients() {
        // Computed by PostgreSQL: SELECT 'md5' || md5('secret' || 'ann').
        let hash = hash("ann", "secret");
        assert_eq!(hash.expose_secret(), hex(&[b"secretann"]));
        let salt = [1, 2, 3, 4];
        assert_eq!(response(&hash, salt), md5_hash(b"ann", b"secret", salt));
        // RFC 1321, appendix A.5.
        assert_eq!(hex(&[b"message ", b"digest"]), "f96b697d7cb7938d525a2f31aaf161d0");
    }

    #[test]
    fn only_the_right_answer_is_right() {
        let (hash, salt) = (hash("ann", "secret"), [1, 2, 3, 4]);
        let right = response(&hash, salt);
        let check = |given: &str, expect| {
            assert_eq!(verify(&hash, salt, given.as_bytes()), expect, "{given}");
        };
        check(&right, true);
        check(&right[..34], false);
        check("", false);
        check(hash.expose_secret(), false);
        check(&response(&hash, [1, 2, 3, 5]), false);
        check(&response(&super::hash("ann", "wrong"), salt), false);
    }

    #[test]
    fn verifiers() {
        let check = |text: &str, expect| assert_eq!(parse(text).is_some(), expect, "{text}");
        check("md5f96b697d7cb7938d525a2f31aaf161d0", true);
        check("md5f96b697d7cb7938d525a2f31aaf161d", false);
        check("md5F96b697d7cb7938d525a2f31aaf161d0", false);
        check("md5g96b697d7cb7938d525a2f31aaf161d0", false);
        check("md5", false);
    }
}
