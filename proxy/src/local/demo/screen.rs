//! What the demo shows: finished steps, a line that moves on a terminal, tables. Colours and movement are for
//! terminals only, and `NO_COLOR` (no-color.org) is respected.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use comfy_table::{Attribute, Cell, CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};

/// Standard output.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    terminal: bool,
    colour: bool,
}

/// A line that tells how far the load is.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    screen: Screen,
    started: Instant,
    seconds: u64,
    told: std::cell::Cell<u64>,
}

/// Without a terminal the load is reported so often.
const PLAIN_PERIOD_SECONDS: u64 = 5;

impl Screen {
    /// As the environment says.
    pub fn new() -> Screen {
        let terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        let refused = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|v| v == "dumb");
        Screen { terminal, colour: terminal && !refused }
    }

    /// One line. A reader that went away is no error: the demo ends as it would have.
    pub fn line(&self, text: &str) {
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }

    /// The first line.
    pub fn title(&self, text: &str) {
        self.line("");
        self.line(&format!("  {}", self.paint("1", text)));
        self.line("");
    }

    /// A line that matters less.
    pub fn faint(&self, text: &str) {
        self.line(&format!("  {}", self.paint("2", text)));
    }

    /// Does `work` while the terminal shows that something happens; then says what it says, and how long it took.
    pub fn step<T>(
        &self,
        doing: &str,
        work: impl FnOnce() -> anyhow::Result<(String, T)>,
    ) -> anyhow::Result<T> {
        let started = Instant::now();
        let spinner = self.bar("  {spinner:.cyan} {msg}");
        spinner.set_message(doing.to_owned());
        let result = work();
        spinner.finish_and_clear();
        let (done, value) = result?;
        self.done(&done, started.elapsed());
        Ok(value)
    }

    /// The moving line of a load of `seconds`.
    pub fn progress(&self, seconds: u64) -> Progress {
        let bar = self.bar("  {spinner:.cyan} load {bar:20.cyan/dim} {pos:>3}/{len} s   {msg}");
        bar.set_length(seconds);
        Progress { bar, screen: *self, started: Instant::now(), seconds, told: 0.into() }
    }

    /// A table after an empty line; columns from `text_columns` on are numbers unless the table has only text.
    pub fn table(&self, header: &[&str], text_columns: usize, rows: Vec<Vec<String>>) {
        if rows.is_empty() {
            return;
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        // Escapes of our own would count as width; the table knows its attributes' width.
        let dim = |h: &&str| {
            if self.colour { Cell::new(h).add_attribute(Attribute::Dim) } else { Cell::new(h) }
        };
        table.set_header(header.iter().map(dim));
        table.add_rows(rows);
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((if index == 0 { 0 } else { 2 }, 1));
            if index >= text_columns {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        self.line("");
        for line in table.lines() {
            self.line(format!("  {line}").trim_end());
        }
    }

    fn done(&self, what: &str, took: Duration) {
        let took = self.paint("2", &format!("{:.1} s", took.as_secs_f64()));
        self.line(&format!("  {} {what}  {took}", self.paint("32", "✓")));
    }

    fn bar(&self, template: &str) -> ProgressBar {
        if !self.terminal {
            return ProgressBar::hidden();
        }
        let template = if self.colour {
            template.to_owned()
        } else {
            template.replace(".cyan/dim", "").replace(".cyan", "")
        };
        let bar = ProgressBar::new_spinner();
        // The template is a constant of ours; if indicatif refuses it, its default style does.
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

impl Progress {
    /// What is going on now.
    pub fn show(&self, message: &str) {
        let elapsed = self.started.elapsed().as_secs().min(self.seconds);
        self.bar.set_position(elapsed);
        self.bar.set_message(message.to_owned());
        if !self.screen.terminal && elapsed >= self.told.get() + PLAIN_PERIOD_SECONDS {
            self.told.set(elapsed);
            self.screen.line(&format!("    {elapsed} s of {} s: {message}", self.seconds));
        }
    }

    /// The load is over.
    pub fn finish(self, done: &str) {
        self.bar.finish_and_clear();
        self.screen.done(done, self.started.elapsed());
    }
}

/// 1234567 as 1,234,567.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Microseconds as milliseconds.
pub fn milliseconds(us: u64) -> String {
    format!("{}.{:02} ms", us / 1_000, us % 1_000 / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        let check = |number, expect: &str| assert_eq!(thousands(number), expect);
        check(0, "0");
        check(999, "999");
        check(1_000, "1,000");
        check(1_234_567, "1,234,567");
        assert_eq!(milliseconds(12_345), "12.34 ms");
        assert_eq!(milliseconds(70), "0.07 ms");
    }
}
