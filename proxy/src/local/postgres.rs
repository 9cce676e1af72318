//! One PostgreSQL instance on this machine: made, started, stopped, killed, followed by replicas.
//!
//! The postmaster is our own child, not `pg_ctl`'s, so that its end is seen and its id is never mistaken.
//! Only instances that were made here are touched.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::keeper::Keeper;
use super::sql::{Client, Row};
use super::{Binaries, Error, free_port, io_error, log_tail, signal, wait};
use crate::limits;

/// The superuser of every instance made here; trusted from loopback and over the unix-domain socket.
pub const SUPERUSER: &str = "postgres";

/// How an instance is set up.
#[derive(Debug, Clone, Default)]
pub struct Options {
    settings: BTreeMap<String, String>,
    hba: Vec<String>,
    template: Option<PathBuf>,
}

/// How an instance is stopped (PostgreSQL manual, "Shutting Down the Server").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Sessions are ended, everything is written out.
    Fast,
    /// At once; the next start recovers.
    Immediate,
}

/// One instance.
#[derive(Debug)]
pub struct Postgres {
    binaries: Binaries,
    name: String,
    dir: PathBuf,
    port: u16,
    options: Options,
    /// The port is kept over restarts, because others know it by then.
    settled: bool,
    running: Option<(Child, Keeper)>,
}

/// Why a start did not end in a running instance.
enum Early {
    PortTaken,
    /// Children of a killed postmaster still hold its shared memory (sysv_shmem.c).
    MemoryHeld,
    Failed(Error),
}

impl Options {
    /// PostgreSQL's defaults: nothing acknowledged is lost in a crash.
    #[must_use]
    pub fn new() -> Options {
        Options::default()
    }

    /// For data that nobody will miss: no fsync (manual, "Non-Durable Settings").
    #[must_use]
    pub fn fast() -> Options {
        Options::new().set("fsync", "off").set("full_page_writes", "off")
    }

    /// A line of postgresql.conf.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Options {
        self.settings.insert(name.into(), value.into());
        self
    }

    /// A line of pg_hba.conf; it comes before those that trust loopback.
    #[must_use]
    pub fn hba(mut self, line: &str) -> Options {
        self.hba.push(line.into());
        self
    }

    /// Keep a freshly initialised data directory below `dir` and copy it from the second time on.
    #[must_use]
    pub fn template(mut self, dir: impl Into<PathBuf>) -> Options {
        self.template = Some(dir.into());
        self
    }
}

impl Postgres {
    /// Makes an instance in `<home>/<name>`; it does not run yet.
    pub fn init(
        binaries: &Binaries,
        home: &Path,
        name: &str,
        options: Options,
    ) -> Result<Postgres, Error> {
        let instance = Postgres::prepare(binaries, home, name, options)?;
        match &instance.options.template {
            Some(cache) => instance.copy_template(cache)?,
            None => initdb(binaries, &instance.data_dir())?,
        }
        instance.write_hba()?;
        Ok(instance)
    }

    /// Makes a streaming replica of this running instance in `<home>/<name>`; it does not run yet.
    pub fn replica(&self, home: &Path, name: &str, options: Options) -> Result<Postgres, Error> {
        let instance = Postgres::prepare(&self.binaries, home, name, options)?;
        let source = format!(
            "host={} port={} user={SUPERUSER} application_name={name}",
            self.socket_dir().display(),
            self.port
        );
        // A slot keeps the WAL that the replica has not received, however long it is stopped.
        let mut command = self.binaries.server("pg_basebackup", &instance.dir);
        command.args([
            "-X",
            "stream",
            "-c",
            "fast",
            "--no-sync",
            "-R",
            "-C",
            "-S",
            name,
            "-d",
            &source,
        ]);
        run(command.arg("-D").arg(instance.data_dir()))?;
        instance.write_hba()?;
        Ok(instance)
    }

