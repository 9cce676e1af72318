//! What servers of a pool report, remembered: a client that comes needs no server to be greeted.

use std::sync::Arc;

use parking_lot::Mutex;

use super::server::Reported;
use crate::limits;
use crate::session::settings::Settings;

/// Remembered greetings, by startup settings.
#[derive(Debug, Default)]
pub struct Welcomes {
    known: Mutex<Vec<(Settings, Arc<Reported>)>>,
    shared: Mutex<Vec<Arc<Reported>>>,
}

impl Welcomes {
    /// What servers report under `settings`, and the one copy of these settings.
    #[must_use]
    pub fn get(&self, settings: &Settings) -> Option<(Settings, Arc<Reported>)> {
        self.known.lock().iter().find(|(known, _)| known == settings).cloned()
    }

    /// Remembers what a server reported under `settings`.
    pub fn put(&self, settings: Settings, reported: Arc<Reported>) {
        let mut known = self.known.lock();
        known.retain(|(other, _)| *other != settings);
        if known.len() >= limits::WELCOMES_MAX {
            known.remove(0);
        }
        known.push((settings, reported));
    }

    /// What is remembered: greetings, and what several of them share.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.lock().len() + self.shared.lock().len()
    }

    /// Whether nothing is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets: the servers changed.
    pub fn clear(&self) {
        self.known.lock().clear();
    }

    /// The one copy of `reported`.
    #[must_use]
    pub fn intern(&self, reported: Reported) -> Arc<Reported> {
        let mut shared = self.shared.lock();
        if let Some(same) = shared.iter().find(|known| ***known == reported) {
            return same.clone();
        }
        if shared.len() >= limits::WELCOMES_MAX {
            shared.remove(0);
        }
        let new = Arc::new(reported);
        shared.push(new.clone());
        new
    }
}
