//! A primary and its streaming replicas, started together.

use std::path::PathBuf;

use super::{Binaries, Error, Home, Options, Postgres};

/// A running herd; everything ends and its directory goes when it is dropped.
#[derive(Debug)]
pub struct Herd {
    // Fields are dropped in this order: replicas end before what they follow, the directory goes last.
    /// `replica1`, `replica2`, …
    pub replicas: Vec<Postgres>,
    /// `primary`
    pub primary: Postgres,
    home: Home,
}

/// What herd is wanted.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    replicas: usize,
    options: Options,
    parent: Option<PathBuf>,
}

impl Herd {
    /// One primary and no replica, until more is said.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Primary first, then the replicas.
    pub fn nodes(&self) -> impl Iterator<Item = &Postgres> {
        std::iter::once(&self.primary).chain(&self.replicas)
    }

    /// The directory of everything; whoever belongs to this herd may use it too.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Waits until every replica has replayed what the primary has written so far.
    pub fn wait_caught_up(&self) -> Result<(), Error> {
        let rows = self.primary.query("postgres", "SELECT pg_current_wal_lsn()")?;
        let Some(lsn) = rows.into_iter().flatten().flatten().next() else { return Ok(()) };
        let sql = format!("SELECT coalesce(pg_last_wal_replay_lsn() >= '{lsn}', false)");
        self.replicas.iter().try_for_each(|r| r.wait_until("postgres", &sql))
    }
}

impl Builder {
    /// Streaming replicas.
    #[must_use]
    pub fn replicas(mut self, count: usize) -> Builder {
        self.replicas = count;
        self
    }

    /// How every instance is set up.
    #[must_use]
    pub fn options(mut self, options: Options) -> Builder {
        self.options = options;
        self
    }

    /// Where the herd's directory is made; otherwise in the temporary directory.
    #[must_use]
    pub fn parent(mut self, dir: impl Into<PathBuf>) -> Builder {
        self.parent = Some(dir.into());
        self
    }

    /// Makes and starts all of it.
    pub fn start(self) -> Result<Herd, Error> {
        let binaries = Binaries::find()?;
        let home = Home::new(self.parent.as_deref(), binaries.account())?;
        let mut primary = Postgres::init(&binaries, home.path(), "primary", self.options.clone())?;
        primary.start()?;
        let mut replicas = Vec::with_capacity(self.replicas);
        for number in 1..=self.replicas {
            let name = format!("replica{number}");
            let mut replica = primary.replica(home.path(), &name, self.options.clone())?;
            replica.start()?;
            replicas.push(replica);
        }
        Ok(Herd { replicas, primary, home })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_follow() {
        let herd = Herd::builder().replicas(2).options(Options::fast()).start().unwrap();
        herd.primary.query("postgres", "CREATE TABLE t AS SELECT 42 AS a").unwrap();
        herd.wait_caught_up().unwrap();
        for node in herd.nodes() {
            let rows = node.query("postgres", "SELECT a FROM t").unwrap();
            assert_eq!(rows, [vec![Some("42".to_owned())]], "{}", node.name());
        }
        let path = herd.home().path().to_path_buf();
        drop(herd);
        assert!(!path.exists());
    }
}