    fn prepare(
        binaries: &Binaries,
        home: &Path,
        name: &str,
        options: Options,
    ) -> Result<Postgres, Error> {
        let dir = home.join(name);
        fs::create_dir(&dir).map_err(io_error(format!("create {}", dir.display())))?;
        binaries.account().own(&dir)?;
        let longest = dir.join(".s.PGSQL.65535.lock").as_os_str().len();
        if longest > limits::LOCAL_SOCKET_PATH_BYTES_MAX {
            let why = format!(
                "too long for a unix-domain socket ({longest} bytes with the socket's name, {} fit); \
                 choose a shorter directory",
                limits::LOCAL_SOCKET_PATH_BYTES_MAX
            );
            return Err(Error::Directory { dir, why });
        }
        let (binaries, name) = (binaries.clone(), name.to_owned());
        Ok(Postgres { binaries, name, dir, port: 0, options, settled: false, running: None })
    }

    /// Starts it and waits until it accepts connections. A running instance stays as it is.
    pub fn start(&mut self) -> Result<(), Error> {
        if self.is_running() {
            return Ok(());
        }
        let limit = Instant::now() + Duration::from_secs(limits::LOCAL_START_SECONDS_MAX);
        let mut ports_tried = 0;
        loop {
            if !self.settled {
                self.port = free_port()?;
                ports_tried += 1;
            }
            self.write_conf()?;
            match self.start_once(limit) {
                Ok(()) => {
                    self.settled = true;
                    return Ok(());
                }
                Err(Early::PortTaken)
                    if !self.settled && ports_tried < limits::LOCAL_PORT_TRIES_MAX => {}
                Err(Early::MemoryHeld) if Instant::now() < limit => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(Early::Failed(error)) => return Err(error),
                Err(Early::PortTaken | Early::MemoryHeld) => {
                    return Err(self.timeout("a start of PostgreSQL"));
                }
            }
        }
    }

    fn start_once(&mut self, limit: Instant) -> Result<(), Early> {
        let seen = fs::metadata(self.log_path()).map_or(0, |m| m.len());
        self.spawn().map_err(Early::Failed)?;
        while Instant::now() < limit {
            let status = match &mut self.running {
                Some((child, _)) => child.try_wait(),
                None => Ok(None),
            };
            if let Ok(Some(status)) = status {
                self.release();
                let log = fs::read(self.log_path()).unwrap_or_default();
                let new = log.get(usize::try_from(seen).unwrap_or(0)..).unwrap_or_default();
                return Err(self.explain(&String::from_utf8_lossy(new), status));
            }
            if self.connect(SUPERUSER).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.end(Signal::QUIT).map_err(Early::Failed)?;
        Err(Early::Failed(self.timeout("readiness of PostgreSQL")))
    }

    fn spawn(&mut self) -> Result<(), Error> {
        let path = self.log_path();
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(io_error(format!("open {}", path.display())))?;
        let log_too = log.try_clone().map_err(io_error("duplicate a file"))?;
        let child = self
            .binaries
            .server("postgres", &self.dir)
            .arg("-D")
            .arg(self.data_dir())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_too)
            // Ctrl-C is for us: we stop our children in order.
            .process_group(0)
            .spawn()
            .map_err(io_error("start postgres"))?;
        let keeper = Keeper::process(&child, None).map_err(io_error("start /bin/sh"))?;
        self.running = Some((child, keeper));
        Ok(())
    }

    fn explain(&self, log: &str, status: ExitStatus) -> Early {
        if log.contains("Address already in use") {
            Early::PortTaken
        } else if log.contains("pre-existing shared memory block") {
            Early::MemoryHeld
        } else {
            let what = format!("postgres ({})", self.name);
            Early::Failed(Error::Failed { what, status, output: log_tail(&self.log_path()) })
        }
    }

    fn timeout(&self, what: &str) -> Error {
        let seconds = limits::LOCAL_START_SECONDS_MAX;
        let output = log_tail(&self.log_path());
        Error::Timeout { what: format!("{what} ({})", self.name), seconds, output }
    }

