//! DO: an anonymous block, whose body can be read because it stands in the statement.
//!
//! What a block may leave on its server counts as done, whichever way it runs. Dynamic SQL (EXECUTE)
//! can't be read and may do anything. Bodies of functions are not here to be read at all.

use super::cursor::Cursor;
use super::effect::{Effect, Effects, PinReason};
use super::functions::Function;
use crate::lex::{Kind, Lexer, value};

/// Adds what the block may do; `cursor` stands before DO.
pub(super) fn block(mut cursor: Cursor<'_>, to: &mut Effects) {
    while let Some(token) = cursor.next() {
        if !token.kind.is_string() {
            continue;
        }
        match value::string(token, cursor.sql, cursor.options) {
            Some(body) => statements(&body, &cursor, to),
            None => to.push(Effect::SetComputed),
        }
    }
}

/// Looks at how the statements of a body begin, and at the calls in them.
fn statements(body: &[u8], outer: &Cursor<'_>, to: &mut Effects) {
    let mut lexer = Lexer::new(body, outer.options);
    let word = |token: Option<crate::lex::Token>, words: &[&str]| {
        token.is_some_and(|token| {
            let bytes = token.bytes(body);
            token.kind == Kind::Word
                && words.iter().any(|word| bytes.eq_ignore_ascii_case(word.as_bytes()))
        })
    };
    let mut previous = None;
    let mut begins = true;
    while let Some(token) = lexer.significant() {
        let now = Some(token);
        let next = || lexer.clone().significant();
        let sets = word(now, &["set"]) && !word(next(), &["local", "constraints", "transaction"]);
        if begins && (sets || word(now, &["reset", "execute", "listen", "unlisten", "load"])) {
            add(to, Effect::SetComputed);
        } else if word(now, &["temp", "temporary"])
            && word(previous, &["create", "into", "replace", "local", "global"])
        {
            add(to, Effect::Pin(PinReason::TempTable));
        } else if token.kind == Kind::OpenParen
            && let Some(name) = previous.filter(|name: &crate::lex::Token| name.kind.is_name())
        {
            match Function::named(name, body) {
                Some(Function::SetConfig) => add(to, Effect::SetComputed),
                Some(Function::Pins(reason)) => add(to, Effect::Pin(reason)),
                Some(Function::MayUnpin) => add(to, Effect::MayUnpin),
                None => {}
            }
        }
        begins = token.kind == Kind::Semicolon || word(now, &["begin", "then", "else", "loop"]);
        previous = now;
    }
}

/// Once is enough.
fn add(to: &mut Effects, effect: Effect) {
    if !to.contains(&effect) {
        to.push(effect);
    }
}
