//! Where in the file a mistake is, and how to say it so that it can be corrected at once.
//!
//! A [`Document`] keeps the place of every key and value; `load` and `validate` ask it for line and
//! column. Values of the file are quoted in messages only where they can't be secrets.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::limits;

/// One mistake, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong, and what was expected.
    pub message: String,
}

/// Every mistake of one file, in the order of its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// The file, as it was named.
    pub file: String,
    /// At least one.
    pub list: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Problem { line, column, message }) in self.list.iter().enumerate() {
            let end = if i == 0 { "" } else { "\n" };
            write!(f, "{end}{}:{line}:{column}: {message}", self.file)?;
        }
        Ok(())
    }
}

/// The parsed file with the place of everything in it.
#[derive(Debug)]
pub(super) struct Document<'t> {
    text: &'t str,
    root: Spanned<DeTable<'t>>,
    problems: Vec<Problem>,
    /// Top-level tables that could not be read whole: nothing is concluded from what they lack.
    broken: BTreeSet<String>,
}

impl<'t> Document<'t> {
    /// Parses the file; mistakes of syntax are in `problems`.
    pub(super) fn parse(text: &'t str) -> Document<'t> {
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut document = Document { text, root, problems: Vec::new(), broken: BTreeSet::new() };
        for error in errors {
            let at = error.span().map_or(text.len(), |span| span.start);
            document.add(at, plain(error.message()));
        }
        document
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// Whether these top-level tables could be read whole.
    pub(super) fn are_sound(&self, sections: &[&str]) -> bool {
        sections.iter().all(|section| !self.broken.contains(*section))
    }

    /// The tree, to be deserialised.
    pub(super) fn root(&self) -> &Spanned<DeTable<'t>> {
        &self.root
    }

    /// Reports `message` at the value that `path` leads to, or at its nearest ancestor in the
    /// file. Steps into arrays are numbers.
    pub(super) fn report(&mut self, path: &[&str], message: impl Into<String>) {
        let at = self.offset(path);
        self.add(at, message.into());
    }

    /// Reports what serde says about `tree`, and removes the place from it, so that the rest can
    /// be judged too; false: the place is unknown.
    pub(super) fn report_serde(
        &mut self,
        error: &toml::de::Error,
        tree: &mut Spanned<DeTable<'t>>,
    ) -> bool {
        let Some(span) = error.span() else {
            self.add(0, explain(error.message()));
            return false;
        };
        self.add(span.start, explain(error.message()));
        let mut path = Vec::new();
        let removed = remove(tree.get_mut(), &span, &mut path);
        // The innermost step was pushed first.
        self.broken.extend(path.pop());
        removed
    }

    /// The mistakes found, by line; `None`: there are none.
    pub(super) fn into_problems(self, file: &str) -> Option<Problems> {
        let mut list = self.problems;
        list.sort();
        list.dedup();
        (!list.is_empty()).then(|| Problems { file: file.to_owned(), list })
    }

    fn add(&mut self, at: usize, message: String) {
        if self.problems.len() < limits::CONFIG_PROBLEMS_MAX {
            let (line, column) = position(self.text, at);
            self.problems.push(Problem { line, column, message });
        }
    }

    fn offset(&self, path: &[&str]) -> usize {
        let Some((first, rest)) = path.split_first() else { return 0 };
        let Some(mut value) = self.root.get_ref().get(*first) else { return 0 };
        for step in rest {
            let next = match value.get_ref() {
                DeValue::Table(table) => table.get(*step),
                DeValue::Array(array) => step.parse().ok().and_then(|i: usize| array.get(i)),
                _ => None,
            };
            match next {
                Some(next) => value = next,
                None => break,
            }
        }
        value.span().start
    }
}

/// Removes the innermost key whose own place, or whose value's, is `span`. Its path is left in
/// `path`, innermost step first.
fn remove(table: &mut DeTable<'_>, span: &Range<usize>, path: &mut Vec<String>) -> bool {
    let mut found = None;
    for (key, value) in table.iter_mut() {
        let here = key.span() == *span || value.span() == *span;
        let removed_inside = match value.get_mut() {
            DeValue::Table(inner) => remove(inner, span, path),
            DeValue::Array(items) => {
                // An array loses one key of one of its tables, or goes as a whole.
                let inside = items.iter_mut().any(|item| match item.get_mut() {
                    DeValue::Table(inner) => remove(inner, span, path),
                    _ => false,
                });
                if !inside && items.iter().any(|item| item.span() == *span) {
                    found = Some(key.get_ref().clone());
                    break;
                }
                inside
            }
            _ => false,
        };
        if removed_inside {
            path.push(key.get_ref().to_string());
            return true;
        }
        if here {
            found = Some(key.get_ref().clone());
            break;
        }
    }
    let Some(key) = found else { return false };
    path.push(key.to_string());
    table.remove(&*key).is_some()
}

/// Line and column of a byte, both from 1.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    let column = before.get(line_start..).unwrap_or("").chars().count() + 1;
    (line, column)
}

