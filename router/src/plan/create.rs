//! DDL, as far as it leaves something on one server: temporary objects.
//!
//! Sources: `OptTemp`, `CreateStmt`, `CreateAsStmt` and `into_clause` in gram.y; the manual's page on
//! CREATE TABLE. What a definition's body calls isn't called by defining it.

use super::class::Class;
use super::cursor::Cursor;
use super::effect::PinReason;
use super::split::Facts;
use super::{Effect, Effects, functions, simple};
use crate::lex::{Kind, Token};

const TEMP: [&str; 2] = ["temp", "temporary"];

/// Adds the effects of the statement whose first word was `word`; returns its exact class.
pub(super) fn ddl(mut cursor: Cursor<'_>, word: &[u8], facts: Facts, to: &mut Effects) -> Class {
    if word.eq_ignore_ascii_case(b"create") {
        create(cursor, facts, to);
    } else if word.eq_ignore_ascii_case(b"drop") {
        // Whether it was a temporary object only the server knows.
        to.push(Effect::MayUnpin);
    } else if word.eq_ignore_ascii_case(b"alter") && cursor.eat("system") {
        return Class::Utility;
    }
    Class::Ddl
}

fn create(mut cursor: Cursor<'_>, facts: Facts, to: &mut Effects) {
    cursor.eat_all(&["or", "replace"]);
    let mut ahead = cursor.clone();
    ahead.eat_any(&["local", "global"]);
    let mut temp = ahead.eat_any(&TEMP);
    if temp {
        cursor = ahead;
    } else {
        cursor.eat("unlogged");
    }
    let is_routine = cursor.eat_any(&["function", "procedure"]);
    let runs_query = cursor.eat("table") || cursor.eat_all(&["materialized", "view"]);
    // A view of a temporary table becomes temporary itself, so that any mention counts; but a
    // routine's body may mention what it likes.
    temp |= names_temp_schema(cursor.clone(), is_routine);
    if temp {
        to.push(Effect::Pin(PinReason::TempTable));
    }
    if runs_query {
        table(cursor, temp, facts, to);
    }
}

/// The rest of `CREATE TABLE`: `ON COMMIT DROP`, and what stands behind AS.
fn table(mut cursor: Cursor<'_>, temp: bool, facts: Facts, to: &mut Effects) {
    while let Some(token) = cursor.next_outside() {
        if temp && cursor.is_word(token, "on") && cursor.eat_all(&["commit", "drop"]) {
            to.push(Effect::MayUnpin);
        } else if cursor.is_word(token, "as") {
            if cursor.eat("execute") {
                simple::execute(&mut cursor, to);
            }
            if facts.calls {
                functions::calls(cursor, Class::Ddl, to);
            }
            return;
        }
    }
}

/// Whether a name qualified with `pg_temp` follows, or (`first_only`) whether the first name is.
fn names_temp_schema(mut cursor: Cursor<'_>, first_only: bool) -> bool {
    if first_only {
        let name = cursor.eat_name();
        return name.is_some_and(|name| is_temp_schema(&cursor, name))
            && cursor.sees_kind(Kind::Dot);
    }
    let mut previous: Option<Token> = None;
    while let Some(token) = cursor.next() {
        if token.kind == Kind::Dot && previous.is_some_and(|name| is_temp_schema(&cursor, name)) {
            return true;
        }
        previous = Some(token);
    }
    false
}

/// `pg_temp`, or the session's own schema by its real name, such as `pg_temp_3`.
fn is_temp_schema(cursor: &Cursor<'_>, name: Token) -> bool {
    let bytes = cursor.bytes(name);
    let bytes = match name.kind {
        Kind::Word => bytes,
        Kind::QuotedIdentifier => bytes.get(1..).unwrap_or_default(),
        _ => return false,
    };
    bytes.get(..7).is_some_and(|start| start.eq_ignore_ascii_case(b"pg_temp"))
}

/// `SELECT … INTO [TEMP] [TABLE] name`, wherever in the statement it stands.
pub(super) fn select_into(mut cursor: Cursor<'_>, to: &mut Effects) {
    while let Some(token) = cursor.next() {
        if !cursor.is_word(token, "into") {
            continue;
        }
        let mut ahead = cursor.clone();
        ahead.eat_any(&["local", "global"]);
        let temp = ahead.eat_any(&TEMP);
        let mut ahead = cursor.clone();
        ahead.eat("table");
        if temp || names_temp_schema(ahead, true) {
            to.push(Effect::Pin(PinReason::TempTable));
            return;
        }
    }
}
