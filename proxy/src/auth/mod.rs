//! Who a client is: rules, verifiers, SCRAM, MD5, certificates; and what that lets pgherd prove.
//!
//! [`rules`] say how a client proves itself, [`users`] and [`query`] know what it must prove,
//! [`exchange`] is the whole conversation without its socket. Only [`query`] does input and output.
//! Nothing here says whether a user exists.

pub mod exchange;
pub mod md5;
pub mod process;
pub mod query;
pub mod rules;
pub mod scram;
pub mod users;

pub use exchange::{ClientAuth, Step};
pub use query::AuthQuery;
pub use rules::{Rules, certificate_user_matches};
pub use users::{Secret, Users};

use secrecy::SecretString;

use crate::error::{Fault, Report, sqlstate};

/// What pgherd can log in to a server with, on behalf of a user.
#[derive(Debug, Clone, Default)]
pub enum Credentials {
    /// Nothing: only trust, peer or certificate authentication can succeed.
    #[default]
    None,
    /// A plain password, from the configuration or the users file.
    Password(SecretString),
    /// Keys won from the client's own SCRAM exchange, or from its verifier: pass-through.
    ScramKeys(ScramKeys),
    /// `md5(password || user)` as 32 hex digits: logs in where the server asks for md5.
    Md5(SecretString),
}

/// SCRAM keys that prove a user to a server whose verifier is the same (RFC 5802).
#[derive(Clone)]
pub struct ScramKeys {
    /// ClientKey.
    pub client_key: [u8; 32],
    /// ServerKey.
    pub server_key: [u8; 32],
}

impl std::fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ScramKeys(..)")
    }
}

/// Wrong password, no password, no such user: PostgreSQL's one sentence for all (`auth_failed`,
/// auth.c).
#[must_use]
pub fn failed(user: &str) -> Report {
    let message = format!("password authentication failed for user \"{user}\"");
    Report::fatal(Fault::Client, sqlstate::INVALID_PASSWORD, message)
}
