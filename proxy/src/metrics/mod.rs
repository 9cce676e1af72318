//! Counters and latency: written by sessions without a shared lock, read by console and HTTP.
//!
//! [`stats`] is what a pool counts, [`process`] what the process uses, [`tables`] what it remembers;
//! [`expose`] turns all of it into Prometheus text.

pub mod expose;
pub mod process;
pub mod stats;
pub mod tables;
