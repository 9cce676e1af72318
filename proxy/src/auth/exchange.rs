//! A client's authentication as seen by the server side, without its socket.
//!
//! [`ClientAuth::start`] and [`ClientAuth::step`] give frames to send and take the bodies of the
//! client's 'p' frames; the handshake only moves them. After `Done` or `Failed` it is over.
//! What exists and what does not is answered alike: see [`Account::doomed`].

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};

use super::scram::{Account, Challenged, ITERATIONS_DEFAULT, ScramError, Server};
use super::{Credentials, Secret, md5, process};
use crate::config::AuthMethod;
use crate::error::{Fault, Report, sqlstate};
use crate::wire::{Reader, build};

/// AuthenticationOk and its fellows (protocol.h).
mod code {
    pub(super) const OK: u32 = 0;
    pub(super) const MD5_PASSWORD: u32 = 5;
    pub(super) const SASL: u32 = 10;
    pub(super) const SASL_CONTINUE: u32 = 11;
    pub(super) const SASL_FINAL: u32 = 12;
}

/// Where a client's authentication stands.
pub struct ClientAuth {
    user: String,
    /// What the users file lets us log in with; SCRAM keys are won on the way.
    credentials: Credentials,
    state: State,
}

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// Send these frames, read a 'p' frame, call `step` with its body.
    Continue(Vec<u8>),
    /// The client is who it says.
    Done {
        /// The last frames, AuthenticationOk among them.
        frames: Vec<u8>,
        /// What pgherd may log in to servers with.
        credentials: Credentials,
    },
    /// Send this and close.
    Failed(Report),
}

enum State {
    /// AuthenticationSASL was sent.
    Offered(Server),
    /// The client chose a mechanism and sent nothing with it.
    Chosen(Server, Vec<u8>),
    /// server-first-message was sent.
    Challenged(Challenged),
    /// AuthenticationMD5Password was sent; without a hash nothing fits.
    Md5 { salt: [u8; 4], hash: Option<SecretString> },
    /// Done or failed.
    Ended,
}

impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientAuth({})", self.user)
    }
}

impl ClientAuth {
    /// Begins. `secret` is none for an unknown user; `end_point` is the tls-server-end-point hash of
    /// the certificate that this very connection was made with, none without TLS;
    /// `certificate_ok` says that the client's certificate fits the user (for `cert` alone).
    #[must_use]
    pub fn start(
        method: AuthMethod,
        user: &str,
        secret: Option<&Secret>,
        end_point: Option<&[u8]>,
        certificate_ok: bool,
    ) -> (ClientAuth, Step) {
        let credentials = secret.map(Secret::credentials).unwrap_or_default();
        let mut auth = ClientAuth { user: user.to_owned(), credentials, state: State::Ended };
        let refused = |message| {
            Step::Failed(Report::fatal(Fault::Client, sqlstate::INVALID_AUTHORIZATION, message))
        };
        let step = match (method, secret) {
            (AuthMethod::Trust, _) => auth.done(Vec::new()),
            (AuthMethod::Cert, _) if certificate_ok => auth.done(Vec::new()),
            (AuthMethod::Cert, _) => {
                refused(format!("certificate authentication failed for user \"{user}\""))
            }
            (AuthMethod::Reject, _) => refused(format!("no auth rule admits user \"{user}\"")),
            // As in PostgreSQL, a SCRAM verifier brings SCRAM (CheckPWChallengeAuth, auth.c).
            (AuthMethod::ScramSha256, _) | (AuthMethod::Md5, Some(Secret::Scram(_))) => {
                auth.offer_scram(secret, end_point)
            }
            (AuthMethod::Md5, secret) => auth.ask_md5(secret),
        };
        (auth, step)
    }

