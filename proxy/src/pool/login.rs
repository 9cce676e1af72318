//! Logging in to a server on an open connection: startup packet, proof, parameters, ReadyForQuery.
//!
//! Frames are read one by one and never behind ReadyForQuery. A server is believed only after it
//! has proven itself where the method lets it (SCRAM); see fe-auth.c and fe-connect.c for libpq's
//! side of the same rules.

use secrecy::{ExposeSecret as _, SecretString};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::connect::{ConnectError, Dial, LoggedIn, broken, end_point};
use crate::auth::scram::{Challenge, Client, ClientSecret, MECHANISM_PLUS, ScramError};
use crate::auth::{Credentials, md5, process};
use crate::limits;
use crate::net::{Socket, Stream};
use crate::wire::{self, Cut, HEADER_BYTES, Reader, build, cut};

const LOGGING_IN: &str = "logging in";

/// Where the proof stands.
enum Proof {
    /// Nothing was asked yet, or a password was sent and the server's word ends it.
    Open,
    /// client-first-message was sent.
    ScramStarted(Client),
    /// client-final-message was sent: the server must sign.
    ScramProven(Challenge),
    /// The server signed.
    ScramDone,
}

/// Startup until ReadyForQuery. Cancel safe: dropping closes the socket.
pub(super) async fn login(stream: Stream, dial: &Dial<'_>) -> Result<LoggedIn, ConnectError> {
    let mut server = LoggedIn { stream, pid: 0, secret: Box::default(), parameters: Vec::new() };
    let startup = startup(dial)?;
    send(&mut server.stream, &startup).await?;
    authenticate(&mut server.stream, dial).await?;
    for _ in 0..limits::LOGIN_FRAMES_MAX {
        let (kind, body) = receive(&mut server.stream, limits::LOGIN_FRAME_BYTES_MAX).await?;
        match kind {
            b'S' => note_parameter(&mut server.parameters, &body)?,
            b'K' => {
                let mut reader = Reader::new(&body);
                server.pid = reader.u32("BackendKeyData")?;
                // 4 bytes in protocol 3.0, up to 256 in 3.2.
                if !(4..=256).contains(&reader.rest().len()) {
                    return Err(malformed("BackendKeyData"));
                }
                server.secret = reader.rest().into();
            }
            // NegotiateProtocolVersion: what we asked for is old enough for all.
            b'N' | b'v' => {}
            b'Z' if body == b"I" => return Ok(server),
            b'Z' => return Err(malformed("ReadyForQuery")),
            b'E' => return Err(ConnectError::refused(&body)),
            kind => return Err(ConnectError::Unexpected { kind, during: LOGGING_IN }),
        }
    }
    Err(ConnectError::TooMuch(LOGGING_IN))
}

/// StartupMessage of protocol 3.0: every server since 7.4 knows it.
fn startup(dial: &Dial<'_>) -> Result<Vec<u8>, ConnectError> {
    let named = [("user", dial.user), ("database", dial.database)];
    let parameters = || named.iter().chain(dial.parameters);
    if parameters().any(|(name, value)| name.contains('\0') || value.contains('\0')) {
        return Err(ConnectError::ZeroByte("a startup parameter"));
    }
    let mut out = Vec::new();
    build::untyped(&mut out, |body| {
        body.extend(wire::version(3, 0).to_be_bytes());
        for (name, value) in parameters() {
            build::cstr(body, name.as_bytes());
            build::cstr(body, value.as_bytes());
        }
        body.push(0);
    });
    Ok(out)
}

/// Until AuthenticationOk.
async fn authenticate(stream: &mut Stream, dial: &Dial<'_>) -> Result<(), ConnectError> {
    let mut proof = Proof::Open;
    for _ in 0..limits::LOGIN_FRAMES_MAX {
        let (kind, body) = receive(stream, limits::LOGIN_FRAME_BYTES_MAX).await?;
        match kind {
            b'R' => {}
            b'N' | b'v' => continue,
            b'E' => return Err(ConnectError::refused(&body)),
            kind => return Err(ConnectError::Unexpected { kind, during: LOGGING_IN }),
        }
        let mut reader = Reader::new(&body);
        let code = reader.u32("authentication request")?;
        let data = reader.rest();
        proof = match (code, proof) {
            (0, Proof::Open | Proof::ScramDone) => return Ok(()),
            // A server that says "ok" before it has signed is an impostor.
            (0, _) => return Err(ScramError::ServerSignature.into()),
            (3, Proof::Open) => {
                let password = clear_text(stream, dial.credentials)?;
                send_password(stream, password.expose_secret()).await?;
                Proof::Open
            }
            (5, Proof::Open) => {
                let salt = data.try_into().map_err(|_| malformed("AuthenticationMD5Password"))?;
                let hash = md5_hash(dial)?;
                send_password(stream, &md5::response(&hash, salt)).await?;
                Proof::Open
            }
            (10, Proof::Open) => Proof::ScramStarted(start_scram(stream, dial, data).await?),
            (11, Proof::ScramStarted(client)) => {
                let (challenge, answer) = respond(client, data).await?;
                send_frame(stream, &answer).await?;
                Proof::ScramProven(challenge)
            }
            (12, Proof::ScramProven(challenge)) => {
                challenge.finish(data)?;
                Proof::ScramDone
            }
            (code, _) => return Err(ConnectError::Method(method_name(code))),
        };
    }
    Err(ConnectError::TooMuch(LOGGING_IN))
}

