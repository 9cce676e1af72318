//! Reading certificates and keys from PEM files, with errors that name the file.
//!
//! A key is never printed. A key that others may read is only warned about: containers mount
//! secrets that way, and refusing to start would not make it secret again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tracing::warn;

use super::TlsError;

/// A certificate chain, leaf first, and the leaf's key.
pub(super) struct Pair {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// The pair in two files; `None` when neither is named. `settings` are the keys of the
/// configuration that name them.
pub(super) fn pair(
    cert_file: &str,
    key_file: &str,
    settings: [&'static str; 2],
) -> Result<Option<Pair>, TlsError> {
    let missing = |setting| TlsError::Missing { setting, because: "its counterpart is" };
    let [cert_setting, key_setting] = settings;
    match (cert_file.is_empty(), key_file.is_empty()) {
        (true, true) => Ok(None),
        (true, false) => Err(missing(cert_setting)),
        (false, true) => Err(missing(key_setting)),
        (false, false) => {
            Ok(Some(Pair { chain: certificates(cert_file)?, key: private_key(key_file)? }))
        }
    }
}

/// Every certificate in `file`; at least one.
pub(super) fn certificates(file: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(file)?;
    let all = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| content(file, format!("not valid PEM: {error}")))?;
    if all.is_empty() {
        return Err(content(file, "holds no PEM certificate".into()));
    }
    // What can't be parsed now would fail every handshake later.
    for (at, der) in all.iter().enumerate() {
        if x509_parser::parse_x509_certificate(der).is_err() {
            return Err(content(file, format!("certificate {} is malformed", at + 1)));
        }
    }
    Ok(all)
}

fn private_key(file: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read(file)?;
    let mode = fs::metadata(file).map(|meta| meta.permissions().mode()).unwrap_or(0);
    if mode & 0o007 != 0 {
        warn!(file, mode = format_args!("{:o}", mode & 0o777), "private key is open to everyone");
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            content(file, "holds no unencrypted PEM private key (PKCS #8, PKCS #1 or SEC 1)".into())
        }
        // The parser's own words may quote the file.
        _ => content(file, "is not valid PEM".into()),
    })
}

fn read(file: &str) -> Result<Vec<u8>, TlsError> {
    fs::read(file).map_err(|source| TlsError::Read { file: PathBuf::from(file), source })
}

/// `file` does not hold what it should.
pub(super) fn content(file: &str, what: String) -> TlsError {
    TlsError::Content { file: PathBuf::from(file), what }
}

/// Why rustls does not take a pair.
pub(super) fn pairing(error: rustls::Error, cert_file: &str, key_file: &str) -> TlsError {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::KeyMismatch { cert: PathBuf::from(cert_file), key: PathBuf::from(key_file) }
        }
        rustls::Error::General(what) => content(key_file, what),
        other => content(cert_file, other.to_string()),
    }
}
