//! Statements of pgherd's own on a server connection: few rows, as text, bounded.
//!
//! Not for clients' statements, which are relayed and never collected.

use super::connect::{ConnectError, LoggedIn};
use super::login::{note_parameter, receive, send};
use crate::limits;
use crate::wire::{Reader, build};

const ASKING: &str = "answering a statement";

/// Rows as text; none is NULL.
pub type Rows = Vec<Vec<Option<String>>>;

/// Runs `sql` (one or more statements, simple protocol) and returns all rows. Bytes that are not
/// UTF-8 are replaced. After `ConnectError::Refused` with severity ERROR the connection is ready
/// again; after every other error it must be closed. Not cancel safe: then it must be closed too.
pub async fn simple_query(server: &mut LoggedIn, sql: &str) -> Result<Rows, ConnectError> {
    if sql.contains('\0') {
        return Err(ConnectError::ZeroByte("the statement"));
    }
    let mut out = Vec::new();
    build::query(&mut out, sql.as_bytes());
    ask(server, &out).await
}

/// Runs one statement with `value` as `$1` (extended protocol, the server decides `$1`'s type).
/// Otherwise as `simple_query`. Not cancel safe.
pub async fn query_with(
    server: &mut LoggedIn,
    sql: &str,
    value: &str,
) -> Result<Rows, ConnectError> {
    if sql.contains('\0') || value.contains('\0') {
        return Err(ConnectError::ZeroByte("the statement"));
    }
    let length = u32::try_from(value.len()).map_err(|_| ConnectError::TooMuch(ASKING))?;
    let mut out = Vec::new();
    // Unnamed statement, no types.
    build::frame(&mut out, b'P', |body| {
        build::cstr(body, b"");
        build::cstr(body, sql.as_bytes());
        body.extend([0, 0]);
    });
    // Unnamed portal and statement, all text: no formats, one value, no result formats.
    build::frame(&mut out, b'B', |body| {
        body.extend([0, 0, 0, 0, 0, 1]);
        body.extend(length.to_be_bytes());
        body.extend_from_slice(value.as_bytes());
        body.extend([0, 0]);
    });
    build::frame(&mut out, b'E', |body| body.extend([0; 5]));
    build::sync(&mut out);
    ask(server, &out).await
}

async fn ask(server: &mut LoggedIn, request: &[u8]) -> Result<Rows, ConnectError> {
    send(&mut server.stream, request).await?;
    let mut rows = Rows::new();
    let mut refused = None;
    let mut bytes_left = limits::ASK_BYTES_MAX;
    loop {
        let frame = receive(&mut server.stream, bytes_left).await;
        let (kind, body) = match (frame, refused.take()) {
            // A FATAL error is followed by the end: the reason is worth more than the end.
            (Err(ConnectError::Closed), Some(reason)) => return Err(reason),
            (frame, reason) => {
                refused = reason;
                frame?
            }
        };
        bytes_left = bytes_left.saturating_sub(body.len() + crate::wire::HEADER_BYTES);
        match kind {
            b'D' if rows.len() >= limits::ASK_ROWS_MAX => {
                return Err(ConnectError::TooMuch(ASKING));
            }
            b'D' => rows.push(row(&body)?),
            // The first error is the reason, later ones its consequence.
            b'E' => refused = refused.or_else(|| Some(ConnectError::refused(&body))),
            b'Z' => return refused.map_or(Ok(rows), Err),
            b'S' => note_parameter(&mut server.parameters, &body)?,
            // RowDescription, CommandComplete, EmptyQueryResponse, ParseComplete, BindComplete,
            // NoData, notices and notifications say nothing that is needed.
            b'T' | b'C' | b'I' | b'1' | b'2' | b'n' | b'N' | b'A' => {}
            kind => return Err(ConnectError::Unexpected { kind, during: ASKING }),
        }
    }
}

/// A DataRow.
fn row(body: &[u8]) -> Result<Vec<Option<String>>, ConnectError> {
    let mut reader = Reader::new(body);
    let columns = reader.u16("DataRow")?;
    let mut values = Vec::new();
    for _ in 0..columns {
        values.push(match reader.u32("DataRow")? {
            u32::MAX => None,
            length => {
                let value = reader.bytes(length as usize, "DataRow")?;
                Some(String::from_utf8_lossy(value).into_owned())
            }
        });
    }
    reader.end("DataRow")?;
    Ok(values)
}
