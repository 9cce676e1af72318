//! `pgherd ctl`: the admin HTTP API from a terminal; tables for people, JSON for scripts.
//!
//! It speaks to a running proxy and knows nothing of its files. Exit codes: 0 done, 1 the proxy
//! refused or could not, 2 nothing answered or the command line was wrong (clap's own code).

mod render;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Request;

use crate::limits;

/// Nothing answered.
const EXIT_UNREACHABLE: u8 = 2;

/// Talk to a running pgherd.
#[derive(Debug, Parser)]
pub struct Args {
    /// Where its admin HTTP listens.
    #[arg(long, env = "PGHERD_URL", default_value = "http://127.0.0.1:6433", global = true)]
    url: String,
    /// File that holds the token of admin.token_file.
    #[arg(long, env = "PGHERD_TOKEN_FILE", global = true)]
    token_file: Option<PathBuf>,
    /// Print the API's JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Show again every so many seconds, until interrupted.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..), global = true)]
    watch: Option<u32>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The process at a glance.
    Status,
    /// PostgreSQL instances.
    Nodes,
    /// Pools: servers of one user, database and node.
    Pools,
    /// Clients.
    Clients,
    /// Server connections.
    Servers,
    /// Databases.
    Databases,
    /// Rates of the last period.
    Stats,
    /// Settings in force.
    Config,
    /// Hand out no servers until resume: of one database, or of all.
    Pause {
        /// Of all when absent.
        database: Option<String>,
    },
    /// Undo pause and kill.
    Resume {
        /// All when absent.
        database: Option<String>,
    },
    /// Replace servers when they are next free.
    Reconnect {
        /// Of all when absent.
        database: Option<String>,
    },
    /// Close clients and servers at once, and pause.
    Kill {
        /// Which database; `--all` for all.
        #[arg(required_unless_present_any = ["client", "all"])]
        database: Option<String>,
        /// End one client only.
        #[arg(long, conflicts_with_all = ["database", "all"])]
        client: Option<u64>,
        /// Every database.
        #[arg(long, conflicts_with = "database")]
        all: bool,
    },
    /// Read the configuration file again.
    Reload,
    /// Refuse new clients, let the others finish, then end.
    Drain,
    /// End at once.
    Shutdown,
}

impl Command {
    /// Path behind `/api/v1/`, and the body of a POST.
    fn request(&self) -> (&'static str, Option<Value>) {
        let target = |database: &Option<String>| {
            Some(database.as_ref().map_or_else(|| json!({}), |d| json!({ "database": d })))
        };
        match self {
            Command::Status => ("status", None),
            Command::Nodes => ("nodes", None),
            Command::Pools => ("pools", None),
            Command::Clients => ("clients", None),
            Command::Servers => ("servers", None),
            Command::Databases => ("databases", None),
            Command::Stats => ("stats", None),
            Command::Config => ("config", None),
            Command::Pause { database } => ("pause", target(database)),
            Command::Resume { database } => ("resume", target(database)),
            Command::Reconnect { database } => ("reconnect", target(database)),
            Command::Kill { client: Some(id), .. } => ("kill", Some(json!({ "client": id }))),
            Command::Kill { database, .. } => ("kill", target(database)),
            Command::Reload => ("reload", Some(json!({}))),
            Command::Drain => ("drain", Some(json!({}))),
            Command::Shutdown => ("shutdown", Some(json!({}))),
        }
    }
}

/// What came back.
enum Answer {
    Done(Value),
    /// The proxy's own words.
    Refused(Value),
    /// Why nothing came back.
    Silence(String),
}

/// Does what the command line says. It blocks: call it outside of a runtime.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let api = Api::new(&args.url, args.token_file.as_deref())?;
    let (path, body) = args.command.request();
    loop {
        let answer = api.ask(path, body.as_ref());
        if args.watch.is_some() && io::stdout().is_terminal() {
            // Home and clear: the table is redrawn in place.
            print(format_args!("\x1b[H\x1b[2J"))?;
        }
        let code = report(&args, path, answer)?;
        match args.watch {
            // Only looking is repeated; and a proxy that restarts is worth waiting for.
            Some(seconds) if body.is_none() => {
                std::thread::sleep(Duration::from_secs(seconds.into()));
            }
            _ => return Ok(code),
        }
    }
}

