//! The short form of `make soak`: all of its deeds and disturbances, too short to judge memory.
#![allow(clippy::unwrap_used)] // how a test fails

use std::time::Duration;

use pgherd_tests::soak::Plan;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_come_and_go_and_nothing_is_left() {
    let plan = Plan { clients: 64, length: Duration::from_secs(30), seed: 1 };
    let report = Box::pin(plan.run(|line| println!("{line}"))).await.unwrap();
    println!("{:#?}", report.counts);
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    // It did what it is for.
    for what in ["DDL", "RELOAD", "RECONNECT", "killed server", "TLS login", "cancel", "COPY in"] {
        assert!(report.counts.get(what).is_some_and(|n| *n > 0), "no {what}");
    }
}
