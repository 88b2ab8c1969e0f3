//! A pool in virtual time: seeded arrivals, endpoints with faults, and the crate's own decisions
//! (policies, bands, gauges, tallies, detectors, the pool's health). No socket, no thread, no clock.
//!
//! `cargo test --test simulation -- --nocapture` prints the table that the documentation quotes.

mod endpoint;
mod lots;
mod noise;
mod pool;
mod report;
mod scenarios;
