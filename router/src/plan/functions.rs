//! Calls of functions that change the session.
//!
//! A call is a name before a parenthesis, whatever its schema. A function that hides such a call in
//! its body can't be seen here; neither can a name written with Unicode escapes.
//! Sources: the manual's chapter "System Administration Functions"; the extension dblink.

use super::class::Class;
use super::cursor::Cursor;
use super::effect::{PinReason, SetValue};
use super::{Effect, Effects, set};
use crate::lex::{Kind, Token, value};

/// How many tokens of a call's arguments are looked at. Literals are a few; unbounded, calls nested
/// in each other would take quadratic time.
const ARGUMENT_TOKENS_MAX: usize = 256;

/// How many effects back a duplicate is looked for, for the same reason.
const DUPLICATES_WITHIN_MAX: usize = 16;

/// A function that matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    SetConfig,
    Pins(PinReason),
    MayUnpin,
}

use Function::{MayUnpin, Pins};

/// All of them. The xact variants of advisory locks end with their transaction.
const FUNCTIONS: [(&[u8], Function); 14] = [
    (b"set_config", Function::SetConfig),
    (b"setseed", Pins(PinReason::RandomSeed)),
    (b"pg_advisory_lock", Pins(PinReason::AdvisoryLock)),
    (b"pg_advisory_lock_shared", Pins(PinReason::AdvisoryLock)),
    (b"pg_try_advisory_lock", Pins(PinReason::AdvisoryLock)),
    (b"pg_try_advisory_lock_shared", Pins(PinReason::AdvisoryLock)),
    (b"pg_advisory_unlock", MayUnpin),
    (b"pg_advisory_unlock_shared", MayUnpin),
    (b"pg_advisory_unlock_all", MayUnpin),
    (b"dblink_connect", Pins(PinReason::Dblink)),
    (b"dblink_connect_u", Pins(PinReason::Dblink)),
    (b"dblink_disconnect", MayUnpin),
    (b"pg_replication_origin_session_setup", Pins(PinReason::ReplicationOrigin)),
    (b"pg_replication_origin_session_reset", MayUnpin),
];

impl Function {
    /// The function that `name` names; the caller has seen a parenthesis behind it.
    #[inline]
    pub(super) fn named(name: Token, sql: &[u8]) -> Option<Self> {
        let bytes = name.bytes(sql);
        match name.kind {
            Kind::Word => Self::of(bytes, false),
            _ => Self::of(bytes.get(1..bytes.len().saturating_sub(1))?, true),
        }
    }

    /// The function of this name, in any case unless it must be `exact`.
    #[inline]
    pub(super) fn of(bytes: &[u8], exact: bool) -> Option<Self> {
        // Most calls are of `count`, `max` and `coalesce`.
        if bytes.len() < 7 || !matches!(bytes.first()? | 0x20, b's' | b'p' | b'd') {
            return None;
        }
        let same = |known: &[u8]| {
            if exact { known == bytes } else { known.eq_ignore_ascii_case(bytes) }
        };
        FUNCTIONS.iter().find(|(known, _)| same(known)).map(|(_, function)| *function)
    }
}

/// Adds what the calls in the rest of a statement of this class do.
pub(super) fn calls(mut cursor: Cursor<'_>, class: Class, to: &mut Effects) {
    // Only then does each call at the top run exactly once.
    let plain = class == Class::Select && runs_once(cursor.clone());
    let mut depth = 0_usize;
    let mut previous: Option<Token> = None;
    while let Some(token) = cursor.next() {
        match token.kind {
            Kind::OpenParen => {
                let named = previous.filter(|name| name.kind.is_name());
                let function = named.and_then(|name| Function::named(name, cursor.sql));
                if let Some(function) = function {
                    apply(function, &cursor, plain && depth == 0, to);
                }
                depth += 1;
            }
            Kind::CloseParen => depth = depth.saturating_sub(1),
            _ => {}
        }
        previous = Some(token);
    }
}

fn apply(function: Function, arguments: &Cursor<'_>, plain: bool, to: &mut Effects) {
    let effect = match function {
        Pins(reason) => Effect::Pin(reason),
        MayUnpin => Effect::MayUnpin,
        Function::SetConfig => {
            set_config(arguments.clone(), plain, to);
            return;
        }
    };
    push_once(effect, to);
}

