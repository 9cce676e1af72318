//! Many clients with random settings on few servers: each sees its own, always.
#![allow(clippy::unwrap_used, clippy::panic)] // how a test fails

use std::collections::BTreeMap;

use pgherd_tests::Fixture;
use pgherd_tests::ask::value;
use tokio_postgres::Client;

/// A small generator: the seed is printed, so that a failure can be run again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

const NAMES: [(&str, &str); 5] = [
    ("my.a", "none"),
    ("my.b", "none"),
    ("extra_float_digits", "1"),
    ("search_path", "\"$user\", public"),
    ("application_name", "pgherd"),
];

type Values = BTreeMap<&'static str, String>;

/// What PostgreSQL would say, and the statements that lead there.
struct Model {
    dice: Dice,
    committed: Values,
    open: Option<Vec<Values>>,
    failed: bool,
}

impl Model {
    fn now(&mut self) -> &mut Values {
        match &mut self.open {
            Some(stack) => stack.last_mut().unwrap(),
            None => &mut self.committed,
        }
    }

    fn step(&mut self) -> String {
        let (name, _) = NAMES[self.dice.roll(NAMES.len())];
        let new = match name {
            "extra_float_digits" => format!("{}", self.dice.roll(4)),
            _ => format!("v{}", self.dice.roll(1_000)),
        };
        match self.dice.roll(12) {
            0..=3 => {
                self.now().insert(name, new.clone());
                format!("SET {name} = '{new}'")
            }
            4 => {
                self.now().insert(name, new.clone());
                format!("SELECT set_config('{name}', '{new}', false)")
            }
            5 => {
                self.now().remove(name);
                format!("RESET {name}")
            }
            6 if self.open.is_none() => {
                self.open = Some(vec![self.committed.clone()]);
                "BEGIN".into()
            }
            7 if self.open.is_some() => {
                self.committed = self.open.take().unwrap().pop().unwrap();
                "COMMIT".into()
            }
            8 if self.open.is_some() => {
                self.open = None;
                "ROLLBACK".into()
            }
            9 if self.open.is_some() => {
                let stack = self.open.as_mut().unwrap();
                stack.push(stack.last().unwrap().clone());
                format!("SAVEPOINT s{}", stack.len())
            }
            10 if self.open.as_ref().is_some_and(|s| s.len() > 1) => {
                let stack = self.open.as_mut().unwrap();
                let depth = stack.len();
                stack[depth - 1] = stack[depth - 2].clone();
                // The savepoint stays, with the state of when it was set.
                format!("ROLLBACK TO s{depth}")
            }
            11 if self.open.is_none() && self.dice.roll(4) == 0 => {
                self.committed.clear();
                "RESET ALL".into()
            }
            _ => "SELECT 1".into(),
        }
    }

    fn expected(&mut self) -> String {
        let values = self.now().clone();
        let shown = NAMES.map(|(name, default)| values.get(name).map_or(default, |v| v).to_owned());
        shown.join("|")
    }
}

fn shows() -> String {
    let columns = NAMES.map(|(name, _)| match name {
        "my.a" | "my.b" => format!("coalesce(nullif(current_setting('{name}', true), ''), 'none')"),
        _ => format!("current_setting('{name}')"),
    });
    format!("SELECT {}", columns.join(", "))
}

async fn play(client: Client, seed: u64, steps: usize) {
    let mut model = Model { dice: Dice(seed), committed: Values::new(), open: None, failed: false };
    let shows = shows();
    let mut history = Vec::new();
    for _ in 0..steps {
        let sql = model.step();
        history.push(sql.clone());
        if let Err(error) = client.batch_execute(&sql).await {
            panic!("seed {seed}: {history:?}: {error:?}");
        }
        assert_eq!(value(&client, &shows).await, model.expected(), "seed {seed}: {history:?}");
    }
    assert!(!model.failed);
    if model.open.is_some() {
        client.batch_execute("COMMIT").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sees_anothers_settings() {
    let fixture = Fixture::builder().config("[pool]\nsize_default = 12").start().await;
    let seed: u64 =
        std::env::var("PGHERD_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(7);
    println!("PGHERD_TEST_SEED={seed}");
    let mut tasks = Vec::new();
    for n in 0..12 {
        let client = fixture.client().await;
        tasks.push(tokio::spawn(play(client, seed * 1_000 + n, 150)));
    }
    for task in tasks {
        if let Err(error) = task.await {
            fixture.fail(&error.to_string());
        }
    }
    let left = value(&fixture.client().await, &shows()).await;
    assert_eq!(left, NAMES.map(|(_, default)| default).join("|"));
}
