//! Directories and ports for the processes of a herd.

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::binaries::Account;
use super::keeper::Keeper;
use super::{Error, io_error};
use crate::limits;

/// A directory of our own, removed when it is dropped and when we are killed.
#[derive(Debug)]
pub struct Home {
    dir: PathBuf,
    keeper: Option<Keeper>,
}

impl Home {
    /// A new directory inside `parent`, or inside the temporary directory; it belongs to `account`, and
    /// everyone may look into it (data directories inside are closed by PostgreSQL itself).
    pub fn new(parent: Option<&Path>, account: Account) -> Result<Home, Error> {
        let parent = match parent {
            Some(dir) => {
                std::fs::create_dir_all(dir)
                    .map_err(io_error(format!("create {}", dir.display())))?;
                std::path::absolute(dir).map_err(io_error("current directory"))?
            }
            None => temporary(account),
        };
        reachable(&parent, account)?;
        let dir = tempfile::Builder::new()
            .prefix("pgherd-")
            .tempdir_in(&parent)
            .map_err(io_error(format!("create a directory in {}", parent.display())))?
            .keep();
        let keeper = Keeper::directory(&dir).map_err(io_error("start /bin/sh"))?;
        let home = Home { dir, keeper: Some(keeper) };
        std::fs::set_permissions(&home.dir, PermissionsExt::from_mode(0o755))
            .map_err(io_error(format!("chmod {}", home.dir.display())))?;
        account.own(&home.dir)?;
        Ok(home)
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let removed = std::fs::remove_dir_all(&self.dir);
        if let Some(keeper) = self.keeper.take() {
            match removed {
                Ok(()) => keeper.release(),
                // Somebody still writes there: the keeper sees its pipe close and tries for longer.
                Err(_) => drop(keeper),
            }
        }
    }
}

/// A TCP port on loopback that was free a moment ago; whoever uses it must be ready to try another.
pub fn free_port() -> Result<u16, Error> {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|l| l.local_addr())
        .map(|a| a.port())
        .map_err(io_error("find a free port"))
}

/// The temporary directory, unless its path is so long that no socket fits or it is closed to PostgreSQL.
fn temporary(account: Account) -> PathBuf {
    let dir = std::env::temp_dir();
    let fits = dir.as_os_str().len() < limits::LOCAL_SOCKET_PATH_BYTES_MAX / 2;
    if dir.is_absolute() && fits && reachable(&dir, account).is_ok() { dir } else { "/tmp".into() }
}

/// Every directory above must let PostgreSQL's user through.
fn reachable(dir: &Path, account: Account) -> Result<(), Error> {
    let Account::Postgres { uid, gid } = account else { return Ok(()) };
    for above in dir.ancestors() {
        let meta =
            std::fs::metadata(above).map_err(io_error(format!("stat {}", above.display())))?;
        let bit = if meta.uid() == uid {
            0o100
        } else if meta.gid() == gid {
            0o010
        } else {
            0o001
        };
        if meta.mode() & bit == 0 {
            return Err(Error::Directory {
                dir: above.to_path_buf(),
                why: "PostgreSQL runs as user `postgres` (we are root), who may not enter this directory; \
                      choose another one or chmod o+x it"
                    .into(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_removed_with_what_it_holds() {
        let home = Home::new(None, Account::Ours).unwrap();
        let path = home.path().to_path_buf();
        std::fs::write(path.join("file"), "x").unwrap();
        drop(home);
        assert!(!path.exists());
    }

    #[test]
    fn a_closed_directory_is_named() {
        let closed = tempfile::tempdir().unwrap();
        std::fs::set_permissions(closed.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let inside = closed.path().join("inside");
        std::fs::create_dir(&inside).unwrap();
        let stranger = Account::Postgres { uid: u32::MAX - 1, gid: u32::MAX - 1 };
        let error = reachable(&inside, stranger).unwrap_err().to_string();
        assert!(error.contains(&closed.path().display().to_string()), "{error}");
        assert!(reachable(&inside, Account::Ours).is_ok());
    }
}
