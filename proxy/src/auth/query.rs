//! `auth.query`: users and verifiers out of the database itself, remembered for a while.
//!
//! The query runs as `auth.query_user` on connections of its own, at most `AUTH_QUERIES_MAX` at
//! once. One lookup runs for a user, others wait for its answer. An answer of "no such user" is
//! remembered more shortly, a failure more shortly still.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{Credentials, Secret, Users};
use crate::config::{Auth, Node, Proxy};
use crate::error::{Fault, Report, sqlstate};
use crate::limits;
use crate::pool::connect::{ConnectError, Dial, LoggedIn, connect, query_with};
use crate::tls::Material;

/// Asks and remembers. One for the process.
pub struct AuthQuery {
    answers: Mutex<HashMap<Name, Arc<Answer>>>,
    idle: Mutex<Option<(Place, LoggedIn)>>,
    at_once: Semaphore,
}

/// Where and how to ask.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// `query`, `query_user` and `query_cache_ttl`.
    pub auth: &'a Auth,
    /// Has the secret of `query_user`.
    pub users: &'a Users,
    /// The node to ask.
    pub node: &'a Node,
    /// Its database: `auth.query_database`, or the client's own on the server.
    pub dbname: &'a str,
    /// TLS of the server side.
    pub tls: &'a Arc<Material>,
    /// TCP settings.
    pub proxy: &'a Proxy,
    /// Connecting and asking together take at most so long.
    pub timeout: Duration,
}

/// Why the query gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuthQueryError {
    /// No connection, or the query failed.
    #[error("the authentication query failed: {0}")]
    Server(Arc<ConnectError>),
    /// No answer in time.
    #[error("the authentication query was not answered within {0:?}")]
    TimedOut(Duration),
    /// `auth.query_user` is not in `auth.users_file`.
    #[error("auth.query_user \"{0}\" is not in the users file")]
    NoQueryUser(String),
    /// Not what `SELECT user, verifier` returns.
    #[error("the authentication query must return one row of user and verifier: {0}")]
    Shape(&'static str),
}

/// host:port and database.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    host: String,
    port: u16,
    dbname: String,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Name {
    place: Place,
    user: String,
}

/// What is known of one user. Whoever holds the lock asks; an async one, since asking waits.
#[derive(Default)]
struct Answer {
    known: tokio::sync::Mutex<Option<Known>>,
}

struct Known {
    until: Instant,
    result: Result<Option<Secret>, AuthQueryError>,
}

impl fmt::Debug for AuthQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthQuery({} answers)", self.answers.lock().len())
    }
}

impl Default for AuthQuery {
    fn default() -> Self {
        AuthQuery {
            answers: Mutex::default(),
            idle: Mutex::default(),
            at_once: Semaphore::new(limits::AUTH_QUERIES_MAX),
        }
    }
}

impl AuthQueryError {
    /// What a client hears: that it can't be checked now, and nothing about how it would be.
    #[must_use]
    pub fn report(&self) -> Report {
        let fault = match self {
            AuthQueryError::Server(error) => error.fault(),
            AuthQueryError::TimedOut(_) => Fault::Server,
            AuthQueryError::NoQueryUser(_) | AuthQueryError::Shape(_) => Fault::Operator,
        };
        let message = "the user can't be looked up";
        Report::fatal(fault, sqlstate::CONNECTION_FAILURE, message).hint("pgherd's log tells more.")
    }
}