    /// Stops it and waits for its end; `Ok` when it does not run.
    pub fn stop(&mut self, how: Stop) -> Result<(), Error> {
        self.end(match how {
            Stop::Fast => Signal::INT,
            Stop::Immediate => Signal::QUIT,
        })
    }

    /// Kills the postmaster as a crash would; its children notice and end by themselves.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.end(Signal::KILL)
    }

    /// Stops it fast and starts it again, on the same port.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.stop(Stop::Fast)?;
        self.start()
    }

    /// Changes a setting; `reload` or `restart` puts it in force.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), Error> {
        self.options.settings.insert(name.into(), value.into());
        self.write_conf()
    }

    /// Makes it read its configuration files again.
    pub fn reload(&self) {
        self.signal(Signal::HUP);
    }

    /// Sends a signal to the postmaster: STOP and CONT make an instance that hangs.
    pub fn signal(&self, which: Signal) {
        if let Some((child, _)) = &self.running {
            signal(child, which);
        }
    }

    fn end(&mut self, how: Signal) -> Result<(), Error> {
        let Some((child, _)) = &mut self.running else { return Ok(()) };
        signal(child, how);
        let limit = Duration::from_secs(limits::LOCAL_STOP_SECONDS_MAX);
        let ended = wait(child, limit).map_err(io_error("wait for postgres"))?;
        if ended.is_none() {
            signal(child, Signal::KILL);
            child.wait().map_err(io_error("wait for postgres"))?;
        }
        self.release();
        Ok(())
    }

    fn release(&mut self) {
        if let Some((_, keeper)) = self.running.take() {
            keeper.release();
        }
    }

    /// Whether the postmaster lives.
    pub fn is_running(&mut self) -> bool {
        let ended = match &mut self.running {
            None => return false,
            Some((child, _)) => !matches!(child.try_wait(), Ok(None)),
        };
        if ended {
            self.release();
        }
        !ended
    }

    /// Connects as the superuser.
    pub fn connect(&self, database: &str) -> Result<Client, Error> {
        Client::connect(self.socket_dir(), self.port, SUPERUSER, database)
    }

    /// Runs `sql` as the superuser on a connection of its own.
    pub fn query(&self, database: &str, sql: &str) -> Result<Vec<Row>, Error> {
        self.connect(database)?.query(sql)
    }

    /// Asks until the first value of `sql` is `t`.
    pub fn wait_until(&self, database: &str, sql: &str) -> Result<(), Error> {
        let end = Instant::now() + Duration::from_secs(limits::LOCAL_START_SECONDS_MAX);
        let mut client = self.connect(database)?;
        while Instant::now() < end {
            let rows = client.query(sql)?;
            if rows.first().and_then(|r| r.first()).is_some_and(|v| v.as_deref() == Some("t")) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(self.timeout(sql))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its TCP port on 127.0.0.1, and the number in its socket's name.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its unix-domain socket is.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        &self.dir
    }

    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Its programs.
    #[must_use]
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// Everything it logged.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// Beside the data directory, because a base backup copies everything that is in it.
    fn log_path(&self) -> PathBuf {
        self.dir.join("postgres.log")
    }

    fn write_conf(&self) -> Result<(), Error> {
        let mut text = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = {}\n\
             max_connections = 200\nlog_line_prefix = '%m [%p] %q%u@%d '\nlc_messages = 'C'\n",
            self.port,
            quoted(&self.dir.display().to_string())
        );
        for (name, value) in &self.options.settings {
            text.push_str(&format!("{name} = {}\n", quoted(value)));
        }
        self.write(CONF, &text)
    }

    fn write_hba(&self) -> Result<(), Error> {
        let mut text = self.options.hba.join("\n");
        for kind in ["local all all", "local replication all"] {
            text.push_str(&format!("\n{kind} trust"));
        }
        for address in ["127.0.0.1/32", "::1/128"] {
            text.push_str(&format!("\nhost all all {address} trust"));
            text.push_str(&format!("\nhost replication all {address} trust"));
        }
        text.push('\n');
        self.write("pg_hba.conf", &text)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        let path = self.data_dir().join(name);
        fs::write(&path, text).map_err(io_error(format!("write {}", path.display())))?;
        self.binaries.account().own(&path)
    }

    /// The lock lets many tests ask at once, and only the first initialise.
    fn copy_template(&self, cache: &Path) -> Result<(), Error> {
        let version = run(self.binaries.server("postgres", &self.dir).arg("--version"))?;
        let version = version.split_whitespace().nth(2).unwrap_or("unknown");
        let uid = rustix::process::geteuid().as_raw();
        let named = |end: &str| cache.join(format!("postgresql-{version}-{uid}{end}"));
        let template = named("");
        fs::create_dir_all(cache).map_err(io_error(format!("create {}", cache.display())))?;
        let path = named(".lock");
        let lock =
            fs::File::create(&path).map_err(io_error(format!("create {}", path.display())))?;
        lock.lock().map_err(io_error(format!("lock {}", path.display())))?;
        if template.is_dir() {
            return copy(&template, &self.data_dir());
        }
        initdb(&self.binaries, &self.data_dir())?;
        let half = named(".new");
        let _ = fs::remove_dir_all(&half); // What a killed run left behind.
        copy(&self.data_dir(), &half)?;
        fs::rename(&half, &template).map_err(io_error(format!("rename {}", half.display())))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Nothing is written out for a directory that goes; an error leaves it to the keeper.
        let _ = self.end(Signal::QUIT);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Settings of ours, included by postgresql.conf so that it stays as initdb wrote it.
const CONF: &str = "pgherd.conf";

fn initdb(binaries: &Binaries, data: &Path) -> Result<(), Error> {
    let parent = data.parent().unwrap_or(Path::new("/"));
    let mut command = binaries.server("initdb", parent);
    command.args(["-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale", "C.UTF-8"]);
    run(command.args(["--no-sync", "--no-instructions", "-D"]).arg(data))?;
    let path = data.join("postgresql.conf");
    let text = fs::read_to_string(&path).map_err(io_error(format!("read {}", path.display())))?;
    fs::write(&path, format!("{text}\ninclude_if_exists = '{CONF}'\n"))
        .map_err(io_error(format!("write {}", path.display())))
}

/// `cp -a` keeps owners and modes, and shares blocks where the file system can.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to)).map(drop)
}