    /// Takes the body of a 'p' frame.
    #[must_use]
    pub fn step(&mut self, body: &[u8]) -> Step {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Offered(server) => self.choose(server, body),
            State::Chosen(server, mechanism) => self.challenge(server, &mechanism, body),
            State::Challenged(challenged) => self.prove(challenged, body),
            State::Md5 { salt, hash } => self.check_md5(salt, hash.as_ref(), body),
            State::Ended => violation("unexpected authentication message"),
        }
    }

    fn offer_scram(&mut self, secret: Option<&Secret>, end_point: Option<&[u8]>) -> Step {
        let salt = process::salt_of(&self.user);
        let account = match secret {
            Some(Secret::Scram(verifier)) => Account::real(verifier.clone()),
            Some(Secret::Plain(password)) => Account::real(process::salted_passwords().verifier(
                &self.user,
                password.expose_secret(),
                &salt,
                ITERATIONS_DEFAULT,
            )),
            // An md5 hash can't check a SCRAM proof, and no password is no password.
            Some(Secret::Md5(_) | Secret::None) | None => Account::doomed(salt),
        };
        let server = Server::new(account, end_point);
        let mut out = Vec::new();
        build::authentication(&mut out, code::SASL, server.mechanisms());
        self.state = State::Offered(server);
        Step::Continue(out)
    }

    /// SASLInitialResponse: mechanism, length of the response or -1, response.
    fn choose(&mut self, server: Server, body: &[u8]) -> Step {
        let read = |body| {
            let mut reader = Reader::new(body);
            let mechanism = reader.cstr("SASLInitialResponse")?;
            let length = reader.u32("SASLInitialResponse")?;
            let response = match length {
                u32::MAX => None,
                length => Some(reader.bytes(length as usize, "SASLInitialResponse")?),
            };
            reader.end("SASLInitialResponse")?;
            Ok::<_, crate::wire::WireError>((mechanism, response))
        };
        match read(body) {
            Err(error) => violation(error.to_string()),
            Ok((mechanism, _)) if !server.offers(mechanism) => {
                Step::Failed(ScramError::Mechanism.report(&self.user))
            }
            Ok((mechanism, Some(response))) => self.challenge(server, mechanism, response),
            // Such a client is sent an empty challenge (scram_exchange, auth-scram.c).
            Ok((mechanism, None)) => {
                self.state = State::Chosen(server, mechanism.to_vec());
                let mut out = Vec::new();
                build::authentication(&mut out, code::SASL_CONTINUE, b"");
                Step::Continue(out)
            }
        }
    }

    fn challenge(&mut self, server: Server, mechanism: &[u8], response: &[u8]) -> Step {
        match server.first(mechanism, response, &process::nonce()) {
            Err(error) => Step::Failed(error.report(&self.user)),
            Ok((challenged, message)) => {
                self.state = State::Challenged(challenged);
                let mut out = Vec::new();
                build::authentication(&mut out, code::SASL_CONTINUE, &message);
                Step::Continue(out)
            }
        }
    }

    fn prove(&mut self, challenged: Challenged, response: &[u8]) -> Step {
        match challenged.finish(response) {
            Err(error) => Step::Failed(error.report(&self.user)),
            Ok((keys, message)) => {
                // A plain password logs in everywhere, keys only where the verifier is the same.
                if matches!(self.credentials, Credentials::None) {
                    self.credentials = Credentials::ScramKeys(keys);
                }
                let mut out = Vec::new();
                build::authentication(&mut out, code::SASL_FINAL, &message);
                self.done(out)
            }
        }
    }

    /// An unknown user is asked for MD5 too: with this method most users are.
    fn ask_md5(&mut self, secret: Option<&Secret>) -> Step {
        let hash = match secret {
            Some(Secret::Md5(hash)) => Some(hash.clone()),
            Some(Secret::Plain(password)) => Some(md5::hash(&self.user, password.expose_secret())),
            Some(Secret::None | Secret::Scram(_)) | None => None,
        };
        let salt = process::md5_salt();
        self.state = State::Md5 { salt, hash };
        let mut out = Vec::new();
        build::authentication(&mut out, code::MD5_PASSWORD, &salt);
        Step::Continue(out)
    }

    fn check_md5(&mut self, salt: [u8; 4], hash: Option<&SecretString>, body: &[u8]) -> Step {
        let mut reader = Reader::new(body);
        let given = match (reader.cstr("PasswordMessage"), reader.rest()) {
            (Ok(given), []) => given,
            _ => return violation("invalid password packet size"),
        };
        // The same work for those who have no hash.
        let doomed = SecretString::from("");
        if md5::verify(hash.unwrap_or(&doomed), salt, given) & hash.is_some() {
            return self.done(Vec::new());
        }
        Step::Failed(super::failed(&self.user))
    }

    fn done(&mut self, mut frames: Vec<u8>) -> Step {
        build::authentication(&mut frames, code::OK, b"");
        Step::Done { frames, credentials: std::mem::take(&mut self.credentials) }
    }
}

fn violation(message: impl Into<String>) -> Step {
    Step::Failed(Report::fatal(Fault::Client, sqlstate::PROTOCOL_VIOLATION, message))
}

#[cfg(test)]
mod tests {
    use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

    use super::*;

    const HASH: &[u8] = &[7; 32];

