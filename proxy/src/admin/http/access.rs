//! Who may use the admin HTTP.
//!
//! With a token: whoever shows it. Without: whoever is on this machine, but no web page that a
//! browser on this machine has open. A page can send a simple POST anywhere and can point its own
//! name at loopback (DNS rebinding); so a POST must be JSON and the Host must be no foreign name.

use std::net::IpAddr;

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

/// The rule of one listener.
#[derive(Debug)]
pub(super) struct Access {
    token: Option<SecretString>,
}

/// Why a request is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) message: &'static str,
}

impl Access {
    pub(super) fn new(token: Option<SecretString>) -> Access {
        Access { token }
    }

    /// Whether this request may pass.
    pub(super) fn check(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<(), Refusal> {
        // Probes have no token, and learn nothing but whether to send clients.
        if matches!(path, "/healthz" | "/readyz") {
            return Ok(());
        }
        match &self.token {
            Some(token) if shows(headers, token) => Ok(()),
            Some(_) => Err(refusal(
                StatusCode::UNAUTHORIZED,
                "send the token of admin.token_file as `Authorization: Bearer …`",
            )),
            None => local(method, headers),
        }
    }
}

fn refusal(status: StatusCode, message: &'static str) -> Refusal {
    Refusal { status, message }
}

fn shows(headers: &HeaderMap, token: &SecretString) -> bool {
    let sent = headers.get(AUTHORIZATION).map(|value| value.as_bytes()).unwrap_or_default();
    let Some((scheme, sent)) = sent.split_at_checked(7) else { return false };
    // Lengths may differ in time; the bytes may not.
    scheme.eq_ignore_ascii_case(b"Bearer ")
        && bool::from(sent.ct_eq(token.expose_secret().as_bytes()))
}

fn local(method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok());
    if !text(&HOST).is_some_and(is_own_host) {
        return Err(refusal(
            StatusCode::FORBIDDEN,
            "the Host header must be an address or localhost; set admin.token_file for other names",
        ));
    }
    if let Some(origin) = text(&ORIGIN) {
        let origin = origin.strip_prefix("http://").unwrap_or(origin);
        if Some(origin) != text(&HOST) {
            return Err(refusal(StatusCode::FORBIDDEN, "requests from other origins are refused"));
        }
    }
    let media_type = text(&CONTENT_TYPE).and_then(|v| v.split(';').next()).map(str::trim);
    if method == Method::POST
        && !media_type.is_some_and(|t| t.eq_ignore_ascii_case("application/json"))
    {
        return Err(refusal(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "a POST must have Content-Type: application/json",
        ));
    }
    Ok(())
}

/// An address or localhost, with or without a port: nothing that a stranger's DNS can answer for.
fn is_own_host(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        return address.parse::<IpAddr>().is_ok() && (port.is_empty() || port.starts_with(':'));
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(access: &Access, method: Method, path: &str, headers: &[(&str, &str)], expect: u16) {
        let headers: HeaderMap = headers
            .iter()
            .map(|(k, v)| (k.parse::<axum::http::HeaderName>().unwrap(), v.parse().unwrap()))
            .collect();
        let found = access.check(&method, path, &headers).err().map_or(200, |r| r.status.as_u16());
        assert_eq!(found, expect, "{method} {path} {headers:?}");
    }

    #[test]
    fn a_token_is_all_or_nothing() {
        let access = Access::new(Some("s3cret".to_owned().into()));
        let check =
            |headers: &[_], expect| check(&access, Method::GET, "/metrics", headers, expect);
        check(&[("authorization", "Bearer s3cret"), ("host", "pgherd.example")], 200);
        check(&[("authorization", "bearer s3cret")], 200);
        check(&[("authorization", "Bearer s3cre")], 401);
        check(&[("authorization", "Bearer s3cret2")], 401);
        check(&[("authorization", "Basic s3cret")], 401);
        check(&[("authorization", "Bearer")], 401);
        check(&[("host", "127.0.0.1:6433")], 401);
        assert!(!format!("{access:?}").contains("s3cret"));
    }

    #[test]
    fn web_pages_stay_out_of_loopback() {
        let access = Access::new(None);
        let get =
            |headers: &[_], expect| check(&access, Method::GET, "/api/v1/pools", headers, expect);
        get(&[("host", "127.0.0.1:6433")], 200);
        get(&[("host", "localhost")], 200);
        get(&[("host", "[::1]:6433")], 200);
        get(&[("host", "evil.example:6433")], 403);
        get(&[("host", "127.0.0.1.evil.example")], 403);
        get(&[], 403);
        get(&[("host", "127.0.0.1:6433"), ("origin", "https://evil.example")], 403);
        get(&[("host", "127.0.0.1:6433"), ("origin", "null")], 403);
        let post =
            |headers: &[_], expect| check(&access, Method::POST, "/api/v1/kill", headers, expect);
        post(&[("host", "127.0.0.1"), ("content-type", "application/json; charset=utf-8")], 200);
        post(&[("host", "127.0.0.1"), ("content-type", "text/plain")], 415);
        post(&[("host", "127.0.0.1")], 415);
        check(&access, Method::GET, "/readyz", &[("host", "10.0.0.7.nip.example")], 200);
    }
}
