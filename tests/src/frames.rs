//! Messages of a client as bytes, to be sent in one write; and what came back, in short.
//!
//! Nothing here is checked: tests send what no driver would.

use pgherd::wire::{HEADER_BYTES, build};

use crate::Frame;

/// Messages in the order in which they are sent.
#[derive(Debug, Clone, Default)]
pub struct Script {
    bytes: Vec<u8>,
}

impl Script {
    /// No message yet.
    #[must_use]
    pub fn new() -> Script {
        Script::default()
    }

    /// What `more` says, behind this.
    #[must_use]
    pub fn then(mut self, more: &Script) -> Script {
        self.bytes.extend_from_slice(&more.bytes);
        self
    }

    /// All of it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A message of any type and body.
    #[must_use]
    pub fn frame(mut self, kind: u8, body: &[u8]) -> Script {
        build::frame(&mut self.bytes, kind, |b| b.extend_from_slice(body));
        self
    }

    /// Query.
    #[must_use]
    pub fn query(mut self, sql: impl AsRef<[u8]>) -> Script {
        build::query(&mut self.bytes, sql.as_ref());
        self
    }

    /// Parse without parameter types.
    #[must_use]
    pub fn parse(mut self, name: &str, sql: impl AsRef<[u8]>) -> Script {
        build::frame(&mut self.bytes, b'P', |b| {
            build::cstr(b, name.as_bytes());
            build::cstr(b, sql.as_ref());
            b.extend_from_slice(&[0, 0]);
        });
        self
    }

    /// Bind of text values, results as text.
    #[must_use]
    pub fn bind(self, portal: &str, statement: &str, values: &[&[u8]]) -> Script {
        self.bind_as(portal, statement, values, 0)
    }

    /// Bind with all values and results in one format: 0 text, 1 binary.
    #[must_use]
    pub fn bind_as(mut self, portal: &str, name: &str, values: &[&[u8]], format: u16) -> Script {
        build::frame(&mut self.bytes, b'B', |b| {
            build::cstr(b, portal.as_bytes());
            build::cstr(b, name.as_bytes());
            let count = u16::try_from(values.len()).unwrap_or(u16::MAX);
            for word in [1, format, count] {
                b.extend_from_slice(&word.to_be_bytes());
            }
            for value in values {
                let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
                b.extend_from_slice(&length.to_be_bytes());
                b.extend_from_slice(value);
            }
            for word in [1, format] {
                b.extend_from_slice(&word.to_be_bytes());
            }
        });
        self
    }

    /// Describe: `S` a statement, `P` a portal.
    #[must_use]
    pub fn describe(self, kind: u8, name: &str) -> Script {
        self.named(b'D', kind, name)
    }

    /// Close: `S` a statement, `P` a portal.
    #[must_use]
    pub fn close(self, kind: u8, name: &str) -> Script {
        self.named(b'C', kind, name)
    }

    fn named(mut self, message: u8, kind: u8, name: &str) -> Script {
        build::frame(&mut self.bytes, message, |b| {
            b.push(kind);
            build::cstr(b, name.as_bytes());
        });
        self
    }

    /// Execute; 0 rows: all.
    #[must_use]
    pub fn execute(mut self, portal: &str, rows_max: u32) -> Script {
        build::frame(&mut self.bytes, b'E', |b| {
            build::cstr(b, portal.as_bytes());
            b.extend_from_slice(&rows_max.to_be_bytes());
        });
        self
    }

    /// Parse, Bind and Execute of the unnamed statement.
    #[must_use]
    pub fn run(self, sql: &str) -> Script {
        self.parse("", sql).bind("", "", &[]).execute("", 0)
    }

    /// Sync.
    #[must_use]
    pub fn sync(self) -> Script {
        self.frame(b'S', b"")
    }

    /// Flush.
    #[must_use]
    pub fn flush(self) -> Script {
        self.frame(b'H', b"")
    }

    /// CopyData.
    #[must_use]
    pub fn data(self, bytes: &[u8]) -> Script {
        self.frame(b'd', bytes)
    }

    /// CopyDone.
    #[must_use]
    pub fn done(self) -> Script {
        self.frame(b'c', b"")
    }

    /// CopyFail.
    #[must_use]
    pub fn fail(self, why: &str) -> Script {
        self.frame(b'f', format!("{why}\0").as_bytes())
    }
}

/// The types of `frames`; an error is followed by its SQLSTATE, a row by its first value.
#[must_use]
pub fn brief(frames: &[Frame]) -> String {
    let words: Vec<String> = frames.iter().map(Frame::brief).collect();
    words.join(" ")
}

impl Frame {
    fn brief(&self) -> String {
        let kind = char::from(self.kind);
        match self.kind {
            b'E' => format!("E:{}", self.field(b'C')),
            b'D' => format!("D:{}", String::from_utf8_lossy(self.value().unwrap_or(b"NULL"))),
            b'C' => format!("C:{}", String::from_utf8_lossy(&self.body).trim_end_matches('\0')),
            b'Z' => format!("Z{}", String::from_utf8_lossy(&self.body)),
            _ => kind.into(),
        }
    }

    /// The first value of a DataRow.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        let (length, rest) = self.body.get(2..)?.split_first_chunk::<4>()?;
        rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)
    }

    /// Its size on the wire, bytes.
    #[must_use]
    pub fn total(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }
}
