//! The client role: pgherd proves a user to a server, by password or by keys alone.
//!
//! A server that can't sign with the user's ServerKey is refused: it does not know the user, so it
//! is not the server that it pretends to be.

use std::fmt;

use base64::Engine as _;
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

use super::messages::{self, Flag};
use super::{
    BASE64, Key, MECHANISM, MECHANISM_PLUS, SaltedPasswords, ScramError, binding_data, hmac_sha256,
    keys, sha256, xor,
};
use crate::auth::ScramKeys;
use crate::limits;

/// What proves the user.
#[derive(Clone)]
pub enum ClientSecret {
    /// A password; the salted one is remembered under the user's name.
    Password {
        /// User.
        user: String,
        /// Password.
        password: SecretString,
    },
    /// Keys of the very verifier that the server has: same salt, same iterations.
    Keys(ScramKeys),
}

/// What a started client sends in SASLInitialResponse.
#[derive(Debug, PartialEq, Eq)]
pub struct ClientFirst {
    /// Name of the mechanism.
    pub mechanism: &'static str,
    /// client-first-message.
    pub message: Vec<u8>,
}

/// After client-first-message.
#[derive(Debug)]
pub struct Client {
    secret: ClientSecret,
    /// gs2-header and binding data, base64.
    binding: String,
    nonce: String,
    /// client-first-message-bare.
    bare: String,
}

/// After client-final-message: the server owes its signature.
pub struct Challenge {
    server_signature: Key,
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret(..)")
    }
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Challenge(..)")
    }
}

impl Client {
    /// `offered` is the list of AuthenticationSASL, `end_point` the tls-server-end-point hash of the
    /// server's certificate when there is one, `nonce` is fresh and printable.
    pub fn start(
        secret: ClientSecret,
        end_point: Option<&[u8]>,
        offered: &[u8],
        nonce: &str,
    ) -> Result<(Client, ClientFirst), ScramError> {
        let offers =
            |name: &str| offered.split(|&byte| byte == 0).any(|word| word == name.as_bytes());
        let (mechanism, flag, binding) = match end_point {
            Some(hash) if offers(MECHANISM_PLUS) => {
                (MECHANISM_PLUS, Flag::EndPoint, binding_data(hash))
            }
            // "y" lets the server notice if somebody removed PLUS from its list.
            Some(_) => (MECHANISM, Flag::ServerCannot, b"y,,".to_vec()),
            None => (MECHANISM, Flag::Cannot, b"n,,".to_vec()),
        };
        if !offers(mechanism) {
            return Err(ScramError::NoMechanism);
        }
        // PostgreSQL takes the user from the startup packet; libpq leaves it empty here as well.
        let bare = format!("n=,r={nonce}");
        let message = format!("{}{bare}", flag.header()).into_bytes();
        let binding = BASE64.encode(binding);
        let client = Client { secret, binding, nonce: nonce.to_owned(), bare };
        Ok((client, ClientFirst { mechanism, message }))
    }

    /// Takes server-first-message, gives client-final-message. With a password that `salted` does
    /// not know yet this costs all iterations: keep it off a thread that serves others.
    pub fn respond(
        self,
        message: &[u8],
        salted: &SaltedPasswords,
    ) -> Result<(Challenge, Vec<u8>), ScramError> {
        let first = messages::server_first(message)?;
        let continued = first.nonce.strip_prefix(self.nonce.as_bytes());
        if !continued.is_some_and(|rest| !rest.is_empty() && messages::printable(rest)) {
            return Err(ScramError::Nonce);
        }
        if first.iterations.get() > limits::SCRAM_ITERATIONS_MAX {
            return Err(ScramError::TooDear(first.iterations.get()));
        }
        let keys = match &self.secret {
            ClientSecret::Keys(keys) => keys.clone(),
            ClientSecret::Password { user, password } => {
                keys(&salted.get(user, password.expose_secret(), &first.salt, first.iterations))
            }
        };
        let mut answer = format!("c={},r=", self.binding).into_bytes();
        answer.extend_from_slice(first.nonce);
        let signed: [&[u8]; 5] = [self.bare.as_bytes(), b",", message, b",", &answer];
        let client_signature = hmac_sha256(&sha256(&keys.client_key), &signed);
        let server_signature = hmac_sha256(&keys.server_key, &signed);
        let proof = BASE64.encode(xor(&keys.client_key, &client_signature));
        answer.extend_from_slice(b",p=");
        answer.extend_from_slice(proof.as_bytes());
        Ok((Challenge { server_signature }, answer))
    }
}

impl Challenge {
    /// Takes server-final-message; only after this is the server believed.
    pub fn finish(self, message: &[u8]) -> Result<(), ScramError> {
        let signature = messages::server_final(message)?;
        if bool::from(signature.ct_eq(&self.server_signature)) {
            return Ok(());
        }
        Err(ScramError::ServerSignature)
    }
}
