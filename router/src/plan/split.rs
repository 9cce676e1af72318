//! Cuts a text into statements, and notes in the same pass whether one needs a closer look.
//!
//! PostgreSQL's grammar takes a semicolon as a statement's end everywhere but in two places: between
//! the actions of `CREATE RULE … DO (…; …)`, and in the body of a routine, `BEGIN ATOMIC … END`.
//! As psql does (psqlscan.l), semicolons inside of parentheses never split, which differs only for
//! texts that are syntax errors. Other than psql, a `BEGIN` counts only before `ATOMIC`, and labels
//! named `end` or `case` don't count.

use super::class::Class;
use super::cursor::Cursor;
use super::functions::{self, Function};
use super::{Effects, Plan, block, create, set, simple, transaction};
use crate::lex::{Kind, LexOptions, Lexer, Token};

/// An iterator over the statements of a text; see [`super::statements`].
#[derive(Debug, Clone)]
pub struct Statements<'a> {
    sql: &'a [u8],
    options: LexOptions,
    lexer: Lexer<'a>,
}

/// What the first pass saw, so that a plain statement needs no second one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Facts {
    /// A name of `functions` stands before a parenthesis.
    pub(super) calls: bool,
    /// `INTO` that isn't `INSERT INTO` or `MERGE INTO`.
    pub(super) into: bool,
    /// The view `pg_settings` is named; updating it sets.
    pub(super) settings: bool,
}

impl<'a> Statements<'a> {
    pub(super) const fn new(sql: &'a [u8], options: LexOptions) -> Self {
        Self { sql, options, lexer: Lexer::new(sql, options) }
    }

    /// False once a quote or comment was met that is never closed, be it behind the last statement.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.lexer.is_complete()
    }

    /// Runs to the statement's end; returns where its last token ends.
    fn scan(&mut self, first: Token) -> (usize, Facts) {
        let mut facts = Facts::default();
        let mut depth = usize::from(first.kind == Kind::OpenParen);
        let mut previous = first;
        while let Some(token) = self.lexer.significant() {
            match token.kind {
                Kind::Semicolon if depth == 0 => break,
                Kind::OpenParen => {
                    depth += 1;
                    if previous.kind.is_name() {
                        facts.calls = facts.calls || Function::named(previous, self.sql).is_some();
                    }
                }
                Kind::CloseParen => depth = depth.saturating_sub(1),
                Kind::Word => self.note(previous, token, &mut facts),
                Kind::QuotedIdentifier => {
                    facts.settings |= token.bytes(self.sql) == b"\"pg_settings\"";
                }
                _ => {}
            }
            previous = token;
        }
        (previous.end, facts)
    }

    #[inline]
    fn note(&self, previous: Token, token: Token, facts: &mut Facts) {
        let word = token.bytes(self.sql);
        if word.len() == 4 && word.eq_ignore_ascii_case(b"into") {
            let before = previous.bytes(self.sql);
            facts.into |=
                !(before.eq_ignore_ascii_case(b"insert") || before.eq_ignore_ascii_case(b"merge"));
        } else if word.len() == 11 && word.eq_ignore_ascii_case(b"pg_settings") {
            facts.settings = true;
        }
    }

    /// As [`Self::scan`], for a routine's definition.
    fn scan_routine(&mut self, first: Token) -> usize {
        let mut parens = 0_usize;
        let mut blocks = 0_usize;
        let mut previous = first;
        while let Some(token) = self.lexer.significant() {
            match token.kind {
                Kind::Semicolon if parens == 0 && blocks == 0 => break,
                Kind::OpenParen => parens += 1,
                Kind::CloseParen => parens = parens.saturating_sub(1),
                Kind::Word if parens == 0 => {
                    // Behind AS or a point, any keyword is just a label.
                    let label = previous.kind == Kind::Dot
                        || previous.bytes(self.sql).eq_ignore_ascii_case(b"as");
                    let word = token.bytes(self.sql);
                    if word.eq_ignore_ascii_case(b"atomic") {
                        let begins = previous.bytes(self.sql).eq_ignore_ascii_case(b"begin");
                        blocks += usize::from(begins);
                    } else if blocks > 0 && !label && word.eq_ignore_ascii_case(b"case") {
                        blocks += 1;
                    } else if !label && word.eq_ignore_ascii_case(b"end") {
                        blocks = blocks.saturating_sub(1);
                    }
                }
                _ => {}
            }
            previous = token;
        }
        previous.end
    }

    /// Whether the statement behind `CREATE` defines a routine.
    fn is_routine(&self) -> bool {
        let mut cursor = Cursor::new(self.sql, self.lexer.position(), self.options);
        cursor.eat_all(&["or", "replace"]);
        cursor.eat_any(&["function", "procedure"])
    }

    /// The class by the first word, which may stand behind parentheses: `(SELECT 1) UNION …`.
    fn class(&self, first: Token) -> Class {
        let mut token = first;
        let mut lexer = self.lexer.clone();
        while token.kind == Kind::OpenParen
            && let Some(next) = lexer.significant()
        {
            token = next;
        }
        if token.kind != Kind::Word {
            return Class::Unknown;
        }
        let class = Class::from_word(token.bytes(self.sql));
        let in_parens = first.start != token.start;
        match class {
            Class::Select | Class::Values | Class::Table | Class::With => class,
            _ if in_parens => Class::Unknown,
            _ => class,
        }
    }
}

