//! The server role: a client proves its password to us.
//!
//! A user who does not exist, or has no usable secret, gets a doomed exchange: same messages, same
//! work, same failure at the end (`mock_scram_secret`, auth-scram.c). This room never learns why an
//! account is doomed and so can't tell.

use base64::Engine as _;
use subtle::ConstantTimeEq as _;

use super::messages::{self, Flag};
use super::{
    BASE64, ITERATIONS_DEFAULT, KEY_BYTES, MECHANISM, MECHANISM_PLUS, SALT_BYTES, ScramError,
    Verifier, binding_data, hmac_sha256, sha256, xor,
};
use crate::auth::ScramKeys;

/// Whom the client claims to be.
#[derive(Debug)]
pub struct Account {
    verifier: Verifier,
    doomed: bool,
}

/// Before client-first-message.
#[derive(Debug)]
pub struct Server {
    account: Account,
    end_point: Option<Box<[u8]>>,
}

/// After server-first-message: the client owes its proof.
#[derive(Debug)]
pub struct Challenged {
    account: Account,
    /// base64 of what the client must say as `c=`.
    binding: String,
    nonce: Vec<u8>,
    /// client-first-message-bare `,` server-first-message.
    signed: Vec<u8>,
}

impl Account {
    /// One that a right proof opens.
    #[must_use]
    pub fn real(verifier: Verifier) -> Account {
        Account { verifier, doomed: false }
    }

    /// One that nothing opens; `salt` must be the same at each attempt of the same user, as a real
    /// one's is.
    #[must_use]
    pub fn doomed(salt: [u8; SALT_BYTES]) -> Account {
        let zero = [0; KEY_BYTES];
        let verifier = Verifier {
            iterations: ITERATIONS_DEFAULT,
            salt: salt.into(),
            stored_key: zero,
            server_key: zero,
        };
        Account { verifier, doomed: true }
    }
}

impl Server {
    /// `end_point` is the certificate's tls-server-end-point hash when the client is on TLS and the
    /// hash is defined; only then is PLUS offered.
    #[must_use]
    pub fn new(account: Account, end_point: Option<&[u8]>) -> Server {
        Server { account, end_point: end_point.map(Into::into) }
    }

    /// The list of AuthenticationSASL, the best first.
    #[must_use]
    pub fn mechanisms(&self) -> &'static [u8] {
        match self.end_point {
            Some(_) => b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0",
            None => b"SCRAM-SHA-256\0\0",
        }
    }

    /// Whether `mechanism` was offered.
    #[must_use]
    pub fn offers(&self, mechanism: &[u8]) -> bool {
        mechanism == MECHANISM.as_bytes()
            || (mechanism == MECHANISM_PLUS.as_bytes() && self.end_point.is_some())
    }

    /// Takes client-first-message, gives server-first-message. `nonce` is fresh and printable.
    pub fn first(
        self,
        mechanism: &[u8],
        message: &[u8],
        nonce: &str,
    ) -> Result<(Challenged, Vec<u8>), ScramError> {
        if !self.offers(mechanism) {
            return Err(ScramError::Mechanism);
        }
        let first = messages::client_first(message)?;
        let plus = mechanism == MECHANISM_PLUS.as_bytes();
        let binding = match (first.flag, plus, &self.end_point) {
            (Flag::EndPoint, true, Some(end_point)) => binding_data(end_point),
            (Flag::EndPoint, ..) => {
                return Err(ScramError::Malformed(
                    "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM \
                     message includes channel binding data.",
                ));
            }
            (_, true, _) => {
                return Err(ScramError::Malformed(
                    "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not \
                     include channel binding data.",
                ));
            }
            (Flag::ServerCannot, false, Some(_)) => return Err(ScramError::Downgrade),
            (flag, false, _) => flag.header().as_bytes().to_vec(),
        };
        let nonce = [first.nonce, nonce.as_bytes()].concat();
        let verifier = &self.account.verifier;
        let mut challenge = b"r=".to_vec();
        challenge.extend_from_slice(&nonce);
        let salt = BASE64.encode(&verifier.salt);
        challenge.extend_from_slice(format!(",s={salt},i={}", verifier.iterations).as_bytes());
        let signed = [first.bare, &challenge].join(&b',');
        let binding = BASE64.encode(binding);
        Ok((Challenged { account: self.account, binding, nonce, signed }, challenge))
    }
}

impl Challenged {
    /// Takes client-final-message, gives the user's keys and server-final-message.
    pub fn finish(self, message: &[u8]) -> Result<(ScramKeys, Vec<u8>), ScramError> {
        let last = messages::client_final(message)?;
        if !bool::from(last.binding.ct_eq(self.binding.as_bytes())) {
            return Err(self.binding_error());
        }
        if !bool::from(last.nonce.ct_eq(&self.nonce)) {
            return Err(ScramError::Nonce);
        }
        let verifier = &self.account.verifier;
        let signed: [&[u8]; 3] = [&self.signed, b",", last.without_proof];
        let client_signature = hmac_sha256(&verifier.stored_key, &signed);
        let client_key = xor(&last.proof, &client_signature);
        let proven = bool::from(sha256(&client_key).ct_eq(&verifier.stored_key));
        // Computed before it is known to be wanted: a failure must not be faster.
        let server_signature = hmac_sha256(&verifier.server_key, &signed);
        if !proven | self.account.doomed {
            return Err(ScramError::Proof);
        }
        let answer = format!("v={}", BASE64.encode(server_signature)).into_bytes();
        Ok((ScramKeys { client_key, server_key: verifier.server_key }, answer))
    }

    fn binding_error(&self) -> ScramError {
        // "biws" and "eSws" are the headers of clients that do not bind; the rest is a hash.
        if self.binding.len() > 4 {
            return ScramError::BindingMismatch;
        }
        ScramError::Malformed("Unexpected SCRAM channel-binding attribute in client-final-message.")
    }
}
