//! Logging in to servers: what pgherd may know, where it asks, and that nothing more is needed.
#![allow(clippy::unwrap_used)] // how a test fails

use pgherd_tests::{DATABASE, Fixture, USER, printed};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const ROLES: &str = "SET password_encryption = 'scram-sha-256'; CREATE ROLE sam LOGIN PASSWORD 'secret';
    CREATE ROLE asker LOGIN PASSWORD 'asks' SUPERUSER;
    SET password_encryption = 'md5'; CREATE ROLE mike LOGIN PASSWORD 'secret';
    CREATE FUNCTION lookup(name text) RETURNS TABLE (usename name, passwd text)
        LANGUAGE sql SECURITY DEFINER AS 'SELECT usename, passwd FROM pg_shadow WHERE usename = $1'";

const BY_PASSWORD: &str = "[pool]\nserver_login_retry = \"0s\"\n[admin]\nusers = [\"postgres\"]\n\
    [[auth.rules]]\nusers = [\"postgres\"]\nmethod = \"trust\"\n[[auth.rules]]\nmethod = \"md5\"\n";

/// A herd whose pg_hba.conf wants passwords of everyone but `postgres`.
async fn fixture() -> Fixture {
    fixture_with("").await
}

async fn fixture_with(config: &str) -> Fixture {
    Fixture::builder()
        .setup(ROLES)
        .hba("host all sam,asker,renamed 127.0.0.1/32 scram-sha-256")
        .hba("host all mike 127.0.0.1/32 md5")
        .config(&format!("{BY_PASSWORD}{config}"))
        .start()
        .await
}

fn users_file(fixture: &Fixture, text: &str) -> String {
    let path = fixture.herd.home().path().join("users");
    std::fs::write(&path, text).unwrap();
    format!("[auth]\nusers_file = \"{}\"\n", path.display())
}

/// What the server says who it is, to a client with this password.
fn login(fixture: &Fixture, user: &str, password: &str) -> Result<String, String> {
    let mut command = fixture.psql_at(&fixture.dsn(user, DATABASE), "SELECT current_user");
    printed(command.arg("-w").env("PGPASSWORD", password))
}

