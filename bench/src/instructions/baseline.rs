//! The committed figures: bench/instructions.toml.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

/// A judged figure may be so much higher; its noise is far below that (bench/INSTRUCTIONS.md).
const GROWTH_MAX: f64 = 0.05;

/// Figures, and what they were taken with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// The commit that was measured; `-dirty`: with changes.
    pub commit: String,
    /// `rustc --version`.
    pub rustc: String,
    /// `valgrind --version`.
    pub valgrind: String,
    /// Cargo's profile.
    pub profile: String,
    /// User instructions of pgherd for one transaction, by load: those that are judged.
    pub judged: BTreeMap<String, f64>,
    /// Those that depend on the machine's load, too.
    pub told: BTreeMap<String, f64>,
}

/// A figure beside its baseline.
#[derive(Debug, PartialEq)]
pub struct Verdict {
    known: Option<f64>,
    now: f64,
}

impl Verdict {
    fn is_too_high(&self) -> bool {
        self.known.is_some_and(|known| self.now > known * (1.0 + GROWTH_MAX))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known {
            Some(known) => {
                let percent = (self.now / known - 1.0) * 100.0;
                write!(f, "baseline {known:.0} ({percent:+.1} %)")
            }
            None => f.write_str("no baseline"),
        }
    }
}

impl Baseline {
    /// The committed one; none: there is no such file.
    pub fn read(path: &Path) -> Result<Option<Baseline>> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(toml::from_str(&text).context(path.display().to_string())?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context(path.display().to_string()),
        }
    }

    /// Of this tree and its tools, without figures yet.
    pub fn here(target: &Path) -> Result<Baseline> {
        let profile = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Baseline {
            commit: said("git", &["describe", "--always", "--dirty", "--exclude=*"])?,
            rustc: said("rustc", &["--version"])?,
            valgrind: said("valgrind", &["--version"])?,
            profile,
            judged: BTreeMap::new(),
            told: BTreeMap::new(),
        })
    }

    /// Takes down a figure.
    pub fn set(&mut self, judged: bool, load: String, figure: f64) {
        let figures = if judged { &mut self.judged } else { &mut self.told };
        figures.insert(load, figure.round());
    }

    /// Replaces the committed one.
    pub fn write(&self, path: &Path) -> Result<()> {
        let head = "# User instructions of pgherd for one transaction (pgbench -S), by callgrind.\n\
                    # Renewed by `make instructions ARGS=--write`; bench/INSTRUCTIONS.md says how stable it is.\n";
        let text = format!("{head}{}", toml::to_string(self)?);
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }

    /// `now` beside what is known.
    pub fn judge(&self, load: &str, now: f64) -> Verdict {
        let known = self.judged.get(load).or_else(|| self.told.get(load));
        Verdict { known: known.copied(), now }
    }

    /// What makes `now` hard to compare.
    pub fn differences(&self, now: &Baseline) -> Vec<String> {
        let pairs = [
            ("rustc", &self.rustc, &now.rustc),
            ("valgrind", &self.valgrind, &now.valgrind),
            ("profile", &self.profile, &now.profile),
        ];
        let differ = pairs.into_iter().filter(|(_, old, new)| old != new);
        differ.map(|(what, old, new)| format!("{what} was \"{old}\", is \"{new}\"")).collect()
    }

    /// Figures of `now` that are too high.
    pub fn too_high(&self, now: &Baseline) -> Vec<String> {
        let judged = now.judged.iter().map(|(name, now)| (name, self.judge(name, *now)));
        let high = judged.filter(|(_, verdict)| verdict.is_too_high());
        let text =
            |(name, v): (&String, Verdict)| format!("{name}: {:.0} instructions, {v}", v.now);
        high.map(text).collect()
    }
}

fn said(program: &str, args: &[&str]) -> Result<String> {
    let dir = env!("CARGO_MANIFEST_DIR");
    let mut command = Command::new(program);
    let output =
        command.args(args).current_dir(dir).output().with_context(|| program.to_owned())?;
    if !output.status.success() {
        bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(figure: f64) -> Baseline {
        Baseline {
            commit: "c".into(),
            rustc: "r".into(),
            valgrind: "v".into(),
            profile: "p".into(),
            judged: BTreeMap::from([("simple".into(), figure)]),
            told: BTreeMap::from([("many".into(), figure)]),
        }
    }

    #[test]
    fn more_than_five_percent_is_too_high() {
        let known = baseline(10_000.0);
        assert_eq!(known.too_high(&baseline(10_499.0)), [""; 0]);
        assert_eq!(known.too_high(&baseline(5_000.0)), [""; 0]);
        let said = known.too_high(&baseline(10_600.0));
        assert_eq!(said, ["simple: 10600 instructions, baseline 10000 (+6.0 %)"]);
        let many = BTreeMap::from([("many".into(), 99_000.0)]);
        let told = Baseline { told: many, ..baseline(10_000.0) };
        assert_eq!(known.too_high(&told), [""; 0], "it is only told");
        assert_eq!(known.judge("prepared", 1.0).to_string(), "no baseline");
    }

    #[test]
    fn the_file_comes_back_as_it_was_written() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let known = baseline(10_242.0);
        known.write(file.path()).unwrap();
        assert_eq!(Baseline::read(file.path()).unwrap(), Some(known));
        assert_eq!(Baseline::read(Path::new("/nonexistent/file")).unwrap(), None);
    }

    #[test]
    fn other_tools_are_told() {
        let known = baseline(1.0);
        assert_eq!(known.differences(&known), [""; 0]);
        let other = Baseline { rustc: "new".into(), ..known.clone() };
        assert_eq!(known.differences(&other), ["rustc was \"r\", is \"new\""]);
    }
}