/// Runs a program to its end and returns what it printed.
fn run(command: &mut Command) -> Result<String, Error> {
    let what = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stdin(Stdio::null()).output().map_err(io_error(format!("start {what}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Failed { what, status: output.status, output: said })
}

/// A string of postgresql.conf (manual, "Setting Parameters").
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::Home;

    #[test]
    fn an_instance_lives_through_restart_and_crash_and_leaves_nothing() {
        let binaries = Binaries::find().unwrap();
        let home = Home::new(None, binaries.account()).unwrap();
        let options = Options::fast().set("application_name", "it's \\ quoted");
        let mut pg = Postgres::init(&binaries, home.path(), "primary", options).unwrap();
        pg.start().unwrap();
        pg.query("postgres", "CREATE TABLE t (a int); INSERT INTO t VALUES (7)").unwrap();
        let port = pg.port();
        pg.restart().unwrap();
        assert_eq!(pg.port(), port);
        pg.kill().unwrap();
        assert!(!pg.is_running());
        pg.start().unwrap();
        let rows = pg.query("postgres", "SELECT a, NULL, current_setting('fsync') FROM t").unwrap();
        assert_eq!(rows, [vec![Some("7".to_owned()), None, Some("off".to_owned())]]);
        let error = pg.query("postgres", "SELECT 1/0").unwrap_err().to_string();
        assert!(error.contains("22012"), "{error}");
        let dir = pg.socket_dir().to_path_buf();
        drop(pg);
        assert!(!dir.exists());
    }

    #[test]
    fn settings_are_quoted() {
        assert_eq!(quoted(r"it's \d"), r"'it''s \\d'");
    }
}
