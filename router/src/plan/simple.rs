//! Statements whose effect a few words tell: prepared statements, cursors, channels, COPY, EXPLAIN.
//!
//! Source: src/backend/parser/gram.y.

use super::class::Class;
use super::cursor::Cursor;
use super::effect::{DeallocateTarget, DiscardTarget, PinReason};
use super::split::{Facts, inspect};
use super::{Effect, Effects, functions};
use crate::lex::{Kind, value};

/// Statements of one word and its object.
pub(super) fn simple(
    mut cursor: Cursor<'_>,
    class: Class,
    word: &[u8],
    facts: Facts,
    to: &mut Effects,
) {
    match class {
        Class::Execute => execute(&mut cursor, to),
        Class::Deallocate => return deallocate(cursor, to),
        Class::Discard => return discard(cursor, to),
        Class::Declare => declare(&mut cursor, to),
        Class::Close => to.push(Effect::MayUnpin),
        Class::Listen => return channel(cursor, |name| name.map(Effect::Listen), to),
        Class::Unlisten => return channel(cursor, |name| Some(Effect::Unlisten(name)), to),
        Class::Notify => to.push(Effect::Notify),
        Class::Utility if word.eq_ignore_ascii_case(b"load") => {
            to.push(Effect::Pin(PinReason::Load));
        }
        Class::Copy => copy(cursor.clone(), to),
        _ => {}
    }
    // Arguments of EXECUTE and CALL are evaluated, COPY and DECLARE have queries.
    let evaluates = matches!(class, Class::Execute | Class::Declare | Class::Copy | Class::Call);
    if facts.calls && evaluates {
        functions::calls(cursor, class, to);
    }
}

/// `PREPARE name [(types)] AS statement`, or `PREPARE TRANSACTION 'gid'`.
pub(super) fn prepare(mut cursor: Cursor<'_>, to: &mut Effects) -> Class {
    let mut ahead = cursor.clone();
    if ahead.eat("transaction") && ahead.peek().is_some_and(|token| token.kind.is_string()) {
        to.push(Effect::PrepareTransaction);
        return Class::PrepareTransaction;
    }
    let end = cursor.sql.len();
    let Some(name) = cursor.eat_name() else { return Class::Prepare };
    let Some(body) = cursor.peek() else { return Class::Prepare };
    if cursor.eat_kind(Kind::OpenParen).is_some() {
        cursor.leave_parens();
    }
    if cursor.eat("as")
        && let Some(statement) = cursor.peek()
    {
        to.push(Effect::Prepare {
            name: name.span(),
            body: body.start..end,
            statement: statement.start..end,
        });
    }
    Class::Prepare
}

/// Behind `EXECUTE`: the name.
pub(super) fn execute(cursor: &mut Cursor<'_>, to: &mut Effects) {
    if let Some(name) = cursor.eat_name() {
        to.push(Effect::Execute { name: name.span() });
    }
}

fn deallocate(mut cursor: Cursor<'_>, to: &mut Effects) {
    let mut ahead = cursor.clone();
    // A statement may be named `prepare`.
    if ahead.eat("prepare") && !ahead.at_end() {
        cursor = ahead;
    }
    if cursor.eat("all") {
        to.push(Effect::Deallocate(DeallocateTarget::All));
    } else if let Some(name) = cursor.eat_name() {
        to.push(Effect::Deallocate(DeallocateTarget::Name(name.span())));
    }
}

fn discard(mut cursor: Cursor<'_>, to: &mut Effects) {
    let target = if cursor.eat("all") {
        DiscardTarget::All
    } else if cursor.eat("plans") {
        DiscardTarget::Plans
    } else if cursor.eat("sequences") {
        DiscardTarget::Sequences
    } else if cursor.eat_any(&["temp", "temporary"]) {
        DiscardTarget::Temp
    } else {
        return;
    };
    to.push(Effect::Discard(target));
    if matches!(target, DiscardTarget::All | DiscardTarget::Temp) {
        to.push(Effect::MayUnpin);
    }
}

