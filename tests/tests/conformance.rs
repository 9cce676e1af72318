//! PostgreSQL's own regression suite, through pgherd and beside it: what a client sees must be the same.
//!
//! The suite comes from the distribution's source package of the installed version
//! (`tests/conformance/fetch`) and is never part of this repository. It runs directly once, and the output of
//! each of its files is what the runs through pgherd are held against. Where every session has a server of
//! its own, nothing may differ; where servers are shared, only what is listed there with its reason.
//! Differences are kept in `target/conformance/differences/`. Without the sources the tests skip and say so.
#![allow(clippy::unwrap_used, clippy::panic)] // how a test fails

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pgherd::local::{Binaries, Herd, Home};
use pgherd_tests::{Fixture, USER, cache};

/// A run takes about a minute on two cores; one that hangs is stopped and shows what has not finished.
const RUN_SECONDS_MAX: u64 = 600;
/// The suite of any supported version holds more files; fewer mean that it was cut short.
const FILES_MIN: usize = 150;
const DATABASE: &str = "regression";

/// Output by the name of the file of the suite.
type Results = BTreeMap<String, Vec<u8>>;

/// The fetched suite.
struct Suite {
    dir: PathBuf,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_with_a_new_server_gives_what_a_direct_connection_gives() {
    let Some(suite) = Suite::fetch() else { return };
    // A server of that age is never handed to a second session.
    let pool = "mode = \"session\"\nsize_default = 64\nserver_lifetime = \"1ms\"";
    let found = suite.compare("new-servers", pool).await;
    assert!(found.is_empty(), "differ from a direct run: {found:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute more; `make conformance` runs it"]
async fn session_mode_differs_only_where_it_is_listed() {
    let Some(suite) = Suite::fetch() else { return };
    let found = suite.compare("session", "mode = \"session\"\nsize_default = 64").await;
    Listed::read("session-mode.toml").check(&found);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a SET inside a function stays on its server, so plans may differ by chance; `make conformance` runs it"]
async fn transaction_mode_differs_only_where_it_is_listed() {
    let Some(suite) = Suite::fetch() else { return };
    // Fewer servers than clients, so that servers go round.
    let found = suite.compare("transaction", "mode = \"transaction\"\nsize_default = 12").await;
    Listed::read("transaction-mode.toml").check(&found);
}

/// Names of files that differ, with the reason.
struct Listed {
    always: BTreeMap<String, String>,
    sometimes: BTreeMap<String, String>,
}

impl Listed {
    fn read(file: &str) -> Listed {
        let table: toml::Table = fs::read_to_string(here().join(file)).unwrap().parse().unwrap();
        let section = |name: &str| {
            let table = table.get(name).and_then(toml::Value::as_table).cloned();
            let reason = |(name, reason): (String, toml::Value)| {
                let reason = reason.as_str().unwrap_or_default().to_owned();
                assert!(reason.len() > 20, "{name} is listed without a reason");
                (name, reason)
            };
            table.unwrap_or_default().into_iter().map(reason).collect()
        };
        Listed { always: section("always"), sometimes: section("sometimes") }
    }

    fn check(&self, found: &BTreeSet<String>) {
        let known: BTreeSet<_> = self.always.keys().chain(self.sometimes.keys()).cloned().collect();
        let new: Vec<_> = found.difference(&known).collect();
        let gone: Vec<_> = self.always.keys().filter(|name| !found.contains(*name)).collect();
        assert!(new.is_empty(), "differ from a direct run and are not listed: {new:#?}");
        assert!(gone.is_empty(), "are listed and do not differ any more: {gone:#?}");
    }
}

impl Suite {
    /// `None`: it can't be had on this machine.
    fn fetch() -> Option<Suite> {
        let binaries = Binaries::find().unwrap();
        let output = Command::new(here().join("fetch"))
            .arg(binaries.dir())
            .arg(kept())
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        if output.status.code() == Some(3) {
            eprintln!("SKIPPED: the sources of PostgreSQL's regression suite can't be had here");
            return None;
        }
        assert!(output.status.success(), "tests/conformance/fetch failed: {}", output.status);
        Some(Suite { dir: String::from_utf8(output.stdout).unwrap().trim_end().into() })
    }

    /// Runs it through pgherd with these settings of `[pool]`; the files whose output is not a direct run's.
    async fn compare(&self, run: &str, pool: &str) -> BTreeSet<String> {
        let direct = self.direct();
        let config = format!("[pool]\n{pool}\n[databases.\"*\"]\nnodes = [\"primary\"]\n");
        let fixture = Fixture::builder()
            .postgres("max_prepared_transactions", "2")
            .config(&config)
            .start()
            .await;
        let results = self.run(&fixture.herd, fixture.pgherd.address().port());
        fs::write(kept().join(format!("pgherd-{run}.log")), fixture.pgherd.log()).unwrap();
        differences(run, &direct, &results)
    }

    /// What a direct connection gives; it is asked once, for PostgreSQL stays the same.
    fn direct(&self) -> Results {
        let lock = File::create(self.dir.join("direct.lock")).unwrap();
        lock.lock().unwrap();
        let done = self.dir.join("direct");
        if !done.is_dir() {
            let options = pgherd::local::Options::fast()
                .template(cache("templates"))
                .set("max_prepared_transactions", "2");
            let herd = Herd::builder().options(options).start().unwrap();
            let results = self.run(&herd, herd.primary.port());
            let half = self.dir.join("direct.new");
            let _ = fs::remove_dir_all(&half);
            fs::create_dir(&half).unwrap();
            for (name, text) in &results {
                fs::write(half.join(name), text).unwrap();
            }
            fs::rename(half, &done).unwrap();
        }
        read(&done)
    }

    /// Runs the whole schedule on a new database of `herd` by way of `port`.
    fn run(&self, herd: &Herd, port: u16) -> Results {
        let home = Home::new(None, herd.primary.binaries().account()).unwrap();
        let dir = home.path();
        // A copy, because the server itself reads and writes there.
        let regress = self.dir.join("regress");
        for part in ["sql", "expected", "data", "parallel_schedule", "resultmap"] {
            let status =
                Command::new("cp").arg("-r").arg(regress.join(part)).arg(dir).status().unwrap();
            assert!(status.success(), "cp {part}: {status}");
        }
        create_database(herd);
        let binaries = herd.primary.binaries();
        let output = File::create(kept().join(format!("pg_regress-{port}.log"))).unwrap();
        let lib = self.dir.join("lib");
        let mut child = binaries
            .server(&lib.join("pg_regress").display().to_string(), dir)
            .args(["--use-existing", "--host=127.0.0.1"])
            .args([
                format!("--dbname={DATABASE}"),
                format!("--user={USER}"),
                format!("--port={port}"),
            ])
            .arg(format!("--inputdir={}", dir.display()))
            .arg(format!("--outputdir={}", dir.display()))
            .arg(format!("--schedule={}", dir.join("parallel_schedule").display()))
            .arg(format!("--bindir={}", binaries.dir().display()))
            .arg(format!("--dlpath={}", lib.display()))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_secs(RUN_SECONDS_MAX);
        // Its exit status tells of the expected files, which are not what counts here.
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > end {
                let stuck = herd.primary.query(DATABASE, STUCK);
                let _ = child.kill();
                let _ = child.wait();
                panic!("the suite did not end within {RUN_SECONDS_MAX} s; sessions: {stuck:#?}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let results = read(&dir.join("results"));
        assert!(results.len() > FILES_MIN, "only {} files were run", results.len());
        results
    }
}

const STUCK: &str =
    "SELECT pid, state, wait_event, query FROM pg_stat_activity WHERE datname IS NOT NULL";

/// As pg_regress.c, `create_database`, makes it; it connects directly, and so do we.
fn create_database(herd: &Herd) {
    let create = format!(
        "CREATE DATABASE {DATABASE} TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C' ENCODING 'UTF8'"
    );
    herd.primary.query("postgres", &create).unwrap();
    for setting in [
        "lc_messages TO 'C'",
        "lc_monetary TO 'C'",
        "lc_numeric TO 'C'",
        "lc_time TO 'C'",
        "bytea_output TO 'hex'",
        "timezone_abbreviations TO 'Default'",
    ] {
        let sql = format!("ALTER DATABASE {DATABASE} SET {setting}");
        herd.primary.query("postgres", &sql).unwrap();
    }
}

/// Writes a diff for each file that differs, and tells their names.
fn differences(run: &str, direct: &Results, through: &Results) -> BTreeSet<String> {
    let dir = kept().join("differences").join(run);
    let _ = fs::remove_dir_all(&dir);
    let mut names = BTreeSet::new();
    for name in direct.keys().chain(through.keys()).collect::<BTreeSet<_>>() {
        if direct.get(name) == through.get(name) {
            continue;
        }
        fs::create_dir_all(&dir).unwrap();
        let (one, two) = (dir.join(format!("{name}.direct")), dir.join(format!("{name}.pgherd")));
        fs::write(&one, direct.get(name).map_or(&[][..], |t| t)).unwrap();
        fs::write(&two, through.get(name).map_or(&[][..], |t| t)).unwrap();
        let diff = File::create(dir.join(format!("{name}.diff"))).unwrap();
        let _ = Command::new("diff").arg("-U3").args([&one, &two]).stdout(diff).status();
        names.insert(name.trim_end_matches(".out").to_owned());
    }
    names
}

/// The `.out` files of a directory.
fn read(dir: &Path) -> Results {
    let entries = fs::read_dir(dir).unwrap().map(|e| e.unwrap());
    let outputs = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok().filter(|n| n.ends_with(".out"))?;
        Some((name, fs::read(entry.path()).unwrap()))
    });
    outputs.collect()
}

/// Where the fetcher and the list are.
fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance")
}

/// `target/conformance`.
fn kept() -> PathBuf {
    let profile = cache("");
    let target = profile.ancestors().nth(2).unwrap_or(&profile);
    target.join("conformance")
}
