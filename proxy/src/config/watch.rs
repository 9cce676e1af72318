//! Notices that the configuration file says something new.
//!
//! The directory is watched, not the file: editors and Kubernetes replace the file (or a link on
//! the way to it), and a watch on the old one would see nothing. Reads nothing but the file, and
//! keeps of it only a hash.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use super::load;
use crate::limits;

/// Watches one file.
#[derive(Debug)]
pub struct Watcher {
    file: PathBuf,
    seen: Option<u64>,
    /// Something happened that has not been looked at yet.
    pending: bool,
    events: mpsc::Receiver<()>,
    /// Ends the watch when dropped.
    _inner: RecommendedWatcher,
}

impl Watcher {
    /// Watches `file`, whose content now counts as known.
    pub fn new(file: &Path) -> notify::Result<Watcher> {
        // One place is enough: it means "look again".
        let (sender, events) = mpsc::channel(1);
        let mut inner = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let relevant = event.is_ok_and(|e| !matches!(e.kind, EventKind::Access(_)));
            if relevant {
                let _ = sender.try_send(());
            }
        })?;
        let directory = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        inner.watch(directory, RecursiveMode::NonRecursive)?;
        let (file, seen) = (file.to_path_buf(), hash(file));
        Ok(Watcher { file, seen, pending: false, events, _inner: inner })
    }

    /// Returns when the file holds something new and has held it for a moment: a file that is being
    /// written is no new configuration yet. Cancel safe.
    pub async fn changed(&mut self) {
        loop {
            if !self.pending {
                if self.events.recv().await.is_none() {
                    // The watch itself ended; HUP still reloads.
                    std::future::pending::<()>().await;
                }
                self.pending = true;
            }
            // By content and not by events: a log beside the file would keep the directory busy for ever.
            let mut now = hash(&self.file);
            loop {
                tokio::time::sleep(Duration::from_millis(limits::CONFIG_SETTLE_MS)).await;
                // Events up to here are about what is read now.
                let _ = self.events.try_recv();
                let before = std::mem::replace(&mut now, hash(&self.file));
                if now == before {
                    break;
                }
            }
            self.pending = false;
            if now.is_some() && now != self.seen {
                self.seen = now;
                return;
            }
        }
    }
}

/// None: the file is gone or empty for the moment, as when an editor writes it.
fn hash(file: &Path) -> Option<u64> {
    let text = load::read(file).ok().filter(|text| !text.trim().is_empty())?;
    let mut hasher = DefaultHasher::new();
    hasher.write(text.as_bytes());
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_file_behind_swapped_links_is_noticed() {
        // As Kubernetes mounts a ConfigMap: file -> ..data/file, ..data -> ..1.
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (version, text) in [("..1", "a = 1"), ("..2", "a = 2")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("p.toml"), text).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/p.toml", at("p.toml")).unwrap();
        let mut watcher = Watcher::new(&at("p.toml")).unwrap();
        symlink("..2", at("..tmp")).unwrap();
        fs::rename(at("..tmp"), at("..data")).unwrap();
        tokio::time::timeout(PATIENCE, watcher.changed()).await.unwrap();
    }

    #[tokio::test]
    async fn only_new_content_counts() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p.toml");
        fs::write(&file, "a = 1").unwrap();
        let mut watcher = Watcher::new(&file).unwrap();
        // The same text again, then another file, then new text: only the last one counts.
        fs::write(&file, "a = 1").unwrap();
        fs::write(dir.path().join("other"), "x").unwrap();
        let nothing = tokio::time::timeout(Duration::from_millis(800), watcher.changed()).await;
        assert!(nothing.is_err());
        fs::write(&file, "a = 2").unwrap();
        tokio::time::timeout(PATIENCE, watcher.changed()).await.unwrap();
        // Emptied, as an editor does that then writes it anew; and back to what is in force.
        fs::write(&file, "").unwrap();
        let nothing = tokio::time::timeout(Duration::from_millis(800), watcher.changed()).await;
        assert!(nothing.is_err());
        fs::write(&file, "a = 2").unwrap();
        let nothing = tokio::time::timeout(Duration::from_millis(800), watcher.changed()).await;
        assert!(nothing.is_err());
    }
}
