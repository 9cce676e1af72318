//! System calls and instructions of a proxy, counted while a load of a known number of transactions runs.
//!
//! Counting slows a process down (perf a little, strace a lot), so it has a pass of its own, after the timed one.
//! perf is preferred; where the kernel does not let us, strace counts system calls and nobody instructions.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode};
use rustix::process::{Pid, Signal, kill_process};

use super::{Metric, Sample};

const SYSTEM_CALLS: &str = "raw_syscalls:sys_enter";
const INSTRUCTIONS: &str = "instructions";

/// How long a tool is tried.
const TRIAL: Duration = Duration::from_millis(100);

/// Time for perf to say that it counts.
const ACK_SECONDS_MAX: i64 = 10;

/// What this machine can count with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// `perf stat`; whether the processor's counter of instructions can be read.
    Perf {
        /// It can't in most virtual machines.
        instructions: bool,
    },
    /// `strace -c`.
    Strace,
}

/// Events since a tool was attached.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counts {
    /// System calls that were entered.
    pub calls: f64,
    /// Of user and kernel.
    pub instructions: Option<f64>,
}

/// A tool attached to a process; it detaches when this is dropped.
#[derive(Debug)]
struct Attached {
    child: Child,
    file: PathBuf,
    tool: Tool,
}

impl Tool {
    /// Tries what there is on a process of no consequence; `dir` is for the tools' files.
    #[must_use]
    pub fn find(dir: &Path) -> Option<Tool> {
        let tools = [Tool::Perf { instructions: has_instructions() }, Tool::Strace];
        tools.into_iter().find(|tool| tool.works(dir))
    }

    /// Whether it may attach to a process, and sees what that does.
    fn works(self, dir: &Path) -> bool {
        let own = match self {
            Tool::Perf { .. } => dir.join("perf"),
            Tool::Strace => dir.join("strace"),
        };
        let busy = ["-c", "while :; do sleep 0.01; done"];
        let (Ok(()), Ok(mut child)) = (fs::create_dir(&own), Command::new("sh").args(busy).spawn())
        else {
            return false;
        };
        let counted = self.count(child.id(), &own, || {
            std::thread::sleep(TRIAL);
            Ok(())
        });
        let _ = child.kill(); // It runs until it is killed.
        let _ = child.wait();
        counted.is_ok_and(|c| c.calls > 0.0)
    }

    /// For the head of a report.
    #[must_use]
    pub fn about(tool: Option<Tool>) -> String {
        let pass = "in a pass of its own, not in the timed one";
        match tool {
            Some(Tool::Perf { instructions: true }) => {
                format!("system calls and instructions: perf stat, {pass}")
            }
            Some(Tool::Perf { instructions: false }) => format!(
                "system calls: perf stat, {pass}; instructions: not counted here (the processor's counters are closed)"
            ),
            Some(Tool::Strace) => {
                format!("system calls: strace -c, {pass}; instructions: not counted here (no perf)")
            }
            None => {
                "system calls, instructions: not counted here (neither perf nor strace may attach)"
                    .into()
            }
        }
    }

    /// What process `pid` does while `load` runs; `dir` is for the tool's files.
    pub fn count(self, pid: u32, dir: &Path, load: impl FnOnce() -> Result<()>) -> Result<Counts> {
        let attached = match self {
            Tool::Perf { .. } => self.perf(pid, dir),
            Tool::Strace => self.strace(pid, dir),
        }
        .with_context(|| format!("attach {self:?} to process {pid}"))?;
        load()?;
        attached.finish()
    }

