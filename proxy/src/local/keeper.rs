//! What must go when we are gone: processes and directories, even after a SIGKILL.
//!
//! `prctl(PR_SET_PDEATHSIG)` looks made for this, but it is cleared when root's child becomes
//! `postgres`, it fires when the *thread* that forked ends (tokio ends idle blocking threads), setting
//! it in a child before exec is unsafe code, and it removes no directory. A keeper is a `sh` that reads
//! from a pipe of which only we hold the other end: the kernel closes it however we end, and then the
//! keeper cleans up. It runs in its own process group, so that what is sent to ours (Ctrl-C, a test
//! runner's kill) does not reach it.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Ends one process, or removes one directory, when we end without having released it.
#[derive(Debug)]
pub struct Keeper {
    child: Child,
}

/// A line on stdin releases; the end of stdin means that the owner died. SIGQUIT is PostgreSQL's immediate
/// shutdown (postmaster.c); a pgherd that ignores it is killed.
const PROCESS: &str = r#"read -r _ && exit 0
set -- "$1" $(cat "$2")
kill -QUIT "$@"
for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$@" || break; sleep 0.3; done
kill -KILL "$@""#;

/// Repeated, because the processes that live in the directory may still write to it; and not at once,
/// because their keepers look for pid files in it.
const DIRECTORY: &str = r#"read -r _ && exit 0
sleep 0.5
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  rm -rf -- "$1"; [ -e "$1" ] || exit 0; sleep 0.3
done"#;

impl Keeper {
    /// Keeps a process that we started, and the one that `pid_file` names by then.
    pub fn process(of: &Child, pid_file: Option<&Path>) -> io::Result<Keeper> {
        let pid_file = pid_file.unwrap_or(Path::new("/dev/null"));
        Keeper::spawn(PROCESS, &[of.id().to_string().as_ref(), pid_file.as_os_str()])
    }

    /// Keeps a directory that we made.
    pub fn directory(dir: &Path) -> io::Result<Keeper> {
        Keeper::spawn(DIRECTORY, &[dir.as_os_str()])
    }

    fn spawn(script: &str, subjects: &[&OsStr]) -> io::Result<Keeper> {
        let child = Command::new("/bin/sh")
            .args(["-c", script, "pgherd-keeper"])
            .args(subjects)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Keeper { child })
    }

    /// The subject is gone or no longer ours.
    pub fn release(mut self) {
        if let Some(mut stdin) = self.child.stdin.take() {
            let _ = stdin.write_all(b"\n"); // It fails only if the keeper is dead, and then it keeps nothing.
        }
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts a sleep with its keeper; the process group of the sleep is its own, as PostgreSQL's is.
    fn kept() -> (Child, Keeper) {
        let child = Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        let keeper = Keeper::process(&child, None).unwrap();
        (child, keeper)
    }

    #[test]
    fn a_kept_process_ends_with_its_owner() {
        let (mut child, keeper) = kept();
        drop(keeper); // Closes the pipe, as our death would.
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn what_the_pid_file_names_ends_too() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("pid");
        let mut first = Command::new("sleep").arg("600").spawn().unwrap();
        let mut second = Command::new("sleep").arg("600").spawn().unwrap();
        std::fs::write(&pid_file, format!("{}\n", second.id())).unwrap();
        drop(Keeper::process(&first, Some(&pid_file)).unwrap());
        assert!(!first.wait().unwrap().success());
        assert!(!second.wait().unwrap().success());
    }

    #[test]
    fn a_released_process_lives_on() {
        let (mut child, keeper) = kept();
        keeper.release();
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_kept_directory_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap().keep();
        let mut keeper = Keeper::directory(&dir).unwrap();
        drop(keeper.child.stdin.take());
        assert!(keeper.child.wait().unwrap().success());
        assert!(!dir.exists());
    }
}
