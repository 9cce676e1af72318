//! Where PostgreSQL's programs are, and as whom they run. Nothing is started here but `pg_config` and `id`.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Error;

/// The programs of one PostgreSQL installation.
#[derive(Debug, Clone)]
pub struct Binaries {
    dir: PathBuf,
    account: Account,
}

/// As whom PostgreSQL runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// As ourselves.
    Ours,
    /// As the user `postgres`, because we are root and PostgreSQL refuses to be (main.c, `check_root`).
    Postgres {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
}

impl Binaries {
    /// Looks in `PGHERD_PG_BIN`, then where `pg_config` says, then in Debian's directories from the
    /// newest version down, then in `PATH`.
    pub fn find() -> Result<Binaries, Error> {
        let account = Account::find()?;
        let mut looked = Vec::new();
        for (place, dir) in candidates() {
            if dir.join("postgres").is_file() && dir.join("initdb").is_file() {
                return Ok(Binaries { dir, account });
            }
            looked.push(format!("{place}: {}", dir.display()));
            if place == "PGHERD_PG_BIN" {
                break; // Who names a directory does not want another.
            }
        }
        let looked = if looked.is_empty() { "PATH".into() } else { looked.join(", ") };
        Err(Error::NoPostgres { looked })
    }

    /// The directory that holds them.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// As whom servers run.
    #[must_use]
    pub fn account(&self) -> Account {
        self.account
    }

    /// A client program (`psql`, `pgbench`, …), run as ourselves.
    #[must_use]
    pub fn client(&self, name: &str) -> Command {
        let mut command = Command::new(self.dir.join(name));
        // libpq's variables (manual, "Environment Variables") would lead to another server than ours.
        for (key, _) in std::env::vars_os().filter(|(k, _)| k.as_encoded_bytes().starts_with(b"PG"))
        {
            command.env_remove(key);
        }
        command.env("LC_ALL", "C");
        command
    }

    /// A program that works on a data directory, run as the directory's owner from inside `dir`.
    #[must_use]
    pub fn server(&self, name: &str, dir: &Path) -> Command {
        let mut command = self.client(name);
        command.current_dir(dir);
        if let Account::Postgres { uid, gid } = self.account {
            // std also drops the supplementary groups when a uid is set by root.
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Account {
    fn find() -> Result<Account, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Account::Ours);
        }
        match (id("-u"), id("-g")) {
            (Some(uid), Some(gid)) => Ok(Account::Postgres { uid, gid }),
            _ => Err(Error::NoAccount),
        }
    }

    /// Gives `path` to the account.
    pub(super) fn own(self, path: &Path) -> Result<(), Error> {
        match self {
            Account::Ours => Ok(()),
            Account::Postgres { uid, gid } => std::os::unix::fs::chown(path, Some(uid), Some(gid))
                .map_err(super::io_error(format!("chown {}", path.display()))),
        }
    }
}

/// `id` rather than /etc/passwd: the user may come from a directory service.
fn id(which: &str) -> Option<u32> {
    let output = Command::new("id").args([which, "postgres"]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

fn candidates() -> Vec<(&'static str, PathBuf)> {
    let mut found = Vec::new();
    if let Some(dir) = std::env::var_os("PGHERD_PG_BIN").filter(|d| !d.is_empty()) {
        found.push(("PGHERD_PG_BIN", PathBuf::from(dir)));
    }
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        let dir = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() && !dir.is_empty() {
            found.push(("pg_config", PathBuf::from(dir)));
        }
    }
    found.extend(debian(Path::new("/usr/lib/postgresql")).into_iter().map(|d| ("Debian", d)));
    if let Some(path) = std::env::var_os("PATH") {
        found.extend(
            std::env::split_paths(&path)
                .filter(|d| d.join("postgres").is_file())
                .map(|d| ("PATH", d)),
        );
    }
    found
}

/// `<root>/<version>/bin`, newest first.
fn debian(root: &Path) -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path().join("bin"))))
        .collect();
    versions.sort_by_key(|v| std::cmp::Reverse(v.0));
    versions.into_iter().map(|v| v.1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_comes_first() {
        let root = tempfile::tempdir().unwrap();
        for version in ["9", "17", "15", "not-a-version"] {
            std::fs::create_dir_all(root.path().join(version).join("bin")).unwrap();
        }
        let found: Vec<_> = debian(root.path())
            .iter()
            .map(|d| d.strip_prefix(root.path()).unwrap().display().to_string())
            .collect();
        assert_eq!(found, ["17/bin", "15/bin", "9/bin"]);
        assert!(debian(&root.path().join("absent")).is_empty());
    }
}
