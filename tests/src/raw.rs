//! A client that speaks frames, for what no driver would send and for what drivers hide.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use pgherd::wire::{self, Cut, HEADER_BYTES, build, frame, read};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{Script, brief};

/// A frame that came from the server side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Type byte.
    pub kind: u8,
    /// What is behind the length.
    pub body: Vec<u8>,
}

/// A connection that is not interpreted.
#[derive(Debug)]
pub struct RawClient {
    /// The socket, for tests that close or stall it.
    pub stream: TcpStream,
    /// Process id and secret of BackendKeyData.
    pub key: Option<(u32, Vec<u8>)>,
    /// ParameterStatus messages of the login.
    pub parameters: Vec<(String, String)>,
}

/// No answer for so long is a failure; it is far above what any answer takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// How [`RawClient::frame`] says so.
pub const SILENT: &str = "no frame came";

impl Frame {
    /// The field `key` of an ErrorResponse or NoticeResponse.
    #[must_use]
    pub fn field(&self, key: u8) -> String {
        String::from_utf8_lossy(read::error_field(&self.body, key).unwrap_or_default()).into_owned()
    }
}

impl RawClient {
    /// Opens a connection and sends nothing. Cancel safe.
    pub async fn connect(address: SocketAddr) -> anyhow::Result<RawClient> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(RawClient { stream, key: None, parameters: Vec::new() })
    }

    /// Sends a startup packet of protocol 3.0 with `parameters`. Not cancel safe.
    pub async fn startup(&mut self, parameters: &[(&str, &str)]) -> anyhow::Result<()> {
        self.startup_as(wire::version(3, 0), parameters).await
    }

    /// Sends a startup packet of any version. Not cancel safe.
    pub async fn startup_as(&mut self, version: u32, more: &[(&str, &str)]) -> anyhow::Result<()> {
        let mut packet = Vec::new();
        build::untyped(&mut packet, |b| {
            b.extend_from_slice(&version.to_be_bytes());
            for (name, value) in more {
                build::cstr(b, name.as_bytes());
                build::cstr(b, value.as_bytes());
            }
            b.push(0);
        });
        self.send(&packet).await
    }

    /// Starts up where everyone is trusted, and reads until the first ReadyForQuery. Not cancel safe.
    pub async fn login(&mut self, parameters: &[(&str, &str)]) -> anyhow::Result<()> {
        self.startup(parameters).await?;
        self.greeted().await?;
        Ok(())
    }

    /// Reads the answers to a startup packet up to the first ReadyForQuery. Not cancel safe.
    pub async fn greeted(&mut self) -> anyhow::Result<Vec<Frame>> {
        let frames = self.until(b'Z').await?;
        for frame in &frames {
            match frame.kind {
                b'E' => bail!("login refused: {} {}", frame.field(b'C'), frame.field(b'M')),
                b'R' if frame.body != [0; 4] => bail!("a password is asked for"),
                b'K' => {
                    let (pid, secret) = frame.body.split_first_chunk::<4>().context("short key")?;
                    self.key = Some((u32::from_be_bytes(*pid), secret.to_vec()));
                }
                b'S' => {
                    let (name, value) = read::parameter_status(&frame.body)?;
                    let text = |b| String::from_utf8_lossy(b).into_owned();
                    self.parameters.push((text(name), text(value)));
                }
                _ => {}
            }
        }
        Ok(frames)
    }

    /// Sends a script and reads until `ready` times ReadyForQuery; answers what came, in short.
    /// Not cancel safe.
    pub async fn play(&mut self, script: Script, ready: usize) -> anyhow::Result<String> {
        self.send(script.bytes()).await?;
        let mut words = Vec::new();
        for _ in 0..ready {
            words.push(brief(&self.until(b'Z').await?));
        }
        Ok(words.join(" "))
    }

    /// Sends bytes as they are. Not cancel safe.
    pub async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Sends a Query and reads until ReadyForQuery. Not cancel safe.
    pub async fn query(&mut self, sql: &str) -> anyhow::Result<Vec<Frame>> {
        let mut out = Vec::new();
        build::query(&mut out, sql.as_bytes());
        self.send(&out).await?;
        self.until(b'Z').await
    }

    /// The next frame. Not cancel safe.
    pub async fn frame(&mut self) -> anyhow::Result<Frame> {
        let read = async {
            let mut header = [0; HEADER_BYTES];
            self.stream.read_exact(&mut header).await?;
            let Cut::Frame { kind, total } = wire::cut(&header, frame::server_max) else {
                bail!("malformed frame: {header:?}");
            };
            let mut body = vec![0; total - HEADER_BYTES];
            self.stream.read_exact(&mut body).await?;
            Ok(Frame { kind, body })
        };
        tokio::time::timeout(PATIENCE, read).await.context(SILENT)?
    }

    /// Frames up to and with the first of `kind`; an end of the connection before it is returned as the frames
    /// so far when the last of them is an ErrorResponse (FATAL). Not cancel safe.
    pub async fn until(&mut self, kind: u8) -> anyhow::Result<Vec<Frame>> {
        let mut frames: Vec<Frame> = Vec::new();
        loop {
            match self.frame().await {
                Ok(frame) => {
                    let last = frame.kind == kind;
                    frames.push(frame);
                    if last {
                        return Ok(frames);
                    }
                }
                Err(_) if frames.last().is_some_and(|f| f.kind == b'E') => return Ok(frames),
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether the other side has closed, once it does; data before that is an error. Not cancel safe.
    pub async fn closed(&mut self) -> anyhow::Result<()> {
        let mut byte = [0];
        match tokio::time::timeout(PATIENCE, self.stream.read(&mut byte))
            .await
            .context("stays open")?
        {
            Ok(0) => Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => Ok(()),
            other => bail!("expected the end, read {other:?}, {byte:?}"),
        }
    }
}
