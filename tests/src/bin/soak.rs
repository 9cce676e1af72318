//! `make soak`: the soak by hand, for as long as wanted. Exit code 1: something grew, was left or was wrong.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use pgherd_tests::soak::Plan;

/// Clients that come and go and do everything at once; nothing may grow.
#[derive(Debug, Parser)]
struct Args {
    /// How long, minutes; memory is judged from 5 on
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    /// Clients at once
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Of the clients' dice
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let length = Duration::try_from_secs_f64(args.minutes * 60.0).unwrap_or(Duration::MAX);
    let plan = Plan { clients: args.clients, length, seed: args.seed };
    match Box::pin(plan.run(|line| println!("{line}"))).await {
        Ok(report) => {
            for (what, count) in &report.counts {
                println!("{count:>10}  {what}");
            }
            for finding in &report.findings {
                eprintln!("error: {finding}");
            }
            if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