    fn scram_secret(password: &str) -> Secret {
        let salted = super::super::scram::salted_password(password, b"salt", ITERATIONS_DEFAULT);
        Secret::Scram(super::super::scram::Verifier::from_salted(
            &salted,
            b"salt",
            ITERATIONS_DEFAULT,
        ))
    }

    fn md5_secret(password: &str) -> Secret {
        Secret::Md5(md5::hash("ann", password))
    }

    /// Code and data of the last Authentication frame in `frames`.
    fn authentication(frames: &[u8]) -> (u32, &[u8]) {
        let mut reader = Reader::new(frames);
        loop {
            assert_eq!(reader.u8("kind").unwrap(), b'R');
            let length = reader.u32("length").unwrap() as usize;
            let mut body = Reader::new(reader.bytes(length - 4, "body").unwrap());
            let code = body.u32("code").unwrap();
            if reader.rest().is_empty() || code == code::SASL_FINAL {
                return (code, body.rest());
            }
        }
    }

    /// A client of another make; says how it ended.
    fn talk(
        method: AuthMethod,
        secret: Option<&Secret>,
        end_point: Option<&[u8]>,
        password: &str,
    ) -> String {
        let (mut auth, mut step) = ClientAuth::start(method, "ann", secret, end_point, false);
        let mut path = String::new();
        let mut scram = None;
        loop {
            let frames = match step {
                Step::Continue(frames) => frames,
                Step::Done { frames, credentials } => {
                    if let Some(mut scram) = scram {
                        let scram: &mut ScramSha256 = &mut scram;
                        scram.finish(authentication(&frames).1).unwrap();
                    }
                    assert!(frames.ends_with(b"R\0\0\0\x08\0\0\0\0"));
                    let credentials = format!("{credentials:?}");
                    return format!("{path}{}", credentials.split('(').next().unwrap());
                }
                Step::Failed(report) => {
                    return format!("{path}{} {}", report.sqlstate, report.message);
                }
            };
            let body = match authentication(&frames) {
                (code::SASL, offered) => {
                    let plus = offered.starts_with(b"SCRAM-SHA-256-PLUS\0");
                    path.push_str(if plus { "plus, " } else { "scram, " });
                    let (name, binding) = match plus {
                        true => (
                            "SCRAM-SHA-256-PLUS",
                            ChannelBinding::tls_server_end_point(HASH.to_vec()),
                        ),
                        false => ("SCRAM-SHA-256", ChannelBinding::unsupported()),
                    };
                    let client = ScramSha256::new(password.as_bytes(), binding);
                    let mut body = Vec::new();
                    build::cstr(&mut body, name.as_bytes());
                    body.extend((client.message().len() as u32).to_be_bytes());
                    body.extend(client.message());
                    scram = Some(client);
                    body
                }
                (code::SASL_CONTINUE, message) => {
                    let client = scram.as_mut().unwrap();
                    client.update(message).unwrap();
                    client.message().to_vec()
                }
                (code::MD5_PASSWORD, salt) => {
                    path.push_str("md5, ");
                    let salt = salt.try_into().unwrap();
                    let mut body = Vec::new();
                    build::cstr(
                        &mut body,
                        md5::response(&md5::hash("ann", password), salt).as_bytes(),
                    );
                    body
                }
                (code, _) => panic!("code {code}"),
            };
            step = auth.step(&body);
        }
    }

