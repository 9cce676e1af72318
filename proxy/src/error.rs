//! Errors as a product: whose fault, which SQLSTATE, and what a client may see.
//!
//! Each seam has its own `thiserror` enum; what reaches a client becomes a [`Report`] first.
//! There is on purpose no conversion from `anyhow::Error` or `io::Error`: they may say too much.

use crate::wire::build;

/// Whose fault an error is; also its label in metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The client broke the protocol or a rule.
    Client,
    /// A server refused, broke or never answered.
    Server,
    /// A limit or a setting of the operator.
    Operator,
    /// pgherd itself.
    Pgherd,
}

/// How loud an ErrorResponse is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed; the session goes on.
    Error,
    /// The connection ends.
    Fatal,
}

/// What a client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Whose fault.
    pub fault: Fault,
    /// ERROR or FATAL.
    pub severity: Severity,
    /// SQLSTATE (PostgreSQL manual, appendix "Error Codes").
    pub sqlstate: &'static str,
    /// What happened, lower case, no full stop, as PostgreSQL writes it.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What to do next.
    pub hint: Option<String>,
}

impl Report {
    /// A FATAL report: the connection ends after it.
    #[must_use]
    pub fn fatal(fault: Fault, sqlstate: &'static str, message: impl Into<String>) -> Report {
        let message = message.into();
        Report { fault, severity: Severity::Fatal, sqlstate, message, detail: None, hint: None }
    }

    /// An ERROR report: the statement failed.
    #[must_use]
    pub fn error(fault: Fault, sqlstate: &'static str, message: impl Into<String>) -> Report {
        Report { severity: Severity::Error, ..Report::fatal(fault, sqlstate, message) }
    }

    /// With a detail.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Report {
        self.detail = Some(detail.into());
        self
    }

    /// With a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Report {
        self.hint = Some(hint.into());
        self
    }

    /// Appends the ErrorResponse.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let severity: &[u8] = match self.severity {
            Severity::Error => b"ERROR",
            Severity::Fatal => b"FATAL",
        };
        build::frame(out, b'E', |b| {
            let mut field = |key: u8, value: &[u8]| {
                b.push(key);
                build::cstr(b, value);
            };
            field(b'S', severity);
            field(b'V', severity);
            field(b'C', self.sqlstate.as_bytes());
            field(b'M', self.message.as_bytes());
            if let Some(detail) = &self.detail {
                field(b'D', detail.as_bytes());
            }
            if let Some(hint) = &self.hint {
                field(b'H', hint.as_bytes());
            }
            b.push(0);
        });
    }
}

/// SQLSTATEs that pgherd itself sends.
pub mod sqlstate {
    /// protocol_violation
    pub const PROTOCOL_VIOLATION: &str = "08P01";
    /// connection_failure
    pub const CONNECTION_FAILURE: &str = "08006";
    /// sqlclient_unable_to_establish_sqlconnection
    pub const UNABLE_TO_CONNECT: &str = "08001";
    /// feature_not_supported
    pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
    /// invalid_password
    pub const INVALID_PASSWORD: &str = "28P01";
    /// invalid_authorization_specification
    pub const INVALID_AUTHORIZATION: &str = "28000";
    /// invalid_catalog_name
    pub const INVALID_CATALOG_NAME: &str = "3D000";
    /// too_many_connections
    pub const TOO_MANY_CONNECTIONS: &str = "53300";
    /// query_canceled
    pub const QUERY_CANCELED: &str = "57014";
    /// admin_shutdown
    pub const ADMIN_SHUTDOWN: &str = "57P01";
    /// cannot_connect_now
    pub const CANNOT_CONNECT_NOW: &str = "57P03";
    /// idle_session_timeout
    pub const IDLE_SESSION_TIMEOUT: &str = "57P05";
    /// idle_in_transaction_session_timeout
    pub const IDLE_IN_TRANSACTION: &str = "25P03";
    /// program_limit_exceeded
    pub const PROGRAM_LIMIT: &str = "54000";
    /// statement_completion_unknown
    pub const OUTCOME_UNKNOWN: &str = "40003";
    /// internal_error
    pub const INTERNAL: &str = "XX000";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_whole_error_response() {
        let mut out = Vec::new();
        Report::fatal(Fault::Operator, sqlstate::TOO_MANY_CONNECTIONS, "sorry").encode(&mut out);
        assert_eq!(out, b"E\0\0\0\x21SFATAL\0VFATAL\0C53300\0Msorry\0\0");
    }
}
