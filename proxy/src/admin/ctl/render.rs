//! The API's JSON as tables: numbers to the right, durations and sizes as people say them.
//!
//! Pure: a value in, text out.

use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use serde_json::Value;

/// How a value is shown.
#[derive(Debug, Clone, Copy)]
enum As {
    Text,
    Number,
    Seconds,
    Micros,
    Bytes,
    /// A time, shown as its age where that is known.
    Time,
    YesNo,
}

/// A column: heading, JSON pointer, how.
type Column = (&'static str, &'static str, As);

/// What `path` answered, for people.
pub(super) fn render(path: &str, value: &Value) -> String {
    let columns = match path {
        "status" => return facts(STATUS, value),
        "nodes" => NODES,
        "pools" => POOLS,
        "clients" => CLIENTS,
        "servers" => SERVERS,
        "databases" => DATABASES,
        "stats" => STATS,
        "config" => CONFIG,
        "reload" => return reloaded(value),
        "pause" if value.get("servers_busy") == Some(&Value::Bool(true)) => {
            return "paused; some servers are still busy".into();
        }
        _ => return "done".into(),
    };
    match value.as_array() {
        Some(rows) if !rows.is_empty() => table(columns, rows),
        _ => format!("no {path}"),
    }
}

/// Why the proxy refused.
pub(super) fn refusal(value: &Value) -> String {
    let part = |key: &str| value.get(key).and_then(Value::as_str);
    let mut out = part("error").unwrap_or("refused without a reason").to_owned();
    for (label, key) in [("detail", "detail"), ("hint", "hint")] {
        if let Some(text) = part(key) {
            out.push_str(&format!("\n  {label}: {text}"));
        }
    }
    out
}

const STATUS: &[Column] = &[
    ("version", "/version", As::Text),
    ("state", "/state", As::Text),
    ("started", "/started_at", As::Time),
    ("uptime", "/uptime_seconds", As::Seconds),
    ("configuration", "/config_file", As::Text),
    ("clients", "/clients", As::Number),
    ("clients waiting", "/clients_waiting", As::Number),
    ("clients accepted", "/clients_accepted", As::Number),
    ("logins failed", "/logins_failed", As::Number),
    ("pools", "/pools", As::Number),
    ("servers active", "/servers_active", As::Number),
    ("servers idle", "/servers_idle", As::Number),
    ("memory", "/resident_bytes", As::Bytes),
    ("open files", "/open_fds", As::Number),
];

const NODES: &[Column] = &[
    ("node", "/name", As::Text),
    ("host", "/host", As::Text),
    ("port", "/port", As::Number),
    ("role", "/role", As::Text),
    ("databases", "/databases", As::Text),
    ("active", "/servers_active", As::Number),
    ("idle", "/servers_idle", As::Number),
    ("waiting", "/clients_waiting", As::Number),
    ("connect errors", "/connect_errors", As::Number),
];

const POOLS: &[Column] = &[
    ("database", "/database", As::Text),
    ("user", "/user", As::Text),
    ("node", "/node", As::Text),
    ("mode", "/mode", As::Text),
    ("clients", "/clients_active", As::Number),
    ("waiting", "/clients_waiting", As::Number),
    ("active", "/servers_active", As::Number),
    ("idle", "/servers_idle", As::Number),
    ("size", "/size", As::Number),
    ("pinned", "/servers_pinned", As::Number),
    ("max wait", "/maxwait_seconds", As::Seconds),
    ("queries", "/totals/queries", As::Number),
    ("p50", "/query_latency/p50_us", As::Micros),
    ("p99", "/query_latency/p99_us", As::Micros),
    ("paused", "/paused", As::YesNo),
];

