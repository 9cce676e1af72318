//! Drivers that applications use, against pgherd: each runs a program of checks in its own language.
//!
//! What they need is downloaded once, into the target directory, in the versions that the repository names.
#![allow(clippy::unwrap_used, clippy::panic)] // how a test fails

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pgherd_tests::{DATABASE, Fixture, USER, cache};

fn drivers(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers").join(language)
}

/// Runs a command to its end; what it says is shown when it fails.
fn run(command: &mut Command, missing: &str) {
    let output = match command.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) => panic!("{missing}: {error}"),
    };
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{:?} failed ({})\n{}\n{}",
        command.get_program(),
        output.status,
        said(&output.stdout),
        said(&output.stderr)
    );
    println!("{}", said(&output.stdout));
}

/// Calls `install` with an empty directory unless one was filled for the same `manifest` before.
fn installed(language: &str, manifest: &Path, install: impl FnOnce(&Path)) -> PathBuf {
    let dir = cache("drivers").join(language);
    let (stamp, wanted) = (dir.join("installed"), fs::read_to_string(manifest).unwrap());
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return dir;
    }
    let _ = fs::remove_dir_all(&dir); // What another manifest, or a broken download, left.
    fs::create_dir_all(&dir).unwrap();
    install(&dir);
    fs::write(&stamp, wanted).unwrap();
    dir
}

/// Few servers and many clients, so that every driver meets servers that others used before.
async fn fixture() -> Fixture {
    Fixture::builder().config("[pool]\nsize_default = 4").start().await
}

fn check(fixture: &Fixture, command: &mut Command, missing: &str) {
    run(command.env("PGHERD_DSN", fixture.url(USER, DATABASE)), missing);
    let open = fixture.direct("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%'");
    assert_eq!(open, ["0"], "no transaction stays open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_drivers() {
    let missing = "python3 with venv is needed (scripts/install python)";
    let manifest = drivers("python").join("requirements.txt");
    let dir = installed("python", &manifest, |dir| {
        run(Command::new("python3").args(["-m", "venv"]).arg(dir), missing);
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
        run(Command::new(dir.join("bin/python")).args(pip).arg(&manifest), missing);
    });
    let fixture = fixture().await;
    let mut python = Command::new(dir.join("bin/python"));
    check(&fixture, python.arg(drivers("python").join("checks.py")), missing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_drivers() {
    let missing = "node and npm are needed (scripts/install node)";
    let manifest = drivers("node").join("package.json");
    let dir = installed("node", &manifest, |dir| {
        fs::copy(&manifest, dir.join("package.json")).unwrap();
        let npm = ["install", "--silent", "--no-audit", "--no-fund", "--no-package-lock"];
        run(Command::new("npm").args(npm).current_dir(dir), missing);
    });
    // Modules are looked up beside the program that imports them.
    fs::copy(drivers("node").join("checks.js"), dir.join("checks.js")).unwrap();
    let fixture = fixture().await;
    check(&fixture, Command::new("node").arg(dir.join("checks.js")), missing);
}
