//! What an identifier or a string constant stands for.
//!
//! Follows `downcase_truncate_identifier()` in scansup.c and the string states of scan.l. Where the
//! meaning depends on more than the token (Unicode escapes with UESCAPE, bytes given by number),
//! there is no answer, and the caller falls back to the text itself.

use super::quoted::continuation;
use super::{Kind, LexOptions, Token};

/// Bytes of a PostgreSQL identifier: NAMEDATALEN is 64, one is for the terminator.
pub const IDENTIFIER_BYTES_MAX: usize = 63;

/// The name that an identifier token stands for: folded or unquoted, and truncated.
///
/// None for `U&"…"`, whose meaning depends on what follows, and for tokens that are no identifiers.
#[must_use]
pub fn identifier(token: Token, sql: &[u8]) -> Option<Vec<u8>> {
    let bytes = token.bytes(sql);
    let mut name = match token.kind {
        Kind::Word => bytes.to_ascii_lowercase(),
        Kind::QuotedIdentifier => unquote(bytes),
        _ => return None,
    };
    truncate(&mut name);
    Some(name)
}

/// As [`identifier`], for a span that an [`crate::plan::Effect`] names, such as a prepared
/// statement's name: `"Foo"` becomes `Foo`, and `Foo` becomes `foo`.
#[must_use]
pub fn name(raw: &[u8]) -> Vec<u8> {
    let mut name = if raw.first() == Some(&b'"') { unquote(raw) } else { raw.to_ascii_lowercase() };
    truncate(&mut name);
    name
}

/// The value of a string constant.
///
/// None if it is unterminated or holds escapes that stand for bytes or characters by number.
#[must_use]
pub fn string(token: Token, sql: &[u8], options: LexOptions) -> Option<Vec<u8>> {
    if !token.closed {
        return None;
    }
    let bytes = token.bytes(sql);
    let backslash = !options.standard_conforming_strings;
    match token.kind {
        Kind::String => content(bytes, 1, backslash, options),
        Kind::NationalString => content(bytes, 2, backslash, options),
        Kind::EscapeString => content(bytes, 2, true, options),
        Kind::DollarString => {
            let tag = bytes.iter().skip(1).position(|byte| *byte == b'$')? + 2;
            bytes.get(tag..bytes.len().checked_sub(tag)?).map(<[u8]>::to_vec)
        }
        _ => None,
    }
}

fn unquote(raw: &[u8]) -> Vec<u8> {
    let inner = raw.strip_prefix(b"\"").unwrap_or(raw);
    let inner = inner.strip_suffix(b"\"").unwrap_or(inner);
    let mut name = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        name.push(byte);
        if byte == b'"' {
            bytes.next();
        }
    }
    name
}

fn truncate(name: &mut Vec<u8>) {
    if name.len() <= IDENTIFIER_BYTES_MAX {
        return;
    }
    // PostgreSQL clips between characters; the continuation bytes of UTF-8 are 0b10xx_xxxx.
    let mut end = IDENTIFIER_BYTES_MAX;
    while end > 0 && name[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    name.truncate(end);
}

/// Decodes a string token whose first part's content starts at `from`.
fn content(raw: &[u8], from: usize, backslash: bool, options: LexOptions) -> Option<Vec<u8>> {
    let mut value = Vec::with_capacity(raw.len());
    let mut at = from;
    loop {
        match *raw.get(at)? {
            b'\'' if raw.get(at + 1) == Some(&b'\'') => {
                value.push(b'\'');
                at += 2;
            }
            b'\'' => match continuation(raw, at + 1) {
                Some(more) => at = more,
                None => return Some(value),
            },
            b'\\' if backslash => {
                let next = at + 1;
                let simple = match *raw.get(next)? {
                    b'0'..=b'7' | b'x' | b'u' | b'U' => return None,
                    b'b' => 0x08,
                    b'f' => 0x0c,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    // Since PostgreSQL 16 also this one, which meant `v` before.
                    b'v' => return None,
                    byte if byte < 0x80 => byte,
                    _ => return None,
                };
                value.push(simple);
                at = next + 1;
            }
            _ => {
                let bytes = options.encoding.char_bytes(raw, at);
                value.extend_from_slice(raw.get(at..at + bytes)?);
                at += bytes;
            }
        }
    }
}
