//! Asking a local instance over its unix-domain socket: simple queries, text results, trust authentication.
//!
//! It is how the launcher knows that an instance is ready and what a node did. It never leaves this machine
//! and never speaks for a client.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::Error;
use crate::limits;
use crate::wire::{self, Cut, HEADER_BYTES, Reader, build, frame, read};

/// A row: each value as text, `None` for NULL.
pub type Row = Vec<Option<String>>;

/// A connection to an instance.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
}

impl Client {
    /// Connects and logs in. While the instance starts or stops, it answers with SQLSTATE 57P03.
    pub fn connect(
        socket_dir: &Path,
        port: u16,
        user: &str,
        database: &str,
    ) -> Result<Client, Error> {
        let path = socket_dir.join(format!(".s.PGSQL.{port}"));
        let stream = UnixStream::connect(&path)
            .map_err(super::io_error(format!("connect to {}", path.display())))?;
        let patience = Some(Duration::from_secs(limits::LOCAL_START_SECONDS_MAX));
        stream.set_read_timeout(patience).map_err(super::io_error("set a timeout"))?;
        let mut client = Client { stream };
        let mut packet = Vec::new();
        build::untyped(&mut packet, |b| {
            b.extend_from_slice(&wire::version(3, 0).to_be_bytes());
            for (name, value) in [("user", user), ("database", database)] {
                build::cstr(b, name.as_bytes());
                build::cstr(b, value.as_bytes());
            }
            b.push(0);
        });
        client.exchange(&packet, "log in")?;
        Ok(client)
    }

    /// Runs `sql`, which may hold several statements, and returns the rows of all of them.
    pub fn query(&mut self, sql: &str) -> Result<Vec<Row>, Error> {
        let mut packet = Vec::new();
        build::query(&mut packet, sql.as_bytes());
        self.exchange(&packet, sql)
    }

    /// Sends and reads until the server is ready for more, or refuses.
    fn exchange(&mut self, packet: &[u8], what: &str) -> Result<Vec<Row>, Error> {
        let failed = |source| Error::Io { what: what.to_owned(), source };
        let refused = |message: String| Error::Sql { sql: what.to_owned(), message };
        self.stream.write_all(packet).map_err(failed)?;
        let (mut rows, mut error) = (Vec::new(), None);
        loop {
            let (kind, body) = match self.frame() {
                Ok(frame) => frame,
                // After a FATAL the server closes: the reason is what matters.
                Err(source) => return Err(error.map_or_else(|| failed(source), refused)),
            };
            match kind {
                b'Z' => return error.map_or(Ok(rows), |e| Err(refused(e))),
                b'E' => error = Some(describe(&body)),
                b'D' => rows.push(row(&body).map_err(|e| failed(io::Error::other(e)))?),
                b'R' if body != [0; 4] => {
                    return Err(refused("asks for a password where trust was expected".into()));
                }
                _ => {}
            }
        }
    }

    fn frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut header = [0; HEADER_BYTES];
        self.stream.read_exact(&mut header)?;
        match wire::cut(&header, frame::server_max) {
            Cut::Frame { kind, total } => {
                let mut body = vec![0; total - HEADER_BYTES];
                self.stream.read_exact(&mut body)?;
                Ok((kind, body))
            }
            _ => Err(io::Error::other("malformed frame")),
        }
    }
}

fn describe(body: &[u8]) -> String {
    let field = |key| {
        String::from_utf8_lossy(read::error_field(body, key).unwrap_or_default()).into_owned()
    };
    format!("{} (SQLSTATE {})", field(b'M'), field(b'C'))
}

fn row(body: &[u8]) -> Result<Row, wire::WireError> {
    let mut reader = Reader::new(body);
    let count = reader.u16("DataRow")?;
    (0..count)
        .map(|_| match reader.u32("DataRow")? {
            u32::MAX => Ok(None),
            length => {
                let value = reader.bytes(length as usize, "DataRow")?;
                Ok(Some(String::from_utf8_lossy(value).into_owned()))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_hold_text_and_nulls() {
        let body = b"\0\x02\0\0\0\x02ab\xff\xff\xff\xff";
        assert_eq!(row(body).unwrap(), [Some("ab".to_owned()), None]);
        assert!(row(b"\0\x01\0\0\0\x09ab").is_err());
    }
}
