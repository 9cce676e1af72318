//! What a process tells the machine around it: its id, its state, its need of descriptors.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tracing::{debug, warn};

/// Tells systemd, if it started us (sd_notify(3)); its absence is no error.
pub(super) fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "cannot tell the service manager");
    }
}

/// A reload has begun. systemd waits for the `READY=1` behind it (systemd.service(5),
/// `Type=notify-reload`), so [`tell_ready`] must follow whatever comes of it.
pub(super) fn tell_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => debug!(%error, "cannot read the monotonic clock"),
    }
}

/// Serving, with `status` as the line that `systemctl status` shows.
pub(super) fn tell_ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Ending, within about `limit`.
pub(super) fn tell_stopping(limit: Duration) {
    let limit_us = u32::try_from(limit.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(limit_us)]);
}

/// A clock for the service manager's watchdog: twice as often as it asks; never without one.
pub(super) fn watchdog() -> Option<tokio::time::Interval> {
    let period = sd_notify::watchdog_enabled()?.checked_div(2).filter(|p| !p.is_zero())?;
    Some(tokio::time::interval(period))
}

/// A file with this process's id, removed at the end if it is still ours.
#[derive(Debug)]
pub(super) struct PidFile(PathBuf);

impl PidFile {
    /// Written in one step, so that nobody reads half a number.
    pub(super) fn write(path: &Path) -> io::Result<PidFile> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(format!("{name}.{}", std::process::id()));
        fs::write(&temporary, format!("{}\n", std::process::id()))?;
        fs::rename(&temporary, path)?;
        Ok(PidFile(path.to_path_buf()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // After a hand-over it names the new process.
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        if text.trim() == std::process::id().to_string() {
            let _ = fs::remove_file(&self.0);
        }
    }
}

/// Raises the soft limit of open files to the hard one: shells start with 1024, and a client and
/// its server are two. `wanted` is for the warning.
pub(super) fn raise_open_files(wanted: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = if raised.is_ok() { maximum } else { current };
    if let Some(limit) = limit
        && limit < wanted
    {
        warn!(limit, wanted, "the limit of open files is too low for so many clients and servers");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_goes_with_its_process_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let file = PidFile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(file);
        assert!(!path.exists());
        let file = PidFile::write(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
