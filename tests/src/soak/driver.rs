//! What a client does by a driver (tokio-postgres), plain or over TLS; each deed checks what it reads.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use futures::TryStreamExt as _;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::world::{Dice, Outcome, Trouble, World, refused, same};
use crate::DATABASE;

/// A driver's connection, and what its client knows of its session.
#[derive(Debug)]
pub struct Driver {
    client: Client,
    socket: AbortHandle,
    /// `my.own` as this session set it.
    own: String,
    slot: i32,
}

/// Accounts that money moves between, and what each has at first.
pub const ACCOUNTS: u64 = 50;
/// See [`ACCOUNTS`].
pub const EACH: u64 = 1_000;

impl Driver {
    /// Logs in as `user`; startup settings carry a value that was never there before. Not cancel safe.
    pub async fn connect(
        world: &World,
        user: &str,
        slot: i32,
        tls: bool,
    ) -> Result<Driver, Trouble> {
        let start = world.fresh();
        let mut config = Config::new();
        config.user(user).dbname(DATABASE).password("secret");
        config.application_name(format!("soak {start}"));
        config.options(format!("-c my.start={start}"));
        let io = |_: std::io::Error| Trouble::Lost(super::world::CLOSED.into());
        let (client, socket) = if tls {
            let stream = world.tls.connect(world.address).await.map_err(io)?;
            let (client, connection) = config.connect_raw(stream, NoTls).await?;
            (client, tokio::spawn(async { drop(connection.await) }).abort_handle())
        } else {
            let stream = TcpStream::connect(world.address).await.map_err(io)?;
            let (client, connection) = config.connect_raw(stream, NoTls).await?;
            (client, tokio::spawn(async { drop(connection.await) }).abort_handle())
        };
        let driver = Driver { client, socket, own: String::new(), slot };
        let who = "SELECT current_user::text, current_setting('my.start')";
        let row = driver.client.query_one(who, &[]).await?;
        same("current_user", &row.get::<_, &str>(0), &user)?;
        same("my.start", &row.get::<_, &str>(1), &start.to_string().as_str())?;
        driver.nothing_leaked().await?;
        driver.client.execute("DELETE FROM own WHERE client = $1", &[&slot]).await?;
        Ok(driver)
    }

    /// The connection breaks as if the process had been killed.
    pub fn vanish(self) {
        self.socket.abort();
    }

