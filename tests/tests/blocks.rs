//! What a DO block leaves behind stays with the session that ran it.
#![allow(clippy::unwrap_used)] // how a test fails

use pgherd_tests::Fixture;
use pgherd_tests::ask::value;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_made_inside_a_do_block_do_not_leak() -> Result<(), Box<dyn std::error::Error>> {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 2").start().await;
    let one = fixture.client().await;
    one.batch_execute("DO $$ BEGIN SET enable_bitmapscan = 0; END $$").await?;
    assert_eq!(value(&one, "SHOW enable_bitmapscan").await, "off");
    for _ in 0..4 {
        let other = fixture.client().await;
        assert_eq!(value(&other, "SHOW enable_bitmapscan").await, "on");
    }
    drop(one);
    let after = fixture.client().await;
    assert_eq!(value(&after, "SHOW enable_bitmapscan").await, "on");
    Ok(())
}
