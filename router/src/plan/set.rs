//! SET and RESET: which setting of the session becomes what.
//!
//! Sources: `VariableSetStmt` and `VariableResetStmt` in gram.y; `flatten_set_variable_args()` and
//! `ExecSetVariableStmt()` in guc_funcs.c.

use super::cursor::Cursor;
use super::effect::{PinReason, SetValue};
use super::functions::push_once;
use super::{Effect, Effects};
use crate::lex::{Kind, value};

/// Settings whose elements PostgreSQL quotes as identifiers (`GUC_LIST_QUOTE` in guc_tables.c).
const QUOTED_LISTS: [&[u8]; 4] =
    [b"search_path", b"temp_tablespaces", b"local_preload_libraries", b"session_preload_libraries"];

/// Settings that belong to the transaction, however they are set.
const OF_TRANSACTION: [&[u8]; 3] =
    [b"transaction_isolation", b"transaction_read_only", b"transaction_deferrable"];

/// Behind `SET`.
pub(super) fn set(mut cursor: Cursor<'_>, to: &mut Effects) {
    let mut local = false;
    if !is_assignment(&cursor) {
        let mut ahead = cursor.clone();
        if cursor.eat("local") {
            local = true;
        } else if ahead.eat("session")
            && !ahead.sees("characteristics")
            && !ahead.sees("authorization")
        {
            cursor = ahead;
        }
    }
    if local {
        // Whatever it is, it ends with the transaction.
        to.push(Effect::SetLocal);
        return;
    }
    if is_assignment(&cursor) {
        generic(cursor, to);
    } else {
        special(cursor, to);
    }
}

/// Whether `name = …` or `name TO …` follows. The name may be spelled like a keyword of SET:
/// `SET session.user = 'x'`.
fn is_assignment(cursor: &Cursor<'_>) -> bool {
    let mut ahead = cursor.clone();
    ahead.eat_name().is_some()
        && (ahead.sees_kind(Kind::Dot)
            || ahead.sees("to")
            || ahead.sees("from")
            || ahead.eat_operator("="))
}

/// The forms that have a grammar of their own.
fn special(mut cursor: Cursor<'_>, to: &mut Effects) {
    if cursor.eat("transaction") {
        to.push(Effect::SetLocal);
    } else if cursor.eat_all(&["session", "characteristics", "as", "transaction"]) {
        characteristics(cursor, to);
    } else if cursor.eat_all(&["session", "authorization"]) {
        let value = scalar(cursor);
        assign(b"session_authorization".to_vec(), value, to);
    } else if cursor.eat("role") {
        assign(b"role".to_vec(), scalar(cursor), to);
    } else if cursor.eat_all(&["time", "zone"]) {
        let value = if cursor.eat("local") { SetValue::Default } else { scalar(cursor) };
        assign(b"timezone".to_vec(), value, to);
    } else if cursor.eat("names") {
        let value = if cursor.at_end() { SetValue::Default } else { scalar(cursor) };
        assign(b"client_encoding".to_vec(), value, to);
    } else if cursor.eat("schema") {
        assign(b"search_path".to_vec(), list(cursor), to);
    } else if cursor.eat_all(&["xml", "option"]) {
        assign(b"xmloption".to_vec(), scalar(cursor), to);
    }
    // CONSTRAINTS is of the transaction; anything else is a syntax error.
}

/// `name = value`, `name TO value, …`, `name FROM CURRENT`.
fn generic(mut cursor: Cursor<'_>, to: &mut Effects) {
    let Some(name) = setting(&mut cursor) else {
        to.push(Effect::SetComputed);
        return;
    };
    if cursor.eat("from") {
        // To what it is already.
        return;
    }
    if !cursor.eat("to") && !cursor.eat_operator("=") {
        return;
    }
    let value = if QUOTED_LISTS.contains(&name.as_slice()) { list(cursor) } else { scalar(cursor) };
    assign(name, value, to);
}

/// A setting's canonical name; none if it is spelled with Unicode escapes.
fn setting(cursor: &mut Cursor<'_>) -> Option<Vec<u8>> {
    let mut name = Vec::new();
    loop {
        let part = cursor.eat_name()?;
        name.extend(value::identifier(part, cursor.sql)?);
        if cursor.eat_kind(Kind::Dot).is_none() {
            break;
        }
        name.push(b'.');
    }
    // Settings are compared without regard to case, quoted or not (`guc_name_compare()`).
    name.make_ascii_lowercase();
    Some(name)
}

/// Adds the effect of setting `name`.
pub(super) fn assign(name: Vec<u8>, value: SetValue, to: &mut Effects) {
    if OF_TRANSACTION.contains(&name.as_slice()) {
        to.push(Effect::SetLocal);
        return;
    }
    if name == b"seed" {
        to.push(Effect::Pin(PinReason::RandomSeed));
        return;
    }
    let temp = name == b"search_path"
        && matches!(&value, SetValue::Literal(path) if starts_with_temp_schema(path));
    to.push(Effect::Set { name, value });
    if temp {
        to.push(Effect::Pin(PinReason::TempSchema));
    }
}

fn starts_with_temp_schema(path: &[u8]) -> bool {
    let first = path.split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
    let first = first.strip_prefix(b"\"").unwrap_or(first);
    first.get(..7).is_some_and(|start| start.eq_ignore_ascii_case(b"pg_temp"))
}

