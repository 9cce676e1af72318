//! Cuts SQL text into PostgreSQL's tokens.
//!
//! It never fails, never allocates and never judges: an unterminated token runs to the end of the
//! text and is marked so. It follows src/backend/parser/scan.l; where versions of PostgreSQL differ
//! (`1_000`, `$1abc`), the text is an error in one of them, and any cut will do.
//! What the tokens mean is the business of [`crate::plan`].

mod encoding;
mod quoted;
mod token;
pub mod value;

pub use encoding::Encoding;
pub use token::{Kind, Token};

use quoted::Escapes;

/// What the session has agreed on, and the scanner depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LexOptions {
    /// `standard_conforming_strings`: off makes a backslash in `'…'` an escape.
    pub standard_conforming_strings: bool,
    /// `client_encoding`.
    pub encoding: Encoding,
}

impl Default for LexOptions {
    fn default() -> Self {
        Self { standard_conforming_strings: true, encoding: Encoding::AsciiSafe }
    }
}

/// An iterator over all tokens of a text, blanks and comments included.
#[derive(Debug, Clone)]
pub struct Lexer<'a> {
    text: &'a [u8],
    position: usize,
    options: LexOptions,
    complete: bool,
}

/// How far an operator is looked at. PostgreSQL refuses operators longer than 63 bytes, so a longer
/// run is an error or one-byte signs; unbounded, a text of nothing but `+` would take quadratic time.
const OPERATOR_BYTES_MAX: usize = 64;

pub(crate) const SPACE: u8 = 1;
pub(crate) const WORD_START: u8 = 2;
pub(crate) const WORD: u8 = 4;
pub(crate) const DIGIT: u8 = 8;
const OPERATOR: u8 = 16;

/// The character classes of scan.l, by byte.
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0_usize;
    while byte < 256 {
        table[byte] = match byte as u8 {
            // The vertical tab is a blank since PostgreSQL 16, and an error before.
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => SPACE,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80..=0xff => WORD_START | WORD,
            b'0'..=b'9' => DIGIT | WORD,
            b'$' => WORD,
            b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'+' | b'-' | b'*'
            | b'/' | b'%' | b'<' | b'>' | b'=' => OPERATOR,
            _ => 0,
        };
        byte += 1;
    }
    table
}

/// The character classes of `byte`.
#[inline]
pub(crate) const fn class_of(byte: u8) -> u8 {
    CLASS[byte as usize]
}

#[inline]
pub(crate) const fn is(byte: u8, class: u8) -> bool {
    class_of(byte) & class != 0
}

impl<'a> Lexer<'a> {
    /// Starts at the beginning of `text`.
    #[must_use]
    pub const fn new(text: &'a [u8], options: LexOptions) -> Self {
        Self { text, position: 0, options, complete: true }
    }

    /// Starts at `position`, which must be where a token starts.
    #[must_use]
    pub const fn starting_at(text: &'a [u8], position: usize, options: LexOptions) -> Self {
        Self { text, position, options, complete: true }
    }