const CLIENTS: &[Column] = &[
    ("id", "/id", As::Number),
    ("user", "/user", As::Text),
    ("database", "/database", As::Text),
    ("application", "/application_name", As::Text),
    ("state", "/state", As::Text),
    ("address", "/address", As::Text),
    ("port", "/port", As::Number),
    ("connected", "/connected_at", As::Time),
    ("wait", "/wait_seconds", As::Seconds),
    ("pinned", "/pinned", As::Text),
    ("server", "/server_id", As::Number),
];

const SERVERS: &[Column] = &[
    ("id", "/id", As::Number),
    ("user", "/user", As::Text),
    ("database", "/database", As::Text),
    ("node", "/node", As::Text),
    ("state", "/state", As::Text),
    ("pid", "/pid", As::Number),
    ("connected", "/connected_at", As::Time),
    ("prepared", "/prepared_statements", As::Number),
    ("client", "/client_id", As::Number),
];

const DATABASES: &[Column] = &[
    ("database", "/name", As::Text),
    ("nodes", "/nodes", As::Text),
    ("role", "/role", As::Text),
    ("dbname", "/dbname", As::Text),
    ("mode", "/mode", As::Text),
    ("size", "/size", As::Number),
    ("pools", "/pools", As::Number),
    ("active", "/servers_active", As::Number),
    ("idle", "/servers_idle", As::Number),
    ("waiting", "/clients_waiting", As::Number),
    ("paused", "/paused", As::YesNo),
    ("disabled", "/disabled", As::YesNo),
];

const STATS: &[Column] = &[
    ("database", "/database", As::Text),
    ("transactions/s", "/averages/transactions_per_second", As::Number),
    ("queries/s", "/averages/queries_per_second", As::Number),
    ("in/s", "/averages/received_bytes_per_second", As::Bytes),
    ("out/s", "/averages/sent_bytes_per_second", As::Bytes),
    ("query", "/averages/query_us", As::Micros),
    ("wait", "/averages/wait_us", As::Micros),
    ("period", "/averages/seconds", As::Seconds),
    ("queries", "/totals/queries", As::Number),
];

const CONFIG: &[Column] = &[
    ("setting", "/key", As::Text),
    ("value", "/value", As::Text),
    ("default", "/default", As::Text),
    ("reloads", "/changeable", As::YesNo),
];

