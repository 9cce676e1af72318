//! What PostgreSQL's regression suite brought to light, each in the few statements that show it.
#![allow(clippy::unwrap_used)] // how a test fails

use pgherd_tests::{DATABASE, Fixture, USER};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const ROLES: &str = "CREATE ROLE alice; CREATE ROLE bob; GRANT alice TO bob";

/// The first value of a simple query.
async fn one(client: &Client, sql: &str) -> String {
    let messages = client.simple_query(sql).await.unwrap();
    let value = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_owned()),
        _ => None,
    });
    value.unwrap_or_default()
}

async fn fixture(servers: usize) -> Fixture {
    let config = format!("[pool]\nmode = \"transaction\"\nsize_default = {servers}");
    Fixture::builder().config(&config).setup(ROLES).start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_hung_when_its_server_had_another_role() -> Outcome {
    let fixture = fixture(1).await;
    let (first, second) = (fixture.client().await, fixture.client().await);
    first.batch_execute("SET ROLE alice").await?;
    assert_eq!(one(&second, "SELECT current_user").await, "postgres");
    assert_eq!(one(&first, "SELECT current_user").await, "alice");
    assert_eq!(one(&second, "SELECT current_user").await, "postgres");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_date_style_was_replayed_without_the_rest() -> Outcome {
    let fixture = fixture(1).await;
    let (first, second) = (fixture.client().await, fixture.client().await);
    first.batch_execute("SET datestyle TO german").await?;
    first.batch_execute("SET datestyle TO ymd").await?;
    second.batch_execute("SET datestyle TO sql").await?;
    assert_eq!(one(&first, "SHOW datestyle").await, "German, YMD");
    assert_eq!(one(&second, "SHOW datestyle").await, "SQL, MDY");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prepare_could_not_follow_its_session_to_another_server() -> Outcome {
    let fixture = fixture(2).await;
    let (first, second) = (fixture.client().await, fixture.client().await);
    first.batch_execute("PREPARE p AS SELECT pg_backend_pid(), 1").await?;
    let before = one(&first, "EXECUTE p").await;
    // The server that `first` used last is taken.
    second.batch_execute("BEGIN").await?;
    assert_eq!(one(&second, "SELECT pg_backend_pid()").await, before);
    assert_ne!(one(&first, "EXECUTE p").await, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_spoke_of_names_that_the_client_never_gave() -> Outcome {
    let fixture = fixture(1).await;
    let client = fixture.client().await;
    client.batch_execute("PREPARE p (int) AS SELECT $1").await?;
    let check = async |sql: &str, message: &str, position: Option<u32>| {
        let error = client.batch_execute(sql).await.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!(error.message(), message, "{sql}");
        let found = match error.position() {
            Some(tokio_postgres::error::ErrorPosition::Original(at)) => Some(*at),
            _ => None,
        };
        assert_eq!(found, position, "{sql}");
    };
    check("PREPARE p AS SELECT 1", "prepared statement \"p\" already exists", None).await;
    check("PREPARE q AS SELECT absent", "column \"absent\" does not exist", Some(21)).await;
    check("EXECUTE p", "wrong number of parameters for prepared statement \"p\"", None).await;
    check(
        "EXECUTE p ('é', absent)",
        "wrong number of parameters for prepared statement \"p\"",
        None,
    )
    .await;
    check("EXECUTE p (x)", "column \"x\" does not exist", Some(12)).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_a_statement_could_not_be_prepared_again_was_hidden() -> Outcome {
    let fixture = fixture(2).await;
    let (first, second) = (fixture.client().await, fixture.client().await);
    first.batch_execute("CREATE TABLE gone (a int)").await?;
    first.batch_execute("PREPARE p AS SELECT * FROM gone").await?;
    first.batch_execute("DROP TABLE gone").await?;
    second.batch_execute("BEGIN").await?;
    let error = first.batch_execute("EXECUTE p").await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().message(), "relation \"gone\" does not exist");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_was_kept_when_the_session_became_another_user() -> Outcome {
    let fixture = fixture(1).await;
    let (first, second) = (fixture.client().await, fixture.client().await);
    first.batch_execute("SET ROLE alice").await?;
    first.batch_execute("SET SESSION AUTHORIZATION bob").await?;
    assert_eq!(one(&second, "SELECT current_user").await, "postgres");
    assert_eq!(one(&first, "SELECT current_user").await, "bob");
    first.batch_execute("RESET SESSION AUTHORIZATION").await?;
    second.batch_execute("SET ROLE bob").await?;
    assert_eq!(one(&first, "SELECT current_user").await, "postgres");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_superusers_setting_was_set_as_another_user() -> Outcome {
    let fixture = fixture(1).await;
    let (first, second) = (fixture.client().await, fixture.client().await);
    first.batch_execute("SET lo_compat_privileges = on").await?;
    first.batch_execute("SET SESSION AUTHORIZATION alice").await?;
    second.batch_execute("SET SESSION AUTHORIZATION bob").await?;
    let seen = "SELECT current_setting('lo_compat_privileges') || ' ' || current_user";
    assert_eq!(one(&first, seen).await, "on alice");
    assert_eq!(one(&second, seen).await, "off bob");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn temporary_statistics_were_left_behind() -> Outcome {
    let fixture = fixture(2).await;
    let (first, second) = (fixture.client().await, fixture.client().await);
    first.batch_execute("CREATE TABLE t (a int, b int)").await?;
    first.batch_execute("CREATE STATISTICS pg_temp.s ON a, b FROM t").await?;
    second.batch_execute("BEGIN").await?;
    first.batch_execute("DROP STATISTICS pg_temp.s").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reset_went_back_further_than_the_startup_packet() -> Outcome {
    for mode in ["session", "transaction"] {
        let config = format!("[pool]\nmode = \"{mode}\"");
        let fixture = Fixture::builder().config(&config).start().await;
        let dsn = format!(
            "{} options='-c work_mem=7MB -c statement_timeout=70s'",
            fixture.dsn(USER, DATABASE)
        );
        let (client, connection) = tokio_postgres::connect(&dsn, NoTls).await?;
        tokio::spawn(connection);
        let check = async |sql: &str, expect: &str| {
            client.batch_execute(sql).await.unwrap();
            let seen =
                "SELECT current_setting('work_mem') || ' ' || current_setting('statement_timeout')";
            assert_eq!(one(&client, seen).await, expect, "{mode} mode: {sql}");
        };
        check("SET work_mem = '9MB'", "9MB 70s").await;
        check("RESET work_mem", "7MB 70s").await;
        check("SET work_mem TO '9MB'; SET statement_timeout TO 5000", "9MB 5s").await;
        check("SET work_mem TO DEFAULT", "7MB 5s").await;
        check("RESET ALL", "7MB 70s").await;
        check("SET work_mem = '9MB'", "9MB 70s").await;
        check("BEGIN; RESET work_mem", "7MB 70s").await;
        check("ROLLBACK", "9MB 70s").await;
        check("BEGIN; RESET work_mem", "7MB 70s").await;
        check("COMMIT", "7MB 70s").await;
        check("SET work_mem = '9MB'", "9MB 70s").await;
        check("DISCARD ALL", "7MB 70s").await;
    }
    Ok(())
}
