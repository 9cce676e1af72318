//! The short answer for nearly every statement: it leaves nothing behind in its session.
//!
//! One pass over the bytes, without tokens: on a busy proxy each text is read once, and most are new, because
//! their literals are. What is not plainly without effect goes the long way of [`super::statements`].

use super::functions::Function;
use crate::lex::{DIGIT, LexOptions, Lexer, SPACE, WORD, WORD_START, class_of, is};

/// Whether `sql` is one query or DML statement without any effect: [`super::statements`] finds one plan, without
/// effects and complete. False means only that a closer look is needed.
#[must_use]
pub fn is_plain(sql: &[u8], options: LexOptions) -> bool {
    if !options.standard_conforming_strings || !options.encoding.is_ascii_safe() {
        return false;
    }
    let lexer = Lexer::new(sql, options);
    let Some(mut at) = verb(sql) else { return false };
    // The last token, if it may be a function's name.
    let mut name: &[u8] = &[];
    let mut quoted = false;
    while let Some(&byte) = sql.get(at) {
        let class = class_of(byte);
        if class & SPACE != 0 {
            at += 1;
            continue;
        }
        if class & WORD_START != 0 {
            let end = run(sql, at + 1, WORD);
            name = sql.get(at..end).unwrap_or_default();
            if matters(name) || (name.len() == 1 && matches!(sql.get(end), Some(b'\'' | b'&'))) {
                // A string with a prefix has rules of its own.
                return false;
            }
            quoted = false;
            at = end;
            continue;
        }
        let next = sql.get(at + 1).copied();
        match byte {
            // Comments are blanks: a name before one may still be called.
            b'-' if next == Some(b'-') => {
                at = lexer.line_comment(at + 2);
                continue;
            }
            b'/' if next == Some(b'*') => {
                let (end, true) = lexer.block_comment(at + 2) else { return false };
                at = end;
                continue;
            }
            b'"' => {
                let Some(end) = closing(sql, at) else { return false };
                quoted = true;
                if sql.get(at + 1..end) == Some(b"pg_settings") {
                    return false;
                }
                at = end + 1;
                continue;
            }
            b'(' if quoted || Function::of(name, false).is_some() => return false,
            b'\'' => {
                let Some(end) = closing(sql, at) else { return false };
                at = end;
            }
            b'$' if !next.is_some_and(|byte| is(byte, DIGIT)) => return false,
            b';' => {
                let rest = sql.get(at..).unwrap_or_default();
                return rest.iter().all(|byte| *byte == b';' || is(*byte, SPACE));
            }
            _ if class & DIGIT != 0 => {
                let end = run(sql, at, DIGIT);
                // An exponent, a radix, or a word that follows without a blank: where the number ends is the lexer's to say.
                if sql.get(end).is_some_and(|byte| is(*byte, WORD)) {
                    return false;
                }
                at = end - 1;
            }
            _ => {}
        }
        name = &[];
        quoted = false;
        at += 1;
    }
    true
}

/// Behind the first word, and behind the INTO of an INSERT, if statements that begin so are mostly plain.
fn verb(sql: &[u8]) -> Option<usize> {
    let start = run(sql, 0, SPACE);
    let end = run(sql, start, WORD);
    let word = sql.get(start..end)?;
    let is_insert = word.eq_ignore_ascii_case(b"insert");
    let is_plain = match word.len() {
        4 => word.eq_ignore_ascii_case(b"with"),
        5 => word.eq_ignore_ascii_case(b"table"),
        6 => {
            word.eq_ignore_ascii_case(b"select")
                || word.eq_ignore_ascii_case(b"update")
                || is_insert
                || word.eq_ignore_ascii_case(b"delete")
                || word.eq_ignore_ascii_case(b"values")
        }
        _ => false,
    };
    if !is_insert {
        return is_plain.then_some(end);
    }
    let into = run(sql, end, SPACE);
    let end = run(sql, into, WORD);
    sql.get(into..end)?.eq_ignore_ascii_case(b"into").then_some(end)
}

/// Words that make a closer look necessary: SELECT INTO makes tables, an update of the view sets.
#[inline]
fn matters(word: &[u8]) -> bool {
    match word.len() {
        4 => word.eq_ignore_ascii_case(b"into"),
        11 => word.eq_ignore_ascii_case(b"pg_settings"),
        _ => false,
    }
}

/// The end of the run of `class` that starts at `from`.
#[inline]
fn run(sql: &[u8], from: usize, class: u8) -> usize {
    let rest = sql.get(from..).unwrap_or_default();
    from + rest.iter().position(|byte| !is(*byte, class)).unwrap_or(rest.len())
}

/// Where the quote at `at` is closed. A doubled one closes here and opens again at once.
#[inline]
fn closing(sql: &[u8], at: usize) -> Option<usize> {
    let quote = *sql.get(at)?;
    memchr::memchr(quote, sql.get(at + 1..)?).map(|offset| at + 1 + offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_statements_are_plain() {
        let check = |sql: &str, expect| {
            assert_eq!(is_plain(sql.as_bytes(), LexOptions::default()), expect, "{sql}");
        };
        for sql in [
            "SELECT abalance FROM pgbench_accounts WHERE aid = 1;",
            "  select count(*), max(a) from t where b = 'it''s' and c = $1 ; ;",
            "INSERT INTO t (a, \"B\") VALUES (1, 'x'), (2.5, NULL) ON CONFLICT DO NOTHING",
            "update t set a = a + 1 -- so\nwhere b /* and */ = 2",
            "DELETE FROM pg_settings_of_mine",
            "WITH x AS (SELECT 1) SELECT * FROM x",
            "select ';' from \"a;b\"",
            "select 'set_config('",
        ] {
            check(sql, true);
        }
        for sql in [
            "",
            "begin",
            "select 1; select 2",
            "select 1 into t",
            "insert /* */ into t values (1)",
            "update pg_settings set setting = 1",
            "update \"pg_settings\" set setting = 1",
            "select set_config('a', 'b', false)",
            "select PG_Advisory_Lock /* so */ (1)",
            "select \"set_config\"('a', 'b', false)",
            "select e'\\''",
            "select 1e5into temp t",
            "select 0x1set_config('a', 'b', false)",
            "select $1into temp t",
            "select $$ $$",
            "select 'open",
            "select /* open",
            "select \"open",
        ] {
            check(sql, false);
        }
        let off = LexOptions { standard_conforming_strings: false, ..LexOptions::default() };
        assert!(!is_plain(b"select 1", off));
    }
}
