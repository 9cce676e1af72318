//! What review should not have to look for: module documentation, length, left-overs, the map.
#![allow(clippy::unwrap_used)] // how a test fails

use std::fs;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 800;
const ROOMS: [&str; 4] = ["router", "proxy", "bench", "tests"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Files below `dir` with `extension`, but not what builds leave there.
fn files(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let skipped = ["target", "node_modules", "corpus", "corpus-run", "artifacts", ".git"];
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            if !skipped.iter().any(|s| name == *s) {
                files(&path, extension, found);
            }
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
}

/// What is wrong with one source file.
fn complaints(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if !text.starts_with("//!") {
        wrong.push("does not open with `//!`: what is this room for?".to_owned());
    }
    let count = text.lines().count();
    if count > LINES_MAX {
        wrong.push(format!("has {count} lines, {LINES_MAX} are the limit"));
    }
    // Put together here, so that this file does not complain of itself.
    let left_overs = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("to", "do!(")];
    for (number, line) in text.lines().enumerate().map(|(n, l)| (n + 1, l)) {
        if line.ends_with([' ', '\t']) {
            wrong.push(format!("line {number} ends with a space"));
        }
        if let Some(word) = left_overs.iter().find(|w| line.contains(*w)) {
            wrong.push(format!("line {number} holds {word}"));
        }
    }
    wrong
}

#[test]
fn every_source_file_is_tidy() {
    let mut found = Vec::new();
    for room in ROOMS {
        files(&root().join(room), "rs", &mut found);
    }
    assert!(found.len() > 20, "the sources are not where this test looks");
    let wrong: Vec<_> = found
        .iter()
        .flat_map(|path| {
            let name = path.strip_prefix(root()).unwrap_or(path).display().to_string();
            complaints(&fs::read_to_string(path).unwrap())
                .into_iter()
                .map(move |c| format!("{name}: {c}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_map_names_every_room() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut rooms: Vec<String> = ROOMS.iter().map(|r| format!("{r}/")).collect();
    for entry in fs::read_dir(root().join("proxy/src")).unwrap().flatten() {
        if entry.path().is_dir() {
            rooms.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    let absent: Vec<_> = rooms.into_iter().filter(|r| !map.contains(r.as_str())).collect();
    assert!(absent.is_empty(), "ARCHITECTURE.md does not mention {absent:?}");
}

#[test]
fn complaints_are_found() {
    assert!(complaints("//! A room.\n").is_empty());
    assert_eq!(complaints("fn f() {}\n").len(), 1);
    assert_eq!(complaints("//! A room. \n").len(), 1);
    assert_eq!(complaints(&"//! A room.\n".repeat(LINES_MAX + 1)).len(), 1);
    assert_eq!(complaints(&format!("//! A room.\n// {}\n", concat!("TO", "DO"))).len(), 1);
}