/// Names of protocol.h's AUTH_REQ_… codes.
fn method_name(code: u32) -> String {
    match code {
        2 => "Kerberos V5".into(),
        3 | 5 | 10..=12 => "a second".into(),
        6 => "SCM credential".into(),
        7 | 8 => "GSSAPI".into(),
        9 => "SSPI".into(),
        other => format!("unknown (code {other})"),
    }
}

fn held(credentials: &Credentials) -> &'static str {
    match credentials {
        Credentials::None => "nothing that proves anything",
        Credentials::Password(_) => "a password",
        Credentials::ScramKeys(_) => "SCRAM keys",
        Credentials::Md5(_) => "an MD5 hash",
    }
}

fn clear_text<'a>(
    stream: &Stream,
    credentials: &'a Credentials,
) -> Result<&'a SecretString, ConnectError> {
    if !stream.is_tls() && !matches!(stream, Stream::Plain(Socket::Unix(_))) {
        return Err(ConnectError::ClearText);
    }
    match credentials {
        Credentials::Password(password) => Ok(password),
        other => Err(ConnectError::Credentials { asked: "the password", held: held(other) }),
    }
}

fn md5_hash(dial: &Dial<'_>) -> Result<SecretString, ConnectError> {
    match dial.credentials {
        Credentials::Md5(hash) => Ok(hash.clone()),
        Credentials::Password(password) => Ok(md5::hash(dial.user, password.expose_secret())),
        other => Err(ConnectError::Credentials { asked: "an MD5 password", held: held(other) }),
    }
}

async fn start_scram(
    stream: &mut Stream,
    dial: &Dial<'_>,
    offered: &[u8],
) -> Result<Client, ConnectError> {
    let secret = match dial.credentials {
        Credentials::ScramKeys(keys) => ClientSecret::Keys(keys.clone()),
        Credentials::Password(password) => {
            ClientSecret::Password { user: dial.user.to_owned(), password: password.clone() }
        }
        other => {
            return Err(ConnectError::Credentials { asked: "SCRAM-SHA-256", held: held(other) });
        }
    };
    // A server that could bind sees TLS: somebody between us took it away (fe-auth.c).
    let plus = |word: &[u8]| word == MECHANISM_PLUS.as_bytes();
    if !stream.is_tls() && offered.split(|&byte| byte == 0).any(plus) {
        return Err(ScramError::Downgrade.into());
    }
    let end_point = end_point(stream);
    let (client, first) = Client::start(secret, end_point.as_deref(), offered, &process::nonce())?;
    let mut body = Vec::new();
    build::cstr(&mut body, first.mechanism.as_bytes());
    let length = u32::try_from(first.message.len()).unwrap_or(u32::MAX);
    body.extend(length.to_be_bytes());
    body.extend(first.message);
    send_frame(stream, &body).await?;
    Ok(client)
}

/// The proof may cost a server's own choice of iterations: not on a thread that serves clients.
async fn respond(client: Client, message: &[u8]) -> Result<(Challenge, Vec<u8>), ConnectError> {
    let message = message.to_vec();
    let work = move || client.respond(&message, process::salted_passwords());
    Ok(tokio::task::spawn_blocking(work).await.map_err(|_| ConnectError::Stopped)??)
}

/// Keeps the last value of each parameter, in the place of its first.
pub(super) fn note_parameter(
    parameters: &mut Vec<(Box<str>, Box<str>)>,
    body: &[u8],
) -> Result<(), ConnectError> {
    let (name, value) = wire::read::parameter_status(body)?;
    let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value).into());
    match parameters.iter_mut().find(|(known, _)| **known == *name) {
        Some((_, old)) => *old = value,
        None => parameters.push((name.into(), value)),
    }
    Ok(())
}

fn malformed(what: &'static str) -> ConnectError {
    ConnectError::Malformed(wire::WireError { what })
}

async fn send_password(stream: &mut Stream, password: &str) -> Result<(), ConnectError> {
    if password.contains('\0') {
        return Err(ConnectError::ZeroByte("the password"));
    }
    let mut body = Vec::with_capacity(password.len() + 1);
    build::cstr(&mut body, password.as_bytes());
    send_frame(stream, &body).await
}

async fn send_frame(stream: &mut Stream, body: &[u8]) -> Result<(), ConnectError> {
    let mut out = Vec::new();
    build::frame(&mut out, b'p', |frame| frame.extend_from_slice(body));
    send(stream, &out).await
}

/// Writes and flushes. Not cancel safe: a part may have been written.
pub(super) async fn send(
    stream: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
) -> Result<(), ConnectError> {
    stream.write_all(bytes).await.map_err(broken)?;
    stream.flush().await.map_err(broken)
}

/// Reads exactly one frame: its type and body. Not cancel safe: a part may have been read.
pub(super) async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    bytes_max: usize,
) -> Result<(u8, Vec<u8>), ConnectError> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header).await.map_err(broken)?;
    match cut(&header, |_| usize::MAX) {
        Cut::Frame { kind, total } if total <= bytes_max => {
            let mut body = vec![0; total.saturating_sub(HEADER_BYTES)];
            stream.read_exact(&mut body).await.map_err(broken)?;
            Ok((kind, body))
        }
        Cut::Frame { .. } => Err(ConnectError::TooMuch("one message was read")),
        Cut::BadLength { .. } | Cut::NeedHeader => Err(malformed("length")),
    }
}
