//! What the lexer hands out: kinds of tokens, and where they stand. No logic.

use std::ops::Range;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Blanks, tabs, newlines, form feeds.
    Space,
    /// `-- …` without the newline behind it.
    LineComment,
    /// `/* … */`, nested ones inside.
    BlockComment,
    /// An unquoted identifier or a keyword.
    Word,
    /// `"…"`.
    QuotedIdentifier,
    /// `U&"…"`.
    UnicodeIdentifier,
    /// `'…'`.
    String,
    /// `N'…'`.
    NationalString,
    /// `E'…'`.
    EscapeString,
    /// `U&'…'`.
    UnicodeString,
    /// `B'…'`.
    BitString,
    /// `X'…'`.
    HexString,
    /// `$tag$…$tag$`.
    DollarString,
    /// An integer or a number with point or exponent; its sign is an operator.
    Number,
    /// `$1`.
    Parameter,
    /// A run of operator characters, cut as PostgreSQL cuts it.
    Operator,
    /// `::`.
    Typecast,
    /// `;`.
    Semicolon,
    /// `(`.
    OpenParen,
    /// `)`.
    CloseParen,
    /// `,`.
    Comma,
    /// `.`.
    Dot,
    /// Anything else: `[`, `]`, `:`, `..`, `\`, a lone `$`, a control character.
    Other,
}

impl Kind {
    /// Whether the grammar never sees the token.
    #[must_use]
    pub const fn is_blank(self) -> bool {
        matches!(self, Self::Space | Self::LineComment | Self::BlockComment)
    }

    /// Whether the token can be a name.
    #[must_use]
    pub const fn is_name(self) -> bool {
        matches!(self, Self::Word | Self::QuotedIdentifier | Self::UnicodeIdentifier)
    }

    /// Whether the grammar takes the token as a string constant (`Sconst` in gram.y).
    #[must_use]
    pub const fn is_string(self) -> bool {
        matches!(
            self,
            Self::String
                | Self::NationalString
                | Self::EscapeString
                | Self::UnicodeString
                | Self::DollarString
        )
    }
}

/// A piece of the text. Tokens tile it: each starts where the one before ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// First byte.
    pub start: usize,
    /// One behind the last byte.
    pub end: usize,
    /// False when the text ended before the token did.
    pub closed: bool,
}

impl Token {
    /// Where it stands.
    #[must_use]
    pub const fn span(&self) -> Range<usize> {
        self.start..self.end
    }

    /// Its bytes. `sql` must be the text that was lexed.
    #[must_use]
    pub fn bytes<'a>(&self, sql: &'a [u8]) -> &'a [u8] {
        sql.get(self.start..self.end).unwrap_or_default()
    }
}
