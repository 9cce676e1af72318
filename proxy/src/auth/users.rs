//! `auth.users_file` in PgBouncer's format: `"name" "secret"`, one user a line.
//!
//! Lines that start with `;` or `#` are comments, a quote inside quotes is doubled, and what stands
//! behind the secret is ignored, as PgBouncer does. An error says line and column, never a secret.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};

use super::scram::{ITERATIONS_DEFAULT, MECHANISM, Verifier};
use super::{Credentials, md5, process};
use crate::limits;

/// Users and their secrets.
#[derive(Debug, Default)]
pub struct Users {
    secrets: HashMap<Box<str>, Secret>,
}

/// What a user must prove to know.
#[derive(Debug, Clone)]
pub enum Secret {
    /// No password: every password exchange fails, trust and certificates work.
    None,
    /// A plain password.
    Plain(SecretString),
    /// `md5(password || user)` as 32 hex digits.
    Md5(SecretString),
    /// A SCRAM verifier.
    Scram(Verifier),
}

/// Why a users file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// It can't be read.
    #[error("the users file can't be read: {0}")]
    Read(#[from] std::io::Error),
    /// It is larger than `limits::USERS_FILE_BYTES_MAX`.
    #[error("the users file is larger than {} bytes", limits::USERS_FILE_BYTES_MAX)]
    TooLarge,
    /// Something in it is wrong.
    #[error("line {line}, column {column} of the users file: {what}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What was expected.
        what: &'static str,
    },
}

/// A secret that looks like a SCRAM verifier and is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed SCRAM-SHA-256 verifier")]
pub struct BadVerifier;

impl Secret {
    /// A secret as userlists and `pg_authid.rolpassword` write it.
    pub fn parse(text: &str) -> Result<Secret, BadVerifier> {
        if text.is_empty() {
            return Ok(Secret::None);
        }
        if text.strip_prefix(MECHANISM).is_some_and(|rest| rest.starts_with('$')) {
            return Verifier::parse(text).map(Secret::Scram).ok_or(BadVerifier);
        }
        Ok(match md5::parse(text) {
            Some(hash) => Secret::Md5(hash),
            None => Secret::Plain(SecretString::from(text)),
        })
    }

    /// What it lets pgherd log in to a server with, before any exchange. A verifier checks others
    /// but proves nothing itself: its ClientKey comes from the client's exchange.
    #[must_use]
    pub fn credentials(&self) -> Credentials {
        match self {
            Secret::None | Secret::Scram(_) => Credentials::None,
            Secret::Plain(password) => Credentials::Password(password.clone()),
            Secret::Md5(hash) => Credentials::Md5(hash.clone()),
        }
    }
}

impl Users {
    /// Reads a file, and salts its plain passwords. Blocks: call it at start and on reload.
    pub fn load(path: &Path) -> Result<Users, UsersError> {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path)?;
        file.take(limits::USERS_FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limits::USERS_FILE_BYTES_MAX {
            return Err(UsersError::TooLarge);
        }
        let text = str::from_utf8(&bytes).map_err(|error| {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = 1 + memchr::memchr_iter(b'\n', before).count();
            let start = memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
            let column = 1 + String::from_utf8_lossy(before.get(start..).unwrap_or_default())
                .chars()
                .count();
            UsersError::Syntax { line, column, what: "this is not UTF-8" }
        })?;
        let users = Users::parse(text)?;
        users.salt_plain_passwords();
        Ok(users)
    }

    /// Reads the text of a file.
    pub fn parse(text: &str) -> Result<Users, UsersError> {
        let mut secrets = HashMap::new();
        for (at, text) in text.lines().enumerate() {
            let mut line = Line { text, rest: text, number: at + 1 };
            line.skip_space();
            if line.rest.is_empty() || line.rest.starts_with([';', '#']) {
                continue;
            }
            let (user, user_at) = (line.quoted("expected a user name in double quotes")?, line);
            if user.is_empty() {
                return Err(line.error("the user name is empty"));
            }
            line.skip_space();
            let secret_at = line;
            let secret = line.quoted("expected a password or verifier in double quotes")?;
            if line.rest.starts_with(|c: char| !c.is_whitespace()) {
                return Err(line.error("expected a space; a quote inside quotes is doubled"));
            }
            let secret = Secret::parse(&secret)
                .map_err(|BadVerifier| secret_at.error("malformed SCRAM-SHA-256 verifier"))?;
            if secrets.insert(user.into_boxed_str(), secret).is_some() {
                return Err(user_at.error("this user has been named before"));
            }
        }
        Ok(Users { secrets })
    }

    /// What `name` must know; none: it is not in the file.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Secret> {
        self.secrets.get(name)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.secrets.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    /// Their names, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.secrets.keys().map(AsRef::as_ref)
    }

    fn salt_plain_passwords(&self) {
        let plain = self.secrets.iter().filter_map(|(user, secret)| match secret {
            Secret::Plain(password) => Some((user, password)),
            _ => None,
        });
        for (user, password) in plain.take(limits::USERS_SALTED_MAX) {
            let salt = process::salt_of(user);
            let password = password.expose_secret();
            let _ = process::salted_passwords().get(user, password, &salt, ITERATIONS_DEFAULT);
        }
    }
}

