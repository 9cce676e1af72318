//! The operator's side: SQL console and HTTP.
//!
//! - [`console`] speaks PgBouncer's dialect on the virtual database `pgherd`.
//! - [`http`] serves health, metrics and the JSON API; [`ctl`] is its command line.
//! - [`actions`] is what both can do, [`settings`] and [`averages`] what both can show.
//!
//! Nothing here is on a query's way, and nothing here keeps state that a pool needs.

pub mod actions;
pub mod averages;
pub mod console;
pub mod ctl;
pub mod http;
#[cfg(test)]
pub(crate) mod samples;
pub mod settings;
mod token;
mod view;