/// The only value that follows.
fn scalar(mut cursor: Cursor<'_>) -> SetValue {
    if cursor.eat("default") {
        return if cursor.at_end() { SetValue::Default } else { SetValue::Raw };
    }
    let negative = cursor.eat_operator("-");
    let signed = negative || cursor.eat_operator("+");
    let literal = match cursor.next() {
        Some(token) if token.kind == Kind::Number => number(negative, cursor.bytes(token)),
        Some(_) if signed => None,
        Some(token) => text(&cursor, token),
        None => None,
    };
    match literal {
        Some(literal) if cursor.at_end() => SetValue::Literal(literal),
        _ => SetValue::Raw,
    }
}

/// A string or an identifier, which is the same here.
fn text(cursor: &Cursor<'_>, token: crate::lex::Token) -> Option<Vec<u8>> {
    if token.kind.is_string() {
        return value::string(token, cursor.sql, cursor.options);
    }
    // How letters outside of ASCII are folded depends on the server's locale.
    if token.kind == Kind::Word && !cursor.bytes(token).is_ascii() {
        return None;
    }
    value::identifier(token, cursor.sql)
}

/// A number as PostgreSQL prints it back: integers in decimal, all else as it was written.
fn number(negative: bool, digits: &[u8]) -> Option<Vec<u8>> {
    let is_integer = digits.iter().all(u8::is_ascii_digit);
    let is_float = digits
        .iter()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    let padded = digits.first() == Some(&b'0') && (digits.len() > 1 || negative);
    if is_integer && padded || !is_float {
        return None;
    }
    let mut number = Vec::with_capacity(digits.len() + 1);
    if negative {
        number.push(b'-');
    }
    number.extend_from_slice(digits);
    Some(number)
}

/// The elements that follow, each quoted as an identifier.
///
/// PostgreSQL also quotes those that are keywords; that changes what SHOW prints and nothing else.
fn list(mut cursor: Cursor<'_>) -> SetValue {
    let mut ahead = cursor.clone();
    if ahead.eat("default") && ahead.at_end() {
        return SetValue::Default;
    }
    let mut path = Vec::new();
    loop {
        let element = cursor.next().and_then(|token| text(&cursor, token));
        let Some(element) = element else { return SetValue::Raw };
        push_identifier(&element, &mut path);
        match cursor.next() {
            None => return SetValue::Literal(path),
            Some(token) if token.kind == Kind::Comma => path.extend_from_slice(b", "),
            Some(_) => return SetValue::Raw,
        }
    }
}

/// As `quote_identifier()` in ruleutils.c.
fn push_identifier(name: &[u8], to: &mut Vec<u8>) {
    let starts = name.first().is_some_and(|byte| byte.is_ascii_lowercase() || *byte == b'_');
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_';
    if starts && name.iter().all(plain) {
        to.extend_from_slice(name);
        return;
    }
    to.push(b'"');
    for &byte in name {
        if byte == b'"' {
            to.push(b'"');
        }
        to.push(byte);
    }
    to.push(b'"');
}

/// `SET SESSION CHARACTERISTICS AS TRANSACTION` sets the defaults of later transactions.
fn characteristics(mut cursor: Cursor<'_>, to: &mut Effects) {
    const LEVELS: [(&[&str], &str); 4] = [
        (&["read", "uncommitted"], "read uncommitted"),
        (&["read", "committed"], "read committed"),
        (&["repeatable", "read"], "repeatable read"),
        (&["serializable"], "serializable"),
    ];
    let mut set = |name: &str, value: &str| {
        let value = SetValue::Literal(value.as_bytes().to_vec());
        to.push(Effect::Set { name: name.as_bytes().to_vec(), value });
    };
    loop {
        if cursor.eat_all(&["isolation", "level"]) {
            let level = LEVELS.iter().find(|(words, _)| cursor.eat_all(words));
            let Some((_, level)) = level else { return };
            set("default_transaction_isolation", level);
        } else if cursor.eat_all(&["read", "only"]) {
            set("default_transaction_read_only", "on");
        } else if cursor.eat_all(&["read", "write"]) {
            set("default_transaction_read_only", "off");
        } else if cursor.eat("deferrable") {
            set("default_transaction_deferrable", "on");
        } else if cursor.eat_all(&["not", "deferrable"]) {
            set("default_transaction_deferrable", "off");
        } else if cursor.eat_kind(Kind::Comma).is_none() {
            return;
        }
    }
}

/// Behind `RESET`.
pub(super) fn reset(mut cursor: Cursor<'_>, to: &mut Effects) {
    let name = if cursor.eat("all") {
        to.push(Effect::ResetAll);
        return;
    } else if cursor.eat_all(&["time", "zone"]) {
        b"timezone".to_vec()
    } else if cursor.eat_all(&["session", "authorization"]) {
        b"session_authorization".to_vec()
    } else if cursor.eat_all(&["transaction", "isolation", "level"]) {
        return;
    } else {
        match setting(&mut cursor) {
            Some(name) => name,
            None => {
                to.push(Effect::SetComputed);
                return;
            }
        }
    };
    if !OF_TRANSACTION.contains(&name.as_slice()) {
        to.push(Effect::Reset(name));
    }
}

/// Updating the view `pg_settings` sets (its rule calls `set_config()`).
pub(super) fn update_of_settings(mut cursor: Cursor<'_>, to: &mut Effects) {
    while let Some(token) = cursor.next() {
        if !cursor.is_word(token, "update") {
            continue;
        }
        cursor.eat("only");
        let mut name = cursor.eat_name();
        if cursor.eat_kind(Kind::Dot).is_some() {
            name = cursor.eat_name();
        }
        let name = name.and_then(|name| value::identifier(name, cursor.sql));
        if name.as_deref() == Some(b"pg_settings") {
            push_once(Effect::SetComputed, to);
            return;
        }
    }
}
