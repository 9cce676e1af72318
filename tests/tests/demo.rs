//! `pgherd demo`, as a newcomer runs it: it works, says so, and leaves nothing behind.
#![allow(clippy::unwrap_used)] // how a test fails

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use pgherd::local::{Binaries, Home, free_port};

fn demo(dir: &Path, listen: &str, more: &[&str]) -> Command {
    let mut command = Command::new(pgherd_tests::binary().unwrap());
    command.args(["demo", "--listen", listen, "--admin"]);
    command.arg(format!("127.0.0.1:{}", free_port().unwrap()));
    command.arg("--dir").arg(dir).args(["--clients", "2"]).args(more);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(output: &Output) -> String {
    let part = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    part(&output.stdout) + &part(&output.stderr)
}

/// The demo's address answers once servers and proxy run.
fn wait_for(child: &mut Child, listen: &str) {
    while TcpStream::connect(listen).is_err() {
        assert!(child.try_wait().unwrap().is_none(), "the demo ended early");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn assert_empty(dir: &Path) {
    let left: Vec<_> = std::fs::read_dir(dir).unwrap().flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn a_demo_runs_and_leaves_nothing() {
    let home = Home::new(None, Binaries::find().unwrap().account()).unwrap();
    let listen = format!("127.0.0.1:{}", free_port().unwrap());
    let output = demo(home.path(), &listen, &["--once", "--seconds", "2"]).output().unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    for part in ["read-write", "read-only", "replica2", "P99", &format!("-p {}", &listen[10..])] {
        assert!(said.contains(part), "{part} is missing in\n{said}");
    }
    assert!(!said.contains('\x1b'), "colours are for terminals\n{said}");
    assert_empty(home.path());
}

#[test]
fn ctrl_c_ends_a_demo_and_leaves_nothing() {
    let home = Home::new(None, Binaries::find().unwrap().account()).unwrap();
    let listen = format!("127.0.0.1:{}", free_port().unwrap());
    let mut child = demo(home.path(), &listen, &["--seconds", "600"]).spawn().unwrap();
    wait_for(&mut child, &listen);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    assert_empty(home.path());
}

#[test]
fn a_demo_that_is_killed_leaves_nothing() {
    let home = Home::new(None, Binaries::find().unwrap().account()).unwrap();
    let listen = format!("127.0.0.1:{}", free_port().unwrap());
    let mut child = demo(home.path(), &listen, &["--seconds", "600"]).spawn().unwrap();
    wait_for(&mut child, &listen);
    child.kill().unwrap();
    child.wait().unwrap();
    // The keepers are at work now; that they come to an end is what this test waits for.
    while std::fs::read_dir(home.path()).unwrap().next().is_some() {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    while TcpStream::connect(&listen).is_ok() {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn a_taken_port_is_named_with_its_flag() {
    let home = Home::new(None, Binaries::find().unwrap().account()).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let output = demo(home.path(), &listen, &["--once"]).output().unwrap();
    let said = text(&output);
    assert!(
        !output.status.success() && said.contains(&listen) && said.contains("--listen"),
        "{said}"
    );
    assert_empty(home.path());
}
