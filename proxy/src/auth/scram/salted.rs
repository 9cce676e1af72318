//! A bounded memory of salted passwords: PBKDF2 is expensive by design, logins are frequent.
//!
//! Neither users nor passwords are kept: an entry's name is a keyed digest of everything that the
//! salted password depends on, so that a changed password is never answered with the old one.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::num::NonZeroU32;

use parking_lot::Mutex;

use super::{Key, Verifier, hmac_sha256, salted_password};

/// Salted passwords by user, password, salt and iterations; the oldest makes room.
pub struct SaltedPasswords {
    secret: Key,
    entries_max: usize,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    salted: HashMap<Key, Key>,
    /// Names in the order of arrival.
    order: VecDeque<Key>,
}

impl fmt::Debug for SaltedPasswords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SaltedPasswords({} entries)", self.known.lock().order.len())
    }
}

impl SaltedPasswords {
    /// Remembers up to `entries_max`; `secret` is random and this process's own.
    #[must_use]
    pub fn new(secret: [u8; 32], entries_max: usize) -> SaltedPasswords {
        SaltedPasswords { secret, entries_max, known: Mutex::default() }
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.lock().salted.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The salted password, remembered or computed.
    #[must_use]
    pub fn get(&self, user: &str, password: &str, salt: &[u8], iterations: NonZeroU32) -> Key {
        let name = self.name(user, password, salt, iterations);
        if let Some(salted) = self.known.lock().salted.get(&name) {
            return *salted;
        }
        // Outside the lock: two first logins at once compute twice, but nobody waits for them.
        let salted = salted_password(password, salt, iterations);
        let mut known = self.known.lock();
        if known.salted.insert(name, salted).is_none() {
            known.order.push_back(name);
        }
        while known.order.len() > self.entries_max {
            if let Some(oldest) = known.order.pop_front() {
                known.salted.remove(&oldest);
            }
        }
        salted
    }

    /// The verifier that `password` would have with this salt.
    #[must_use]
    pub fn verifier(
        &self,
        user: &str,
        password: &str,
        salt: &[u8],
        iterations: NonZeroU32,
    ) -> Verifier {
        Verifier::from_salted(&self.get(user, password, salt, iterations), salt, iterations)
    }

    /// Lengths stand before what may be of any length: no two inputs give the same bytes.
    fn name(&self, user: &str, password: &str, salt: &[u8], iterations: NonZeroU32) -> Key {
        let length = |part: &[u8]| (part.len() as u64).to_be_bytes();
        let (user, password) = (user.as_bytes(), password.as_bytes());
        hmac_sha256(
            &self.secret,
            &[
                &length(user),
                user,
                &length(password),
                password,
                &iterations.get().to_be_bytes(),
                salt,
            ],
        )
    }
}
