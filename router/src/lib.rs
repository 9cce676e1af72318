//! Pure routing for pgherd: bytes of SQL in, what the proxy must know about them out.
//!
//! The contract: **parsing never fails a client's statement.** Whatever bytes come in, an answer
//! comes out; what isn't understood is [`plan::Class::Unknown`] and carries no effect, and it is
//! PostgreSQL that tells the client what is wrong with it.
//!
//! The crate has no socket, clock, thread, file, environment, log or random source: facts come in
//! as values and decisions go out as values. Its `clippy.toml` enforces that.
//!
//! Rooms:
//! - [`lex`] cuts text into PostgreSQL's tokens, exactly as its scanner does, without allocating.
//! - [`plan`] cuts a text into statements and tells what each does to the session it runs in.

pub mod lex;
pub mod plan;

pub use lex::{Encoding, LexOptions};
pub use plan::{Class, Effect, Plan, is_plain, statements};
