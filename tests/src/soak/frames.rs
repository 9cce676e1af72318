//! What a client does frame by frame, where drivers would hide what happens; each deed checks what it reads.

use crate::ask::column;
use crate::{DATABASE, Frame, RawClient, Script};

use super::world::{CLOSED, Dice, Outcome, Trouble, World, from_frame, same};

/// Statements that one connection keeps under names of its own.
pub const NAMED_MAX: u64 = 20;

/// One connection.
#[derive(Debug)]
pub struct Frames {
    pub(super) client: RawClient,
    pub(super) slot: i32,
    named: u64,
    knows_shape: bool,
}

impl Frames {
    /// Logs in as `user`. Not cancel safe.
    pub async fn connect(world: &World, user: &str, slot: i32) -> Result<Frames, Trouble> {
        let mut client = RawClient::connect(world.address).await.map_err(lost)?;
        let start = world.fresh().to_string();
        let options = format!("-c my.start={start}");
        let who = [("user", user), ("database", DATABASE), ("options", options.as_str())];
        client.startup(&who).await.map_err(lost)?;
        let greeting = client.until(b'Z').await.map_err(lost)?;
        if let Some(error) = greeting.iter().find(|f| f.kind == b'E') {
            return Err(from_frame(error, "a login"));
        }
        if let Some(key) = greeting.iter().find(|f| f.kind == b'K')
            && let Some((pid, secret)) = key.body.split_first_chunk::<4>()
        {
            client.key = Some((u32::from_be_bytes(*pid), secret.to_vec()));
        }
        let mut this = Frames { client, slot, named: 0, knows_shape: false };
        let shown = this.values(&Script::new().query("SHOW my.start")).await?;
        same("my.start", &shown, &vec![start])?;
        Ok(this)
    }

    /// Says goodbye and waits until pgherd has closed. Not cancel safe.
    pub async fn leave(mut self) -> Outcome {
        self.client.send(Script::new().frame(b'X', b"").bytes()).await.map_err(lost)?;
        self.client.closed().await.map_err(|e| Trouble::Wrong(format!("behind Terminate: {e:#}")))
    }

