//! Messages of the extended protocol, put together one by one.

use pgherd::wire::build;

/// Bytes to be sent at once.
#[derive(Debug, Clone, Default)]
pub struct Batch(pub Vec<u8>);

impl Batch {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Parse without parameter types.
    #[must_use]
    pub fn parse(mut self, name: &str, sql: &str) -> Batch {
        build::frame(&mut self.0, b'P', |b| {
            build::cstr(b, name.as_bytes());
            build::cstr(b, sql.as_bytes());
            b.extend([0, 0]);
        });
        self
    }

    /// Bind of the unnamed portal, all text.
    #[must_use]
    pub fn bind(mut self, statement: &str, values: &[&str]) -> Batch {
        build::frame(&mut self.0, b'B', |b| {
            build::cstr(b, b"");
            build::cstr(b, statement.as_bytes());
            b.extend([0, 0]);
            b.extend(u16::try_from(values.len()).unwrap_or_default().to_be_bytes());
            for value in values {
                b.extend(u32::try_from(value.len()).unwrap_or_default().to_be_bytes());
                b.extend_from_slice(value.as_bytes());
            }
            b.extend([0, 0]);
        });
        self
    }

    /// Describe of a statement (`S`) or portal (`P`).
    #[must_use]
    pub fn describe(self, kind: u8, name: &str) -> Batch {
        self.target(b'D', kind, name)
    }

    /// Execute of the unnamed portal.
    #[must_use]
    pub fn execute(mut self) -> Batch {
        build::frame(&mut self.0, b'E', |b| b.extend([0; 5]));
        self
    }

    /// Close of a statement (`S`) or portal (`P`).
    #[must_use]
    pub fn close(self, kind: u8, name: &str) -> Batch {
        self.target(b'C', kind, name)
    }

    /// Sync.
    #[must_use]
    pub fn sync(mut self) -> Batch {
        build::sync(&mut self.0);
        self
    }

    /// Query.
    #[must_use]
    pub fn query(mut self, sql: &str) -> Batch {
        build::query(&mut self.0, sql.as_bytes());
        self
    }

    /// Parse, Bind and Execute of `sql` without a name, and Sync.
    #[must_use]
    pub fn unnamed(self, sql: &str) -> Batch {
        self.parse("", sql).run("")
    }

    /// Bind and Execute of `statement`, and Sync.
    #[must_use]
    pub fn run(self, statement: &str) -> Batch {
        self.bind(statement, &[]).execute().sync()
    }

    fn target(mut self, message: u8, kind: u8, name: &str) -> Batch {
        build::frame(&mut self.0, message, |b| {
            b.push(kind);
            build::cstr(b, name.as_bytes());
        });
        self
    }
}

impl crate::RawClient {
    /// Sends a batch and reads until its first ReadyForQuery. Not cancel safe.
    pub async fn batch(&mut self, batch: Batch) -> anyhow::Result<Vec<crate::Frame>> {
        self.send(&batch.0).await?;
        self.until(b'Z').await
    }
}
