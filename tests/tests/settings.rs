//! SET and its kin: followed from server to server, undone with transactions, never shared.
#![allow(clippy::unwrap_used)] // how a test fails

use pgherd_tests::ask::{backend, rows, value};
use pgherd_tests::{DATABASE, Fixture, USER};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const TWO: &str = "[pool]\nsize_default = 2";

/// Asks on both servers of the pool; the answers must be the same.
async fn both(fixture: &Fixture, client: &Client, sql: &str) -> String {
    let holder = fixture.client().await;
    let first = value(client, sql).await;
    let mut servers = vec![backend(client).await];
    for _ in 0..20 {
        holder.batch_execute("BEGIN").await.unwrap();
        let now = value(client, sql).await;
        assert_eq!(now, first, "{sql} on another server");
        servers.push(backend(client).await);
        holder.batch_execute("COMMIT").await.unwrap();
        if servers.iter().any(|s| *s != servers[0]) {
            return first;
        }
        let other = fixture.client().await;
        other.batch_execute("BEGIN").await.unwrap();
        holder.batch_execute("BEGIN; COMMIT").await.unwrap();
    }
    fixture.fail("the client never met another server");
}

async fn connect(fixture: &Fixture, more: &str) -> Result<Client, tokio_postgres::Error> {
    let dsn = fixture.dsn(USER, DATABASE) + " " + more;
    let (client, connection) = tokio_postgres::connect(&dsn, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_to_set_is_followed() -> Outcome {
    let fixture = Fixture::builder().config(TWO).setup("CREATE SCHEMA \"My Schema\"").start().await;
    let client = fixture.client().await;
    let check = async |sql: &str, show: &str, expect: &str| {
        client.batch_execute(sql).await.unwrap();
        assert_eq!(both(&fixture, &client, show).await, expect, "{sql}");
        let other = fixture.client().await;
        assert_ne!(value(&other, show).await, expect, "{sql} reached another client");
    };
    check("SET work_mem = '5MB'", "SHOW work_mem", "5MB").await;
    check("SET SESSION work_mem TO 6144", "SHOW work_mem", "6MB").await;
    check("SET search_path TO \"My Schema\", public", "SHOW search_path", "\"My Schema\", public")
        .await;
    check("SET search_path = 'a b', pg_catalog -- why", "SHOW search_path", "\"a b\", pg_catalog")
        .await;
    check("SET SCHEMA 'x''y'", "SHOW search_path", "\"x'y\"").await;
    check("SET TIME ZONE 'Asia/Tokyo'", "SHOW TimeZone", "Asia/Tokyo").await;
    check("SET TIME ZONE INTERVAL '-08:30' HOUR TO MINUTE", "SHOW TimeZone", "<-08:30>+08:30")
        .await;
    check("SET TIME ZONE 3", "SHOW TimeZone", "<+03>-03").await;
    check("SET timezone = 'UTC'; SET TIMEZONE TO 'Asia/Seoul'", "SHOW TimeZone", "Asia/Seoul")
        .await;
    check("SET NAMES 'LATIN1'", "SHOW client_encoding", "LATIN1").await;
    client.batch_execute("RESET client_encoding").await?;
    check("SET DateStyle = 'German'", "SHOW DateStyle", "German, DMY").await;
    check(
        "SET my.own_one = 'semi;colon'",
        "SELECT current_setting('my.own_one', true)",
        "semi;colon",
    )
    .await;
    check(
        "SELECT set_config('my.own_two', 'it''s', false)",
        "SELECT current_setting('my.own_two', true)",
        "it's",
    )
    .await;
    check("SELECT pg_catalog.set_config('work_mem', '7MB', false)", "SHOW work_mem", "7MB").await;
    check("SET statement_timeout = 12345", "SHOW statement_timeout", "12345ms").await;
    check(
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SHOW default_transaction_isolation",
        "serializable",
    )
    .await;
    check("SET enable_seqscan = off; SELECT 1", "SHOW enable_seqscan", "off").await;
    check("SET extra_float_digits TO -3", "SHOW extra_float_digits", "-3").await;
    check(
        "SET application_name = 'caf\u{e9} \\ ''x'''",
        "SHOW application_name",
        // Not ASCII: PostgreSQL 15 shows question marks.
        "caf?? \\ 'x'",
    )
    .await;
    check("SET XML OPTION DOCUMENT", "SHOW xmloption", "document").await;
    // With values in the extended protocol, what is set is not in the text.
    client.query("SELECT set_config('my.three', $1, false)", &[&"computed"]).await?;
    assert_eq!(value(&client, "SELECT current_setting('my.three')").await, "computed");
    assert_eq!(
        value(&fixture.client().await, "SELECT current_setting('my.three', true)").await,
        "NULL"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_are_undone_with_their_transaction() -> Outcome {
    let fixture = Fixture::builder().config(TWO).start().await;
    let client = fixture.client().await;
    client.batch_execute("SET work_mem = '5MB'").await?;
    let check = async |sql: &[&str], expect: &str| {
        for statement in sql {
            let _ = client.batch_execute(statement).await;
        }
        assert_eq!(both(&fixture, &client, "SHOW work_mem").await, expect, "{sql:?}");
        client.batch_execute("SET work_mem = '5MB'").await.unwrap();
    };
    check(&["BEGIN", "SET work_mem = '6MB'", "ROLLBACK"], "5MB").await;
    check(&["BEGIN", "SET work_mem = '6MB'", "COMMIT"], "6MB").await;
    check(&["BEGIN; SET work_mem = '6MB'; ROLLBACK"], "5MB").await;
    check(&["BEGIN; SET work_mem = '6MB'", "SELECT 1/0", "COMMIT"], "5MB").await;
    check(&["SET work_mem = '6MB'; SELECT 1/0"], "5MB").await;
    check(&["SET work_mem = '6MB'; COMMIT; SELECT 1/0"], "6MB").await;
    check(&["SET work_mem = 'nonsense'"], "5MB").await;
    check(&["BEGIN", "SET LOCAL work_mem = '6MB'", "COMMIT"], "5MB").await;
    check(&["BEGIN; SET work_mem = '6MB'; SET LOCAL work_mem = '7MB'; COMMIT"], "6MB").await;
    check(&["SET LOCAL work_mem = '6MB'"], "5MB").await;
    check(&["BEGIN; SELECT set_config('work_mem', '6MB', true); COMMIT"], "5MB").await;
    check(&["BEGIN", "SAVEPOINT a", "SET work_mem = '6MB'", "ROLLBACK TO a", "COMMIT"], "5MB")
        .await;
    check(&["BEGIN; SET work_mem = '6MB'; SAVEPOINT a; SET work_mem = '7MB'; ROLLBACK TO SAVEPOINT a; COMMIT"], "6MB").await;
    check(&["BEGIN; SAVEPOINT a; SET work_mem = '6MB'; RELEASE a; COMMIT"], "6MB").await;
    check(&["BEGIN; SAVEPOINT a; SET work_mem = '6MB'; SAVEPOINT a; SET work_mem = '7MB'; ROLLBACK TO a; RELEASE a; COMMIT"], "6MB").await;
    check(&["BEGIN; SAVEPOINT a; SET work_mem = '6MB'; RELEASE a; ROLLBACK"], "5MB").await;
    check(
        &["BEGIN; SAVEPOINT a", "SET work_mem = '6MB'", "SELECT 1/0", "ROLLBACK TO a", "COMMIT"],
        "5MB",
    )
    .await;
    check(
        &["BEGIN; SET work_mem = '6MB'; COMMIT AND CHAIN; SET work_mem = '7MB'; ROLLBACK"],
        "6MB",
    )
    .await;
    check(&["BEGIN; RESET work_mem; ROLLBACK"], "5MB").await;
    check(&["BEGIN; RESET work_mem; COMMIT"], "4MB").await;
    check(&["SET work_mem TO DEFAULT"], "4MB").await;
    check(&["RESET ALL"], "4MB").await;
    check(&["DISCARD ALL"], "4MB").await;
    check(&["SET work_mem FROM CURRENT"], "5MB").await;
    check(&["BEGIN; DISCARD ALL", "ROLLBACK"], "5MB").await;
    // A client that leaves in the middle.
    let leaver = fixture.client().await;
    leaver.batch_execute("BEGIN; SET work_mem = '9MB'").await?;
    drop(leaver);
    assert_eq!(both(&fixture, &client, "SHOW work_mem").await, "5MB");
    // In the extended protocol.
    client.execute("SET work_mem = '8MB'", &[]).await?;
    assert_eq!(both(&fixture, &client, "SHOW work_mem").await, "8MB");
    let set = client.prepare("SET work_mem = '10MB'").await?;
    client.batch_execute("BEGIN").await?;
    client.execute(&set, &[]).await?;
    client.batch_execute("ROLLBACK").await?;
    assert_eq!(both(&fixture, &client, "SHOW work_mem").await, "8MB");
    client.execute(&set, &[]).await?;
    assert_eq!(both(&fixture, &client, "SHOW work_mem").await, "10MB");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn startup_settings_are_in_force_on_every_server_and_reset_goes_back_to_them() -> Outcome {
    let fixture = Fixture::builder().config(TWO).start().await;
    let client = connect(
        &fixture,
        "application_name=mine options='-c work_mem=5MB -csearch_path=a,b --my.own=x\\\\ y -c TimeZone=Asia/Tokyo'",
    )
    .await?;
    let shows = [
        ("SHOW work_mem", "5MB"),
        ("SHOW search_path", "a,b"),
        ("SELECT current_setting('my.own')", "x y"),
        ("SHOW TimeZone", "Asia/Tokyo"),
        ("SHOW application_name", "mine"),
    ];
    for (show, expect) in shows {
        assert_eq!(both(&fixture, &client, show).await, expect);
    }
    for reset in ["RESET work_mem", "RESET ALL", "DISCARD ALL", "SET work_mem TO DEFAULT"] {
        client.batch_execute("SET work_mem = '9MB'; SET TimeZone = 'UTC'").await?;
        assert_eq!(both(&fixture, &client, "SHOW work_mem").await, "9MB");
        client.batch_execute(reset).await?;
        assert_eq!(both(&fixture, &client, "SHOW work_mem").await, "5MB", "{reset}");
        // At once, inside the transaction that resets.
        client.batch_execute("SET work_mem = '9MB'").await?;
        if reset != "DISCARD ALL" {
            client.batch_execute("BEGIN").await?;
            client.batch_execute(reset).await?;
            assert_eq!(value(&client, "SHOW work_mem").await, "5MB", "{reset} in a transaction");
            client.batch_execute("ROLLBACK").await?;
            assert_eq!(both(&fixture, &client, "SHOW work_mem").await, "9MB", "{reset}");
        }
    }
    let plain = fixture.client().await;
    for (show, expect) in &shows[..2] {
        assert_ne!(&value(&plain, show).await, expect);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_startup_setting_is_refused_in_postgresqls_words() -> Outcome {
    let fixture = Fixture::builder().config(TWO).setup("CREATE ROLE alice LOGIN").start().await;
    let check = async |user: &str, more: &str, code: SqlState, says: &str| {
        let dsn = fixture.dsn(user, DATABASE) + " " + more;
        let error = tokio_postgres::connect(&dsn, NoTls).await.map(|_| ()).unwrap_err();
        let error = error.as_db_error().cloned().unwrap();
        assert_eq!((error.severity(), error.code()), ("FATAL", &code), "{error:?}");
        assert!(error.message().contains(says), "{error:?}");
    };
    check(USER, "options='-c work_mem=lots'", SqlState::INVALID_PARAMETER_VALUE, "work_mem").await;
    check(USER, "options='-c nonsense=1'", SqlState::UNDEFINED_OBJECT, "nonsense").await;
    check(USER, "options='-c TimeZone=Mars/Base'", SqlState::INVALID_PARAMETER_VALUE, "TimeZone")
        .await;
    check(
        "alice",
        "options='-c log_statement=all'",
        SqlState::INSUFFICIENT_PRIVILEGE,
        "log_statement",
    )
    .await;
    let client = fixture.client().await;
    assert_eq!(value(&client, "SELECT 1").await, "1");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_follow_and_never_leak() -> Outcome {
    let fixture = Fixture::builder()
        .config(TWO)
        .setup("CREATE ROLE alice; CREATE ROLE \"Bob B\"; GRANT alice TO \"Bob B\"")
        .start()
        .await;
    let client = fixture.client().await;
    let who = "SELECT session_user, current_user";
    let check = async |sql: &str, expect: &str| {
        client.batch_execute(sql).await.unwrap();
        assert_eq!(both(&fixture, &client, who).await, expect, "{sql}");
        assert_eq!(value(&fixture.client().await, who).await, "postgres|postgres");
    };
    check("SET ROLE alice", "postgres|alice").await;
    check("SET ROLE \"Bob B\"", "postgres|Bob B").await;
    check("SET ROLE NONE", "postgres|postgres").await;
    check("SET ROLE alice; RESET ALL", "postgres|alice").await;
    check("RESET ROLE", "postgres|postgres").await;
    check("SET SESSION AUTHORIZATION \"Bob B\"", "Bob B|Bob B").await;
    check("SET ROLE alice", "Bob B|alice").await;
    check("RESET SESSION AUTHORIZATION", "postgres|postgres").await;
    check("SET SESSION AUTHORIZATION 'alice'", "alice|alice").await;
    check("BEGIN; RESET SESSION AUTHORIZATION; ROLLBACK", "alice|alice").await;
    check("SET SESSION AUTHORIZATION DEFAULT", "postgres|postgres").await;
    check("BEGIN; SET LOCAL ROLE alice; COMMIT", "postgres|postgres").await;
    check("SET ROLE alice; SET SESSION AUTHORIZATION \"Bob B\"", "Bob B|Bob B").await;
    client.batch_execute("SET ROLE alice").await?;
    check("DISCARD ALL", "postgres|postgres").await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_is_told_what_its_server_reports() -> Outcome {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 1").start().await;
    let (mut one, two) = (fixture.raw().await?, fixture.client().await);
    let told = |frames: &[pgherd_tests::Frame]| -> Vec<String> {
        let status = frames.iter().filter(|f| f.kind == b'S');
        status
            .map(|f| String::from_utf8_lossy(&f.body).trim_end_matches('\0').replace('\0', "="))
            .collect()
    };
    assert_eq!(told(&one.query("SET TimeZone = 'Asia/Tokyo'").await?), ["TimeZone=Asia/Tokyo"]);
    two.batch_execute("SET TimeZone = 'Asia/Seoul'; SET application_name = 'two'").await?;
    // Back on the server that the other has changed: nothing changes for this client.
    let frames = one.query("SHOW TimeZone").await?;
    assert_eq!(told(&frames), [""; 0]);
    assert_eq!(pgherd_tests::ask::column(&frames), ["Asia/Tokyo"]);
    assert_eq!(told(&one.query("BEGIN; SET TimeZone = 'UTC'").await?), ["TimeZone=UTC"]);
    assert_eq!(told(&one.query("ROLLBACK").await?), ["TimeZone=Asia/Tokyo"]);
    assert_eq!(rows(&two, "SHOW TimeZone").await, ["Asia/Seoul"]);
    let mut three = fixture.raw().await?;
    let zone = three.parameters.iter().find(|(name, _)| name == "TimeZone").unwrap().1.clone();
    let frames = three.query("SHOW TimeZone").await?;
    assert_eq!(pgherd_tests::ask::column(&frames), [zone.as_str()], "as the greeting said");
    assert_eq!(told(&frames), [""; 0]);
    Ok(())
}