fn report(args: &Args, path: &str, answer: Answer) -> anyhow::Result<ExitCode> {
    match answer {
        Answer::Done(value) if args.json => print(format_args!("{value:#}\n"))?,
        Answer::Done(value) => print(format_args!("{}\n", render::render(path, &value)))?,
        Answer::Refused(value) => {
            if args.json {
                print(format_args!("{value:#}\n"))?;
            }
            eprint(&render::refusal(&value));
            return Ok(ExitCode::FAILURE);
        }
        Answer::Silence(why) => {
            eprint(&why);
            return Ok(ExitCode::from(EXIT_UNREACHABLE));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A closed pipe (`| head`) ends the program quietly instead of by a panic.
fn print(text: std::fmt::Arguments<'_>) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_fmt(text).and_then(|()| out.flush()).context("cannot write the answer")
}

fn eprint(text: &str) {
    // There is nowhere else to complain.
    let _ = writeln!(io::stderr().lock(), "pgherd ctl: {text}");
}

/// The API of one proxy.
struct Api {
    agent: Agent,
    url: String,
    token: Option<SecretString>,
}

impl Api {
    fn new(url: &str, token_file: Option<&Path>) -> anyhow::Result<Api> {
        let url = url.trim_end_matches('/');
        if !url.starts_with("http://") {
            bail!(
                "the URL \"{url}\" must start with http:// (the admin HTTP has no TLS: use a tunnel)"
            );
        }
        let token = token_file.map(super::token::read).transpose()?;
        let patience = Duration::from_secs(limits::ADMIN_REQUEST_SECONDS_MAX + 5);
        let agent = Agent::config_builder()
            .timeout_global(Some(patience))
            .timeout_connect(Some(Duration::from_secs(5)))
            .max_redirects(0)
            .http_status_as_error(false)
            // A proxy from the environment must not see the token.
            .proxy(None)
            .build()
            .into();
        Ok(Api { agent, url: url.to_owned(), token })
    }

    fn ask(&self, path: &str, body: Option<&Value>) -> Answer {
        let uri = format!("{}/api/v1/{path}", self.url);
        let mut request = Request::builder().uri(&uri);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {}", token.expose_secret()));
        }
        let sent = match body {
            None => request.method("GET").body(()).map(|r| self.agent.run(r)),
            Some(body) => request
                .method("POST")
                .header("content-type", "application/json")
                .body(body.to_string())
                .map(|r| self.agent.run(r)),
        };
        let mut response = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(e)) => return Answer::Silence(self.silence(&e)),
            Err(e) => return Answer::Silence(format!("cannot ask {uri}: {e}")),
        };
        let status = response.status();
        let text = match response.body_mut().read_to_string() {
            Ok(text) => text,
            Err(e) => return Answer::Silence(format!("{uri} broke off: {e}")),
        };
        match serde_json::from_str(&text) {
            Ok(value) if status.is_success() => Answer::Done(value),
            Ok(value) => Answer::Refused(value),
            Err(_) => {
                Answer::Silence(format!("{uri} answered {status} without JSON: is it pgherd?"))
            }
        }
    }

    fn silence(&self, e: &ureq::Error) -> String {
        match e {
            ureq::Error::Io(io) if io.kind() == io::ErrorKind::ConnectionRefused => format!(
                "nothing listens at {}: is pgherd running, and is admin.listen that address?",
                self.url
            ),
            ureq::Error::Timeout(_) => format!("{} did not answer in time", self.url),
            e => format!("cannot reach {}: {e}", self.url),
        }
    }
}

#[cfg(test)]
mod tests;
