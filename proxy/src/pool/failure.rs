//! Why a server could not be reached, logged in to, or asked: whose fault, and what a client hears.
//!
//! The log may name addresses; a client hears neither those nor anything about secrets.

use std::io;

use crate::auth::scram::ScramError;
use crate::error::{Fault, Report, sqlstate};
use crate::wire::WireError;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The host name has no address.
    #[error("the host name of {place} can't be resolved: {source}")]
    Resolve {
        /// host:port.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// None of the addresses took the connection; this is the last one's reason.
    #[error("no connection to {place}: {source}")]
    Open {
        /// host:port or the socket's path.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// TLS is demanded and the server has none.
    #[error("the server does not have TLS, but tls.server.mode demands it")]
    NoTls,
    /// Neither 'S' nor 'N' came back for SSLRequest.
    #[error("the server answered SSLRequest with byte {0:#04x}")]
    TlsAnswer(u8),
    /// The handshake failed, or the certificate is not trusted.
    #[error("the TLS handshake with the server failed: {0}")]
    Tls(io::Error),
    /// The connection broke.
    #[error("the connection to the server broke: {0}")]
    Broken(io::Error),
    /// The server closed the connection without a reason.
    #[error("the server closed the connection unexpectedly")]
    Closed,
    /// A message that is not what its type promises.
    #[error("the server sent a {0}")]
    Malformed(#[from] WireError),
    /// A message that has no place here.
    #[error("the server sent an unexpected message of type {:?} while {during}", char::from(*kind))]
    Unexpected {
        /// Its type.
        kind: u8,
        /// What was going on.
        during: &'static str,
    },
    /// More or longer messages than any PostgreSQL sends.
    #[error("the server sent too much while {0}")]
    TooMuch(&'static str),
    /// A user, database or parameter that can't be written into a message.
    #[error("{0} contains a zero byte")]
    ZeroByte(&'static str),
    /// A method that pgherd does not speak.
    #[error("the server asks for {0} authentication, which pgherd does not support")]
    Method(String),
    /// A password would cross the network in the clear.
    #[error(
        "the server asks for the password in clear text over a connection without TLS; \
         use scram-sha-256 on the server, or TLS"
    )]
    ClearText,
    /// pgherd holds nothing that answers the server's question.
    #[error("the server asks for {asked}, but pgherd holds only {held} for this user")]
    Credentials {
        /// What the server wants.
        asked: &'static str,
        /// What there is.
        held: &'static str,
    },
    /// SCRAM failed on our side, or the server is an impostor.
    #[error("SCRAM authentication with the server failed: {0}")]
    Scram(#[from] ScramError),
    /// A task that computed for us was stopped: the process ends.
    #[error("pgherd is shutting down")]
    Stopped,
    /// The server said no, in its own words.
    #[error("the server answered {severity} {sqlstate}: {message}")]
    Refused {
        /// SQLSTATE.
        sqlstate: String,
        /// Message.
        message: String,
        /// ERROR, FATAL or PANIC, never translated.
        severity: String,
    },
}

/// SQLSTATEs of servers that clients may see as they are; reports hold static ones.
const KNOWN: &[&str] = &[
    "08004", "08P01", "0A000", "22021", "22023", "25006", "28000", "28P01", "3D000", "42501",
    "42602", "42704", "42P02", "53000", "53100", "53200", "53300", "53400", "54000", "55000",
    "55006", "55P02", "57014", "57P01", "57P02", "57P03", "57P04", "57P05", "58000", "58030",
    "58P01", "XX000", "XX001",
];

impl ConnectError {
    /// From the body of an ErrorResponse.
    #[must_use]
    pub fn refused(body: &[u8]) -> ConnectError {
        let field = |key| {
            let value = crate::wire::read::error_field(body, key).unwrap_or_default();
            String::from_utf8_lossy(value).into_owned()
        };
        // 'V' is never translated; servers before 9.6 have only 'S'.
        let severity = Some(field(b'V')).filter(|word| !word.is_empty());
        ConnectError::Refused {
            sqlstate: field(b'C'),
            message: field(b'M'),
            severity: severity.unwrap_or_else(|| field(b'S')),
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            ConnectError::Resolve { .. }
            | ConnectError::NoTls
            | ConnectError::Method(_)
            | ConnectError::ClearText
            | ConnectError::Credentials { .. } => Fault::Operator,
            ConnectError::ZeroByte(_) => Fault::Client,
            ConnectError::Stopped => Fault::Pgherd,
            ConnectError::Refused { sqlstate, .. } => match sqlstate.get(..2) {
                Some("3D" | "22") => Fault::Client,
                Some("28" | "42") => Fault::Operator,
                _ => Fault::Server,
            },
            _ => Fault::Server,
        }
    }

    /// What a client's ErrorResponse carries.
    #[must_use]
    pub fn sqlstate(&self) -> &'static str {
        match self {
            ConnectError::Resolve { .. } | ConnectError::Open { .. } => sqlstate::UNABLE_TO_CONNECT,
            ConnectError::Method(_)
            | ConnectError::ClearText
            | ConnectError::Credentials { .. }
            | ConnectError::Scram(_) => sqlstate::INVALID_AUTHORIZATION,
            ConnectError::ZeroByte(_) => sqlstate::PROTOCOL_VIOLATION,
            ConnectError::Stopped => sqlstate::ADMIN_SHUTDOWN,
            ConnectError::Refused { sqlstate: said, .. } => KNOWN
                .iter()
                .find(|known| *known == said)
                .copied()
                .unwrap_or(sqlstate::CONNECTION_FAILURE),
            _ => sqlstate::CONNECTION_FAILURE,
        }
    }

    /// Whether the server itself decided: it was reached, and asking again changes nothing soon.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, ConnectError::Refused { .. })
    }

    /// What a client hears. A server's own words are passed on, unless they name its view of us.
    #[must_use]
    pub fn report(&self) -> Report {
        let report = |message: &str| Report::fatal(self.fault(), self.sqlstate(), message);
        let hint = "pgherd's log tells more.";
        match self {
            // auth.c, ClientAuthentication: these name pgherd's own address.
            ConnectError::Refused { message, .. }
                if message.contains("pg_hba.conf") || message.contains("host \"") =>
            {
                report("the server does not admit this user and database from pgherd").hint(hint)
            }
            ConnectError::Refused { message, .. } => report(message),
            ConnectError::Resolve { .. } | ConnectError::Open { .. } => {
                report("the server can't be reached").hint(hint)
            }
            ConnectError::ZeroByte(_) => report(&self.to_string()),
            ConnectError::Stopped => report("pgherd is shutting down"),
            ConnectError::Method(_)
            | ConnectError::ClearText
            | ConnectError::Credentials { .. }
            | ConnectError::Scram(_) => {
                report("pgherd can't prove this user to the server").hint(hint)
            }
            _ => report("the login to the server failed").hint(hint),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(state: &str, message: &str) -> ConnectError {
        let body = format!("SFATAL\0VFATAL\0C{state}\0M{message}\0Hnot for clients\0\0");
        ConnectError::refused(body.as_bytes())
    }

    #[test]
    fn what_clients_hear() {
        let check = |error: ConnectError, fault, expect: &str| {
            let report = error.report();
            let said = format!("{} {}", report.sqlstate, report.message);
            assert_eq!((report.fault, said.as_str()), (fault, expect), "{error:?}");
        };
        check(
            refused("3D000", "database \"x\" does not exist"),
            Fault::Client,
            "3D000 database \"x\" does not exist",
        );
        check(
            refused("28P01", "password authentication failed for user \"ann\""),
            Fault::Operator,
            "28P01 password authentication failed for user \"ann\"",
        );
        check(
            refused("28000", "no pg_hba.conf entry for host \"10.0.0.9\", user \"ann\""),
            Fault::Operator,
            "28000 the server does not admit this user and database from pgherd",
        );
        check(
            refused("57P03", "the database system is starting up"),
            Fault::Server,
            "57P03 the database system is starting up",
        );
        check(refused("ZZ999", "odd"), Fault::Server, "08006 odd");
        let source = io::Error::from(io::ErrorKind::ConnectionRefused);
        check(
            ConnectError::Open { place: "10.0.0.1:5432".into(), source },
            Fault::Server,
            "08001 the server can't be reached",
        );
        check(
            ConnectError::Credentials { asked: "an MD5 password", held: "SCRAM keys" },
            Fault::Operator,
            "28000 pgherd can't prove this user to the server",
        );
    }

    #[test]
    fn old_servers_have_one_severity_only() {
        let error = ConnectError::refused(b"SFATAL\0C28000\0Mno\0\0");
        assert_eq!(error.to_string(), "the server answered FATAL 28000: no");
        assert!(error.is_refusal());
    }
}
