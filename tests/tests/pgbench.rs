//! pgbench in each of its protocols: more clients than servers, and nothing may fail.
#![allow(clippy::unwrap_used)] // how a test fails

use pgherd_tests::Fixture;

const CLIENTS: u32 = 8;
const TRANSACTIONS: u32 = 25;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_clients_share_three_servers_in_every_protocol() {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 3").start().await;
    let run = |args: &[&str]| {
        let output = fixture.libpq("pgbench").args(args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        if !output.status.success() {
            fixture.fail(&format!("pgbench {args:?}: {}\n{out}\n{err}", output.status));
        }
        out
    };
    run(&["-i", "-q", "-s", "1"]);
    let (clients, transactions) = (CLIENTS.to_string(), TRANSACTIONS.to_string());
    let all = CLIENTS * TRANSACTIONS;
    for script in ["tpcb-like", "simple-update", "select-only"] {
        for protocol in ["simple", "extended", "prepared"] {
            // A thread for each client: pgbench's PQprepare blocks its thread, and would wait for a
            // server while clients of the same thread hold all of them in open transactions.
            let size = ["-c", &clients, "-j", &clients, "-t", &transactions];
            let out = run(&[&["-n", "-b", script, "-M", protocol], &size[..]].concat());
            let processed = format!("actually processed: {all}/{all}");
            assert!(out.contains(&processed), "{script} {protocol}: {out}");
            // Printed since version 15; before it, a failure ends pgbench with an error.
            if out.contains("failed transactions") {
                assert!(out.contains("failed transactions: 0 "), "{script} {protocol}: {out}");
            }
        }
    }
    let history = fixture.direct("SELECT count(*) FROM pgbench_history");
    assert_eq!(history, [(all * 6).to_string()]);
    let sums = fixture.direct(
        "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)",
    );
    assert_eq!(sums, ["t"]);
    // A backend that was told to go is listed until it has gone.
    fixture.wait_until(
        "SELECT count(*) <= 3 FROM pg_stat_activity \
         WHERE datname = 'app' AND backend_type = 'client backend' AND pid <> pg_backend_pid()",
    );
}
