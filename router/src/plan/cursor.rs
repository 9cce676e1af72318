//! Walks the tokens of one statement that the grammar sees.
//!
//! Cheap to clone, which is how one looks ahead. Keywords are compared with unquoted words only: a
//! quoted identifier is never a keyword.

use crate::lex::{Kind, LexOptions, Lexer, Token};

/// A position inside of a statement.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    pub(super) sql: &'a [u8],
    pub(super) options: LexOptions,
    lexer: Lexer<'a>,
}

impl<'a> Cursor<'a> {
    /// At the token that starts at `start`; `sql` must end where the statement ends.
    pub(super) const fn new(sql: &'a [u8], start: usize, options: LexOptions) -> Self {
        Self { sql, options, lexer: Lexer::starting_at(sql, start, options) }
    }

    pub(super) fn next(&mut self) -> Option<Token> {
        self.lexer.significant()
    }

    pub(super) fn peek(&self) -> Option<Token> {
        self.lexer.clone().significant()
    }

    pub(super) fn at_end(&self) -> bool {
        self.peek().is_none()
    }

    pub(super) fn bytes(&self, token: Token) -> &'a [u8] {
        self.sql.get(token.span()).unwrap_or_default()
    }

    /// Whether `token` is this keyword, which must be in lower case.
    pub(super) fn is_word(&self, token: Token, keyword: &str) -> bool {
        token.kind == Kind::Word && self.bytes(token).eq_ignore_ascii_case(keyword.as_bytes())
    }

    pub(super) fn is_any(&self, token: Token, keywords: &[&str]) -> bool {
        keywords.iter().any(|keyword| self.is_word(token, keyword))
    }

    pub(super) fn sees(&self, keyword: &str) -> bool {
        self.peek().is_some_and(|token| self.is_word(token, keyword))
    }

    pub(super) fn sees_kind(&self, kind: Kind) -> bool {
        self.peek().is_some_and(|token| token.kind == kind)
    }

    /// Steps over this keyword, if it is next.
    pub(super) fn eat(&mut self, keyword: &str) -> bool {
        self.eat_if(|cursor, token| cursor.is_word(token, keyword)).is_some()
    }

    /// Steps over one of these keywords, if one is next.
    pub(super) fn eat_any(&mut self, keywords: &[&str]) -> bool {
        self.eat_if(|cursor, token| cursor.is_any(token, keywords)).is_some()
    }

    /// Steps over all of these keywords, or over none.
    pub(super) fn eat_all(&mut self, keywords: &[&str]) -> bool {
        let mut ahead = self.clone();
        let all = keywords.iter().all(|keyword| ahead.eat(keyword));
        if all {
            *self = ahead;
        }
        all
    }

    pub(super) fn eat_kind(&mut self, kind: Kind) -> Option<Token> {
        self.eat_if(|_, token| token.kind == kind)
    }

    pub(super) fn eat_operator(&mut self, operator: &str) -> bool {
        self.eat_if(|cursor, token| {
            token.kind == Kind::Operator && cursor.bytes(token) == operator.as_bytes()
        })
        .is_some()
    }

    /// Steps over a name, quoted or not.
    pub(super) fn eat_name(&mut self) -> Option<Token> {
        self.eat_if(|_, token| token.kind.is_name())
    }

    /// Steps behind the parenthesis that closes the one which was just stepped over.
    pub(super) fn leave_parens(&mut self) {
        let mut depth = 1_usize;
        while depth > 0
            && let Some(token) = self.next()
        {
            match token.kind {
                Kind::OpenParen => depth += 1,
                Kind::CloseParen => depth -= 1,
                _ => {}
            }
        }
    }

    /// The next token outside of parentheses; a pair of them is stepped over as a whole and shown
    /// by its opening one.
    pub(super) fn next_outside(&mut self) -> Option<Token> {
        let token = self.next()?;
        if token.kind == Kind::OpenParen {
            self.leave_parens();
        }
        Some(token)
    }

    fn eat_if(&mut self, fits: impl FnOnce(&Self, Token) -> bool) -> Option<Token> {
        let mut ahead = self.lexer.clone();
        let token = ahead.significant()?;
        if !fits(self, token) {
            return None;
        }
        self.lexer = ahead;
        Some(token)
    }
}
