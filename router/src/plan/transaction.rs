//! Transaction control: BEGIN, COMMIT, ROLLBACK, savepoints and their many spellings.
//!
//! Source: `TransactionStmt` in src/backend/parser/gram.y.

use super::class::Class;
use super::cursor::Cursor;
use super::{Effect, Effects};
use crate::lex::value;

/// Adds the effect of the statement whose first word was `word`; returns its exact class.
pub(super) fn transaction(
    mut cursor: Cursor<'_>,
    word: &[u8],
    class: Class,
    to: &mut Effects,
) -> Class {
    match class {
        Class::Begin => {
            if word.eq_ignore_ascii_case(b"start") && !cursor.eat("transaction") {
                return Class::Unknown;
            }
            to.push(Effect::Begin);
        }
        Class::Commit => {
            // END has no form for prepared transactions.
            if word.eq_ignore_ascii_case(b"commit") && cursor.eat("prepared") {
                return Class::Utility;
            }
            to.push(Effect::Commit { chain: chain(&mut cursor) });
        }
        Class::Rollback => return rollback(cursor, word, to),
        Class::Savepoint => named(cursor, Effect::Savepoint, to),
        Class::Release => {
            skip_savepoint(&mut cursor);
            named(cursor, Effect::Release, to);
        }
        _ => {}
    }
    class
}

fn rollback(mut cursor: Cursor<'_>, word: &[u8], to: &mut Effects) -> Class {
    let is_abort = word.eq_ignore_ascii_case(b"abort");
    if !is_abort && cursor.eat("prepared") {
        return Class::Utility;
    }
    cursor.eat_any(&["work", "transaction"]);
    if !is_abort && cursor.eat("to") {
        skip_savepoint(&mut cursor);
        named(cursor, Effect::RollbackTo, to);
        return Class::RollbackTo;
    }
    to.push(Effect::Rollback { chain: chain(&mut cursor) });
    Class::Rollback
}

/// `[WORK | TRANSACTION] [AND [NO] CHAIN]`.
fn chain(cursor: &mut Cursor<'_>) -> bool {
    cursor.eat_any(&["work", "transaction"]);
    cursor.eat_all(&["and", "chain"])
}

/// The noise word before a savepoint's name, which may itself be named `savepoint`.
fn skip_savepoint(cursor: &mut Cursor<'_>) {
    let mut ahead = cursor.clone();
    if ahead.eat("savepoint") && !ahead.at_end() {
        *cursor = ahead;
    }
}

fn named(mut cursor: Cursor<'_>, effect: impl FnOnce(Vec<u8>) -> Effect, to: &mut Effects) {
    let Some(token) = cursor.eat_name() else { return };
    // A name with Unicode escapes stands for itself, so that equal texts still match.
    let name = value::identifier(token, cursor.sql).unwrap_or_else(|| cursor.bytes(token).to_vec());
    to.push(effect(name));
}