    /// One deed, by the dice; its name. Not cancel safe.
    pub async fn act(&mut self, world: &World, dice: &mut Dice) -> Result<&'static str, Trouble> {
        let name = match dice.roll(12) {
            0 => self.transfer(dice).await.map(|()| "transfer"),
            1 => self.settings(world, dice).await.map(|()| "settings"),
            2 => self.reset().await.map(|()| "reset"),
            3 => self.texts(world).await.map(|()| "new text"),
            4 => self.errors().await.map(|()| "errors"),
            5 => self.temporary(world).await.map(|()| "temporary table"),
            6 => self.own_rows(dice).await.map(|()| "own rows"),
            7 => self.cancelled(world).await.map(|()| "cancel"),
            8 => self.cursor(dice).await.map(|()| "cursor"),
            9 => self.advisory().await.map(|()| "advisory lock"),
            10 => self.copy_out(dice).await.map(|()| "copy out"),
            _ => self.money().await.map(|()| "sum"),
        }?;
        self.nothing_leaked().await?;
        Ok(name)
    }

    /// This session has its own settings and nobody else's.
    async fn nothing_leaked(&self) -> Outcome {
        let asked = "SELECT coalesce(current_setting('my.own', true), ''), \
                     current_setting('work_mem'), current_setting('search_path')";
        let row = self.client.query_one(asked, &[]).await?;
        same("my.own", &row.get::<_, &str>(0), &self.own.as_str())?;
        same("work_mem", &row.get::<_, &str>(1), &"4MB")?;
        same("search_path", &row.get::<_, &str>(2), &"\"$user\", public")
    }

    async fn transfer(&mut self, dice: &mut Dice) -> Outcome {
        let (from, to) = (account(dice), account(dice));
        let sum = account(dice);
        let fails = dice.roll(5) == 0;
        let t = self.client.transaction().await?;
        t.execute("UPDATE account SET sum = sum - $1 WHERE id = $2", &[&sum, &from]).await?;
        if fails {
            refused("1/0", t.batch_execute("SELECT 1/0").await, &SqlState::DIVISION_BY_ZERO)?;
            return Ok(t.rollback().await?);
        }
        t.execute("UPDATE account SET sum = sum + $1 WHERE id = $2", &[&sum, &to]).await?;
        Ok(t.commit().await?)
    }

    async fn money(&self) -> Outcome {
        let row = self.client.query_one("SELECT sum(sum)::int8 FROM account", &[]).await?;
        same("sum of all accounts", &row.get::<_, i64>(0).unsigned_abs(), &(ACCOUNTS * EACH))
    }

    async fn settings(&mut self, world: &World, dice: &mut Dice) -> Outcome {
        let own = format!("{}-{}", self.slot, world.fresh());
        match dice.roll(3) {
            0 => self.client.batch_execute(&format!("SET my.own = '{own}'")).await?,
            1 => {
                let set = "SELECT set_config('my.own', $1, false)";
                self.client.query_one(set, &[&own]).await?;
            }
            _ => {
                // Undone with its transaction: nothing of it may stay.
                let undone = format!("BEGIN; SET my.own = '{own}'; SET LOCAL work_mem = '8MB'");
                self.client.batch_execute(&undone).await?;
                let seen = self.client.query_one("SELECT current_setting('my.own')", &[]).await?;
                same("my.own in a transaction", &seen.get::<_, &str>(0), &own.as_str())?;
                return Ok(self.client.batch_execute("ROLLBACK").await?);
            }
        }
        self.own = own;
        Ok(())
    }

    async fn reset(&mut self) -> Outcome {
        self.client.batch_execute("SET work_mem = '9MB'; RESET work_mem; RESET my.own").await?;
        self.own.clear();
        Ok(())
    }

    /// A text that nobody ever sent before; the driver closes the statement when it is dropped.
    async fn texts(&self, world: &World) -> Outcome {
        let n = i32::try_from(world.fresh() % 1_000_000_000).unwrap_or_default();
        let statement = self.client.prepare(&format!("SELECT $1::int4 + {n}")).await?;
        for add in [1, 2] {
            let row = self.client.query_one(&statement, &[&add]).await?;
            same("a prepared sum", &row.get::<_, i32>(0), &(n + add))?;
        }
        Ok(())
    }

    async fn errors(&self) -> Outcome {
        let divided = self.client.simple_query("SELECT 1/0").await;
        refused("1/0", divided, &SqlState::DIVISION_BY_ZERO)?;
        let nonsense = self.client.query("SELEC", &[]).await;
        refused("SELEC", nonsense, &SqlState::SYNTAX_ERROR)?;
        let unknown = self.client.prepare("SELECT * FROM no_such_table").await;
        refused("an unknown table", unknown, &SqlState::UNDEFINED_TABLE)
    }

    async fn temporary(&self, world: &World) -> Outcome {
        let n = world.fresh();
        let value = self.slot;
        self.client
            .batch_execute(&format!("CREATE TEMP TABLE mine AS SELECT {value} AS a"))
            .await?;
        self.client.simple_query(&format!("SELECT {n}")).await?;
        let row = self.client.query_one("SELECT count(*), min(a) FROM mine", &[]).await?;
        same("rows of a temporary table", &(row.get(0), row.get(1)), &(1_i64, value))?;
        self.client.batch_execute("DROP TABLE mine").await?;
        let dropped = "BEGIN; CREATE TEMP TABLE mine (a int) ON COMMIT DROP; COMMIT";
        Ok(self.client.batch_execute(dropped).await?)
    }

    /// Rows of this client alone, written and read back.
    async fn own_rows(&self, dice: &mut Dice) -> Outcome {
        let slot = self.slot;
        let count = i64::try_from(dice.roll(20)).unwrap_or_default();
        self.client.execute("DELETE FROM own WHERE client = $1", &[&slot]).await?;
        let insert = "INSERT INTO own SELECT $1, n, 'x' FROM generate_series(1, $2::int8) n";
        self.client.execute(insert, &[&slot, &count]).await?;
        let asked = "SELECT count(*), count(*) FILTER (WHERE n < 0) FROM own WHERE client = $1";
        let row = self.client.query_one(asked, &[&slot]).await?;
        same("own rows, and those never committed", &(row.get(0), row.get(1)), &(count, 0_i64))
    }

    async fn cancelled(&self, world: &World) -> Outcome {
        let token = self.client.cancel_token();
        let over = AtomicBool::new(false);
        let sleep = async {
            let result = self.client.simple_query("SELECT pg_sleep(600)").await;
            over.store(true, Relaxed);
            result
        };
        let cancel = async {
            // A request that comes before its statement runs is nobody's: it is sent until one hits.
            while !over.load(Relaxed) {
                if let Ok(mut stream) = TcpStream::connect(world.address).await {
                    let _ = token.cancel_query_raw(&mut stream, NoTls).await;
                    // Delivered when pgherd closes: none may be under way when the next statement runs.
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                }
                tokio::task::yield_now().await;
            }
        };
        let (result, ()) = tokio::join!(sleep, cancel);
        refused("a cancelled statement", result, &SqlState::QUERY_CANCELED)
    }

    async fn cursor(&self, dice: &mut Dice) -> Outcome {
        let last = dice.roll(500) + 2;
        let hold =
            format!("DECLARE held CURSOR WITH HOLD FOR SELECT n FROM generate_series(1, {last}) n");
        self.client.batch_execute(&hold).await?;
        let rows = self.client.simple_query("FETCH ALL FROM held").await?;
        let count = rows.iter().filter(|m| matches!(m, SimpleQueryMessage::Row(_))).count();
        same("rows of a cursor", &u64::try_from(count).unwrap_or_default(), &last)?;
        Ok(self.client.batch_execute("CLOSE held").await?)
    }

    async fn advisory(&self) -> Outcome {
        let slot = i64::from(self.slot);
        self.client.query_one("SELECT pg_advisory_lock($1)::text", &[&slot]).await?;
        let row = self.client.query_one("SELECT pg_advisory_unlock($1)", &[&slot]).await?;
        same("a lock of its own", &row.get::<_, bool>(0), &true)
    }

    async fn copy_out(&self, dice: &mut Dice) -> Outcome {
        let last = dice.roll(5_000) + 1;
        let copy = format!("COPY (SELECT n FROM generate_series(1, {last}) n) TO STDOUT");
        let stream = self.client.copy_out(&copy).await?;
        let bytes: Vec<_> = stream.try_collect().await?;
        let lines = bytes.iter().flatten().filter(|byte| **byte == b'\n').count();
        same("lines of a COPY", &u64::try_from(lines).unwrap_or_default(), &last)
    }
}

fn account(dice: &mut Dice) -> i32 {
    i32::try_from(dice.roll(ACCOUNTS)).unwrap_or_default()
}
