//! Many clients that do everything at once on few servers: nothing is lost, nothing leaks, nothing stays.
#![allow(clippy::unwrap_used)] // how a test fails

use std::time::Duration;

use pgherd_tests::ask::value;
use pgherd_tests::{DATABASE, Fixture, USER};
use tokio::task::AbortHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

const ACCOUNTS: i32 = 50;
const CLIENTS: u64 = 200;
const ROUNDS: usize = 25;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn account(&mut self) -> i32 {
        i32::try_from(self.roll(50)).unwrap()
    }
}

type Outcome = Result<(), tokio_postgres::Error>;

async fn connect(dsn: &str) -> (Client, AbortHandle) {
    let (client, connection) = tokio_postgres::connect(dsn, NoTls).await.unwrap();
    (client, tokio::spawn(connection).abort_handle())
}

/// Moves money; deadlocks and deliberate failures undo all of it.
async fn transfer(client: &mut Client, dice: &mut Dice) -> Outcome {
    let (from, to, sum) = (dice.account(), dice.account(), i32::try_from(dice.roll(100)).unwrap());
    let fails = dice.roll(5) == 0;
    let transaction = client.transaction().await?;
    transaction.execute("UPDATE account SET sum = sum - $1 WHERE id = $2", &[&sum, &from]).await?;
    if fails {
        assert!(transaction.batch_execute("SELECT 1/0").await.is_err());
        return transaction.rollback().await;
    }
    transaction.execute("UPDATE account SET sum = sum + $1 WHERE id = $2", &[&sum, &to]).await?;
    transaction.commit().await
}

/// One client's life; it may end, and begin again, anywhere.
async fn live(dsn: String, n: u64) {
    let mut dice = Dice(n * 7_919 + 1);
    let (mut client, mut socket) = connect(&dsn).await;
    let mut own = String::new();
    for round in 0..ROUNDS {
        let result = match dice.roll(9) {
            0..=2 => transfer(&mut client, &mut dice).await,
            3 => {
                own = format!("{n}-{round}");
                client.batch_execute(&format!("SET my.own = '{own}'")).await
            }
            4 => {
                let statement =
                    client.prepare(&format!("SELECT $1::int4 + {}", n % 7)).await.unwrap();
                let row = client.query_one(&statement, &[&1]).await.unwrap();
                assert_eq!(row.get::<_, i32>(0), 1 + i32::try_from(n % 7).unwrap());
                Ok(())
            }
            5 => {
                assert!(client.batch_execute("SELECT 1/0").await.is_err());
                Ok(())
            }
            6 => {
                client
                    .batch_execute("BEGIN; CREATE TEMP TABLE t (a int) ON COMMIT DROP; COMMIT")
                    .await
            }
            7 => {
                // Gone in the middle of a transaction that must not count.
                client
                    .batch_execute("BEGIN; UPDATE account SET sum = sum + 1000 WHERE id = 0")
                    .await
                    .unwrap();
                socket.abort();
                (client, socket) = connect(&dsn).await;
                own.clear();
                Ok(())
            }
            _ => {
                // Gone while a statement runs.
                let leaver = client;
                let running = tokio::spawn(async move {
                    let _ = leaver
                        .batch_execute(
                            "BEGIN; UPDATE account SET sum = sum + 1; SELECT pg_sleep(60)",
                        )
                        .await;
                });
                tokio::time::sleep(Duration::from_millis(dice.roll(20))).await;
                socket.abort();
                running.abort();
                (client, socket) = connect(&dsn).await;
                own.clear();
                Ok(())
            }
        };
        if let Err(error) = result {
            assert_eq!(error.code(), Some(&SqlState::T_R_DEADLOCK_DETECTED), "{error:?}");
        }
        let seen = value(&client, "SELECT coalesce(current_setting('my.own', true), '')").await;
        assert_eq!(seen, own, "client {n} sees another's setting");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_clients_on_five_servers_leave_everything_as_it_must_be() {
    let fixture = Fixture::builder()
        .config("[pool]\nsize_default = 5\nprepared_statements_max = 4")
        .setup(&format!(
            "CREATE TABLE account (id int PRIMARY KEY, sum bigint); \
             INSERT INTO account SELECT n, 1000 FROM generate_series(0, {ACCOUNTS} - 1) n; \
             ALTER TABLE account ALTER sum TYPE int"
        ))
        .start()
        .await;
    let dsn = fixture.dsn(USER, DATABASE);
    let tasks: Vec<_> = (0..CLIENTS).map(|n| tokio::spawn(live(dsn.clone(), n))).collect();
    for task in tasks {
        if let Err(error) = task.await {
            fixture.fail(&error.to_string());
        }
    }
    fixture.pool_until(DATABASE, USER, "servers_active", "0").await;
    fixture.pool_until(DATABASE, USER, "clients_waiting", "0").await;
    fixture.pool_until(DATABASE, USER, "servers_pinned", "0").await;
    assert_eq!(fixture.direct("SELECT sum(sum) FROM account"), [(ACCOUNTS * 1_000).to_string()]);
    let open: u32 = fixture.pool(DATABASE, USER, "servers_idle").parse().unwrap();
    assert!((1..=5).contains(&open), "{open} servers");
    fixture.wait_until(
        "SELECT count(*) <= 5 AND count(*) FILTER (WHERE state <> 'idle') = 0 FROM pg_stat_activity \
         WHERE datname = 'app' AND pid <> pg_backend_pid()",
    );
}
