//! Running a statement of our own on a server that no session uses: cleaning, connect queries,
//! settings that must be in force before a client's statement, checks.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::server::{Reported, Server};
use crate::limits;
use crate::net::Stream;
use crate::session::settings::Settings;
use crate::wire::{self, Cut, HEADER_BYTES, Reader, build, read};

/// Why a statement of ours failed.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The server refused it; the connection is usable.
    #[error("{message} ({sqlstate})")]
    Refused {
        /// Its SQLSTATE.
        sqlstate: String,
        /// Its message.
        message: String,
    },
    /// The connection broke.
    #[error("the server's connection broke: {0}")]
    Io(#[from] std::io::Error),
    /// It answered what no server answers.
    #[error("the server broke the protocol: {0}")]
    Protocol(&'static str),
}

/// Rows of text columns.
pub type Rows = Vec<Vec<Option<Box<[u8]>>>>;

/// Runs `sql` and answers its rows; after an error the server is marked broken unless it merely
/// refused. Not cancel safe: dropped half-way, the server must not be used again.
pub async fn run(server: &mut Server, sql: &[u8]) -> Result<Rows, ExecError> {
    let mut reported = (*server.reported).clone();
    let broken = std::mem::replace(&mut server.broken, true);
    let result = run_on(&mut server.stream, sql, &mut reported).await;
    server.broken = broken || matches!(result, Err(ExecError::Io(_) | ExecError::Protocol(_)));
    if *server.reported != reported {
        server.reported = server.info.pool.intern(reported);
    }
    result
}

/// Runs `sql` on a bare stream. Not cancel safe.
pub async fn run_on(
    stream: &mut Stream,
    sql: &[u8],
    reported: &mut Reported,
) -> Result<Rows, ExecError> {
    let mut frame = Vec::with_capacity(sql.len() + 8);
    build::query(&mut frame, sql);
    stream.write_all(&frame).await?;
    stream.flush().await?;
    let mut rows = Rows::new();
    let mut refused = None;
    let mut bytes = 0;
    loop {
        let (kind, body) = read_frame(stream).await?;
        bytes += body.len();
        if bytes > limits::SERVER_FRAME_INSPECTED_BYTES_MAX {
            return Err(ExecError::Protocol("more rows than were asked for"));
        }
        match kind {
            b'Z' => return refused.map_or(Ok(rows), Err),
            b'E' => {
                let field = |key| {
                    let value = read::error_field(&body, key).unwrap_or_default();
                    String::from_utf8_lossy(value).into_owned()
                };
                let error = ExecError::Refused { sqlstate: field(b'C'), message: field(b'M') };
                if field(b'V') == "FATAL" || field(b'V') == "PANIC" {
                    return Err(ExecError::Protocol("the server ended the session"));
                }
                refused = Some(error);
            }
            b'S' => {
                let (name, value) = read::parameter_status(&body)
                    .map_err(|_| ExecError::Protocol("ParameterStatus"))?;
                reported.set(name, value);
            }
            b'D' => rows.push(row(&body)?),
            b'G' | b'W' | b'H' => return Err(ExecError::Protocol("COPY in a statement of ours")),
            _ => {}
        }
    }
}

fn row(body: &[u8]) -> Result<Vec<Option<Box<[u8]>>>, ExecError> {
    let bad = |_| ExecError::Protocol("DataRow");
    let mut r = Reader::new(body);
    let columns = r.u16("DataRow").map_err(bad)?;
    let mut values = Vec::with_capacity(usize::from(columns));
    for _ in 0..columns {
        let length = r.u32("DataRow").map_err(bad)?;
        if length == u32::MAX {
            values.push(None);
        } else {
            values.push(Some(r.bytes(length as usize, "DataRow").map_err(bad)?.into()));
        }
    }
    Ok(values)
}

/// One whole frame of a server, bounded. Not cancel safe.
async fn read_frame(stream: &mut Stream) -> Result<(u8, Vec<u8>), ExecError> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header).await?;
    let Cut::Frame { kind, total } =
        wire::cut(&header, |_| limits::SERVER_FRAME_INSPECTED_BYTES_MAX)
    else {
        return Err(ExecError::Protocol("a frame's length"));
    };
    let mut body = vec![0; total - HEADER_BYTES];
    stream.read_exact(&mut body).await?;
    Ok((kind, body))
}

/// Whether a `SELECT true/false` column says true.
#[must_use]
pub fn is_true(value: Option<&Option<Box<[u8]>>>) -> bool {
    matches!(value, Some(Some(v)) if **v == *b"t")
}

/// Cleans a server whose session left state behind, as the operator says it. Not cancel safe: dropped
/// half-way, the server is closed instead of used again.
pub async fn reset(server: &mut Server, sql: &str) -> Result<(), ExecError> {
    if sql.is_empty() {
        return Ok(());
    }
    // A statement other than DISCARD ALL may keep settings: ours must not stay among them.
    if !discards_all(sql) {
        for statement in server.applied.difference(&Settings::default()) {
            run(server, &statement).await?;
        }
    }
    run(server, sql.as_bytes()).await?;
    server.prepared.clear();
    server.unnamed = u64::MAX;
    server.applied = Settings::default();
    server.info.prepared.store(0, std::sync::atomic::Ordering::Relaxed);
    // What `connect_query` did is a part of a clean server.
    let connect_query = server.info.pool.settings.load().connect_query.clone();
    if !connect_query.is_empty() {
        run(server, connect_query.as_bytes()).await?;
    }
    Ok(())
}

/// Whether a reset query is known to leave nothing behind.
#[must_use]
pub fn discards_all(sql: &str) -> bool {
    let words = sql.trim().trim_end_matches(';').split_ascii_whitespace();
    words.map(str::to_ascii_uppercase).eq(["DISCARD", "ALL"])
}

/// Interns what a server reported after a change.
#[must_use]
pub fn changed(server: &Server, name: &[u8], value: &[u8]) -> Arc<Reported> {
    let mut reported = (*server.reported).clone();
    reported.set(name, value);
    server.info.pool.intern(reported)
}