    /// False once a token was met that the text's end cut off.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Where the next token starts.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.position
    }

    /// The next token that the grammar sees: blanks and comments are skipped.
    #[inline]
    pub fn significant(&mut self) -> Option<Token> {
        loop {
            while let Some(&byte) = self.text.get(self.position)
                && is(byte, SPACE)
            {
                self.position += 1;
            }
            let token = self.next()?;
            if !token.kind.is_blank() {
                return Some(token);
            }
        }
    }

    #[inline]
    fn byte(&self, at: usize) -> Option<u8> {
        self.text.get(at).copied()
    }

    /// The end of the run of `class` that starts at `from`.
    #[inline]
    fn run(&self, from: usize, class: u8) -> usize {
        let mut at = from;
        while let Some(&byte) = self.text.get(at)
            && is(byte, class)
        {
            at += 1;
        }
        at
    }

    /// The first `a` or `b` at or behind `from` that is a character of its own.
    #[inline]
    fn find(&self, from: usize, a: u8, b: u8) -> Option<usize> {
        let encoding = self.options.encoding;
        if encoding.is_ascii_safe() {
            let rest = self.text.get(from..)?;
            return memchr::memchr2(a, b, rest).map(|offset| from + offset);
        }
        let mut at = from;
        while let Some(&byte) = self.text.get(at) {
            if byte == a || byte == b {
                return Some(at);
            }
            at += encoding.char_bytes(self.text, at);
        }
        None
    }

    fn word_end(&self, from: usize) -> usize {
        let encoding = self.options.encoding;
        if encoding.is_ascii_safe() {
            return self.run(from, WORD);
        }
        let mut at = from;
        while let Some(&byte) = self.text.get(at)
            && is(byte, WORD)
        {
            at += encoding.char_bytes(self.text, at);
        }
        at
    }

    /// A word, unless its first letter is the prefix of a quoted thing.
    #[inline]
    fn word(&self, start: usize, first: u8) -> (Kind, usize, bool) {
        if let Some(quote) = self.byte(start + 1)
            && (quote == b'\'' || quote == b'&')
        {
            let quoted = match (first | 0x20, quote) {
                (b'e', b'\'') => {
                    Some((Kind::EscapeString, self.string(start + 2, Escapes::Backslash)))
                }
                (b'b', b'\'') => Some((Kind::BitString, self.string(start + 2, Escapes::None))),
                (b'x', b'\'') => Some((Kind::HexString, self.string(start + 2, Escapes::None))),
                (b'n', b'\'') => {
                    Some((Kind::NationalString, self.string(start + 2, self.plain_escapes())))
                }
                (b'u', b'&') => match self.byte(start + 2) {
                    Some(b'\'') => {
                        Some((Kind::UnicodeString, self.string(start + 3, Escapes::Doubled)))
                    }
                    Some(b'"') => Some((Kind::UnicodeIdentifier, self.identifier(start + 3))),
                    _ => None,
                },
                _ => None,
            };
            if let Some((kind, (end, closed))) = quoted {
                return (kind, end, closed);
            }
        }
        (Kind::Word, self.word_end(start), true)
    }

    fn number(&self, start: usize) -> usize {
        if self.byte(start) == Some(b'0')
            && let Some(radix) = self.byte(start + 1)
            && matches!(radix | 0x20, b'x' | b'o' | b'b')
        {
            let digits = self.digits(start + 2, radix | 0x20);
            if digits > start + 2 {
                return digits;
            }
        }
        let mut end = self.digits(start, b'd');
        // `1..10` is a range in PL/pgSQL: the number ends before both points.
        if self.byte(end) == Some(b'.') && self.byte(end + 1) != Some(b'.') {
            end = self.digits(end + 1, b'd');
        }
        if self.byte(end).is_some_and(|byte| byte | 0x20 == b'e') {
            let sign = usize::from(matches!(self.byte(end + 1), Some(b'+' | b'-')));
            let exponent = end + 1 + sign;
            if self.byte(exponent).is_some_and(|byte| is(byte, DIGIT)) {
                end = self.digits(exponent, b'd');
            }
        }
        end
    }

    /// The end of the digits at `from`, with single underscores between them.
    fn digits(&self, from: usize, radix: u8) -> usize {
        let fits = |byte: u8| match radix {
            b'x' => byte.is_ascii_hexdigit(),
            b'o' => matches!(byte, b'0'..=b'7'),
            b'b' => matches!(byte, b'0' | b'1'),
            _ => byte.is_ascii_digit(),
        };
        let mut at = from;
        loop {
            match self.byte(at) {
                Some(byte) if fits(byte) => at += 1,
                // Only `0x_1` may start with an underscore.
                Some(b'_')
                    if (at > from || radix != b'd') && self.byte(at + 1).is_some_and(fits) =>
                {
                    at += 2;
                }
                _ => return at,
            }
        }
    }

    /// The operator at `start`, cut as scan.l does it: before a comment, and without trailing signs
    /// unless the operator has a character that no operator of standard SQL has.
    fn operator(&self, start: usize) -> usize {
        let window = self.text.len().min(start + OPERATOR_BYTES_MAX);
        let mut run = self.text.get(start..window).unwrap_or_default();
        let end = run.iter().position(|byte| !is(*byte, OPERATOR)).unwrap_or(run.len());
        run = run.get(..end).unwrap_or_default();
        if run.len() <= 1 {
            return start + 1;
        }
        let comment = run.windows(2).skip(1).position(|pair| pair == b"--" || pair == b"/*");
        if let Some(offset) = comment {
            run = run.get(..=offset).unwrap_or_default();
        }
        let keeps_signs = |byte: &u8| {
            matches!(byte, b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'%')
        };
        let mut length = run.len();
        if !run.iter().any(keeps_signs) {
            while length > 1 && matches!(run.get(length - 1), Some(b'+' | b'-')) {
                length -= 1;
            }
        }
        start + length
    }

    /// `$1`, `$tag$…$tag$`, or a lone dollar sign.
    fn dollar(&self, start: usize) -> (Kind, usize, bool) {
        match self.byte(start + 1) {
            Some(b'0'..=b'9') => (Kind::Parameter, self.run(start + 1, DIGIT), true),
            Some(byte) if byte == b'$' || is(byte, WORD_START) => match self.dollar_string(start) {
                Some((end, closed)) => (Kind::DollarString, end, closed),
                None => (Kind::Other, start + 1, true),
            },
            _ => (Kind::Other, start + 1, true),
        }
    }

    #[inline]
    fn cut(&self, start: usize, first: u8) -> (Kind, usize, bool) {
        let class = CLASS[first as usize];
        if class & WORD_START != 0 {
            return self.word(start, first);
        }
        if class & SPACE != 0 {
            return (Kind::Space, self.run(start + 1, SPACE), true);
        }
        if class & DIGIT != 0 {
            return (Kind::Number, self.number(start), true);
        }
        if class & OPERATOR != 0 {
            return match (first, self.byte(start + 1)) {
                (b'-', Some(b'-')) => (Kind::LineComment, self.line_comment(start + 2), true),
                (b'/', Some(b'*')) => {
                    let (end, closed) = self.block_comment(start + 2);
                    (Kind::BlockComment, end, closed)
                }
                _ => (Kind::Operator, self.operator(start), true),
            };
        }
        let one = |kind| (kind, start + 1, true);
        match first {
            b'\'' => {
                let (end, closed) = self.string(start + 1, self.plain_escapes());
                (Kind::String, end, closed)
            }
            b'"' => {
                let (end, closed) = self.identifier(start + 1);
                (Kind::QuotedIdentifier, end, closed)
            }
            b'$' => self.dollar(start),
            b'.' if self.byte(start + 1).is_some_and(|byte| is(byte, DIGIT)) => {
                (Kind::Number, self.number(start), true)
            }
            b'.' if self.byte(start + 1) == Some(b'.') => (Kind::Other, start + 2, true),
            b'.' => one(Kind::Dot),
            b',' => one(Kind::Comma),
            b';' => one(Kind::Semicolon),
            b'(' => one(Kind::OpenParen),
            b')' => one(Kind::CloseParen),
            b':' if self.byte(start + 1) == Some(b':') => (Kind::Typecast, start + 2, true),
            _ => one(Kind::Other),
        }
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    #[inline]
    fn next(&mut self) -> Option<Token> {
        let start = self.position;
        let &first = self.text.get(start)?;
        let (kind, end, closed) = self.cut(start, first);
        self.position = end;
        self.complete &= closed;
        Some(Token { kind, start, end, closed })
    }
}

#[cfg(test)]
mod tests;
