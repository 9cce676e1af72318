//! A client that says goodbye together with its last request.
#![allow(clippy::unwrap_used)] // how a test fails

use pgherd::wire::build;
use pgherd_tests::Fixture;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_with_terminate_behind_it_was_dropped() -> Outcome {
    let config = "[pool]\nsize_default = 1\n";
    let fixture = Fixture::builder().setup("CREATE TABLE t (a int)").config(config).start().await;
    // What is sent, the answers' types, what it leaves in the table.
    for (requests, expect, rows) in [
        (&["INSERT INTO t VALUES (1)"] as &[&str], "CZ", "1"),
        (&["INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)"], "CZCZ", "3"),
        // Its transaction ends with it.
        (&["BEGIN", "INSERT INTO t VALUES (1)"], "CZCZ", "3"),
        (&["SELECT 1/0"], "EZ", "3"),
        // Nobody will send the data.
        (&["COPY t FROM STDIN"], "G", "3"),
    ] {
        let mut client = fixture.raw().await?;
        let mut out = Vec::new();
        for sql in requests {
            build::query(&mut out, sql.as_bytes());
        }
        build::terminate(&mut out);
        client.send(&out).await?;
        let mut kinds = String::new();
        while let Ok(frame) = client.frame().await {
            kinds.push(char::from(frame.kind));
        }
        // Whether the beginning of a COPY is still told is a matter of time.
        assert!(kinds == expect || (expect == "G" && kinds.is_empty()), "{requests:?}: {kinds}");
        fixture.wait_until("SELECT count(*) = 0 FROM pg_stat_activity WHERE state <> 'idle' AND pid <> pg_backend_pid()");
        assert_eq!(fixture.direct("SELECT count(*) FROM t"), [rows], "{requests:?}");
    }
    Ok(())
}
