//! The commands as a user meets them: what they print, and how they end.

#![allow(clippy::unwrap_used)] // helpers of tests are tests too

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn pgherd(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgherd"));
    command.args(args).env_remove("PGHERD_CONFIG").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn file(dir: &Path, content: &str) -> String {
    let path = dir.join("pgherd.toml");
    fs::write(&path, content).unwrap();
    path.display().to_string()
}

#[test]
fn a_wrong_configuration_ends_with_78_and_names_every_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "[pool]\nsize_min = 30\n[log]\nlevl = \"info\"\n");
    for command in ["check", "proxy"] {
        let output = pgherd(&[command, "--config", &path]);
        assert_eq!(output.status.code(), Some(78), "{command}");
        assert_eq!(
            text(&output.stderr),
            format!(
                "{path}:2:12: pool.size_min is 30, more than pool.size_default (20)\n\
                 {path}:4:1: unknown key \"levl\"; did you mean \"level\"? expected one of format, \
                 level, connections, disconnections, pooler_errors, stats_period\n"
            )
        );
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn files_that_a_configuration_names_are_read_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let check = |content: &str, expect: &str| {
        let path = file(dir.path(), content);
        for command in ["check", "proxy"] {
            let output = pgherd(&[command, "--config", &path]);
            let error = text(&output.stderr);
            assert_eq!(output.status.code(), Some(78), "{command}: {error}");
            assert!(error.contains(expect), "{command}: {error}");
        }
    };
    check(" \n", "is empty: pgherd needs at least [nodes] and [databases]");
    check(
        "[auth]\nusers_file = \"/nonexistent/users\"\n",
        ":2:14: /nonexistent/users: the users file can't be read",
    );
    check(
        "[tls.client]\nmode = \"require\"\ncert_file = \"/nonexistent/c\"\nkey_file = \"/nonexistent/k\"",
        "cannot read /nonexistent/c",
    );
    check(
        "[nodes.n]\nhost = \"h\"\n[databases.d]\nnodes = [\"n\"]\nuser = \"u\"\npassword_file = \"/nonexistent/p\"",
        ":6:17: cannot read /nonexistent/p",
    );
    let output = pgherd(&["check", "--config", "/nonexistent/pgherd.toml"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).starts_with("cannot read /nonexistent/pgherd.toml: "));
}

#[test]
fn the_example_passes() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../config.example.toml");
    let output = pgherd(&["check", "-c", example]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let summary = ": ok: 1 node, 1 database, 0 user overrides, 1 auth rule\n";
    assert!(text(&output.stdout).contains(summary), "{}", text(&output.stdout));
}

#[test]
fn the_path_may_come_from_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "[proxy]\n");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgherd"));
    let output = command.arg("check").env("PGHERD_CONFIG", &path).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("warning: there are no [databases]"));
}

#[test]
fn wrong_arguments_end_with_2_and_help_with_0() {
    let check = |args: &[&str], code: i32| {
        assert_eq!(pgherd(args).status.code(), Some(code), "{args:?}");
    };
    check(&[], 2);
    check(&["prox"], 2);
    check(&["check"], 2);
    check(&["generate", "completions", "cmd.exe"], 2);
    check(&["--help"], 0);
    check(&["proxy", "-h"], 0);
    let version = text(&pgherd(&["--version"]).stdout);
    assert_eq!(version, format!("pgherd {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_and_manual_pages_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = pgherd(&["generate", "completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        let script = text(&output.stdout);
        for word in ["proxy", "check", "demo", "ctl", "generate", "config"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let page = text(&pgherd(&["generate", "man"]).stdout);
    assert!(page.contains(".TH pgherd 1") && page.contains("pgherd\\-proxy(1)"), "{page}");

    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("new").display().to_string();
    assert_eq!(pgherd(&["generate", "man", "--out", &out]).status.code(), Some(0));
    assert_eq!(pgherd(&["generate", "completions", "zsh", "--out", &out]).status.code(), Some(0));
    for name in ["pgherd.1", "pgherd-proxy.1", "pgherd-ctl.1", "_pgherd"] {
        assert!(Path::new(&out).join(name).is_file(), "{name}");
    }
}
