//! pgherd itself as a child process: configured, watched until it is ready, signalled, ended.

use std::fs::{self, OpenOptions};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::keeper::Keeper;
use super::{Error, free_port, io_error, log_tail, signal, wait};
use crate::limits;

/// A running proxy.
#[derive(Debug)]
pub struct Pgherd {
    running: Option<(Child, Keeper)>,
    /// Its id, also after its end: the pid file may still name it.
    started_pid: u32,
    address: SocketAddr,
    admin: Option<SocketAddr>,
    dir: PathBuf,
}

impl Pgherd {
    /// Starts `<binary> proxy --config <dir>/pgherd.toml` and waits until it is ready.
    ///
    /// `config` is the file's text. Where it says nothing about them, `proxy.listen`, `admin.listen` (free
    /// ports on loopback) and `proxy.pid_file` are filled in; an empty `admin.listen` means none.
    pub fn start(binary: &Path, dir: &Path, config: &str) -> Result<Pgherd, Error> {
        let table: toml::Table = config.parse().map_err(|e| Error::Config(format!("{e}")))?;
        let mut tries = 1;
        loop {
            match Pgherd::start_once(binary, dir, table.clone()) {
                Err(Error::Failed { output, .. })
                    if output.contains("in use") && tries < limits::LOCAL_PORT_TRIES_MAX =>
                {
                    tries += 1;
                }
                other => return other,
            }
        }
    }

    fn start_once(binary: &Path, dir: &Path, mut table: toml::Table) -> Result<Pgherd, Error> {
        let pid_file = dir.join(PID_FILE).display().to_string();
        fill(&mut table, "proxy", "pid_file", pid_file.into())?;
        let listen = vec![toml::Value::from(format!("127.0.0.1:{}", free_port()?))];
        let listen = fill(&mut table, "proxy", "listen", listen.into())?;
        let listen = listen.get(0).and_then(toml::Value::as_str).unwrap_or_default().to_owned();
        let admin = format!("127.0.0.1:{}", free_port()?);
        let admin = fill(&mut table, "admin", "listen", admin.into())?;
        let admin = match admin.as_str() {
            None | Some("") => None,
            Some(text) => Some(address(text)?),
        };
        let text = toml::to_string(&table).map_err(|e| Error::Config(format!("{e}")))?;
        let path = dir.join(CONFIG_FILE);
        fs::write(&path, text).map_err(io_error(format!("write {}", path.display())))?;
        let mut this = Pgherd {
            running: None,
            started_pid: 0,
            address: address(&listen)?,
            admin,
            dir: dir.to_path_buf(),
        };
        this.spawn(binary)?;
        this.wait_ready()?;
        Ok(this)
    }

