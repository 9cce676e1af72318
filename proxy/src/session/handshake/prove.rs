//! The proof: which rule a client meets, and the exchange that the rule asks for.
//!
//! Whether a database exists is told only after it. An unknown user goes through the same
//! exchange as a known one, and fails at its end.

use std::sync::Arc;

use tracing::warn;

use crate::auth::query::{Ask, AuthQueryError};
use crate::auth::{ClientAuth, Credentials, Secret, Step, certificate_user_matches, rules};
use crate::config::{AuthMethod, Config, Node};
use crate::error::{Fault, Report, sqlstate};
use crate::hub::Hub;
use crate::limits;
use crate::net::{Peer, Stream};
use crate::pool::connect::ConnectError;
use crate::tls::{Material, peer_names};

use super::line::Line;
use super::{Authenticated, CONSOLE, HandshakeError, Startup};

/// insufficient_privilege
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// Phase 3: the client has said what it wants.
pub(super) struct Started {
    pub(super) line: Line,
    pub(super) tls: Arc<Material>,
    pub(super) peer: Peer,
    pub(super) startup: Startup,
}

/// A proof: the frames to send last, and what it lets us log in with.
struct Proof {
    frames: Vec<u8>,
    credentials: Credentials,
}

/// Why there is none.
enum Failure {
    /// The client is to be told.
    Refused(Report),
    /// It can't be told, or only that its time is over.
    Broken(HandshakeError),
}

impl From<HandshakeError> for Failure {
    fn from(error: HandshakeError) -> Failure {
        Failure::Broken(error)
    }
}

impl From<Report> for Failure {
    fn from(report: Report) -> Failure {
        Failure::Refused(report)
    }
}

impl Started {
    /// Phase 4: the client is who it says, and may use what it named. Not cancel safe.
    pub(super) async fn authenticate(
        mut self,
        hub: &Arc<Hub>,
    ) -> Result<Authenticated, HandshakeError> {
        let proof = match self.exchange(hub).await {
            Ok(proof) => proof,
            Err(Failure::Refused(report)) => return Err(self.line.refuse(report).await),
            Err(Failure::Broken(error)) => return Err(self.line.give_up(error).await),
        };
        if let Some(database) = physical(&hub.config.load(), &self.startup) {
            self.startup.database = database;
        }
        if let Some(report) = forbidden(&hub.config.load(), &self.startup) {
            self.line.queue(&proof.frames);
            return Err(self.line.refuse(report).await);
        }
        if let Err(error) = self.line.send(&proof.frames).await {
            return Err(self.line.give_up(error).await);
        }
        let Started { line, peer, startup, .. } = self;
        Ok(Authenticated { stream: line.stream, peer, startup, credentials: proof.credentials })
    }

    async fn exchange(&mut self, hub: &Arc<Hub>) -> Result<Proof, Failure> {
        let is_tls = self.line.stream.is_tls();
        let Startup { user, database, .. } = &self.startup;
        let rules = hub.rules.load_full();
        let decision = rules.decide(database, user, self.peer, is_tls);
        let secret = match decision.method {
            AuthMethod::Reject => {
                return Err(rules::refusal(database, user, self.peer, is_tls).into());
            }
            AuthMethod::ScramSha256 | AuthMethod::Md5 => self.secret(hub).await?,
            AuthMethod::Trust | AuthMethod::Cert => None,
        };
        let certificate_ok = match &self.line.stream {
            Stream::Accepted(stream) if decision.method == AuthMethod::Cert => {
                certificate_user_matches(decision.map, &peer_names(stream), user)
            }
            _ => false,
        };
        // Only where TLS ends here is there anything to bind to.
        let end_point = if is_tls { self.tls.end_point() } else { None };
        let (mut exchange, mut step) =
            ClientAuth::start(decision.method, user, secret.as_ref(), end_point, certificate_ok);
        for _ in 0..=limits::AUTH_MESSAGES_MAX {
            match step {
                Step::Done { frames, credentials } => return Ok(Proof { frames, credentials }),
                Step::Failed(report) => return Err(report.into()),
                Step::Continue(frames) => {
                    self.line.send(&frames).await?;
                    step = exchange.step(&read_response(&mut self.line).await?);
                }
            }
        }
        Err(violation("too many authentication messages".into()).into())
    }