fn table(columns: &[Column], rows: &[Value]) -> String {
    let mut table = Table::new();
    // Columns apart by blanks alone: easy on the eye, and a long line may wrap where it likes.
    table.load_style(NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|(heading, _, how)| aligned((*heading).to_owned(), *how)));
    for row in rows {
        table.add_row(
            columns.iter().map(|(_, at, how)| aligned(shown(row.pointer(at), *how), *how)),
        );
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

fn aligned(text: String, how: As) -> Cell {
    let cell = Cell::new(text);
    match how {
        As::Text | As::Time | As::YesNo => cell,
        As::Number | As::Seconds | As::Micros | As::Bytes => {
            cell.set_alignment(CellAlignment::Right)
        }
    }
}

/// One fact a line.
fn facts(columns: &[Column], value: &Value) -> String {
    let width = columns.iter().map(|(heading, ..)| heading.len()).max().unwrap_or(0);
    columns
        .iter()
        .map(|(heading, at, how)| format!("{heading:width$}  {}", shown(value.pointer(at), *how)))
        .collect::<Vec<_>>()
        .join("\n")
}

fn reloaded(value: &Value) -> String {
    let list = |key: &str| shown(value.get(key), As::Text);
    let mut out = match list("applied") {
        none if none == "-" => "reloaded; nothing changed".to_owned(),
        applied => format!("reloaded: {applied}"),
    };
    let restart = list("needs_restart");
    if restart != "-" {
        out.push_str(&format!("\nafter a restart only: {restart}"));
    }
    out
}

fn shown(value: Option<&Value>, how: As) -> String {
    let number = value.and_then(Value::as_f64);
    match (how, value) {
        (As::YesNo, Some(Value::Bool(yes))) => if *yes { "yes" } else { "no" }.into(),
        (As::Seconds, _) => number.map_or_else(dash, |n| span(Duration::from_secs_f64(n.max(0.0)))),
        (As::Micros, _) => {
            number.map_or_else(dash, |n| span(Duration::from_secs_f64(n.max(0.0) / 1e6)))
        }
        (As::Bytes, _) => number.map_or_else(dash, bytes),
        (As::Time, Some(Value::String(at))) => at.replace('T', " ").replace('Z', ""),
        // A client chooses its application_name: it must not steer the operator's terminal.
        (_, Some(Value::String(text))) if !text.is_empty() => {
            text.replace(|c: char| c.is_control(), "?")
        }
        (_, Some(Value::Array(items))) if !items.is_empty() => {
            items.iter().map(|item| shown(Some(item), how)).collect::<Vec<_>>().join(", ")
        }
        (_, Some(other @ (Value::Number(_) | Value::Bool(_)))) => other.to_string(),
        _ => dash(),
    }
}

fn dash() -> String {
    "-".into()
}

/// Two units at most: `1h 4m`, `2.5s`, `340us`.
fn span(d: Duration) -> String {
    let seconds = d.as_secs();
    match d.as_micros() {
        0 => "0".into(),
        us @ 1..1_000 => format!("{us}us"),
        us @ 1_000..1_000_000 => format!("{}.{}ms", us / 1_000, us / 100 % 10),
        us @ 1_000_000..60_000_000 => format!("{}.{}s", seconds, us / 100_000 % 10),
        _ if seconds < 3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        _ if seconds < 86_400 => format!("{}h {}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

fn bytes(n: f64) -> String {
    let mut n = n;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if n < 1024.0 {
            return if unit == "B" { format!("{n:.0} {unit}") } else { format!("{n:.1} {unit}") };
        }
        n /= 1024.0;
    }
    format!("{n:.1} TiB")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn spans_and_sizes() {
        let check = |found: String, expect: &str| assert_eq!(found, expect);
        let micros = |us| span(Duration::from_micros(us));
        check(micros(0), "0");
        check(micros(340), "340us");
        check(micros(1_290), "1.2ms");
        check(micros(2_540_000), "2.5s");
        check(micros(3_840_000_000), "1h 4m");
        check(micros(65_000_000), "1m 5s");
        check(micros(90_000_000_000), "1d 1h");
        check(bytes(512.0), "512 B");
        check(bytes(1_572_864.0), "1.5 MiB");
    }

    #[test]
    fn tables_align_numbers_to_the_right() {
        let nodes = json!([
            { "name": "n1", "host": "/tmp", "port": 5432, "role": "primary",
              "databases": ["a", "b"], "servers_active": 1, "servers_idle": 12,
              "clients_waiting": 0, "connect_errors": 0 },
            { "name": "n2", "host": "h", "port": 1, "role": "replica", "databases": [] },
        ]);
        expect_test::expect![[r#"
            node  host  port  role     databases  active  idle  waiting  connect errors
            n1    /tmp  5432  primary  a, b            1    12        0               0
            n2    h        1  replica  -               -     -        -               -"#]]
        .assert_eq(&render("nodes", &nodes));
    }

    #[test]
    fn answers_in_words() {
        let check = |path, value: Value, expect: &str| assert_eq!(render(path, &value), expect);
        check("pools", json!([]), "no pools");
        check("resume", json!({ "done": true }), "done");
        check("pause", json!({ "servers_busy": true }), "paused; some servers are still busy");
        check(
            "reload",
            json!({ "applied": ["pool.mode"], "needs_restart": ["proxy.listen"] }),
            "reloaded: pool.mode\nafter a restart only: proxy.listen",
        );
        check("reload", json!({ "applied": [] }), "reloaded; nothing changed");
        let refused = json!({ "error": "no such database", "detail": null, "hint": "look" });
        assert_eq!(refusal(&refused), "no such database\n  hint: look");
    }
}