    fn spawn(&mut self, binary: &Path) -> Result<(), Error> {
        let path = self.dir.join(LOG_FILE);
        let log = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .open(&path)
            .map_err(io_error(format!("open {}", path.display())))?;
        let log_too = log.try_clone().map_err(io_error("duplicate a file"))?;
        let child = Command::new(binary)
            .args(["proxy", "--config"])
            .arg(self.config_path())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_too)
            .process_group(0)
            .spawn()
            .map_err(io_error(format!("start {}", binary.display())))?;
        let keeper = Keeper::process(&child, Some(&self.dir.join(PID_FILE)))
            .map_err(io_error("start /bin/sh"))?;
        self.started_pid = child.id();
        self.running = Some((child, keeper));
        Ok(())
    }

    fn wait_ready(&mut self) -> Result<(), Error> {
        let seconds = limits::LOCAL_START_SECONDS_MAX;
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            if let Some(status) = self.try_wait()? {
                let output = log_tail(&self.dir.join(LOG_FILE));
                return Err(Error::Failed { what: "pgherd".into(), status, output });
            }
            if TcpStream::connect(self.address).is_ok() && self.admin.is_none_or(ready) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let output = log_tail(&self.dir.join(LOG_FILE));
        Err(Error::Timeout { what: "readiness of pgherd".into(), seconds, output })
    }

    /// The first address that it listens on for clients.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its admin HTTP listens.
    #[must_use]
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Its configuration file, to be changed before a reload.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.dir.join(CONFIG_FILE)
    }

    /// Everything it logged.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(self.dir.join(LOG_FILE)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Its process id; after a hand-over, that of the process that took over.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        let successor = self.successor().map(|p| p.as_raw_nonzero().get().unsigned_abs());
        successor.or(self.running.as_ref().map(|_| self.started_pid))
    }

    /// The body of a GET on the admin HTTP.
    pub fn get(&self, path: &str) -> Result<String, Error> {
        let failed =
            |e: String| Error::Io { what: format!("GET {path}"), source: std::io::Error::other(e) };
        let admin = self.admin.ok_or_else(|| failed("admin.listen is empty".into()))?;
        let mut answer =
            ureq::get(format!("http://{admin}{path}")).call().map_err(|e| failed(e.to_string()))?;
        answer.body_mut().read_to_string().map_err(|e| failed(e.to_string()))
    }

    /// HUP reloads, TERM drains, INT ends fast, USR2 hands over.
    pub fn signal(&self, which: Signal) {
        if let Some(pid) = self.successor() {
            let _ = rustix::process::kill_process(pid, which);
        } else if let Some((child, _)) = &self.running {
            signal(child, which);
        }
    }

    /// How the process ended that we started, if it did.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, Error> {
        match &mut self.running {
            Some((child, _)) => child.try_wait().map_err(io_error("wait for pgherd")),
            None => Ok(None),
        }
    }

    /// Waits for the end of the process that we started; `None`: it still runs.
    pub fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>, Error> {
        match &mut self.running {
            Some((child, _)) => wait(child, limit).map_err(io_error("wait for pgherd")),
            None => Ok(None),
        }
    }

    /// Ends it with `how` (TERM or INT) and waits.
    pub fn stop(&mut self, how: Signal) -> Result<Option<ExitStatus>, Error> {
        self.signal(how);
        let status = self.wait(Duration::from_secs(limits::LOCAL_STOP_SECONDS_MAX))?;
        if status.is_some()
            && let Some((_, keeper)) = self.running.take()
        {
            keeper.release();
        }
        Ok(status)
    }

    /// The process that took over, when the pid file names another one than our child.
    fn successor(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.dir.join(PID_FILE)).ok()?;
        let pid: i32 = text.trim().parse().ok()?;
        if pid.unsigned_abs() == self.started_pid { None } else { Pid::from_raw(pid) }
    }
}

impl Drop for Pgherd {
    fn drop(&mut self) {
        let successor = self.successor();
        if let Some((mut child, keeper)) = self.running.take() {
            let _ = child.kill(); // It fails only when the child has ended.
            let _ = child.wait();
            keeper.release();
        }
        if let Some(pid) = successor {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

const CONFIG_FILE: &str = "pgherd.toml";
const LOG_FILE: &str = "pgherd.log";
const PID_FILE: &str = "pgherd.pid";

/// The value of `section.key`, which becomes `value` if it has none.
fn fill<'t>(
    table: &'t mut toml::Table,
    section: &str,
    key: &str,
    value: toml::Value,
) -> Result<&'t toml::Value, Error> {
    let section_value = table.entry(section).or_insert_with(|| toml::Table::new().into());
    let section_table = section_value
        .as_table_mut()
        .ok_or_else(|| Error::Config(format!("`{section}` must be a table")))?;
    Ok(section_table.entry(key).or_insert(value))
}

fn address(text: &str) -> Result<SocketAddr, Error> {
    text.parse().map_err(|_| Error::Config(format!("`{text}` must be an address and a port")))
}

fn ready(admin: SocketAddr) -> bool {
    ureq::get(format!("http://{admin}/readyz")).call().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_text_says_stays() {
        let mut table: toml::Table = "[proxy]\nlisten = [\"127.0.0.1:1\"]".parse().unwrap();
        let listen = fill(&mut table, "proxy", "listen", 0.into()).unwrap().clone();
        assert_eq!(listen.get(0).and_then(toml::Value::as_str), Some("127.0.0.1:1"));
        fill(&mut table, "admin", "listen", "127.0.0.1:2".into()).unwrap();
        assert_eq!(
            toml::to_string(&table).unwrap(),
            "[admin]\nlisten = \"127.0.0.1:2\"\n\n[proxy]\nlisten = [\"127.0.0.1:1\"]\n"
        );
        assert!(fill(&mut "proxy = 1".parse().unwrap(), "proxy", "listen", 0.into()).is_err());
    }

    #[test]
    fn a_pgherd_that_ends_early_is_reported_with_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let error = Pgherd::start(Path::new("/bin/false"), dir.path(), "").unwrap_err();
        assert!(matches!(error, Error::Failed { .. }), "{error}");
    }
}