    /// What the user must know: from the users file, else from `auth.query`. Cancel safe.
    async fn secret(&self, hub: &Hub) -> Result<Option<Secret>, Failure> {
        let user = &self.startup.user;
        let users = hub.users.load_full();
        if let Some(secret) = users.get(user) {
            return Ok(Some(secret.clone()));
        }
        let config = hub.config.load_full();
        let Some((node, dbname)) = asked_node(&config, &self.startup.database) else {
            return Ok(None);
        };
        let ask = Ask {
            auth: &config.auth,
            users: &users,
            node,
            dbname,
            tls: &self.tls,
            proxy: &config.proxy,
            timeout: config.pool.server_connect_timeout,
        };
        let lookup = Box::pin(hub.auth_query.lookup(&ask, user));
        match Line::in_time(self.line.deadline(), lookup).await? {
            Ok(secret) => Ok(secret),
            // Where `*` stands for any database, a client could find out here which ones exist.
            Err(AuthQueryError::Server(error)) if is_unknown_database(&error) => Ok(None),
            Err(error) => {
                warn!(%user, %error, "cannot look a user up");
                Err(error.report().into())
            }
        }
    }
}

/// Where `auth.query` is asked for a client of `database`, and the database's name there; none:
/// it is not asked.
pub(super) fn asked_node<'a>(config: &'a Config, database: &'a str) -> Option<(&'a Node, &'a str)> {
    let auth = &config.auth;
    if auth.query.is_empty() || (auth.query_database.is_empty() && database == CONSOLE) {
        return None;
    }
    let name = match auth.query_database.as_str() {
        "" => database,
        name => name,
    };
    let entry = config.databases.get(name).or_else(|| config.databases.get("*"))?;
    let node = config.nodes.get(entry.nodes.first()?)?;
    Some((node, if entry.dbname.is_empty() { name } else { &entry.dbname }))
}

fn is_unknown_database(error: &ConnectError) -> bool {
    matches!(error, ConnectError::Refused { sqlstate: state, .. }
        if state == sqlstate::INVALID_CATALOG_NAME)
}

/// One PasswordMessage, SASLInitialResponse or SASLResponse: its body. Not cancel safe.
async fn read_response(line: &mut Line) -> Result<Vec<u8>, Failure> {
    let mut header = [0; crate::wire::HEADER_BYTES];
    line.read(&mut header).await.map_err(|error| match error {
        // psql leaves here to ask for the password, and comes back.
        HandshakeError::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            HandshakeError::Left
        }
        other => other,
    })?;
    match crate::wire::cut(&header, |_| limits::AUTH_MESSAGE_BYTES_MAX) {
        crate::wire::Cut::Frame { kind: b'p', total } => {
            let mut body = vec![0; total - crate::wire::HEADER_BYTES];
            line.read(&mut body).await?;
            Ok(body)
        }
        crate::wire::Cut::Frame { kind: b'X', .. } => Err(HandshakeError::Left.into()),
        crate::wire::Cut::BadLength { kind: b'p', .. } => {
            Err(violation("invalid message length".into()).into())
        }
        // auth.c, recv_password_packet.
        _ => {
            let kind = header[0];
            Err(violation(format!("expected password response, got message type {kind}")).into())
        }
    }
}

fn violation(message: String) -> Report {
    Report::fatal(Fault::Client, sqlstate::PROTOCOL_VIOLATION, message)
}

/// Physical replication is about a whole server: the database that its clients name means nothing
/// (libpq says "replication" for those that name none). Where all databases have one primary, it is that.
fn physical(config: &Config, startup: &Startup) -> Option<String> {
    let is_physical = startup.replication.as_deref().is_some_and(|mode| mode != "database");
    if !is_physical || config.database(&startup.database).is_some() {
        return None;
    }
    let is_primary = |name: &&String| {
        config.nodes.get(*name).is_some_and(|node| node.role == crate::config::Role::Primary)
    };
    let mut found: Option<(&String, &String)> = None;
    for (name, database) in &config.databases {
        let Some(primary) = database.nodes.iter().find(is_primary) else { continue };
        match found {
            Some((_, other)) if other != primary => return None,
            Some(_) => {}
            None => found = Some((name, primary)),
        }
    }
    found.map(|(name, _)| name.clone())
}

/// Why the client may not use what it named, now that it is known.
fn forbidden(config: &Config, startup: &Startup) -> Option<Report> {
    let Startup { user, database, .. } = startup;
    if database == CONSOLE {
        let admin = &config.admin;
        if admin.users.contains(user) || admin.stats_users.contains(user) {
            return None;
        }
        let message = format!("permission denied for database \"{CONSOLE}\"");
        let report = Report::fatal(Fault::Client, INSUFFICIENT_PRIVILEGE, message);
        return Some(report.detail("User is neither in admin.users nor in admin.stats_users."));
    }
    if config.databases.contains_key(database) || config.databases.contains_key("*") {
        return None;
    }
    let message = format!("database \"{database}\" does not exist");
    Some(Report::fatal(Fault::Client, sqlstate::INVALID_CATALOG_NAME, message))
}