fn verifier(fixture: &Fixture, user: &str) -> String {
    fixture.direct(&format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{user}'")).remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verifiers_alone_log_in_to_servers() -> Outcome {
    let fixture = fixture().await;
    let (sam, mike) = (verifier(&fixture, "sam"), verifier(&fixture, "mike"));
    assert!(sam.starts_with("SCRAM-SHA-256$") && mike.starts_with("md5"));
    let config = users_file(&fixture, &format!("\"sam\" \"{sam}\"\n\"mike\" \"{mike}\"\n"));
    fixture.reconfigure(&config);
    for user in ["sam", "mike"] {
        assert_eq!(login(&fixture, user, "secret").as_deref(), Ok(user));
        assert!(
            login(&fixture, user, "wrong").unwrap_err().contains("password authentication failed")
        );
    }
    // Keys are won from the client: a server that is opened later is opened with them, too.
    fixture.psql(USER, "pgherd", "", "RECONNECT")?;
    assert_eq!(login(&fixture, "sam", "secret").as_deref(), Ok("sam"));

    // The same password behind another salt: what the client proves to us proves nothing there.
    fixture.direct("SET password_encryption = 'scram-sha-256'; ALTER ROLE sam PASSWORD 'secret'");
    fixture.psql(USER, "pgherd", "", "RECONNECT")?;
    let error = login(&fixture, "sam", "secret").unwrap_err();
    assert!(error.contains("authentication failed"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_passwords_log_in_by_every_method() -> Outcome {
    let fixture = fixture().await;
    let config = users_file(&fixture, "\"sam\" \"secret\"\n\"mike\" \"secret\"\n");
    fixture.reconfigure(&config);
    for user in ["sam", "mike"] {
        assert_eq!(login(&fixture, user, "secret").as_deref(), Ok(user));
    }
    // A password that the server does not take is told to the client, and is nothing of the users file's.
    let config = users_file(&fixture, "\"sam\" \"other\"\n");
    fixture.reconfigure(&config);
    fixture.psql(USER, "pgherd", "", "RECONNECT")?;
    let error = login(&fixture, "sam", "other").unwrap_err();
    assert!(error.contains("password authentication failed for user \"sam\""), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_are_looked_up_in_the_database() -> Outcome {
    let fixture = fixture().await;
    for query in [
        "SELECT usename, passwd FROM lookup($1)",
        "SELECT usename, passwd FROM pg_shadow WHERE usename = $1",
    ] {
        let config = users_file(&fixture, "\"asker\" \"asks\"\n");
        fixture.reconfigure(&format!("{config}query = \"{query}\"\nquery_user = \"asker\"\n"));
        for user in ["sam", "mike"] {
            assert_eq!(login(&fixture, user, "secret").as_deref(), Ok(user), "{query}");
            let error = login(&fixture, user, "wrong").unwrap_err();
            assert!(error.contains("password authentication failed"), "{error}");
        }
        let error = login(&fixture, "ghost", "secret").unwrap_err();
        assert!(error.contains("password authentication failed for user \"ghost\""), "{error}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_changed_on_the_server_is_picked_up() -> Outcome {
    let users = tempfile::NamedTempFile::new()?;
    std::fs::write(users.path(), "\"asker\" \"asks\"\n")?;
    // Long enough to be believed all the way through; a reload forgets.
    let config = format!(
        "[auth]\nusers_file = \"{}\"\nquery = \"SELECT usename, passwd FROM lookup($1)\"\n\
         query_user = \"asker\"\nquery_cache_ttl = \"1h\"\n",
        users.path().display()
    );
    let fixture = fixture_with(&config).await;
    assert_eq!(login(&fixture, "sam", "secret").as_deref(), Ok("sam"));
    fixture.direct("ALTER ROLE sam PASSWORD 'changed'");
    // The answer is remembered: no server was asked again.
    assert_eq!(login(&fixture, "sam", "secret").as_deref(), Ok("sam"));
    fixture.reconfigure("[auth]\nquery_cache_ttl = \"0s\"\n");
    assert!(login(&fixture, "sam", "secret").is_err());
    assert_eq!(login(&fixture, "sam", "changed").as_deref(), Ok("sam"));
    // New servers are opened with what the client proved now.
    fixture.psql(USER, "pgherd", "", "RECONNECT")?;
    assert_eq!(login(&fixture, "sam", "changed").as_deref(), Ok("sam"));
    fixture.direct("ALTER ROLE sam PASSWORD 'again'");
    assert_eq!(login(&fixture, "sam", "again").as_deref(), Ok("sam"));
    assert!(login(&fixture, "sam", "changed").is_err());
    fixture.psql(USER, "pgherd", "", "RECONNECT")?;
    assert_eq!(login(&fixture, "sam", "again").as_deref(), Ok("sam"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lookup_that_fails_tells_the_client_nothing() -> Outcome {
    let fixture = fixture().await;
    for (file, query, log) in [
        (
            "\"asker\" \"wrong\"\n",
            "SELECT usename, passwd FROM lookup($1)",
            "password authentication failed for user \\\"asker\\\"",
        ),
        ("\"asker\" \"asks\"\n", "SELECT usename, passwd FROM absent WHERE u = $1", "absent"),
        ("\"asker\" \"asks\"\n", "SELECT 1, 2, $1", "two columns"),
    ] {
        let config = users_file(&fixture, file);
        fixture.reconfigure(&format!("{config}query = \"{query}\"\nquery_user = \"asker\"\n"));
        let error = login(&fixture, "sam", "secret").unwrap_err();
        assert!(error.contains("the user can't be looked up"), "{error}");
        assert!(!error.contains("asker") && !error.contains("absent"), "{error}");
        let logged = fixture.pgherd.log();
        assert!(logged.contains(log) || logged.contains(&log.replace('\\', "")), "{log}\n{logged}");
    }
    Ok(())
}
