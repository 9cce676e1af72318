//! TLS of both sides: material that can be swapped, and the two handshakes.
//!
//! A [`Material`] is one immutable snapshot; whoever handles a connection takes it once
//! (`load_full`) and uses it for the handshake and for channel binding alike, so that a reload in
//! between can't mix certificates. Nothing here falls back to plain text or to a weaker check.
//! `files` reads PEM, `verify` judges servers, `names` reads certificates.

mod files;
mod names;
#[cfg(test)]
pub(crate) mod testing;
mod verify;

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::config::{self, ClientCertificate, ClientTlsMode, ServerTlsMode};
use crate::net::Socket;

pub use names::end_point;

/// The protocol name that PostgreSQL 17 and later negotiate (manual, "SSL Session Encryption").
pub const ALPN: &[u8] = b"postgresql";

/// Certificates, keys and verifiers of both sides: one snapshot, replaced whole on reload.
/// The default has no TLS on either side.
#[derive(Default)]
pub struct Material {
    client: Option<ClientSide>,
    server: Option<ServerSide>,
}

/// What clients meet.
struct ClientSide {
    required: bool,
    config: Arc<ServerConfig>,
    end_point: Option<Box<[u8]>>,
}

/// What servers meet.
struct ServerSide {
    mode: ServerTlsMode,
    config: Arc<ClientConfig>,
}

/// How a client opened TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// By an SSLRequest: ALPN is optional, older clients don't know it.
    Requested,
    /// By a ClientHello as its first bytes: without ALPN it may be meant for another protocol.
    Direct,
}

/// Why TLS material can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that the mode needs is not named.
    #[error("{setting} is not set, but {because}")]
    Missing {
        /// Key of the configuration.
        setting: &'static str,
        /// What needs it.
        because: &'static str,
    },
    /// The file can't be read.
    #[error("cannot read {file}: {source}", file = file.display())]
    Read {
        /// Which one.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file does not hold what it should.
    #[error("{file}: {what}", file = file.display())]
    Content {
        /// Which one.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Certificate and key are not a pair.
    #[error("the key in {key} does not match the certificate in {cert}",
        key = key.display(), cert = cert.display())]
    KeyMismatch {
        /// Certificate file.
        cert: PathBuf,
        /// Key file.
        key: PathBuf,
    },
    /// Not a version that is spoken.
    #[error("tls.client.min_version is \"{0}\"; it must be \"1.2\" or \"1.3\"")]
    MinVersion(String),
    /// The library refuses the combination.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

impl Material {
    /// Reads everything that `tls` names. Blocks on files: call it at start and on reload.
    pub fn load(tls: &config::Tls) -> Result<Material, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let client = match tls.client.mode {
            ClientTlsMode::Disable => None,
            _ => Some(ClientSide::load(&tls.client, &provider)?),
        };
        let server = match tls.server.mode {
            ServerTlsMode::Disable => None,
            _ => Some(ServerSide::load(&tls.server, &provider)?),
        };
        Ok(Material { client, server })
    }

    /// Whether an SSLRequest of a TCP client is answered with 'S'.
    #[must_use]
    pub fn accepts_tls(&self) -> bool {
        self.client.is_some()
    }

    /// Whether TCP clients without TLS are refused.
    #[must_use]
    pub fn requires_tls(&self) -> bool {
        self.client.as_ref().is_some_and(|side| side.required)
    }

    /// The tls-server-end-point data of our certificate (RFC 5929); `None`: undefined for it, so
    /// SCRAM-SHA-256-PLUS must not be offered.
    #[must_use]
    pub fn end_point(&self) -> Option<&[u8]> {
        self.client.as_ref()?.end_point.as_deref()
    }

    /// The handshake with a client. Not cancel safe: the connection is lost.
    pub async fn accept(
        &self,
        socket: Socket,
        opening: Opening,
    ) -> io::Result<Box<server::TlsStream<Socket>>> {
        let side = self.client.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let stream = TlsAcceptor::from(side.config.clone()).accept(socket).await?;
        // A browser tricked into speaking to us would not name this protocol (ALPACA attack);
        // backend_startup.c, ProcessSSLStartup, asks for the same.
        if opening == Opening::Direct && stream.get_ref().1.alpn_protocol() != Some(ALPN) {
            let what = "direct TLS connection without ALPN protocol \"postgresql\"";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(Box::new(stream))
    }

    /// How far servers are trusted.
    #[must_use]
    pub fn server_mode(&self) -> ServerTlsMode {
        self.server.as_ref().map_or(ServerTlsMode::Disable, |side| side.mode)
    }

    /// The handshake with the server `host`, after it answered 'S'. Not cancel safe: the
    /// connection is lost.
    pub async fn connect(
        &self,
        socket: Socket,
        host: &str,
    ) -> io::Result<Box<client::TlsStream<Socket>>> {
        let side = self.server.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let name = match ServerName::try_from(host.to_owned()) {
            Ok(name) => name,
            // Where names are not checked, an odd one only means that no SNI is sent.
            Err(_) if side.mode != ServerTlsMode::VerifyFull => {
                ServerName::from(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED))
            }
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidInput, error)),
        };
        let stream = TlsConnector::from(side.config.clone()).connect(name, socket).await?;
        Ok(Box::new(stream))
    }
}

