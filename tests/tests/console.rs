//! The operator's doors: console by psql, HTTP, metrics, `pgherd ctl`, `pgherd check`.
#![allow(clippy::unwrap_used, clippy::panic)] // how a test fails

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use pgherd_tests::{DATABASE, Fixture, USER, binary, printed};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const ADMIN: &str = "[admin]\nusers = [\"postgres\"]\nstats_users = [\"looker\"]\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_looks_at_everything() -> Outcome {
    let fixture = Fixture::builder().config(ADMIN).setup("CREATE ROLE looker LOGIN").start().await;
    let client = fixture.client().await;
    client.batch_execute("BEGIN; SELECT 1").await?;
    let check = |sql: &str, expect: &[&str]| {
        let said = fixture.psql("looker", "pgherd", "", sql).unwrap_or_else(|e| fixture.fail(&e));
        for expect in expect {
            assert!(said.contains(expect), "{sql} lacks {expect}:\n{said}");
        }
    };
    check("SHOW POOLS", &["app|postgres|"]);
    check("SHOW CLIENTS", &["C|postgres|app|", "127.0.0.1"]);
    check("SHOW SERVERS", &["S|postgres|app|"]);
    check("SHOW DATABASES", &["app|127.0.0.1|"]);
    check("SHOW STATS", &["app|"]);
    check("SHOW STATS_TOTALS", &["app|"]);
    check("SHOW STATS_AVERAGES", &["app|"]);
    check("SHOW CONFIG", &["pool", "proxy"]);
    check("SHOW LISTS", &["databases|", "pools|"]);
    check("SHOW USERS", &["postgres|"]);
    check("show version;", &["pgherd"]);
    for sql in [
        "SHOW MEM",
        "SHOW SOCKETS",
        "SHOW ACTIVE_SOCKETS",
        "SHOW DNS_HOSTS",
        "SHOW TOTALS",
        "SHOW HELP",
    ] {
        check(sql, &[]);
    }
    // Who may look may not touch, and others may not even look.
    let error = fixture.psql("looker", "pgherd", "", "PAUSE").unwrap_err();
    assert!(error.contains("ERROR"), "{error}");
    let error = fixture.psql("stranger", "pgherd", "", "SHOW POOLS").unwrap_err();
    assert!(error.contains("permission denied for database \"pgherd\""), "{error}");
    client.batch_execute("COMMIT").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_tells_what_to_do() -> Outcome {
    let fixture = Fixture::builder().config(ADMIN).start().await;
    let admin = |sql: &str| fixture.psql(USER, "pgherd", "", sql);
    let mut client = fixture.raw().await?;
    client.query("SELECT 1").await?;
    admin("PAUSE app")?;
    assert!(admin("RESUME app").is_ok() && admin("RESUME app").is_err());
    client.query("SELECT 1").await?;
    assert!(admin("PAUSE nothing").unwrap_err().contains("nothing"));
    admin("DISABLE app")?;
    assert!(fixture.psql(USER, DATABASE, "", "SELECT 1").is_err());
    client.query("SELECT 1").await?;
    admin("ENABLE app")?;
    assert_eq!(fixture.psql(USER, DATABASE, "", "SELECT 1").as_deref(), Ok("1"));
    let pid = fixture
        .direct("SELECT pid FROM pg_stat_activity WHERE application_name = 'pgherd' ORDER BY 1");
    admin("RECONNECT app")?;
    client.query("SELECT 1").await?;
    let now = fixture
        .direct("SELECT pid FROM pg_stat_activity WHERE application_name = 'pgherd' ORDER BY 1");
    assert!(pid != now || pid.is_empty(), "{pid:?} {now:?}");
    admin("KILL app")?;
    let goodbye = client.frame().await?;
    assert_eq!((goodbye.kind, goodbye.field(b'C').as_str()), (b'E', "57P01"));
    admin("RESUME app")?;
    assert_eq!(fixture.psql(USER, DATABASE, "", "SELECT 1").as_deref(), Ok("1"));
    Ok(())
}

/// Samples by their name and labels.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        assert!(all.insert(name.to_owned(), value).is_none(), "twice: {name}");
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_count_what_pgbench_does() -> Outcome {
    let fixture = Fixture::builder().start().await;
    assert!(fixture.pgherd.get("/healthz").is_ok() && fixture.pgherd.get("/readyz").is_ok());
    let before = fixture.pgherd.get("/metrics")?;
    printed(fixture.libpq("pgbench").args(["-i", "-q", "-s", "1"]))?;
    printed(fixture.libpq("pgbench").args(["-n", "-S", "-t", "50", "-c", "4", "-j", "2"]))?;
    let after = fixture.pgherd.get("/metrics")?;
    for text in [&before, &after] {
        assert!(text.trim_end().ends_with("# EOF"), "not OpenMetrics: {text}");
    }
    let (before, after) = (samples(&before), samples(&after));
    for name in before.keys() {
        assert!(after.contains_key(name), "{name} went away");
    }
    let sum = |of: &BTreeMap<String, f64>, part: &str| -> f64 {
        of.iter()
            .filter(|(name, _)| name.contains(part) && name.contains("_total"))
            .map(|s| s.1)
            .sum()
    };
    for (part, least) in
        [("quer", 200.0), ("transaction", 200.0), ("client", 4.0), ("byte", 1000.0)]
    {
        let grown = sum(&after, part) - sum(&before, part);
        assert!(grown >= least, "{part} grew by {grown}: {after:#?}");
    }
    Ok(())
}

