//! A place among the clients: one connection after the other, until the soak is over.

use std::sync::Arc;
use std::time::Duration;

use super::driver::Driver;
use super::frames::Frames;
use super::world::{Dice, Trouble, World};
use crate::USER;

/// Users beside the superuser; `sam` proves who he is by SCRAM, the others are trusted.
pub const USERS: [&str; 5] = ["sam", "ann", "bob", "cat", "dan"];

/// Deeds of one connection at most.
const DEEDS_MAX: u64 = 40;

/// No deed takes so long unless an answer is missing; the deeds know no shorter time.
const PATIENCE: Duration = Duration::from_secs(120);

/// Lives in place `slot` until the world is over. Cancel safe.
pub async fn live(world: Arc<World>, slot: i32, seed: u64) {
    let mut dice = Dice::new(seed, u64::from(slot.unsigned_abs()));
    while !world.is_over() {
        let lived = tokio::time::timeout(PATIENCE * 2, connection(&world, slot, &mut dice)).await;
        match lived.unwrap_or_else(|_| Err(Trouble::Wrong("a connection hangs".into()))) {
            Ok(()) => {}
            Err(Trouble::Lost(word)) => world.count(&format!("lost: {word}")),
            Err(Trouble::Wrong(what)) => world.accuse(format!("client {slot}: {what}")),
        }
    }
}

/// One connection from login to its end.
async fn connection(world: &World, slot: i32, dice: &mut Dice) -> Result<(), Trouble> {
    let deeds = dice.roll(DEEDS_MAX);
    let leaves_politely = dice.roll(3) > 0;
    if dice.roll(2) == 0 {
        let sam = dice.roll(4) == 0;
        let user = if sam { "sam" } else { USER };
        let tls = dice.roll(2) == 0;
        let mut driver = Driver::connect(world, user, slot, tls).await?;
        world.count(if tls { "TLS login" } else { "login" });
        for _ in 0..deeds {
            if world.is_over() {
                break;
            }
            let name = driver.act(world, dice).await?;
            world.count(name);
        }
        if !leaves_politely {
            driver.vanish();
        }
        return Ok(());
    }
    let user = match usize::try_from(dice.roll(8)).ok().and_then(|n| USERS.get(n)) {
        Some(&user) if user != "sam" => user,
        _ => USER,
    };
    let mut frames = Frames::connect(world, user, slot).await?;
    world.count("login by frames");
    for _ in 0..deeds {
        if world.is_over() {
            break;
        }
        let name = frames.act(world, dice).await?;
        world.count(name);
    }
    if leaves_politely {
        return frames.leave().await;
    }
    let name = frames.vanish(dice).await?;
    world.count(name);
    Ok(())
}