impl Iterator for Statements<'_> {
    type Item = Plan;

    fn next(&mut self) -> Option<Plan> {
        let first = loop {
            let token = self.lexer.significant()?;
            if token.kind != Kind::Semicolon {
                break token;
            }
        };
        let class = self.class(first);
        let is_create =
            class == Class::Ddl && first.bytes(self.sql).eq_ignore_ascii_case(b"create");
        let (end, facts) = if is_create && self.is_routine() {
            (self.scan_routine(first), Facts::default())
        } else {
            self.scan(first)
        };
        let mut plan = Plan {
            span: first.start..end,
            class,
            effects: Effects::new(),
            complete: self.lexer.is_complete(),
        };
        let sql = self.sql.get(..end).unwrap_or_default();
        let cursor = Cursor::new(sql, first.start, self.options);
        inspect(cursor, &mut plan.class, facts, &mut plan.effects);
        Some(plan)
    }
}

/// Adds what the statement at `cursor` does, and corrects its class where more words decide.
pub(super) fn inspect(mut cursor: Cursor<'_>, class: &mut Class, facts: Facts, to: &mut Effects) {
    match *class {
        Class::Select
        | Class::Insert
        | Class::Delete
        | Class::Merge
        | Class::Values
        | Class::Table
        | Class::With
        | Class::Update => {
            query(cursor, *class, facts, to);
            return;
        }
        Class::Do => {
            block::block(cursor, to);
            return;
        }
        Class::Show | Class::Fetch | Class::Move | Class::Lock | Class::Unknown => return,
        _ => {}
    }
    let first = cursor.next();
    let word = first.map(|token| cursor.bytes(token)).unwrap_or_default();
    match *class {
        Class::Set => set::set(cursor, to),
        Class::Reset => set::reset(cursor, to),
        Class::Begin | Class::Commit | Class::Rollback | Class::Savepoint | Class::Release => {
            *class = transaction::transaction(cursor, word, *class, to);
        }
        Class::Prepare => *class = simple::prepare(cursor, to),
        Class::Ddl => *class = create::ddl(cursor, word, facts, to),
        Class::Explain => simple::explain(cursor, facts, to),
        _ => simple::simple(cursor, *class, word, facts, to),
    }
}

/// SELECT, DML and what starts with WITH.
fn query(cursor: Cursor<'_>, class: Class, facts: Facts, to: &mut Effects) {
    if facts.into {
        create::select_into(cursor.clone(), to);
    }
    if facts.settings && matches!(class, Class::Update | Class::With) {
        set::update_of_settings(cursor.clone(), to);
    }
    if facts.calls {
        functions::calls(cursor, class, to);
    }
}
