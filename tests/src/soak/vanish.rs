//! Ways to leave without a word, in the middle of something.

use pgherd::wire::build;

use super::frames::{Frames, lost};
use super::world::{Dice, Outcome, Trouble, from_frame};
use crate::Script;

impl Frames {
    /// Leaves in the middle of something, by the dice; its name. Not cancel safe.
    pub async fn vanish(mut self, dice: &mut Dice) -> Result<&'static str, Trouble> {
        match dice.roll(7) {
            0 => self.in_a_transaction().await.map(|()| "gone in a transaction"),
            1 => self.in_a_statement().await.map(|()| "gone in a statement"),
            2 => self.in_copy_in().await.map(|()| "gone in COPY in"),
            3 => self.in_copy_out().await.map(|()| "gone in COPY out"),
            4 => self.in_a_frame().await.map(|()| "gone in a frame"),
            5 => self.with_a_temporary_table().await.map(|()| "gone with a temporary table"),
            _ => self.while_listening().await.map(|()| "gone while listening"),
        }
    }

    /// What it wrote must never be seen; see `own rows`.
    async fn in_a_transaction(&mut self) -> Outcome {
        let insert = format!("BEGIN; INSERT INTO own VALUES ({}, -1, 'never')", self.slot);
        self.ask(&Script::new().query(insert)).await.map(drop)
    }

    async fn in_a_statement(&mut self) -> Outcome {
        let insert = format!("BEGIN; INSERT INTO own VALUES ({}, -1, 'never')", self.slot);
        let script = Script::new().query(insert).query("SELECT pg_sleep(600)");
        self.ask(&script).await.map(drop)
    }

    async fn in_copy_in(&mut self) -> Outcome {
        let line = format!("{}\t-1\tnever\n", self.slot);
        let script = Script::new().query("COPY own FROM STDIN").data(line.as_bytes());
        self.client.send(script.bytes()).await.map_err(lost)?;
        self.reach(b'G').await
    }

    async fn in_copy_out(&mut self) -> Outcome {
        let copy = "COPY (SELECT repeat('z', 1000) FROM generate_series(1, 20000)) TO STDOUT";
        self.client.send(Script::new().query(copy).bytes()).await.map_err(lost)?;
        self.reach(b'd').await
    }

    async fn in_a_frame(&mut self) -> Outcome {
        let mut query = Vec::new();
        build::query(&mut query, b"SELECT 'never whole'");
        query.truncate(12);
        self.client.send(&query).await.map_err(lost)
    }

    async fn with_a_temporary_table(&mut self) -> Outcome {
        let create = "CREATE TEMP TABLE mine AS SELECT 'left behind' AS a";
        self.ask(&Script::new().query(create)).await.map(drop)
    }

    async fn while_listening(&mut self) -> Outcome {
        self.ask(&Script::new().query(format!("LISTEN gone{}", self.slot))).await.map(drop)
    }

    /// Reads up to the first frame of `kind`.
    async fn reach(&mut self, kind: u8) -> Outcome {
        loop {
            let frame = self.client.frame().await.map_err(lost)?;
            if frame.kind == b'E' {
                return Err(from_frame(&frame, "a COPY"));
            }
            if frame.kind == kind {
                return Ok(());
            }
        }
    }
}
