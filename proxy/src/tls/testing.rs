//! Certificates for tests: one authority, and files that it signed.

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType,
    SignatureAlgorithm,
};
use tempfile::TempDir;

/// An authority with a directory for files.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub(crate) dir: TempDir,
}

/// Where a pair was written.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { issuer, dir }
    }

    pub(crate) fn ca_file(&self) -> String {
        self.path("ca.pem").to_string_lossy().into_owned()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A pair for `cn`, valid for localhost and 127.0.0.1.
    pub(crate) fn issue(&self, cn: &str) -> Files {
        let key = KeyPair::generate().unwrap();
        let cert = params(cn).signed_by(&key, &self.issuer).unwrap();
        self.write(cn, &cert.pem(), &key)
    }

    /// A pair that signed itself by `algorithm`, usable as its own authority.
    pub(crate) fn self_signed(&self, cn: &str, algorithm: &'static SignatureAlgorithm) -> Files {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let mut params = params(cn);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let cert = params.self_signed(&key).unwrap();
        self.write(cn, &cert.pem(), &key)
    }

    fn write(&self, name: &str, cert: &str, key: &KeyPair) -> Files {
        let file = |suffix: &str, text: &str| {
            let path = self.path(&format!("{name}.{suffix}"));
            std::fs::write(&path, text).unwrap();
            path.to_string_lossy().into_owned()
        };
        Files { cert: file("crt", cert), key: file("key", &key.serialize_pem()) }
    }
}

fn params(cn: &str) -> CertificateParams {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).unwrap();
    params.subject_alt_names.push(SanType::Rfc822Name("someone@example.com".try_into().unwrap()));
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, cn);
    params
}
