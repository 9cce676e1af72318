//! How many writes a proxy makes each way, counted by strace.
//!
//! /proc/PID/io is no help: `syscw` counts write(2) and writev(2), but not send(2) (fs/read_write.c against
//! net/socket.c). Tracing slows a process down, so nothing else is measured meanwhile.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// strace attached to a process; it detaches when this is dropped.
#[derive(Debug)]
pub struct Trace {
    child: Child,
    file: PathBuf,
}

/// Writes that were seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Writes {
    /// On connections that clients opened.
    pub to_client: u64,
    /// On connections to PostgreSQL.
    pub to_server: u64,
}

impl Trace {
    /// Attaches; `None`: there is no strace here, or it may not.
    pub fn attach(pid: u32, file: PathBuf) -> Result<Option<Trace>> {
        let spawned = Command::new("strace")
            .args(["-f", "-yy", "-e", "trace=write,writev,sendto,sendmsg", "-s", "0"])
            .args(["-p", &pid.to_string(), "-o"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut child) = spawned else { return Ok(None) };
        let stderr = child.stderr.take().context("strace has no stderr")?;
        let mut trace = Trace { child, file };
        let mut lines = BufReader::new(stderr).lines();
        // "Process 7 attached with 3 threads": all of them are.
        while let Some(Ok(line)) = lines.next() {
            if line.contains("attached") {
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(Some(trace));
            }
        }
        let _ = trace.child.wait();
        Ok(None)
    }

    /// Detaches and counts; the proxy listens on `client_port`, PostgreSQL on `server_port`.
    pub fn finish(mut self, client_port: u16, server_port: u16) -> Result<Writes> {
        if kill_process(Pid::from_child(&self.child), Signal::INT).is_err() {
            bail!("strace ended early");
        }
        self.child.wait().context("wait for strace")?;
        let text = fs::read_to_string(&self.file).context("read what strace wrote")?;
        Ok(count(&text, client_port, server_port))
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM); // It may have ended.
        let _ = self.child.wait();
    }
}

/// Lines look like `7 sendto(9<TCP:[127.0.0.1:6432->127.0.0.1:41000]>, …`.
fn count(text: &str, client_port: u16, server_port: u16) -> Writes {
    let mut writes = Writes::default();
    // A call that another thread's line interrupts is continued by `<... sendto resumed>`, without addresses.
    let pairs = text.lines().filter_map(|l| l.split_once("<TCP:[")?.1.split_once("]>"));
    for (local, remote) in pairs.filter_map(|(pair, _)| pair.split_once("->")) {
        if local.ends_with(&format!(":{client_port}")) {
            writes.to_client += 1;
        } else if remote.ends_with(&format!(":{server_port}")) {
            writes.to_server += 1;
        }
    }
    writes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_told_apart_by_their_ports() {
        let text = "7 sendto(9<TCP:[127.0.0.1:6432->127.0.0.1:41000]>, \"\"..., 5, 0) = 5\n\
                    7 writev(10<TCP:[127.0.0.1:42000->127.0.0.1:5432]>, [], 1 <unfinished ...>\n\
                    8 write(5<anon_inode:[eventfd]>, \"\"..., 8) = 8\n\
                    7 <... writev resumed>) = 30\n";
        assert_eq!(count(text, 6432, 5432), Writes { to_client: 1, to_server: 1 });
    }
}
