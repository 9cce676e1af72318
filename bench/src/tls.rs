//! TLS for the scenarios that ask for it: a certificate for the proxies, and a client that makes all of them do
//! the same work.
//!
//! The handshake is TLS 1.3 with X25519 and an ECDSA P-256 certificate, and never resumed. Libraries prefer
//! different key exchanges (one of them post-quantum, which costs more), and that is not what is compared.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::site::Site;

/// The certificate's name.
const HOST: &str = "bench.invalid";

/// SSLRequest: its length and its code (manual, "Message Formats").
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// A certificate, its key, and a client that trusts it.
pub struct Tls {
    cert_pem: String,
    key_pem: String,
    client: Arc<ClientConfig>,
}

/// Where a proxy finds its certificate.
#[derive(Debug)]
pub struct Files {
    /// PEM.
    pub cert: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls") // The key is nobody's business.
    }
}

impl Tls {
    /// A new authority signs a new certificate.
    pub fn new() -> Result<Tls> {
        let mut params = CertificateParams::new(Vec::new()).context("make a certificate")?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "bench");
        let key = KeyPair::generate().context("make a key")?;
        let issuer = CertifiedIssuer::self_signed(params, key).context("make a certificate")?;
        let key = KeyPair::generate().context("make a key")?;
        let params = CertificateParams::new(vec![HOST.to_owned()]).context("make a certificate")?;
        let cert = params.signed_by(&key, &issuer).context("sign a certificate")?;

        let mut roots = RootCertStore::empty();
        roots.add(issuer.der().clone()).context("trust our own authority")?;
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
        let mut client = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .context("ask for TLS 1.3")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.resumption = Resumption::disabled();
        Ok(Tls { cert_pem: cert.pem(), key_pem: key.serialize_pem(), client: Arc::new(client) })
    }

    /// Writes what a proxy needs into its directory.
    pub fn write(&self, site: &Site, dir: &Path) -> Result<Files> {
        let files = Files { cert: dir.join("server.crt"), key: dir.join("server.key") };
        site.write(&files.cert, &self.cert_pem)?;
        site.write(&files.key, &self.key_pem)?;
        Ok(files)
    }

    /// Asks for TLS as libpq does. Not cancel safe.
    pub async fn connect(&self, mut stream: TcpStream) -> Result<TlsStream<TcpStream>> {
        stream.write_all(&SSL_REQUEST).await.context("ask for TLS")?;
        let answer = stream.read_u8().await.context("ask for TLS")?;
        if answer != b'S' {
            bail!("no TLS: the answer is {:?}", char::from(answer));
        }
        let name = ServerName::try_from(HOST).context("a host name")?;
        TlsConnector::from(Arc::clone(&self.client)).connect(name, stream).await.context("TLS")
    }
}