impl AuthQuery {
    /// The secret of `user`; none: there is no such user. Cancel safe: dropping gives the lookup up
    /// (and closes its connection), and the next who waits asks instead.
    pub async fn lookup(
        &self,
        ask: &Ask<'_>,
        user: &str,
    ) -> Result<Option<Secret>, AuthQueryError> {
        if user.len() > limits::USER_NAME_BYTES_MAX {
            return Ok(None);
        }
        let answer = self.answer(Name { place: Place::of(ask), user: user.to_owned() });
        let mut known = answer.known.lock().await;
        if let Some(known) = known.as_ref().filter(|known| Instant::now() < known.until) {
            return known.result.clone();
        }
        let result = match tokio::time::timeout(ask.timeout, self.ask(ask, user)).await {
            Ok(result) => result,
            Err(_) => Err(AuthQueryError::TimedOut(ask.timeout)),
        };
        let ttl = ask.auth.query_cache_ttl;
        let believed = match &result {
            Ok(Some(_)) => ttl,
            Ok(None) => ttl.min(Duration::from_secs(limits::AUTH_ABSENCE_SECONDS_MAX)),
            Err(_) => Duration::from_secs(limits::AUTH_FAILURE_SECONDS),
        };
        *known = Some(Known { until: Instant::now() + believed, result: result.clone() });
        result
    }

    /// How many answers are remembered.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.answers.lock().len()
    }

    /// Forgets answers and closes the idle connection: after a reload, or to believe nothing old.
    pub fn forget(&self) {
        self.answers.lock().clear();
        *self.idle.lock() = None;
    }

    fn answer(&self, name: Name) -> Arc<Answer> {
        let mut answers = self.answers.lock();
        if answers.len() >= limits::AUTH_ANSWERS_MAX && !answers.contains_key(&name) {
            make_room(&mut answers);
        }
        answers.entry(name).or_default().clone()
    }

    /// One query, on the idle connection if it fits and still works, else on a new one.
    async fn ask(&self, ask: &Ask<'_>, user: &str) -> Result<Option<Secret>, AuthQueryError> {
        let Ok(_permit) = self.at_once.acquire().await else {
            return Err(server_error(ConnectError::Stopped));
        };
        let place = Place::of(ask);
        let idle = self.idle.lock().take_if(|(idle, _)| *idle == place);
        if let Some((_, mut server)) = idle {
            match query_with(&mut server, &ask.auth.query, user).await {
                // An idle connection may have died unseen; only that is worth a second try.
                Err(error) if !error.is_refusal() => {
                    tracing::debug!(%error, "the idle connection of the authentication query broke");
                }
                result => return self.settle(place, server, result, user),
            }
        }
        let mut server = Box::pin(self.dial(ask)).await?;
        let result = query_with(&mut server, &ask.auth.query, user).await;
        self.settle(place, server, result, user)
    }

    /// Keeps the connection if it is ready for more, and reads the rows.
    fn settle(
        &self,
        place: Place,
        server: LoggedIn,
        result: Result<Vec<Vec<Option<String>>>, ConnectError>,
        user: &str,
    ) -> Result<Option<Secret>, AuthQueryError> {
        let ready = match &result {
            Ok(_) => true,
            Err(ConnectError::Refused { severity, .. }) => severity == "ERROR",
            Err(_) => false,
        };
        if ready {
            *self.idle.lock() = Some((place, server));
        }
        secret_of(result.map_err(server_error)?, user)
    }

    async fn dial(&self, ask: &Ask<'_>) -> Result<LoggedIn, AuthQueryError> {
        let asker = ask.auth.query_user.as_str();
        let Some(secret) = ask.users.get(asker) else {
            return Err(AuthQueryError::NoQueryUser(asker.to_owned()));
        };
        let credentials: Credentials = secret.credentials();
        let dial = Dial {
            node: ask.node,
            database: ask.dbname,
            user: asker,
            credentials: &credentials,
            // Names and verifiers arrive as we compare them.
            parameters: &[("application_name", "pgherd auth query"), ("client_encoding", "UTF8")],
            tls: ask.tls,
            proxy: ask.proxy,
        };
        connect(&dial).await.map_err(server_error)
    }
}

impl Place {
    fn of(ask: &Ask<'_>) -> Place {
        let (host, port) = (ask.node.host.clone(), ask.node.port);
        Place { host, port, dbname: ask.dbname.to_owned() }
    }
}

fn server_error(error: ConnectError) -> AuthQueryError {
    AuthQueryError::Server(Arc::new(error))
}

