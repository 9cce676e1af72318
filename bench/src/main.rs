//! Where every claim about speed comes from: the direct connection, pgherd and its peers in one interleaved run.
//!
//! One PostgreSQL serves all of them; each sample has a proxy process of its own, alone on its core. The figure
//! that holds is the proxy's CPU time per transaction: throughput mostly measures the load generator and
//! PostgreSQL. Nothing here is averaged over failures, and nothing is compared across runs.
//! - [`args`] what may be asked; [`run`] the order of samples; [`site`] the PostgreSQL under all of it; [`tls`] for the
//!   scenarios that ask for it.
//! - [`peers`] what is compared; [`scenarios`] the loads; [`client`] the load generator of those that pgbench can't make.
//! - [`instructions`] beside all that: a proxy's instructions for one transaction, counted by callgrind.
//! - [`measure`] CPU, memory, latency, writes; [`machine`] cores, limits, noise; [`report`] table, JSON, RESULTS.md.

mod args;
mod client;
mod instructions;
mod machine;
mod measure;
mod peers;
mod report;
mod run;
mod scenarios;
mod site;
mod tls;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let args = args::Args::parse();
    if let Some(args::Command::Instructions(asked)) = &args.command {
        return instructions::main(asked);
    }
    match run::run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("error: at least one sample failed; its cell shows no ratio");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
