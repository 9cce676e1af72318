//! pgherd: one endpoint for a herd of PostgreSQL servers.
//!
//! The rooms, from the outside in:
//! - [`cli`] the commands; [`runtime`] data plane and control plane; [`config`] the file.
//! - [`listener`] accepts; [`session`] a client's life; [`auth`] and [`tls`] for both sides.
//! - [`wire`] frames, bounded and borrowed; [`net`] sockets of every kind as one type.
//! - [`pool`] servers, checkout and checkin; [`clock`] their time; [`hub`] what all of these share.
//! - [`signals`] what operators send; [`handover`] to a new binary; [`log`] what they read.
//! - [`admin`] console and HTTP; [`metrics`] counters and latency; [`local`] a herd on this machine.
//!
//! ARCHITECTURE.md tells the way of one query through them.

pub mod admin;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod error;
#[doc(hidden)]
pub mod fuzzing;
pub mod handover;
pub mod hub;
pub mod limits;
pub mod listener;
pub mod local;
pub mod log;
pub mod metrics;
pub mod net;
pub mod pool;
pub mod runtime;
pub mod session;
pub mod signals;
pub mod tls;
pub mod wire;
