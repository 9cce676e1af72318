//! `pgherd generate`: manual pages and completions, from the very definition of the commands.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Subcommand, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
    /// Write files into this directory instead of one page or script to stdout
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Manual pages: pgherd(1), and with --out one for each command
    Man,
    /// Completions for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

pub(super) fn run(args: &Args, command: clap::Command) -> anyhow::Result<ExitCode> {
    if let Some(dir) = &args.out {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    match (&args.what, &args.out) {
        (What::Man, None) => {
            let mut page = Vec::new();
            Man::new(command).render(&mut page)?;
            print(&page)?;
        }
        (What::Man, Some(dir)) => clap_mangen::generate_to(command, dir)
            .with_context(|| format!("cannot write manual pages into {}", dir.display()))?,
        (What::Completions { shell }, out) => completions(*shell, out.as_deref(), command)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn completions(shell: Shell, out: Option<&Path>, mut command: clap::Command) -> anyhow::Result<()> {
    let name = command.get_name().to_owned();
    if let Some(dir) = out {
        clap_complete::generate_to(shell, &mut command, name, dir)
            .with_context(|| format!("cannot write completions into {}", dir.display()))?;
        return Ok(());
    }
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    print(&script)
}

/// A reader that has seen enough (`| head`) is no error.
fn print(bytes: &[u8]) -> anyhow::Result<()> {
    match io::stdout().write_all(bytes) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to stdout"),
    }
}