    /// One deed, by the dice; its name. Not cancel safe.
    pub async fn act(&mut self, world: &World, dice: &mut Dice) -> Result<&'static str, Trouble> {
        match dice.roll(8) {
            0 => self.shape(dice).await.map(|()| "changing table"),
            1 => self.pipeline(dice).await.map(|()| "pipeline"),
            2 => self.named(world).await.map(|()| "named statement"),
            3 => self.sql_prepare(world).await.map(|()| "SQL PREPARE"),
            4 => self.listen(world).await.map(|()| "LISTEN"),
            5 => self.copy_in(dice).await.map(|()| "COPY in"),
            6 => self.copy_fails().await.map(|()| "failed COPY"),
            _ => self.large(dice).await.map(|()| "large value"),
        }
    }

    /// Sends a script and reads to the ReadyForQuery behind it; an error that nobody expects is trouble.
    pub(super) async fn ask(&mut self, script: &Script) -> Result<Vec<Frame>, Trouble> {
        let frames = self.answer(script).await?;
        match frames.iter().find(|f| f.kind == b'E') {
            Some(error) => Err(from_frame(error, &String::from_utf8_lossy(script.bytes()))),
            None => Ok(frames),
        }
    }

    /// The same where errors are expected.
    async fn answer(&mut self, script: &Script) -> Result<Vec<Frame>, Trouble> {
        self.client.send(script.bytes()).await.map_err(lost)?;
        let frames = self.client.until(b'Z').await.map_err(lost)?;
        match frames.last() {
            // The connection ended with these words.
            Some(last) if last.kind == b'E' => Err(from_frame(last, "a session")),
            _ => Ok(frames),
        }
    }

    async fn values(&mut self, script: &Script) -> Result<Vec<String>, Trouble> {
        Ok(column(&self.ask(script).await?))
    }

    /// `SELECT *` by a prepared statement from a table whose columns come and go.
    async fn shape(&mut self, dice: &mut Dice) -> Outcome {
        if !self.knows_shape {
            let parse = Script::new().parse("shape", "SELECT * FROM shape WHERE id = $1").sync();
            self.ask(&parse).await?;
            self.knows_shape = true;
        }
        let id = (dice.roll(10) + 1).to_string();
        let run = Script::new()
            .bind("", "shape", &[id.as_bytes()])
            .describe(b'P', "")
            .execute("", 0)
            .sync();
        let frames = self.ask(&run).await?;
        same("id", &column(&frames), &vec![id])?;
        let columns = |kind| {
            let frame = frames.iter().find(|f| f.kind == kind)?;
            frame.body.first_chunk::<2>().map(|b| u16::from_be_bytes(*b))
        };
        same("columns of the row and its description", &columns(b'D'), &columns(b'T'))
    }

    async fn pipeline(&mut self, dice: &mut Dice) -> Outcome {
        let base = dice.roll(1_000_000);
        let numbers: Vec<String> =
            (base..base + 2 + dice.roll(30)).map(|n| n.to_string()).collect();
        let script = numbers.iter().fold(Script::new(), |s, n| s.run(&format!("SELECT {n}")));
        let values = self.values(&script.sync()).await?;
        same("a pipeline", &values, &numbers)
    }

    /// A new text under a name; the oldest name is closed when there are many, others are left behind.
    async fn named(&mut self, world: &World) -> Outcome {
        let value = format!("{}-{}", self.slot, world.fresh());
        let name = format!("s{}", self.named % NAMED_MAX);
        let mut script = Script::new();
        if self.named >= NAMED_MAX {
            script = script.close(b'S', &name);
        }
        self.named += 1;
        let sql = format!("SELECT '{value}'");
        let script = script.parse(&name, &sql).bind("", &name, &[]).execute("", 0).sync();
        let values = self.values(&script).await?;
        same("a named statement", &values, &vec![value])
    }

    async fn sql_prepare(&mut self, world: &World) -> Outcome {
        let value = format!("{}-{}", self.slot, world.fresh());
        let prepare = format!("PREPARE p AS SELECT '{value}'");
        self.ask(&Script::new().query(&prepare)).await?;
        let values = self.values(&Script::new().query("EXECUTE p")).await?;
        same("EXECUTE", &values, &vec![value])?;
        self.ask(&Script::new().query("DEALLOCATE p")).await.map(drop)
    }

    /// Its own channel: what it sends it hears, and nothing else. A notification that is sent while the
    /// shared listener reconnects is lost (README.md), so it is sent until it is heard.
    async fn listen(&mut self, world: &World) -> Outcome {
        let channel = format!("c{}_{}", self.slot, world.fresh());
        self.ask(&Script::new().query(format!("LISTEN {channel}"))).await?;
        let notify = Script::new().query(format!("NOTIFY {channel}, 'news'"));
        let mut tries = 0;
        let heard = loop {
            let mut frames = self.ask(&notify).await?;
            for _ in 0..10 {
                if frames.iter().any(|f| f.kind == b'A') {
                    break;
                }
                frames = self.ask(&Script::new().query("SELECT 1")).await?;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            if let Some(frame) = frames.into_iter().find(|f| f.kind == b'A') {
                break frame;
            }
            tries += 1;
            if tries > 100 {
                return Err(Trouble::Wrong(format!("nothing is heard on {channel}")));
            }
        };
        let mut expect = channel.clone().into_bytes();
        expect.extend_from_slice(b"\0news\0");
        same("a notification", &heard.body.get(4..).unwrap_or_default(), &expect.as_slice())?;
        if tries == 0 {
            self.ask(&Script::new().query("UNLISTEN *")).await.map(drop)
        } else {
            // More of the same may come: this session ends instead.
            Err(Trouble::Lost("a notification".into()))
        }
    }

    async fn copy_in(&mut self, dice: &mut Dice) -> Outcome {
        let (slot, lines) = (self.slot, dice.roll(2_000) + 1);
        self.ask(&Script::new().query(format!("DELETE FROM own WHERE client = {slot}"))).await?;
        let mut script = Script::new().query("COPY own FROM STDIN");
        for n in 0..lines {
            script = script.data(format!("{slot}\t{n}\tcopied\n").as_bytes());
        }
        self.ask(&script.done()).await?;
        let count = format!("SELECT count(*) FROM own WHERE client = {slot}");
        let values = self.values(&Script::new().query(count)).await?;
        same("copied rows", &values, &vec![lines.to_string()])
    }

    async fn copy_fails(&mut self) -> Outcome {
        let script = Script::new().query("COPY own FROM STDIN").data(b"1\t2\tx\n").fail("no more");
        let frames = self.answer(&script).await?;
        match frames.iter().find(|f| f.kind == b'E') {
            Some(error) if error.field(b'C') == "57014" => Ok(()),
            Some(error) => Err(from_frame(error, "CopyFail")),
            None => Err(Trouble::Wrong("CopyFail succeeds".into())),
        }
    }

    async fn large(&mut self, dice: &mut Dice) -> Outcome {
        let bytes = usize::try_from(dice.roll(300_000)).unwrap_or_default();
        let sql = format!("SELECT repeat('y', {bytes})");
        let values = self.values(&Script::new().query(sql)).await?;
        let length = values.first().map(|v| v.bytes().filter(|b| *b == b'y').count());
        same("a large value", &length, &Some(bytes))
    }
}

/// A connection that ended, or one that says nothing any more.
pub(super) fn lost(error: anyhow::Error) -> Trouble {
    if error.to_string() == crate::raw::SILENT {
        return Trouble::Wrong("no answer for a minute".into());
    }
    Trouble::Lost(CLOSED.into())
}
