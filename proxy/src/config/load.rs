//! From a file to a [`Config`]: every mistake at once, each with line and column.
//!
//! Files that the configuration names (certificates, users) are not read here; see `reload`.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::diagnose::{Document, Problems};
use super::{Config, validate};
use crate::limits;

/// Why there is no configuration. All of it is the operator's to correct.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("cannot read {file}: {source}", file = file.display())]
    Read {
        /// Which one.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds nothing.
    #[error("{file} is empty: pgherd needs at least [nodes] and [databases] (if it is being written, try again)", file = file.display())]
    Empty {
        /// Which one.
        file: PathBuf,
    },
    /// The file says something that can't be.
    #[error("{0}")]
    Invalid(Problems),
    /// The process ended while it was read, or pgherd has a bug.
    #[error("reading the configuration was interrupted: {0}")]
    Interrupted(tokio::task::JoinError),
    /// There is no file to read again.
    #[error("this process was started without a configuration file, so there is none to reload")]
    NoFile,
}

impl Config {
    /// Reads and checks the file at `path`. Blocks.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = read(path).map_err(|source| ConfigError::Read { file: path.into(), source })?;
        // All defaults would be valid, and would take every database away.
        if text.trim().is_empty() {
            return Err(ConfigError::Empty { file: path.into() });
        }
        Config::parse(&text, &path.display().to_string())
    }

    /// Checks `text`; errors call it `file_name`.
    pub fn parse(text: &str, file_name: &str) -> Result<Config, ConfigError> {
        let mut document = Document::parse(text);
        let config = if document.is_sound() { deserialize(&mut document) } else { None };
        if let Some(config) = &config {
            validate::validate(config, &mut document);
        }
        match (document.into_problems(file_name), config) {
            (None, Some(config)) => Ok(config),
            (problems, _) => {
                let none = || Problems { file: file_name.to_owned(), list: Vec::new() };
                Err(ConfigError::Invalid(problems.unwrap_or_else(none)))
            }
        }
    }
}

/// A mistake that was found behind the file: a certificate that is missing, users that can't be read. It is
/// told at the key of `file` that `path` leads to. Blocks.
pub(super) fn located(file: &Path, path: &[&str], message: String) -> ConfigError {
    // Read a second time, because a configuration does not know where it stood.
    let text = read(file).unwrap_or_default();
    let mut document = Document::parse(&text);
    document.report(path, message);
    let name = file.display().to_string();
    let none = || Problems { file: name.clone(), list: Vec::new() };
    ConfigError::Invalid(document.into_problems(&name).unwrap_or_else(none))
}

/// The file's text; a bound keeps a wrong path (a device, a dump) from filling memory.
pub(super) fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(limits::CONFIG_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > limits::CONFIG_BYTES_MAX {
        let what = format!("it is larger than {} bytes", limits::CONFIG_BYTES_MAX);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    Ok(text)
}

/// Reports a mistake, takes it out and tries again, so that all are found in one run; serde itself
/// stops at the first.
fn deserialize(document: &mut Document<'_>) -> Option<Config> {
    let mut tree = document.root().clone();
    for _ in 0..limits::CONFIG_PROBLEMS_MAX {
        match Config::deserialize(toml::Deserializer::from(tree.clone())) {
            Ok(config) => return Some(config),
            Err(error) => {
                if !document.report_serde(&error, &mut tree) {
                    return None;
                }
            }
        }
    }
    None
}
