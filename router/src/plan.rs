//! What a statement does to the session that it runs in.
//!
//! [`statements`] cuts a text into statements where PostgreSQL does, and tells for each what kind it
//! is and what it leaves behind. It looks at tokens and never at a catalogue: it doesn't know what
//! user-defined functions, `DO` blocks and procedures do. It never fails, and it never changes or
//! prints the text.
//!
//! How to read a [`Plan`]:
//! - Effects take place **when the server reports success**, and what happened in a transaction is
//!   undone with it where PostgreSQL undoes it (SET, LISTEN, temporary tables; not PREPARE).
//! - A prepared statement's body isn't executed by PREPARE or Parse: plan it, keep the answer,
//!   and apply it at EXECUTE.
//! - Effects err on the safe side: a column alias that looks like a call may pin a server that
//!   needn't be pinned. The other way round never happens for what is listed in `functions`.

mod block;
mod class;
mod create;
mod cursor;
mod effect;
mod functions;
mod plain;
mod set;
mod simple;
mod split;
mod transaction;

use std::ops::Range;

use crate::lex::LexOptions;
pub use class::Class;
pub use effect::{DeallocateTarget, DiscardTarget, Effect, Effects, PinReason, SetValue};
pub use plain::is_plain;
pub use split::Statements;

/// One statement of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Where it stands: from its first token to its last one, without blanks and comments around it
    /// and without its semicolon.
    pub span: Range<usize>,
    /// Its kind.
    pub class: Class,
    /// What it does to the session, in the order of the text. Empty (and not allocated) for
    /// nearly all statements.
    pub effects: Effects,
    /// False when a quote or a comment is never closed: PostgreSQL will refuse the whole text.
    pub complete: bool,
}

/// The statements of `sql`. Empty ones are left out.
#[must_use]
pub const fn statements(sql: &[u8], options: LexOptions) -> Statements<'_> {
    Statements::new(sql, options)
}

#[cfg(test)]
mod tests;
