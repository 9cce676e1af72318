//! Once a second: idle servers that are too old or too many go, `size_min` is kept, the reserve
//! opens for who waited long enough, and sessions that overstay are told.

use std::sync::Arc;
use std::time::Duration;

use super::launch::{self, Reserve};
use crate::hub::Hub;

/// How often the janitor comes, milliseconds.
const ROUND_MS: u64 = 1_000;

/// How often sessions are told that the process ends: some are only just coming, milliseconds.
const ENDING_ROUND_MS: u64 = 50;

/// Runs until the process stops and the last client has left. Cancel safe.
pub async fn run(hub: Arc<Hub>) {
    let mut rounds = tokio::time::interval(Duration::from_millis(ROUND_MS));
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut drains = false;
    loop {
        tokio::select! {
            biased;
            () = hub.stopping.cancelled() => break,
            // Idle clients hear of a drain at once, not at the next round.
            () = hub.draining.cancelled(), if !drains => drains = true,
            _ = rounds.tick() => {}
        }
        let now = crate::clock::Moment::now();
        for pool in hub.pools.all() {
            pool.close_idle(now);
            pool.open_reserve();
            let settings = pool.settings.load();
            if pool.open() < settings.size_min && !pool.is_failing() {
                launch::launch(&pool, Reserve::Closed);
            }
        }
        hub.sessions.enforce_timeouts(&hub);
    }
    let mut rounds = tokio::time::interval(Duration::from_millis(ENDING_ROUND_MS));
    loop {
        tokio::select! {
            biased;
            () = hub.tasks.wait() => return,
            _ = rounds.tick() => hub.sessions.enforce_timeouts(&hub),
        }
    }
}