/// A text of a million calls needs no million effects. Duplicates do no harm: looking at all of
/// them would.
pub(super) fn push_once(effect: Effect, to: &mut Effects) {
    if !to.iter().rev().take(DUPLICATES_WITHIN_MAX).any(|known| *known == effect) {
        to.push(effect);
    }
}

/// Whether a SELECT computes its list exactly once, and all of it.
fn runs_once(mut cursor: Cursor<'_>) -> bool {
    const MAY_NOT: [&str; 16] = [
        "from",
        "where",
        "group",
        "having",
        "window",
        "union",
        "intersect",
        "except",
        "limit",
        "offset",
        "fetch",
        "into",
        "case",
        "and",
        "or",
        "distinct",
    ];
    while let Some(token) = cursor.next_outside() {
        if cursor.is_any(token, &MAY_NOT) {
            return false;
        }
    }
    true
}

/// What an argument is, as far as it is a constant.
#[derive(Debug, PartialEq, Eq)]
enum Argument {
    Null,
    Text(Vec<u8>),
    Bool(bool),
    Other,
}

/// `set_config(name, value, is_local)`: see `set_config_by_name()` in guc_funcs.c.
fn set_config(mut cursor: Cursor<'_>, plain: bool, to: &mut Effects) {
    let mut budget = ARGUMENT_TOKENS_MAX;
    let mut next = || argument(&mut cursor, &mut budget);
    let (name, value, is_local) = (next(), next(), next());
    if boolean(&is_local) == Some(true) {
        return;
    }
    let value = match value {
        Argument::Text(value) => Some(SetValue::Literal(value)),
        Argument::Null => Some(SetValue::Default),
        _ => None,
    };
    // A missing is_local is an error; NULL means false.
    let session = boolean(&is_local) == Some(false) || is_local == Argument::Null;
    match (name, value) {
        (Argument::Text(name), Some(value)) if plain && session => {
            set::assign(name.to_ascii_lowercase(), value, to);
        }
        _ => push_once(Effect::SetComputed, to),
    }
}

fn boolean(argument: &Argument) -> Option<bool> {
    match argument {
        Argument::Bool(value) => Some(*value),
        Argument::Text(text) => match text.to_ascii_lowercase().as_slice() {
            b"t" | b"true" | b"y" | b"yes" | b"on" | b"1" => Some(true),
            b"f" | b"false" | b"n" | b"no" | b"off" | b"0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// Reads one argument and the comma or parenthesis behind it.
fn argument(cursor: &mut Cursor<'_>, budget: &mut usize) -> Argument {
    let mut tokens: [Option<Token>; 4] = [None; 4];
    let mut count = 0_usize;
    let mut depth = 0_usize;
    while let Some(token) = cursor.next() {
        if *budget == 0 {
            return Argument::Other;
        }
        *budget -= 1;
        match token.kind {
            Kind::Comma if depth == 0 => break,
            Kind::CloseParen if depth == 0 => {
                // Nothing may follow: further arguments would be read from behind the call.
                *budget = 0;
                break;
            }
            Kind::OpenParen => depth += 1,
            Kind::CloseParen => depth -= 1,
            _ => {}
        }
        if let Some(slot) = tokens.get_mut(count) {
            *slot = Some(token);
        }
        count += 1;
    }
    let (constant, cast) = match tokens {
        [Some(constant), None, ..] => (constant, None),
        [Some(constant), Some(typecast), Some(to), None] if typecast.kind == Kind::Typecast => {
            (constant, Some(to))
        }
        _ => return Argument::Other,
    };
    let casts_to = |types: &[&str]| cast.is_none_or(|to| cursor.is_any(to, types));
    if constant.kind.is_string() && casts_to(&["text", "varchar", "boolean", "bool"]) {
        let text = value::string(constant, cursor.sql, cursor.options);
        return text.map_or(Argument::Other, Argument::Text);
    }
    if cursor.is_word(constant, "null") {
        return Argument::Null;
    }
    if casts_to(&["boolean", "bool"]) {
        for known in [true, false] {
            if cursor.is_word(constant, if known { "true" } else { "false" }) {
                return Argument::Bool(known);
            }
        }
    }
    Argument::Other
}
