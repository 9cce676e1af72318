//! TLS towards servers: a PostgreSQL with a certificate meets each mode, and asks for ours.
#![allow(clippy::unwrap_used)] // how a test fails

use pgherd_tests::{Authority, DATABASE, Fixture, USER};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const ADMIN: &str = "[admin]\nusers = [\"postgres\"]\n";
const IS_TLS: &str = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

/// Gives the primary a certificate for `names`, and switches TLS on.
fn install(fixture: &Fixture, authority: &Authority, names: &[&str]) -> Outcome {
    let pair = authority.issue("postgres", "postgres server", names)?;
    pair.install(&fixture.herd.primary.data_dir(), &authority.ca_file())?;
    fixture.direct("ALTER SYSTEM SET ssl = on");
    fixture.direct("ALTER SYSTEM SET ssl_ca_file = 'ca.pem'");
    fixture.direct("SELECT pg_reload_conf()");
    fixture.wait_until("SELECT setting = 'on' FROM pg_settings WHERE name = 'ssl'");
    Ok(())
}

/// What a client gets once every server was made anew by `config`.
fn select(fixture: &Fixture, user: &str, config: &str, sql: &str) -> Result<String, String> {
    fixture.reconfigure(config);
    fixture.psql(USER, "pgherd", "", "RECONNECT")?;
    fixture.psql(user, DATABASE, "", sql)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_mode_trusts_as_far_as_it_says() -> Outcome {
    let (authority, stranger) = (Authority::new()?, Authority::new()?);
    let config = format!("{ADMIN}[pool]\nserver_login_retry = \"0s\"\n");
    let fixture = Fixture::builder().config(&config).start().await;
    let file = |authority: &Authority| authority.ca_file().display().to_string();
    let (known, unknown) = (file(&authority), file(&stranger));
    let check = |mode: &str, ca: &str, expect: Result<&str, &str>| {
        let ca = if mode.starts_with("verify") { ca } else { "" };
        let tls = format!("[tls.server]\nmode = \"{mode}\"\nca_file = \"{ca}\"\n");
        let got = select(&fixture, USER, &tls, IS_TLS);
        match (&got, expect) {
            (Ok(got), Ok(expect)) if got == expect => {}
            // The client hears that it failed, the operator why.
            (Err(_), Err(expect)) if fixture.pgherd.log().contains(expect) => {}
            _ => fixture.fail(&format!("{mode} {ca}: {got:?}, expected {expect:?}")),
        }
    };
    let no_tls = "the server does not have TLS, but tls.server.mode demands it";
    check("disable", &known, Ok("f"));
    check("prefer", &known, Ok("f"));
    check("require", &known, Err(no_tls));
    check("verify-full", &known, Err(no_tls));

    install(&fixture, &authority, &["localhost", "127.0.0.1"])?;
    check("disable", &known, Ok("f"));
    check("prefer", &unknown, Ok("t"));
    check("require", &unknown, Ok("t"));
    check("verify-ca", &known, Ok("t"));
    check("verify-full", &known, Ok("t"));
    check("verify-ca", &unknown, Err("handshake with the server failed: invalid peer certificate"));
    check(
        "verify-full",
        &unknown,
        Err("handshake with the server failed: invalid peer certificate"),
    );

    install(&fixture, &authority, &["elsewhere.example"])?;
    check("verify-ca", &known, Ok("t"));
    check("verify-full", &known, Err("not valid for name"));
    let heard = fixture.psql(USER, DATABASE, "", IS_TLS).unwrap_err();
    assert!(!heard.contains("elsewhere"), "a client sees what is behind pgherd: {heard}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_ask_see_our_certificate() -> Outcome {
    let authority = Authority::new()?;
    let ours = authority.issue("pgherd", "robot", &[])?;
    let fixture = Fixture::builder()
        .hba("hostssl all robot 127.0.0.1/32 cert")
        .hba("host all robot 127.0.0.1/32 reject")
        .setup("CREATE ROLE robot LOGIN")
        .config(&format!("{ADMIN}[pool]\nserver_login_retry = \"0s\"\n"))
        .start()
        .await;
    install(&fixture, &authority, &["127.0.0.1"])?;
    let tls = format!(
        "[tls.server]\nmode = \"verify-full\"\nca_file = \"{}\"\n",
        authority.ca_file().display()
    );
    let who = "SELECT current_user, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let without = select(&fixture, "robot", &tls, who).unwrap_err();
    assert!(without.contains("certificate"), "{without}");
    let pair =
        format!("cert_file = \"{}\"\nkey_file = \"{}\"\n", ours.cert.display(), ours.key.display());
    assert_eq!(select(&fixture, "robot", &format!("{tls}{pair}"), who)?, "robot|/CN=robot");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_are_bound_to_the_servers_certificate() -> Outcome {
    let authority = Authority::new()?;
    let fixture = Fixture::builder()
        .hba("hostssl all ann 127.0.0.1/32 scram-sha-256")
        .setup("SET password_encryption = 'scram-sha-256'; CREATE ROLE ann LOGIN PASSWORD 'secret'")
        .config(&format!(
            "{ADMIN}[tls.server]\nmode = \"require\"\n[pool]\nserver_login_retry = \"0s\"\n"
        ))
        .start()
        .await;
    install(&fixture, &authority, &["127.0.0.1"])?;
    let users = fixture.herd.home().path().join("users");
    std::fs::write(&users, "\"ann\" \"secret\"\n\"postgres\" \"\"\n")?;
    let config = format!(
        "[auth]\nusers_file = \"{}\"\n[databases.app]\nuser = \"ann\"\npassword = \"secret\"\n",
        users.display()
    );
    assert_eq!(select(&fixture, USER, &config, "SELECT current_user")?, "ann");
    // The server offers PLUS on TLS, and a client that could bind but does not is refused by it; so a
    // login is the proof that ours binds. A wrong password is told as such.
    let wrong = "[databases.app]\nuser = \"ann\"\npassword = \"other\"\n";
    let error = select(&fixture, USER, wrong, "SELECT 1").unwrap_err();
    assert!(error.contains("password authentication failed"), "{error}");
    Ok(())
}