/// serde's message in the file's words.
fn explain(message: &str) -> String {
    let quoted = |prefix: &str| {
        let (name, rest) = message.strip_prefix(prefix)?.split_once('`')?;
        Some((name, rest.split('`').skip(1).step_by(2).collect::<Vec<_>>()))
    };
    if let Some((name, known)) = quoted("unknown field `") {
        return unknown("key", name, &known);
    }
    if let Some((name, known)) = quoted("unknown variant `") {
        return unknown("value", name, &known);
    }
    if let Some((name, _)) = quoted("missing field `") {
        return format!("the key \"{name}\" is missing here");
    }
    let wrong = message.strip_prefix("invalid type: ").or(message.strip_prefix("invalid value: "));
    if let Some((found, expected)) = wrong.and_then(|w| w.split_once(", expected ")) {
        return format!("expected {}, found {}", noun(expected), found_value(found));
    }
    plain(message)
}

/// `unknown key "x"; did you mean "y"? expected one of …`
pub(super) fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let meant = match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"? "),
        None => String::new(),
    };
    let known = known.join(", ");
    if known.is_empty() {
        return format!("unknown {what} \"{name}\"; there is none");
    }
    format!("unknown {what} \"{name}\"; {meant}expected one of {known}")
}

/// The known word that was probably meant.
pub(super) fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let distance = |k: &str| strsim::osa_distance(name, k);
    let (near, far) = known.map(|k| (k, distance(k))).min_by_key(|(_, d)| *d)?;
    // A third of the word may be wrong; more is another word.
    (far <= name.chars().count() / 3 + 1 && far < near.chars().count()).then_some(near)
}

/// A Rust type in words.
fn noun(expected: &str) -> &str {
    match expected {
        "usize" | "u64" => "a whole number, 0 or more",
        "u32" => "a whole number from 0 to 4294967295",
        "u16" => "a whole number from 0 to 65535",
        "a boolean" => "true or false",
        "a sequence" => "an array",
        "a map" => "a table",
        "path string" => "a string",
        other if other.starts_with("struct ") => "a table",
        other if other.contains(" enum ") || other.starts_with("enum ") => "a string",
        other => other,
    }
}

/// What was found, by its type only where it may be a secret (a string in the wrong place).
fn found_value(found: &str) -> String {
    match found.split_once(' ') {
        Some(("string", _)) => "a string".to_owned(),
        Some(("boolean", value)) => value.replace('`', ""),
        _ => match found {
            "sequence" => "an array".to_owned(),
            "map" => "a table".to_owned(),
            other => other.replace('`', ""),
        },
    }
}

fn plain(message: &str) -> String {
    message.replace('`', "\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_in_the_files_words() {
        let check = |serde: &str, expect: &str| assert_eq!(explain(serde), expect);
        check(
            "unknown field `pol_size`, expected one of `mode`, `size_min`, `pool_size`",
            "unknown key \"pol_size\"; did you mean \"pool_size\"? \
             expected one of mode, size_min, pool_size",
        );
        check(
            "unknown field `x`, expected `client` or `server`",
            "unknown key \"x\"; expected one of client, server",
        );
        check("missing field `host`", "the key \"host\" is missing here");
        check(
            "invalid type: string \"secret\", expected usize",
            "expected a whole number, 0 or more, found a string",
        );
        check(
            "invalid type: integer `5`, expected a boolean",
            "expected true or false, found integer 5",
        );
    }

    #[test]
    fn columns_count_characters() {
        let check = |at: usize, expect: (usize, usize)| {
            assert_eq!(position("é = 1\nüü = 2\n", at), expect, "byte {at}");
        };
        check(0, (1, 1));
        check(3, (1, 3));
        check(7, (2, 1));
        check(11, (2, 3));
        check(999, (3, 1));
    }
}
