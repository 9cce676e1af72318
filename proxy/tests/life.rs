//! A running proxy: ready, reload, drain, hand-over. Without PostgreSQL: a client that has not
//! logged in yet is a client too.

#![allow(clippy::unwrap_used)] // helpers of tests are tests too

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

const PATIENCE: Duration = Duration::from_secs(30);

/// Ends what it started, also when a test fails.
struct Proxy {
    child: Child,
    dir: tempfile::TempDir,
    address: SocketAddr,
    admin: SocketAddr,
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Waits until `done`, without saying how fast it must be.
fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Proxy {
    fn start(more: &str) -> Proxy {
        let dir = tempfile::tempdir().unwrap();
        let (address, admin) = (free(), free());
        let proxy = format!(
            "[admin]\nlisten = \"{admin}\"\n[proxy]\nlisten = [\"{address}\"]\npid_file = \"{}\"\n{more}",
            dir.path().join("pid").display()
        );
        fs::write(dir.path().join("pgherd.toml"), proxy).unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_pgherd"))
            .args(["proxy", "--config"])
            .arg(dir.path().join("pgherd.toml"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let proxy = Proxy { child, dir, address, admin };
        eventually("a pid file", || proxy.pid().is_some());
        proxy
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// Who serves now.
    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(fs::read_to_string(self.path("pid")).ok()?.trim().parse().ok()?)
    }

    fn own_pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid().unwrap(), signal).unwrap();
    }

    /// How the process ended that was started first.
    fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    fn rewrite(&self, from: &str, to: &str) {
        let path = self.path("pgherd.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(self.path("new"), text.replace(from, to)).unwrap();
        fs::rename(self.path("new"), path).unwrap();
    }

    /// A client that asked for TLS and heard that there is none: it is being served.
    fn client(&self) -> TcpStream {
        let mut client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        // SSLRequest (PostgreSQL manual, "Message Formats").
        client.write_all(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]).unwrap();
        let mut answer = [0];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"N");
        client
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(pid) = self.pid().filter(|pid| *pid != self.own_pid()) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

#[test]
fn a_drained_proxy_leaves_nothing() {
    let mut proxy = Proxy::start("");
    drop(proxy.client());
    proxy.signal(Signal::TERM);
    assert!(proxy.ended().success());
    assert!(!proxy.path("pid").exists());
    assert!(TcpStream::connect(proxy.address).is_err());
}

#[test]
fn a_second_term_does_not_wait_for_clients() {
    let mut proxy = Proxy::start("drain_timeout = \"1h\"\nclient_login_timeout = \"1h\"\n");
    let _client = proxy.client();
    proxy.signal(Signal::TERM);
    eventually("refused clients", || TcpStream::connect(proxy.address).is_err());
    proxy.signal(Signal::TERM);
    assert!(proxy.ended().success());
}

#[test]
fn a_changed_file_is_applied_and_a_wrong_one_is_not() {
    let proxy = Proxy::start("query_timeout = \"1s\"\n");
    proxy.rewrite("query_timeout = \"1s\"", "query_timeout = \"2s\"");
    eventually("the change", || proxy.log().contains("applied=\"proxy.query_timeout\""));
    proxy.rewrite("query_timeout = \"2s\"", "query_timout = \"3s\"");
    eventually("the error", || proxy.log().contains("unknown key \"query_timout\""));
    // Nothing of it counts: HUP finds the same old value to compare with.
    proxy.rewrite("query_timout = \"3s\"", "workers = 3\nidle_transaction_timeout = \"9s\"");
    proxy.signal(Signal::HUP);
    eventually("both kinds of change", || {
        let log = proxy.log();
        log.contains("applied=\"proxy.idle_transaction_timeout, proxy.query_timeout\"")
            && log.contains("keys=\"proxy.workers\"")
    });
    drop(proxy.client());
}

#[test]
fn a_hand_over_refuses_nobody_and_keeps_those_who_are_there() {
    let mut proxy = Proxy::start("client_login_timeout = \"1h\"\n");
    let mut old_client = proxy.client();
    let old = proxy.own_pid();
    proxy.signal(Signal::USR2);
    // From the first moment to the last, every connection is served by one of the two.
    eventually("the new process", || {
        drop(proxy.client());
        proxy.pid().is_some_and(|pid| pid != old)
    });
    eventually("the drain of the old one", || proxy.log().contains("this one drains"));
    drop(proxy.client());
    assert!(proxy.child.try_wait().unwrap().is_none(), "it still has a client");
    eventually("the admin HTTP of the new one", || TcpStream::connect(proxy.admin).is_ok());

    // The old client goes on with the old process, which ends after it.
    old_client.write_all(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30]).unwrap();
    let mut answer = [0];
    old_client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"N");
    drop(old_client);
    assert!(proxy.ended().success());

    drop(proxy.client());
    let new = proxy.pid().unwrap();
    proxy.signal(Signal::TERM);
    eventually("the end of the new one", || test_kill_process(new).is_err());
    assert!(!proxy.path("pid").exists());
}

#[test]
fn a_failed_hand_over_changes_nothing() {
    let proxy = Proxy::start("client_login_timeout = \"1h\"\nquery_timeout = \"1s\"\n");
    let pid = proxy.pid();
    proxy.rewrite("query_timeout = \"1s\"", "query_timeout = 1");
    proxy.signal(Signal::USR2);
    eventually("the failure", || proxy.log().contains("hand-over failed; this process goes on"));
    assert_eq!(proxy.pid(), pid);
    drop(proxy.client());
    eventually("the admin HTTP", || TcpStream::connect(proxy.admin).is_ok());
}