/// Drops what is old or says nothing; if all is fresh, an eighth of it, whichever.
fn make_room(answers: &mut HashMap<Name, Arc<Answer>>) {
    let now = Instant::now();
    // A locked answer is being asked for: it stays.
    answers.retain(|_, answer| match answer.known.try_lock() {
        Ok(known) => known
            .as_ref()
            .is_some_and(|known| now < known.until && matches!(known.result, Ok(Some(_)))),
        Err(_) => true,
    });
    if answers.len() >= limits::AUTH_ANSWERS_MAX {
        let mut place = 0_usize;
        answers.retain(|_, _| {
            place += 1;
            !place.is_multiple_of(8)
        });
    }
}

/// At most one row: the user that was asked for, and its verifier or NULL.
fn secret_of(rows: Vec<Vec<Option<String>>>, user: &str) -> Result<Option<Secret>, AuthQueryError> {
    let mut rows = rows.into_iter();
    let Some(row) = rows.next() else { return Ok(None) };
    if rows.next().is_some() {
        return Err(AuthQueryError::Shape("several rows came back"));
    }
    let (name, secret) = match <[Option<String>; 2]>::try_from(row) {
        Ok([name, secret]) => (name, secret),
        Err(_) => return Err(AuthQueryError::Shape("it has not two columns")),
    };
    if name.as_deref() != Some(user) {
        return Err(AuthQueryError::Shape("it is about another user"));
    }
    match Secret::parse(&secret.unwrap_or_default()) {
        Ok(secret) => Ok(Some(secret)),
        Err(_) => Err(AuthQueryError::Shape("the SCRAM verifier is malformed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_one_shape() {
        let check = |rows: &[&[Option<&str>]], expect: &str| {
            let owned = |row: &&[Option<&str>]| row.iter().map(|v| v.map(Into::into)).collect();
            let said = match secret_of(rows.iter().map(owned).collect(), "ann") {
                Ok(None) => "unknown".to_owned(),
                Ok(Some(Secret::None)) => "none".to_owned(),
                Ok(Some(Secret::Plain(_))) => "plain".to_owned(),
                Ok(Some(_)) => "verifier".to_owned(),
                Err(AuthQueryError::Shape(what)) => what.to_owned(),
                Err(other) => other.to_string(),
            };
            assert_eq!(said, expect, "{rows:?}");
        };
        let ann = Some("ann");
        check(&[], "unknown");
        check(&[&[ann, None]], "none");
        check(&[&[ann, Some("secret")]], "plain");
        check(&[&[ann, Some("md5f96b697d7cb7938d525a2f31aaf161d0")]], "verifier");
        check(&[&[ann, Some("SCRAM-SHA-256$x")]], "the SCRAM verifier is malformed");
        check(&[&[Some("bob"), Some("x")]], "it is about another user");
        check(&[&[None, Some("x")]], "it is about another user");
        check(&[&[ann]], "it has not two columns");
        check(&[&[ann, None, None]], "it has not two columns");
        check(&[&[ann, None], &[ann, None]], "several rows came back");
    }

    #[test]
    fn room_is_made_for_new_answers() {
        let name = |at: usize| Name {
            place: Place { host: "h".into(), port: 1, dbname: "d".into() },
            user: at.to_string(),
        };
        let known = |secret: Option<Secret>| {
            let until = Instant::now() + Duration::from_secs(3600);
            let known = Known { until, result: Ok(secret) };
            Arc::new(Answer { known: tokio::sync::Mutex::new(Some(known)) })
        };
        // Absent users make room first.
        let mut answers = HashMap::new();
        for at in 0..limits::AUTH_ANSWERS_MAX {
            answers.insert(name(at), known((at % 2 == 0).then_some(Secret::None)));
        }
        make_room(&mut answers);
        assert_eq!(answers.len(), limits::AUTH_ANSWERS_MAX / 2);
        for at in 0..limits::AUTH_ANSWERS_MAX {
            answers.insert(name(at), known(Some(Secret::None)));
        }
        make_room(&mut answers);
        assert_eq!(answers.len(), limits::AUTH_ANSWERS_MAX / 8 * 7);
    }
}
