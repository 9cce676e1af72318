//! Errors about statements in which names were replaced: they speak of the client's text again.
//!
//! A position counts the characters of the text that the server got (elog.c, `errposition`), and messages
//! name prepared statements as the server knows them.

use super::query::{Edits, identifier};
use crate::wire::{Reader, build};

/// A name that was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renamed {
    /// Characters of the client's text before it.
    before: usize,
    /// As the client wrote it.
    old: Box<[u8]>,
    old_chars: usize,
    /// What the server got; ASCII.
    new: Box<str>,
}

/// What `edits` replace in `sql`.
pub(super) fn renamed(sql: &[u8], edits: &Edits, utf8: bool) -> Vec<Renamed> {
    let of = |(range, new): &(std::ops::Range<usize>, Box<str>)| {
        let old = sql.get(range.clone()).unwrap_or_default();
        Renamed {
            before: characters(sql.get(..range.start).unwrap_or_default(), utf8),
            old: old.into(),
            old_chars: characters(old, utf8),
            new: new.clone(),
        }
    };
    edits.iter().map(of).collect()
}

/// In the encodings that are neither UTF-8 nor one byte a character, a position may come out too large.
fn characters(text: &[u8], utf8: bool) -> usize {
    let continues = |byte: &&u8| utf8 && **byte & 0xc0 == 0x80;
    text.len() - text.iter().filter(continues).count()
}

/// The body of an ErrorResponse in the client's words.
pub(super) fn in_clients_words(body: &[u8], renamed: &[Renamed]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    for (key, value) in fields(body) {
        out.push(key);
        match key {
            b'P' => {
                let position = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                match position {
                    Some(position) => {
                        build::cstr(&mut out, original(position, renamed).to_string().as_bytes());
                    }
                    None => build::cstr(&mut out, value),
                }
            }
            b'M' | b'D' | b'H' => build::cstr(&mut out, &named_back(value, renamed)),
            _ => build::cstr(&mut out, value),
        }
    }
    out.push(0);
    out
}

/// The body of an error about a statement of ours that the client's needs: without its position.
pub(super) fn without_position(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    for (key, value) in fields(body).filter(|(key, _)| *key != b'P') {
        out.push(key);
        build::cstr(&mut out, value);
    }
    out.push(0);
    out
}

fn fields(body: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut r = Reader::new(body);
    std::iter::from_fn(move || {
        let key = r.u8("error field").ok().filter(|key| *key != 0)?;
        Some((key, r.cstr("error field").ok()?))
    })
}

/// From a position in the server's text, from 1, to the one in the client's.
fn original(position: usize, renamed: &[Renamed]) -> usize {
    let at = position.saturating_sub(1);
    let (mut longer, mut shorter) = (0, 0);
    for name in renamed {
        let begins = name.before + longer - shorter;
        if at < begins {
            break;
        }
        if at < begins + name.new.len() {
            return name.before + 1;
        }
        longer += name.new.len();
        shorter += name.old_chars;
    }
    at + shorter - longer + 1
}

fn named_back(value: &[u8], renamed: &[Renamed]) -> Vec<u8> {
    let mut text = value.to_vec();
    for name in renamed {
        let new = name.new.as_bytes();
        let mut from = 0;
        while let Some(at) = text.get(from..).and_then(|t| memchr::memmem::find(t, new)) {
            let (start, end) = (from + at, from + at + new.len());
            if text.get(end).is_some_and(u8::is_ascii_digit) {
                from = end; // Another statement's name begins alike.
                continue;
            }
            let old = identifier(&name.old);
            text.splice(start..end, old.iter().copied());
            from = start + old.len();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edits() -> Vec<Renamed> {
        let sql = "PREPARE \"é\" AS x; EXECUTE foo (1)";
        let name = sql.find("\"é\"").unwrap();
        let foo = sql.find("foo").unwrap();
        let edits = vec![(name..name + 4, "__p_1".into()), (foo..foo + 3, "__p_12".into())];
        renamed(sql.as_bytes(), &edits, true)
    }

    #[test]
    fn positions_are_those_of_the_clients_text() {
        let check = |server: usize, client: usize| {
            assert_eq!(original(server, &edits()), client, "{server}");
        };
        check(1, 1);
        check(9, 9);
        check(13, 9);
        check(14, 12);
        check(19, 17);
        check(29, 27);
        check(36, 31);
    }

    #[test]
    fn names_are_the_clients() {
        let check = |server: &str, client: &str| {
            let text = named_back(server.as_bytes(), &edits());
            assert_eq!(String::from_utf8(text).unwrap(), client);
        };
        check("statement \"__p_1\" exists", "statement \"é\" exists");
        check("__p_12, __p_1 and __p_13", "foo, é and __p_13");
        check("nothing", "nothing");
    }

    #[test]
    fn fields_stay_in_order() {
        let body = b"SERROR\0C42P05\0M\"__p_12\" exists\0P36\0\0";
        let words = in_clients_words(body, &edits());
        assert_eq!(words, b"SERROR\0C42P05\0M\"foo\" exists\0P31\0\0");
        assert_eq!(without_position(body), b"SERROR\0C42P05\0M\"__p_12\" exists\0\0");
        assert_eq!(in_clients_words(b"", &edits()), b"\0");
    }
}
