//! Short questions that tests of pools and sessions ask again and again.

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::{Fixture, Frame, USER};

/// The rows of `sql` by a simple query: columns joined by `|`.
#[allow(clippy::panic)] // Only tests call this.
pub async fn rows(client: &Client, sql: &str) -> Vec<String> {
    match client.simple_query(sql).await {
        Ok(messages) => messages
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    let columns = (0..row.len()).map(|n| row.get(n).unwrap_or("NULL"));
                    Some(columns.collect::<Vec<_>>().join("|"))
                }
                _ => None,
            })
            .collect(),
        Err(error) => panic!("{sql}: {error:?}"),
    }
}

/// The last row of `sql`.
pub async fn value(client: &Client, sql: &str) -> String {
    rows(client, sql).await.pop().unwrap_or_default()
}

/// The process id of the backend that answers.
pub async fn backend(client: &Client) -> String {
    value(client, "SELECT pg_backend_pid()").await
}

/// The SQLSTATE with which `sql` fails.
#[allow(clippy::panic)] // Only tests call this.
pub async fn refused(client: &Client, sql: &str) -> SqlState {
    match client.simple_query(sql).await {
        Ok(_) => panic!("{sql} succeeds"),
        Err(error) => match error.code() {
            Some(code) => code.clone(),
            None => panic!("{sql}: {error:?}"),
        },
    }
}

/// The types of frames.
#[must_use]
pub fn kinds(frames: &[Frame]) -> String {
    frames.iter().map(|frame| char::from(frame.kind)).collect()
}

/// The SQLSTATE of the first ErrorResponse; empty: none.
#[must_use]
pub fn failure(frames: &[Frame]) -> String {
    let error = frames.iter().find(|frame| frame.kind == b'E');
    error.map(|frame| frame.field(b'C')).unwrap_or_default()
}

/// The first column of each DataRow, as text.
#[must_use]
pub fn column(frames: &[Frame]) -> Vec<String> {
    let value = |frame: &Frame| {
        let length = frame.body.get(2..6).and_then(|b| b.first_chunk::<4>()).copied();
        let length = usize::try_from(i32::from_be_bytes(length.unwrap_or_default()));
        let bytes = length.ok().and_then(|n| frame.body.get(6..6 + n));
        bytes.map_or_else(|| "NULL".into(), |b| String::from_utf8_lossy(b).into_owned())
    };
    frames.iter().filter(|frame| frame.kind == b'D').map(value).collect()
}

impl Fixture {
    /// A client of the admin console; the configuration must name [`USER`] in `admin.users`.
    pub async fn console(&self) -> Client {
        match self.connect(USER, "pgherd").await {
            Ok(client) => client,
            Err(error) => self.fail(&format!("can't connect to the console: {error:?}")),
        }
    }

    /// `field` of the pool of `user` on `database`, from the admin HTTP; empty: no such pool.
    #[must_use]
    pub fn pool(&self, database: &str, user: &str, field: &str) -> String {
        let text = match self.pgherd.get("/api/v1/pools") {
            Ok(text) => text,
            Err(error) => self.fail(&error.to_string()),
        };
        let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let rows = json.as_array().or_else(|| json.get("pools").and_then(|p| p.as_array()));
        let row = rows.into_iter().flatten().find(|row| {
            row.get("database").is_some_and(|d| d == database)
                && row.get("user").is_some_and(|u| u == user)
        });
        let found = row.and_then(|row| row.get(field)).map(ToString::to_string);
        found.unwrap_or_default().trim_matches('"').to_owned()
    }

    /// Waits until `field` of the pool is `wanted`. Cancel safe.
    pub async fn pool_until(&self, database: &str, user: &str, field: &str, wanted: &str) {
        for _ in 0..1_500 {
            if self.pool(database, user, field) == wanted {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let now = self.pool(database, user, field);
        self.fail(&format!("{field} of {database}/{user} is {now}, not {wanted}"));
    }
}
