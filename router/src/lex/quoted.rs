//! Where quoted things and comments end. Never decodes them: that is [`super::value`]'s.

use super::{Lexer, SPACE, WORD, WORD_START, is};

/// What a quote inside of a string can hide behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escapes {
    /// Nothing: `B'…'` and `X'…'` know no doubled quote.
    None,
    /// A second quote.
    Doubled,
    /// A second quote or a backslash.
    Backslash,
}

/// The end of a token, and whether it was there before the end of the text.
type End = (usize, bool);

impl Lexer<'_> {
    /// How `'…'` without a prefix is read in this session.
    pub(super) const fn plain_escapes(&self) -> Escapes {
        if self.options.standard_conforming_strings { Escapes::Doubled } else { Escapes::Backslash }
    }

    /// The end of the string whose content starts at `from`.
    pub(super) fn string(&self, from: usize, escapes: Escapes) -> End {
        let other = if escapes == Escapes::Backslash { b'\\' } else { b'\'' };
        let mut at = from;
        while let Some(found) = self.find(at, b'\'', other) {
            let next = found + 1;
            if self.byte(found) == Some(b'\\') {
                at = match self.byte(next) {
                    Some(_) => next + self.options.encoding.char_bytes(self.text, next),
                    None => break,
                };
            } else if escapes != Escapes::None && self.byte(next) == Some(b'\'') {
                at = next + 1;
            } else if let Some(more) = continuation(self.text, next) {
                at = more;
            } else {
                return (next, true);
            }
        }
        (self.text.len(), false)
    }

    /// The end of the quoted identifier whose content starts at `from`.
    pub(super) fn identifier(&self, from: usize) -> End {
        let mut at = from;
        while let Some(found) = self.find(at, b'"', b'"') {
            if self.byte(found + 1) != Some(b'"') {
                return (found + 1, true);
            }
            at = found + 2;
        }
        (self.text.len(), false)
    }

    /// The end of the dollar-quoted string at `start`; none if it is just a dollar sign.
    pub(super) fn dollar_string(&self, start: usize) -> Option<End> {
        let tag_end = self.tag_end(start + 1);
        if self.byte(tag_end) != Some(b'$') {
            return None;
        }
        let delimiter = self.text.get(start..=tag_end)?;
        let mut at = tag_end + 1;
        while let Some(found) = self.find(at, b'$', b'$') {
            if self.text.get(found..)?.starts_with(delimiter) {
                return Some((found + delimiter.len(), true));
            }
            at = found + 1;
        }
        Some((self.text.len(), false))
    }

    /// The end of a dollar quote's tag: an identifier without dollar signs, or nothing.
    fn tag_end(&self, from: usize) -> usize {
        let mut at = from;
        while let Some(byte) = self.byte(at)
            && byte != b'$'
            && is(byte, if at == from { WORD_START } else { WORD })
        {
            at += self.options.encoding.char_bytes(self.text, at);
        }
        at
    }

    /// The end of the line, where its comment ends.
    pub(crate) fn line_comment(&self, from: usize) -> usize {
        self.find(from, b'\n', b'\r').unwrap_or(self.text.len())
    }

    /// The end of the comment whose content starts at `from`. Comments nest.
    pub(crate) fn block_comment(&self, from: usize) -> End {
        let mut depth = 1_usize;
        let mut at = from;
        while let Some(found) = self.find(at, b'*', b'/') {
            at = match (self.byte(found), self.byte(found + 1)) {
                (Some(b'*'), Some(b'/')) => {
                    depth -= 1;
                    if depth == 0 {
                        return (found + 2, true);
                    }
                    found + 2
                }
                (Some(b'/'), Some(b'*')) => {
                    depth += 1;
                    found + 2
                }
                _ => found + 1,
            };
        }
        (self.text.len(), false)
    }
}

/// Where a string goes on whose closing quote stands before `from`.
///
/// Standard SQL lets a string go on behind blanks with at least one newline among them, and line
/// comments count as blanks: `quotecontinue` in scan.l.
pub(super) fn continuation(text: &[u8], from: usize) -> Option<usize> {
    let mut newline = false;
    let mut at = from;
    loop {
        match *text.get(at)? {
            b'\n' | b'\r' => {
                newline = true;
                at += 1;
            }
            byte if is(byte, SPACE) => at += 1,
            b'-' if text.get(at + 1) == Some(&b'-') => {
                // No encoding has a newline as a trail byte.
                at += memchr::memchr2(b'\n', b'\r', text.get(at..)?)?;
            }
            b'\'' if newline => return Some(at + 1),
            _ => return None,
        }
    }
}
