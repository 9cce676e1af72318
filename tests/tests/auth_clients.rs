//! How clients prove who they are, and what those hear who can't.
#![allow(clippy::unwrap_used)] // how a test fails

use pgherd::auth::scram;
use pgherd::wire::build;
use pgherd_tests::{Authority, DATABASE, Fixture, Frame, RawClient, USER};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const ADMIN: &str = "[admin]\nusers = [\"postgres\"]\n";

/// A file in the fixture's own directory.
fn file(name: &str, text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    (dir, path)
}

/// What `psql` gets with a password.
fn login(fixture: &Fixture, user: &str, password: &str, more: &str) -> Result<String, String> {
    let dsn = format!("{} {more}", fixture.dsn(user, DATABASE));
    let mut command = fixture.psql_at(&dsn, "SELECT current_user");
    pgherd_tests::printed(command.arg("-w").env("PGPASSWORD", password))
}

/// A verifier of "secret".
fn verifier() -> String {
    let (salt, iterations) = (b"0123456789abcdef", scram::ITERATIONS_DEFAULT);
    let salted = scram::salted_password("secret", salt, iterations);
    scram::Verifier::from_salted(&salted, salt, iterations).format()
}

const ROLES: &str = "CREATE ROLE paula LOGIN; CREATE ROLE sam LOGIN; CREATE ROLE mike LOGIN; CREATE ROLE nobody LOGIN";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_are_checked_by_the_users_file() -> Outcome {
    let scram = verifier();
    let fixture = Fixture::builder().setup(ROLES).config(ADMIN).start().await;
    let md5 = fixture.direct("SELECT 'md5' || md5('secretmike')").remove(0);
    let (_dir, users) = file(
        "users",
        &format!(
            "\"paula\" \"secret\"\n\"sam\" \"{scram}\"\n\"mike\" \"{md5}\"\n\"nobody\" \"\"\n"
        ),
    );
    for method in ["scram-sha-256", "md5"] {
        fixture.reconfigure(&format!(
            "[auth]\nusers_file = \"{users}\"\n[[auth.rules]]\ndatabases = [\"pgherd\"]\nmethod = \"trust\"\n\
             [[auth.rules]]\nmethod = \"{method}\"\n"
        ));
        let check = |user: &str, password: &str, expect: bool| {
            let got = login(&fixture, user, password, "");
            match (&got, expect) {
                (Ok(who), true) if who == user => {}
                (Err(e), false) if e.contains("password authentication failed for user") => {}
                _ => fixture.fail(&format!("{user} {password:?} by {method}: {got:?}")),
            }
        };
        check("paula", "secret", true);
        check("paula", "wrong", false);
        check("sam", "secret", true);
        check("sam", "Secret", false);
        // An md5 hash can't check a SCRAM proof, as in PostgreSQL.
        check("mike", "secret", method == "md5");
        check("mike", "wrong", false);
        check("nobody", "secret", false);
        check("stranger", "secret", false);
    }
    // The verifier itself is no password.
    assert!(login(&fixture, "sam", &scram, "").is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channel_binding_is_offered_over_tls_only() -> Outcome {
    let authority = Authority::new()?;
    let pair = authority.issue("server", "pgherd", &["127.0.0.1"])?;
    let (_dir, users) = file("users", "\"paula\" \"secret\"\n");
    let config = format!(
        "[tls.client]\nmode = \"allow\"\ncert_file = \"{}\"\nkey_file = \"{}\"\n[auth]\nusers_file = \"{users}\"\n\
         [[auth.rules]]\nmethod = \"scram-sha-256\"\n",
        pair.cert.display(),
        pair.key.display()
    );
    let fixture = Fixture::builder().setup(ROLES).config(&config).start().await;
    let check = |more: &str, password: &str, expect: Result<&str, &str>| {
        let got = login(&fixture, "paula", password, more);
        let fits = match (&got, expect) {
            (Ok(got), Ok(expect)) => got == expect,
            (Err(got), Err(expect)) => got.contains(expect),
            _ => false,
        };
        assert!(fits, "{more}: {got:?}\n{}", fixture.pgherd.log());
    };
    check("sslmode=require channel_binding=require", "secret", Ok("paula"));
    check(
        "sslmode=require channel_binding=require",
        "wrong",
        Err("password authentication failed"),
    );
    check("sslmode=require channel_binding=disable", "secret", Ok("paula"));
    check("sslmode=disable channel_binding=prefer", "secret", Ok("paula"));
    check("sslmode=disable channel_binding=require", "secret", Err("channel binding"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_rule_that_fits_decides() -> Outcome {
    let (_dir, users) = file("users", "\"paula\" \"secret\"\n");
    let config = format!(
        r#"
        [auth]
        users_file = "{users}"
        [[auth.rules]]
        users = ["mike"]
        method = "reject"
        [[auth.rules]]
        connection = "host-tls"
        method = "trust"
        [[auth.rules]]
        addresses = ["10.0.0.0/8"]
        method = "trust"
        [[auth.rules]]
        databases = ["app"]
        users = ["paula"]
        addresses = ["127.0.0.0/8"]
        [[auth.rules]]
        databases = ["sameuser"]
        method = "trust"
        [databases.sam]
        nodes = ["primary"]
        dbname = "app"
        "#
    );
    let fixture = Fixture::builder().setup(ROLES).config(&config).start().await;
    let check = |user: &str, database: &str, expect: Result<&str, &str>| {
        let dsn = fixture.dsn(user, database);
        let mut command = fixture.psql_at(&dsn, "SELECT current_user");
        let got = pgherd_tests::printed(command.arg("-w").env("PGPASSWORD", "secret"));
        let fits = match (&got, expect) {
            (Ok(got), Ok(expect)) => got == expect,
            (Err(got), Err(expect)) => got.contains(expect),
            _ => false,
        };
        assert!(fits, "{user} {database}: {got:?}\n{}", fixture.pgherd.log());
    };
    let refused = |user, database: &str| {
        format!(
            "no auth rule admits host \"127.0.0.1\", user \"{user}\", database \"{database}\", no encryption"
        )
    };
    check("paula", "app", Ok("paula"));
    check("paula", "sam", Err(&refused("paula", "sam")));
    check("sam", "sam", Ok("sam"));
    check("sam", "app", Err(&refused("sam", "app")));
    check("mike", "app", Err(&refused("mike", "app")));
    // Whether a database exists is not told to those who may not enter.
    check("mike", "absent", Err(&refused("mike", "absent")));
    Ok(())
}

/// The answers to a login with a wrong password, without salts and nonces.
async fn answers(
    fixture: &Fixture,
    user: &str,
    database: &str,
    scram: bool,
) -> anyhow::Result<Vec<Frame>> {
    let mut client = RawClient::connect(fixture.pgherd.address()).await?;
    client.startup(&[("user", user), ("database", database)]).await?;
    let mut frames = vec![client.frame().await?];
    let mut send = Vec::new();
    if scram {
        build::frame(&mut send, b'p', |body| {
            body.extend(b"SCRAM-SHA-256\0\0\0\0\x0fn,,n=,r=abcdefg");
        });
        client.send(&send).await?;
        let challenge = client.frame().await?;
        let text = String::from_utf8_lossy(&challenge.body).into_owned();
        let nonce = text.split(['=', ',']).nth(1).unwrap_or_default().to_owned();
        let proof = "A".repeat(43);
        send.clear();
        build::frame(&mut send, b'p', |body| {
            body.extend(format!("c=biws,r={nonce},p={proof}=").bytes());
        });
        let shape =
            challenge.body.iter().map(|&b| if b.is_ascii_alphanumeric() { b'x' } else { b' ' });
        let length = shape.count();
        frames.push(Frame { kind: challenge.kind, body: length.to_string().into_bytes() });
        assert!(text.ends_with(",i=4096"), "{text}");
    } else {
        frames[0].body.truncate(4);
        build::frame(&mut send, b'p', |body| body.extend(b"md500000000000000000000000000000000\0"));
    }
    client.send(&send).await?;
    frames.push(client.frame().await?);
    client.closed().await?;
    for frame in &mut frames {
        // Names differ, as long as they are.
        let text = String::from_utf8_lossy(&frame.body).replace(user, "USER");
        frame.body = text.into_bytes();
    }
    Ok(frames)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_exists_is_not_told() -> Outcome {
    let scram = verifier();
    let (_dir, users) =
        file("users", &format!("\"paula\" \"secret\"\n\"sammy\" \"{scram}\"\n\"nopwd\" \"\"\n"));
    let fixture = Fixture::builder().config(&format!("[auth]\nusers_file = \"{users}\"\n[[auth.rules]]\nusers = [\"postgres\"]\nmethod = \"trust\"\n[[auth.rules]]\nmethod = \"scram-sha-256\"\n")).start().await;
    let expect = answers(&fixture, "paula", DATABASE, true).await?;
    assert_eq!(expect.last().map(|f| f.field(b'C')).as_deref(), Some("28P01"));
    for (user, database) in [
        ("sammy", DATABASE),
        ("nopwd", DATABASE),
        ("ghost", DATABASE),
        ("paula", "absent"),
        ("ghost", "absent"),
        ("paula", "pgherd"),
    ] {
        assert_eq!(answers(&fixture, user, database, true).await?, expect, "{user} {database}");
    }
    fixture.write_config("[[auth.rules]]\nusers = [\"postgres\"]\nmethod = \"trust\"\n[[auth.rules]]\nmethod = \"md5\"\n[admin]\nusers = [\"postgres\"]\n");
    fixture.pgherd.signal(rustix::process::Signal::HUP);
    while fixture.psql(USER, "pgherd", "", "SHOW VERSION").is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let expect = answers(&fixture, "paula", DATABASE, false).await?;
    assert_eq!(answers(&fixture, "ghost", DATABASE, false).await?, expect);
    Ok(())
}