/// `DECLARE name options CURSOR [WITH HOLD] FOR query`; stops before the query.
fn declare(cursor: &mut Cursor<'_>, to: &mut Effects) {
    cursor.eat_name();
    while let Some(token) = cursor.next() {
        if cursor.is_word(token, "cursor") {
            if cursor.eat_all(&["with", "hold"]) {
                to.push(Effect::Pin(PinReason::HoldCursor));
            }
            return;
        }
    }
}

fn channel(
    mut cursor: Cursor<'_>,
    effect: impl FnOnce(Option<Vec<u8>>) -> Option<Effect>,
    to: &mut Effects,
) {
    let name = if cursor.eat_operator("*") {
        None
    } else {
        let Some(token) = cursor.eat_name() else { return };
        Some(value::identifier(token, cursor.sql).unwrap_or_else(|| cursor.bytes(token).to_vec()))
    };
    to.extend(effect(name));
}

/// `COPY [BINARY] table [(columns)] | (query) FROM | TO STDIN | STDOUT | 'file' | PROGRAM …`.
fn copy(mut cursor: Cursor<'_>, to: &mut Effects) {
    while let Some(token) = cursor.next_outside() {
        let from = cursor.is_word(token, "from");
        if !from && !cursor.is_word(token, "to") {
            continue;
        }
        // The grammar takes either word in either direction (`copy_file_name`).
        if cursor.eat_any(&["stdin", "stdout"]) {
            to.push(if from { Effect::CopyIn } else { Effect::CopyOut });
        }
        return;
    }
}

/// `EXPLAIN [ANALYZE] [VERBOSE] | (options) statement`.
///
/// Only with ANALYZE does the statement run; a prepared one must exist in any case.
pub(super) fn explain(mut cursor: Cursor<'_>, facts: Facts, to: &mut Effects) {
    let mut runs = false;
    let mut ahead = cursor.clone();
    if ahead.eat_kind(Kind::OpenParen).is_some() && !starts_query(&ahead) {
        runs = analyze_option(&mut ahead);
        cursor = ahead;
    } else {
        while let Some(token) = cursor.peek()
            && cursor.is_any(token, &["analyze", "analyse", "verbose"])
        {
            runs |= !cursor.is_word(token, "verbose");
            cursor.next();
        }
    }
    let mut ahead = cursor.clone();
    let mut token = ahead.next();
    while let Some(paren) = token
        && paren.kind == Kind::OpenParen
    {
        token = ahead.next();
    }
    let Some(token) = token else { return };
    let mut class = Class::from_word(cursor.bytes(token));
    let mut inner = Effects::new();
    match class {
        // It is planned as a query; no cursor is made of it.
        Class::Declare if facts.calls => functions::calls(cursor, class, &mut inner),
        Class::Select
        | Class::Insert
        | Class::Update
        | Class::Delete
        | Class::Merge
        | Class::Values
        | Class::Table
        | Class::With
        | Class::Execute
        | Class::Ddl => {
            inspect(cursor, &mut class, facts, &mut inner);
        }
        _ => {}
    }
    if !runs {
        inner.retain(|effect| matches!(effect, Effect::Execute { .. }));
    }
    to.append(&mut inner);
}

fn starts_query(cursor: &Cursor<'_>) -> bool {
    cursor.peek().is_some_and(|token| {
        token.kind == Kind::OpenParen
            || cursor.is_any(token, &["select", "values", "table", "with"])
    })
}

/// Whether the options up to the closing parenthesis turn ANALYZE on; steps behind it.
fn analyze_option(cursor: &mut Cursor<'_>) -> bool {
    let mut runs = false;
    let mut option_starts = true;
    while let Some(token) = cursor.next() {
        match token.kind {
            Kind::CloseParen => break,
            Kind::OpenParen => cursor.leave_parens(),
            _ if option_starts && cursor.is_any(token, &["analyze", "analyse"]) => {
                // The last one counts; anything but a plain "off" is taken as "on".
                runs = !cursor.peek().is_some_and(|value| {
                    [&b"false"[..], b"off", b"0", b"'false'", b"'off'"]
                        .iter()
                        .any(|off| cursor.bytes(value).eq_ignore_ascii_case(off))
                });
            }
            _ => {}
        }
        option_starts = token.kind == Kind::Comma;
    }
    runs
}