    /// perf says over a pipe when it counts (perf-stat(1), `--control`): nothing is missed.
    fn perf(self, pid: u32, dir: &Path) -> Result<Attached> {
        let (control, ack, file) = (dir.join("control"), dir.join("ack"), dir.join("counts"));
        for pipe in [&control, &ack] {
            rustix::fs::mknodat(rustix::fs::CWD, pipe, FileType::Fifo, Mode::RWXU, 0)
                .with_context(|| format!("make the pipe {}", pipe.display()))?;
        }
        // Open for both ways, a pipe waits for nobody.
        let open = |pipe| OpenOptions::new().read(true).write(true).open(pipe);
        let mut to = open(&control).context("open a pipe")?;
        let mut from = open(&ack).context("open a pipe")?;
        let events = match self {
            Tool::Perf { instructions: true } => format!("{SYSTEM_CALLS},{INSTRUCTIONS}"),
            _ => SYSTEM_CALLS.to_owned(),
        };
        let child = Command::new("perf")
            .args(["stat", "-x", ";", "-D", "-1", "-e", &events, "-p", &pid.to_string(), "-o"])
            .arg(&file)
            .arg(format!("--control=fifo:{},{}", control.display(), ack.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start perf")?;
        let attached = Attached { child, file, tool: self };
        to.write_all(b"enable\n").context("tell perf to begin")?;
        acknowledged(&mut from)?;
        Ok(attached)
    }

    /// strace says on stderr when it has attached.
    fn strace(self, pid: u32, dir: &Path) -> Result<Attached> {
        let file = dir.join("counts");
        let mut child = Command::new("strace")
            .args(["-c", "-f", "-p", &pid.to_string(), "-o"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("start strace")?;
        let stderr = child.stderr.take().context("strace has no stderr")?;
        let attached = Attached { child, file, tool: self };
        let mut lines = BufReader::new(stderr).lines();
        while let Some(Ok(line)) = lines.next() {
            if line.contains("attached") {
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(attached);
            }
        }
        bail!("strace may not attach");
    }
}

impl Attached {
    fn finish(mut self) -> Result<Counts> {
        kill_process(Pid::from_child(&self.child), Signal::INT).context("it ended early")?;
        self.child.wait().context("wait for it")?;
        let text = fs::read_to_string(&self.file).context("read what was counted")?;
        let counts = match self.tool {
            Tool::Perf { .. } => perf(&text, SYSTEM_CALLS)
                .map(|calls| Counts { calls, instructions: perf(&text, INSTRUCTIONS) }),
            Tool::Strace => strace(&text).map(|calls| Counts { calls, instructions: None }),
        };
        counts.with_context(|| format!("nothing was counted: {}", text.trim()))
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM); // It may have ended.
        let _ = self.child.wait();
    }
}

impl Counts {
    /// What lies between a load and a longer one of the same kind: connecting and the like cancel out.
    #[must_use]
    pub fn beyond(self, less: Counts) -> Counts {
        let instructions = self.instructions.zip(less.instructions);
        Counts {
            calls: self.calls - less.calls,
            instructions: instructions.map(|(more, less)| more - less),
        }
    }

    /// Adds them to a sample.
    pub fn set(self, transactions: u64, sample: &mut Sample) {
        let each = transactions.max(1) as f64;
        sample.set(Metric::Calls, self.calls / each);
        if let Some(instructions) = self.instructions {
            sample.set(Metric::Instructions, instructions / 1e3 / each);
        }
    }
}

/// Whether perf can read the processor's counter.
fn has_instructions() -> bool {
    let run = Command::new("perf").args(["stat", "-x", ";", "-e", INSTRUCTIONS, "true"]).output();
    run.is_ok_and(|o| perf(&String::from_utf8_lossy(&o.stderr), INSTRUCTIONS).is_some())
}

fn acknowledged(from: &mut File) -> Result<()> {
    let patience = Timespec { tv_sec: ACK_SECONDS_MAX, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(&*from, PollFlags::IN)], Some(&patience));
    if ready.context("poll")? == 0 {
        bail!("perf does not answer within {:?}", Duration::from_secs(ACK_SECONDS_MAX as u64));
    }
    let mut answer = [0; 16];
    let length = from.read(&mut answer).context("read perf's answer")?;
    match answer.get(..length) {
        Some(text) if text.starts_with(b"ack") => Ok(()),
        text => bail!("perf answers {text:?}"),
    }
}

/// Lines look like `4200;;raw_syscalls:sys_enter;…`, or `<not supported>;;instructions;…`.
fn perf(text: &str, event: &str) -> Option<f64> {
    let mut lines = text.lines().map(|l| l.split(';'));
    lines.find_map(|mut fields| {
        let value = fields.next()?.parse().ok()?;
        // An event may come with a modifier, as `instructions:u` does without the right to see the kernel.
        (fields.nth(1)? == event).then_some(value)
    })
}

/// Sums column `calls`; the table's own total has no column for the time of a call in some versions.
fn strace(text: &str) -> Option<f64> {
    let rows = text.lines().map(|l| l.split_ascii_whitespace().collect::<Vec<_>>());
    let calls = rows.filter_map(|row| match row.as_slice() {
        [share, .., name] if share.parse::<f64>().is_ok() && *name != "total" => {
            row.get(3)?.parse::<f64>().ok()
        }
        _ => None,
    });
    Some(calls.sum()).filter(|&sum: &f64| sum > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_perf_could_not_count_is_no_figure() {
        let text = "# started on Thu\n\n4200;;raw_syscalls:sys_enter;3000000;100.00;;\n\
                    <not supported>;;instructions;0;100.00;;\n";
        assert_eq!(perf(text, SYSTEM_CALLS), Some(4200.0));
        assert_eq!(perf(text, INSTRUCTIONS), None);
        assert_eq!(perf("123;;instructions:u;1;100.00;;", INSTRUCTIONS), None);
    }

    #[test]
    fn straces_calls_are_summed_with_and_without_errors() {
        let text = "% time     seconds  usecs/call     calls    errors syscall\n\
                    ------ ----------- ----------- --------- --------- ----------------\n\
                     60.00    0.000060           2        30         5 recvfrom\n\
                     40.00    0.000040           2        20           sendto\n\
                    ------ ----------- ----------- --------- --------- ----------------\n\
                    100.00    0.000100                    50         5 total\n";
        assert_eq!(strace(text), Some(50.0));
        assert_eq!(strace(""), None);
    }

    #[test]
    fn a_longer_load_less_a_shorter_one_leaves_the_difference() {
        let more = Counts { calls: 500.0, instructions: Some(90.0) };
        let less = Counts { calls: 100.0, instructions: None };
        assert_eq!(more.beyond(less), Counts { calls: 400.0, instructions: None });
        let mut sample = Sample::default();
        more.beyond(less).set(100, &mut sample);
        assert_eq!(sample.0.get(&Metric::Calls), Some(&4.0));
        assert!(!sample.0.contains_key(&Metric::Instructions));
    }
}
