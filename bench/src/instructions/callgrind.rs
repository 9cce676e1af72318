//! A proxy under callgrind (valgrind's manual, chapter 6), and what that writes when it ends.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::site::Site;

/// Time for a proxy under valgrind to end; it then sorts and writes what it counted.
const END_SECONDS_MAX: u64 = 60;

/// A program in `dir` that runs `binary` under callgrind with its own arguments; the process id stays.
pub fn wrapper(site: &Site, dir: &Path, binary: &Path) -> Result<PathBuf> {
    let path = dir.join("run");
    let out = dir.join("out.%p");
    // --version is asked for, too: it needs no counting.
    let text = format!(
        "#!/bin/sh\ncase \"$1\" in --version) exec '{binary}' \"$@\" ;; esac\n\
         exec valgrind -q --tool=callgrind --callgrind-out-file='{out}' '{binary}' \"$@\"\n",
        binary = binary.display(),
        out = out.display(),
    );
    site.write(&path, &text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).context("chmod")?;
    Ok(path)
}

/// Where the process wrote.
pub fn output(dir: &Path, pid: u32) -> PathBuf {
    dir.join(format!("out.{pid}"))
}

/// Tells the process to end, which a kill would keep from writing, and waits until it has.
pub fn end(pid: u32) -> Result<()> {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process id")?;
    kill_process(process, Signal::TERM).context("end the proxy")?;
    let end = Instant::now() + Duration::from_secs(END_SECONDS_MAX);
    // It is our child and stays a zombie until it is waited for, which whoever started it does.
    while fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| !s.contains(") Z ")) {
        ensure!(Instant::now() < end, "the proxy does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Instructions of all threads from start to end.
pub fn total(out: &Path) -> Result<u64> {
    let text = fs::read_to_string(out).with_context(|| format!("read {}", out.display()))?;
    parse(&text).with_context(|| format!("{} has no totals", out.display()))
}

fn parse(text: &str) -> Option<u64> {
    ensure_events(text)?;
    text.lines().rev().find_map(|l| l.strip_prefix("totals: "))?.trim().parse().ok()
}

/// `Ir` alone is counted: instructions that were executed.
fn ensure_events(text: &str) -> Option<()> {
    text.lines().any(|line| line == "events: Ir").then_some(())
}

/// callgrind_annotate's lists into `<list>.exclusive.txt` and `<list>.inclusive.txt`.
pub fn annotate(out: &Path, list: &Path) -> Result<()> {
    for (kind, inclusive) in [("exclusive", "no"), ("inclusive", "yes")] {
        let path = PathBuf::from(format!("{}.{kind}.txt", list.display()));
        let file = fs::File::create(&path).with_context(|| format!("create {}", path.display()))?;
        let status = Command::new("callgrind_annotate")
            .args(["--auto=no", &format!("--inclusive={inclusive}")])
            .arg(out)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(Stdio::null())
            .status()
            .context("start callgrind_annotate")?;
        if !status.success() {
            bail!("callgrind_annotate failed on {}", out.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_read() {
        let text = "version: 1\nevents: Ir\nsummary: 12\nfn=(1) x\n1 12\n\ntotals: 12\n";
        assert_eq!(parse(text), Some(12));
        assert_eq!(parse("events: Ir\nsummary: 12\n"), None);
        assert_eq!(parse("events: Ir Dr\ntotals: 12 5\n"), None);
    }
}