    #[test]
    fn methods_and_secrets() {
        let plain = Secret::Plain("pass".into());
        let (md5, scram) = (md5_secret("pass"), scram_secret("pass"));
        let failed = "28P01 password authentication failed for user \"ann\"";
        let check = |method, secret: Option<&Secret>, end_point, password: &str, expect: &str| {
            let expect = expect.replace("FAILED", failed);
            assert_eq!(talk(method, secret, end_point, password), expect, "{method:?} {secret:?}");
        };
        let (sha, old, plus) = (AuthMethod::ScramSha256, AuthMethod::Md5, Some(HASH));
        check(sha, Some(&plain), None, "pass", "scram, Password");
        check(sha, Some(&plain), plus, "pass", "plus, Password");
        check(sha, Some(&scram), None, "pass", "scram, ScramKeys");
        check(sha, Some(&scram), plus, "pass", "plus, ScramKeys");
        check(sha, Some(&scram), plus, "wrong", "plus, FAILED");
        check(sha, Some(&scram), None, "wrong", "scram, FAILED");
        check(sha, Some(&plain), None, "wrong", "scram, FAILED");
        check(sha, Some(&md5), None, "pass", "scram, FAILED");
        check(sha, Some(&Secret::None), None, "", "scram, FAILED");
        check(sha, None, None, "pass", "scram, FAILED");
        check(sha, None, plus, "pass", "plus, FAILED");
        check(
            sha,
            Some(&scram),
            Some(&[8; 32]),
            "pass",
            "plus, 28000 SCRAM channel binding check failed",
        );
        check(old, Some(&md5), None, "pass", "md5, Md5");
        check(old, Some(&plain), None, "pass", "md5, Password");
        check(old, Some(&scram), None, "pass", "scram, ScramKeys");
        check(old, Some(&md5), None, "wrong", "md5, FAILED");
        check(old, Some(&Secret::None), None, "", "md5, FAILED");
        check(old, None, None, "pass", "md5, FAILED");
        check(AuthMethod::Trust, None, None, "", "None");
        check(AuthMethod::Trust, Some(&plain), None, "", "Password");
        check(AuthMethod::Trust, Some(&scram), None, "", "None");
        check(
            AuthMethod::Cert,
            Some(&plain),
            None,
            "",
            "28000 certificate authentication failed for user \"ann\"",
        );
        check(
            AuthMethod::Reject,
            Some(&plain),
            None,
            "pass",
            "28000 no auth rule admits user \"ann\"",
        );
    }

    #[test]
    fn a_certificate_is_enough() {
        let (_, step) = ClientAuth::start(AuthMethod::Cert, "ann", None, None, true);
        assert!(matches!(step, Step::Done { .. }));
    }

    #[test]
    fn a_late_first_message_is_waited_for() {
        let secret = scram_secret("pass");
        let (mut auth, _) =
            ClientAuth::start(AuthMethod::ScramSha256, "ann", Some(&secret), None, false);
        let Step::Continue(frames) = auth.step(b"SCRAM-SHA-256\0\xff\xff\xff\xff") else {
            panic!("refused")
        };
        assert_eq!(authentication(&frames), (code::SASL_CONTINUE, &b""[..]));
        let Step::Continue(frames) = auth.step(b"n,,n=,r=abc") else { panic!("refused") };
        assert!(authentication(&frames).1.starts_with(b"r=abc"));
    }

    #[test]
    fn broken_messages_are_refused() {
        let check = |body: &[u8], expect: &str| {
            let (mut auth, _) =
                ClientAuth::start(AuthMethod::ScramSha256, "ann", None, None, false);
            let Step::Failed(report) = auth.step(body) else { panic!("{body:?}") };
            assert_eq!(format!("{} {}", report.sqlstate, report.message), expect, "{body:?}");
            assert!(matches!(auth.step(body), Step::Failed(_)), "it goes on");
        };
        check(b"", "08P01 malformed message: SASLInitialResponse");
        check(b"SCRAM-SHA-256\0\0\0\0\x09n,,", "08P01 malformed message: SASLInitialResponse");
        check(b"SCRAM-SHA-256\0\0\0\0\x01n,", "08P01 malformed message: SASLInitialResponse");
        check(b"SCRAM-SHA-256\0\0\0\0\0", "08P01 malformed SCRAM message");
        let mechanism = "08P01 client selected an invalid SASL authentication mechanism";
        check(b"SCRAM-SHA-256-PLUS\0\0\0\0\x01n", mechanism);
        check(b"PLAIN\0\0\0\0\x01n", mechanism);
    }

    #[test]
    fn unknown_users_look_like_known_ones() {
        let challenge = |user: &str, secret: Option<&Secret>| {
            let (mut auth, _) =
                ClientAuth::start(AuthMethod::ScramSha256, user, secret, None, false);
            let Step::Continue(frames) = auth.step(b"SCRAM-SHA-256\0\0\0\0\x0bn,,n=,r=abc") else {
                panic!("refused")
            };
            let message = String::from_utf8(authentication(&frames).1.to_vec()).unwrap();
            message.split_once(",s=").unwrap().1.to_owned()
        };
        let plain = Secret::Plain("pass".into());
        // Same shape, and stable over attempts and over being created or dropped.
        assert_eq!(challenge("eve", None), challenge("eve", None));
        assert_eq!(challenge("eve", None), challenge("eve", Some(&plain)));
        assert_ne!(challenge("eve", None), challenge("mallory", None));
        assert!(challenge("eve", None).ends_with(",i=4096"));
        assert_eq!(challenge("eve", None).len(), 24 + ",i=4096".len());
    }
}
