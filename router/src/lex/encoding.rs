//! Client encodings, as far as a byte lexer must know them.
//!
//! In most encodings every byte of a multi-byte character is 0x80 or above, so that no byte of it
//! can be mistaken for a quote or a backslash. The ones that PostgreSQL allows on the client's side
//! only are different: 0x5C (`\`) is a valid second byte there. PostgreSQL converts the text before
//! it scans it; the lexer sees it unconverted and must skip such characters as a whole.
//! Sources: PostgreSQL manual, chapter "Character Set Support"; src/common/encnames.c and wchar.c.

/// How the bytes of a text form characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Encoding {
    /// Every byte of a multi-byte character is 0x80 or above: UTF-8, LATIN1, EUC_JP, …
    #[default]
    AsciiSafe,
    /// SJIS (Windows-932).
    Sjis,
    /// Shift JIS, JIS X 0213. Characters are as long as in SJIS.
    ShiftJis2004,
    /// Big Five (Windows-950).
    Big5,
    /// Extended National Standard (Windows-936).
    Gbk,
    /// Unified Hangul Code (Windows-949).
    Uhc,
    /// National Standard of 2005: one, two or four bytes.
    Gb18030,
    /// JOHAB; PostgreSQL reads it with the rules of EUC.
    Johab,
}

/// Longest name, cleaned of punctuation, that can be one of the unsafe encodings.
const NAME_BYTES_MAX: usize = 16;

impl Encoding {
    /// The encoding that `client_encoding` names; unknown names are [`Encoding::AsciiSafe`].
    ///
    /// Case and punctuation don't matter, as in `clean_encoding_name()` of encnames.c.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Self {
        let mut buffer = [0_u8; NAME_BYTES_MAX];
        let mut length = 0;
        for byte in name.iter().filter(|byte| byte.is_ascii_alphanumeric()) {
            let Some(slot) = buffer.get_mut(length) else {
                return Self::AsciiSafe;
            };
            *slot = byte.to_ascii_lowercase();
            length += 1;
        }
        match &buffer[..length] {
            b"sjis" | b"mskanji" | b"shiftjis" | b"win932" | b"windows932" => Self::Sjis,
            b"shiftjis2004" => Self::ShiftJis2004,
            b"big5" | b"win950" | b"windows950" => Self::Big5,
            b"gbk" | b"win936" | b"windows936" => Self::Gbk,
            b"uhc" | b"win949" | b"windows949" => Self::Uhc,
            b"gb18030" => Self::Gb18030,
            b"johab" => Self::Johab,
            _ => Self::AsciiSafe,
        }
    }

    /// Whether the lexer may look at bytes without minding characters.
    #[must_use]
    pub const fn is_ascii_safe(self) -> bool {
        matches!(self, Self::AsciiSafe)
    }

    /// Bytes of the character at `at`: at least 1, and never beyond the end of the text.
    ///
    /// `at` must be inside of the text. An ASCII-safe encoding is walked byte by byte.
    #[must_use]
    pub fn char_bytes(self, text: &[u8], at: usize) -> usize {
        let Some(&lead) = text.get(at) else { return 1 };
        if lead < 0x80 {
            return 1;
        }
        let bytes = match self {
            Self::AsciiSafe => 1,
            // 0xA1 to 0xDF are half-width katakana, one byte each.
            Self::Sjis | Self::ShiftJis2004 if (0xa1..=0xdf).contains(&lead) => 1,
            Self::Sjis | Self::ShiftJis2004 | Self::Big5 | Self::Gbk | Self::Uhc => 2,
            Self::Gb18030 => match text.get(at + 1) {
                Some(b'0'..=b'9') => 4,
                _ => 2,
            },
            // SS3 introduces three bytes in EUC.
            Self::Johab if lead == 0x8f => 3,
            Self::Johab => 2,
        };
        bytes.min(text.len() - at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |name: &str, expect| assert_eq!(Encoding::from_name(name.as_bytes()), expect);
        check("UTF8", Encoding::AsciiSafe);
        check("EUC_JP", Encoding::AsciiSafe);
        check("", Encoding::AsciiSafe);
        check("a name that is much longer than any", Encoding::AsciiSafe);
        check("SJIS", Encoding::Sjis);
        check("Shift_JIS", Encoding::Sjis);
        check("shift-jis-2004", Encoding::ShiftJis2004);
        check("Windows-950", Encoding::Big5);
        check("gbk", Encoding::Gbk);
        check("WIN949", Encoding::Uhc);
        check("GB18030", Encoding::Gb18030);
        check("johab", Encoding::Johab);
    }

    #[test]
    fn characters() {
        let check = |encoding: Encoding, text: &[u8], expect: usize| {
            assert_eq!(encoding.char_bytes(text, 0), expect, "{encoding:?} {text:x?}");
        };
        check(Encoding::AsciiSafe, b"\xe3\x81\x82", 1);
        check(Encoding::Sjis, b"\x83\x5c'", 2);
        check(Encoding::Sjis, b"\xb1\x5c'", 1);
        check(Encoding::Sjis, b"\x83", 1);
        check(Encoding::Gb18030, b"\x81\x30\x81\x30", 4);
        check(Encoding::Gb18030, b"\x81\x5c\x81\x30", 2);
        check(Encoding::Johab, b"\x8f\xa1\xa1", 3);
        check(Encoding::Big5, b"a\\", 1);
    }
}