/// One line while it is read.
#[derive(Clone, Copy)]
struct Line<'a> {
    text: &'a str,
    rest: &'a str,
    number: usize,
}

impl Line<'_> {
    fn error(&self, what: &'static str) -> UsersError {
        let read = self.text.len().saturating_sub(self.rest.len());
        let column = 1 + self.text.get(..read).unwrap_or_default().chars().count();
        UsersError::Syntax { line: self.number, column, what }
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// A quoted string, its doubled quotes made single.
    fn quoted(&mut self, what: &'static str) -> Result<String, UsersError> {
        let opening = *self;
        self.rest = self.rest.strip_prefix('"').ok_or_else(|| opening.error(what))?;
        let mut value = String::new();
        loop {
            let unclosed = || opening.error("this quote is never closed");
            let (part, rest) = self.rest.split_once('"').ok_or_else(unclosed)?;
            value.push_str(part);
            self.rest = rest;
            match rest.strip_prefix('"') {
                Some(rest) => self.rest = rest,
                None => return Ok(value),
            }
            value.push('"');
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
        WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    fn kind(secret: Option<&Secret>) -> String {
        match secret {
            None => "unknown".into(),
            Some(Secret::None) => "none".into(),
            Some(Secret::Plain(password)) => format!("plain {}", password.expose_secret()),
            Some(Secret::Md5(hash)) => format!("md5 {}", hash.expose_secret()),
            Some(Secret::Scram(verifier)) => format!("scram {}", verifier.format()),
        }
    }

    #[test]
    fn files_that_can_be_read() {
        let check = |text: &str, user: &str, expect: &str| {
            assert_eq!(kind(Users::parse(text).unwrap().get(user)), expect, "{text}");
        };
        check("", "ann", "unknown");
        check("\n; \"ann\" \"x\"\n# \"ann\" \"x\"\n  ; more\n", "ann", "unknown");
        check("\"ann\" \"secret\"", "ann", "plain secret");
        check("\"ann\" \"secret\"\r\n\"bob\" \"b\"\r\n", "ann", "plain secret");
        check("  \"ann\"\t\"a;b#c\" \"ignored", "ann", "plain a;b#c");
        check("\"a\"\"n\" \"\"\"\"", "a\"n", "plain \"");
        check("\"ann\" \"\"", "ann", "none");
        check("\"änn\" \"pä ss\"", "änn", "plain pä ss");
        let md5 = "f96b697d7cb7938d525a2f31aaf161d0";
        check(&format!("\"ann\" \"md5{md5}\""), "ann", &format!("md5 {md5}"));
        check("\"ann\" \"md5abc\"", "ann", "plain md5abc");
        check(&format!("\"ann\" \"{VERIFIER}\""), "ann", &format!("scram {VERIFIER}"));
        check("\"ann\" \"SCRAM-SHA-256\"", "ann", "plain SCRAM-SHA-256");
    }

    #[test]
    fn errors_say_where() {
        let check = |text: &str, expect: &str| {
            let error = Users::parse(text).unwrap_err().to_string();
            assert_eq!(error.replace(" of the users file", ""), expect, "{text}");
        };
        check("ann secret", "line 1, column 1: expected a user name in double quotes");
        check("\n \"\" \"x\"", "line 2, column 4: the user name is empty");
        check("\"ann", "line 1, column 1: this quote is never closed");
        let what = "expected a password or verifier in double quotes";
        check("\"ann\"", &format!("line 1, column 6: {what}"));
        check("\"änn\" x", &format!("line 1, column 7: {what}"));
        check("\"ann\" \"x\ny\"", "line 1, column 7: this quote is never closed");
        let what = "expected a space; a quote inside quotes is doubled";
        check("\"ann\" \"x\"y\"", &format!("line 1, column 10: {what}"));
        check("\"ann\" \"SCRAM-SHA-256$x\"", "line 1, column 7: malformed SCRAM-SHA-256 verifier");
        check("\"a\" \"x\"\n\"a\" \"y\"", "line 2, column 4: this user has been named before");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_found() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"\"ann\" \"x\"\n\"\xc3\xa4\" \"\xe4\"\n").unwrap();
        let error = Users::load(file.path()).unwrap_err().to_string();
        assert_eq!(error, "line 2, column 6 of the users file: this is not UTF-8");
    }

    #[test]
    fn a_loaded_file_knows_its_users() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"\"ann\" \"hidden\"\n\"bob\" \"\"\n").unwrap();
        let users = Users::load(file.path()).unwrap();
        assert_eq!((users.len(), users.is_empty()), (2, false));
        let mut names: Vec<_> = users.names().collect();
        names.sort_unstable();
        assert_eq!(names, ["ann", "bob"]);
        assert!(!format!("{users:?}").contains("hidden"), "a secret is shown");
        assert!(Users::load(Path::new("/nonexistent/users.txt")).is_err());
    }
}