/// Whether a failed handshake is one side's judgement of the other, which trying again can't change.
#[must_use]
pub fn is_distrust(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(
        error,
        Some(
            rustls::Error::InvalidCertificate(_)
                | rustls::Error::NoCertificatesPresented
                | rustls::Error::PeerIncompatible(_)
                | rustls::Error::AlertReceived(_)
        )
    )
}

/// The tls-server-end-point data of a server's certificate, for SCRAM-SHA-256-PLUS as its client.
#[must_use]
pub fn end_point_of_peer(stream: &client::TlsStream<Socket>) -> Option<Vec<u8>> {
    end_point(stream.get_ref().1.peer_certificates()?.first()?)
}

/// The names in a client's certificate: CN, then DNS, e-mail and URI names. Empty without one.
/// A certificate that is here has been verified: the handshake fails otherwise.
#[must_use]
pub fn peer_names(stream: &server::TlsStream<Socket>) -> Vec<String> {
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[CertificateDer<'_>]>::first);
    leaf.map(names::names).unwrap_or_default()
}

impl ClientSide {
    fn load(
        tls: &config::TlsClient,
        provider: &Arc<CryptoProvider>,
    ) -> Result<ClientSide, TlsError> {
        let because = "tls.client.mode is not \"disable\"";
        let missing = |setting| TlsError::Missing { setting, because };
        let settings = ["tls.client.cert_file", "tls.client.key_file"];
        let pair = files::pair(&tls.cert_file, &tls.key_file, settings)?;
        let pair = pair.ok_or_else(|| missing("tls.client.cert_file"))?;
        let end_point = pair.chain.first().and_then(end_point).map(Vec::into_boxed_slice);
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions(&tls.min_version)?)?;
        let builder = match tls.client_certificate {
            ClientCertificate::None => builder.with_no_client_auth(),
            asked => {
                let roots = client_roots(&tls.ca_file)?;
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
                let verifier = match asked {
                    ClientCertificate::Require => verifier,
                    _ => verifier.allow_unauthenticated(),
                };
                let verifier = verifier
                    .build()
                    .map_err(|error| files::content(&tls.ca_file, error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(pair.chain, pair.key)
            .map_err(|error| files::pairing(error, &tls.cert_file, &tls.key_file))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        // One ticket is enough to resume, and each costs bytes of every handshake.
        config.send_tls13_tickets = 1;
        let required = tls.mode == ClientTlsMode::Require;
        Ok(ClientSide { required, config: Arc::new(config), end_point })
    }
}

impl ServerSide {
    fn load(
        tls: &config::TlsServer,
        provider: &Arc<CryptoProvider>,
    ) -> Result<ServerSide, TlsError> {
        let verifier = match tls.mode {
            ServerTlsMode::VerifyCa | ServerTlsMode::VerifyFull => {
                let trusted = match tls.ca_file.as_str() {
                    "" => Vec::new(),
                    file => files::certificates(file)?,
                };
                let roots = if trusted.is_empty() { web_roots() } else { roots(&trusted) };
                let names = tls.mode == ServerTlsMode::VerifyFull;
                verify::ServerVerifier::trusting(roots, trusted, names, provider)
            }
            _ => verify::ServerVerifier::anyone(provider),
        };
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let settings = ["tls.server.cert_file", "tls.server.key_file"];
        let mut config = match files::pair(&tls.cert_file, &tls.key_file, settings)? {
            Some(pair) => builder
                .with_client_auth_cert(pair.chain, pair.key)
                .map_err(|error| files::pairing(error, &tls.cert_file, &tls.key_file))?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(ServerSide { mode: tls.mode, config: Arc::new(config) })
    }
}

fn versions(min: &str) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
    match min {
        "1.2" => Ok(vec![&version::TLS13, &version::TLS12]),
        "1.3" => Ok(vec![&version::TLS13]),
        other => Err(TlsError::MinVersion(other.to_owned())),
    }
}

fn client_roots(ca_file: &str) -> Result<Arc<RootCertStore>, TlsError> {
    if ca_file.is_empty() {
        let because = "tls.client.client_certificate is not \"none\"";
        return Err(TlsError::Missing { setting: "tls.client.ca_file", because });
    }
    Ok(Arc::new(roots(&files::certificates(ca_file)?)))
}

fn roots(trusted: &[CertificateDer<'static>]) -> RootCertStore {
    let mut store = RootCertStore::empty();
    // Certificates that can't be an authority are skipped; a store without any trusts nobody.
    let _ = store.add_parsable_certificates(trusted.iter().cloned());
    store
}

fn web_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material")
            .field("accepts_tls", &self.accepts_tls())
            .field("requires_tls", &self.requires_tls())
            .field("server_mode", &self.server_mode())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
