//! Certificates for tests: an authority, and pairs that it signs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

/// An authority with a directory of its own for what it signs.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

/// A certificate and its key, PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Certificate file.
    pub cert: PathBuf,
    /// Key file, readable by its owner only: libpq insists.
    pub key: PathBuf,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.dir.path().display())
    }
}

impl Authority {
    /// A new one.
    pub fn new() -> anyhow::Result<Authority> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join("ca.pem"), issuer.pem())?;
        Ok(Authority { issuer, dir })
    }

    /// Its own certificate.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Signs a pair for `cn` with `names` (DNS names and addresses), in files called `file`: those that are
    /// there are replaced.
    pub fn issue(&self, file: &str, cn: &str, names: &[&str]) -> anyhow::Result<Pair> {
        let mut params =
            CertificateParams::new(names.iter().map(|&n| n.into()).collect::<Vec<_>>())?;
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::CommonName, cn);
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        let at = |end: &str| self.dir.path().join(format!("{file}.{end}"));
        let pair = Pair { cert: at("crt"), key: at("key") };
        fs::write(&pair.cert, cert.pem())?;
        fs::write(&pair.key, key.serialize_pem())?;
        fs::set_permissions(&pair.key, fs::Permissions::from_mode(0o600))?;
        Ok(pair)
    }
}

impl Pair {
    /// Copies it into a data directory as `server.crt` and `server.key`, and `ca_file` as `ca.pem`, owned by
    /// the owner of the directory: PostgreSQL refuses a key of another's (be-secure-common.c).
    pub fn install(&self, data_dir: &Path, ca_file: &Path) -> anyhow::Result<()> {
        use std::os::unix::fs::{MetadataExt, chown};
        let owner = fs::metadata(data_dir).context("the data directory")?;
        for (from, name) in
            [(&*self.cert, "server.crt"), (&*self.key, "server.key"), (ca_file, "ca.pem")]
        {
            let to = data_dir.join(name);
            fs::copy(from, &to)?;
            chown(&to, Some(owner.uid()), Some(owner.gid()))?;
            fs::set_permissions(&to, fs::Permissions::from_mode(0o600))?;
        }
        Ok(())
    }
}