fn ctl(fixture: &Fixture, arguments: &[&str]) -> (i32, String, String) {
    let url = format!("http://{}", fixture.pgherd.admin().unwrap());
    let output = Command::new(binary().unwrap())
        .args(["ctl", "--url", &url])
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctl_shows_tables_and_json_and_does_what_it_is_told() -> Outcome {
    let mut fixture = Fixture::builder().start().await;
    let mut client = fixture.raw().await?;
    client.query("SELECT 1").await?;
    for (command, expect) in [
        ("status", "ready"),
        ("nodes", "primary"),
        ("pools", "app"),
        ("clients", "127.0.0.1"),
        ("servers", "app"),
        ("databases", "app"),
        ("stats", "app"),
        ("config", "pool"),
    ] {
        let (code, out, err) = ctl(&fixture, &[command]);
        assert!(code == 0 && out.contains(expect), "{command}: {code} {out} {err}");
        let (code, out, err) = ctl(&fixture, &[command, "--json"]);
        let json: serde_json::Value = serde_json::from_str(&out)?;
        assert!(code == 0 && json.to_string().contains(expect), "{command}: {code} {out} {err}");
        let answer = fixture.pgherd.get(&format!("/api/v1/{command}"))?;
        serde_json::from_str::<serde_json::Value>(&answer)?;
    }
    for (arguments, expect) in [
        (&["pause", "app"] as &[&str], 0),
        (&["resume", "app"], 0),
        (&["resume", "app"], 1),
        (&["pause", "absent"], 1),
        (&["reconnect"], 0),
        (&["reload"], 0),
        (&["kill"], 2),
        (&["nonsense"], 2),
        (&["kill", "--client", "999999"], 1),
        (&["kill", "app"], 0),
        (&["resume"], 0),
    ] {
        let (code, out, err) = ctl(&fixture, arguments);
        assert_eq!(code, expect, "{arguments:?}: {out} {err}");
        assert!(code == 0 || !err.is_empty(), "{arguments:?} fails without a word");
    }
    let (code, ..) = ctl(&fixture, &["drain"]);
    assert_eq!(code, 0);
    let status = fixture.pgherd.wait(std::time::Duration::from_secs(60))?;
    assert!(status.is_some_and(|s| s.success()), "{status:?}");
    let (code, _, err) = ctl(&fixture, &["status"]);
    assert!(code == 2 && !err.is_empty(), "{code} {err}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_guards_the_api() -> Outcome {
    let dir = tempfile::tempdir()?;
    let token = dir.path().join("token");
    std::fs::write(&token, "0123456789abcdef0123456789abcdef\n")?;
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let token = token.display().to_string();
    let fixture =
        Fixture::builder().config(&format!("[admin]\ntoken_file = \"{token}\"\n")).start().await;
    let (code, _, err) = ctl(&fixture, &["status"]);
    assert!(code == 1 && !err.contains("0123456789"), "{code} {err}");
    let (code, out, err) = ctl(&fixture, &["status", "--token-file", &token]);
    assert_eq!(code, 0, "{out} {err}");
    assert!(
        fixture.pgherd.get("/api/v1/status").is_err() && fixture.pgherd.get("/healthz").is_ok()
    );
    Ok(())
}

#[test]
fn check_names_file_line_and_column() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pgherd.toml");
    let check = |text: &str, code: i32, expect: &str| {
        std::fs::write(&path, text).unwrap();
        let output = check_file(&path);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(code), "{text}: {said}");
        let expect = expect.replace("FILE", &path.display().to_string());
        assert!(said.contains(&expect), "{text}: {said}");
    };
    let herd = "[nodes.a]\nhost = \"h\"\n[databases.d]\nnodes = [\"a\"]\n";
    check(herd, 0, "");
    check(&format!("{herd}[pool\n"), 78, "FILE:5:");
    check(&format!("{herd}[pool]\nsize = 3\n"), 78, "FILE:6:1");
    check(&format!("{herd}[pool]\nmode = \"all\"\n"), 78, "FILE:6:8");
    check("[databases.d]\nnodes = [\"b\"]\n", 78, "FILE:2:");
    let tls = "[tls.client]\nmode = \"require\"\ncert_file = \"/absent.crt\"\nkey_file = \"/absent.key\"\n";
    check(&format!("{tls}{herd}"), 78, "FILE:3:13: cannot read /absent.crt");
    check(&format!("[auth]\nusers_file = \"/absent\"\n{herd}"), 78, "FILE:2:14: /absent: ");
    check(&format!("{herd}password_file = \"/absent\"\n"), 78, "FILE:5:17: ");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(check_file(&path).status.code(), Some(78));
    assert_eq!(check_file(Path::new("/absent/pgherd.toml")).status.code(), Some(78));
}

fn check_file(path: &Path) -> std::process::Output {
    let mut command = Command::new(binary().unwrap());
    command.args(["check", "--config"]).arg(path).stdin(Stdio::null()).output().unwrap()
}
