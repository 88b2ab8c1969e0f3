//! A pool in virtual time: seeded arrivals, endpoints with faults, and the crate's own decisions
//! (policies, bands, gauges, tallies, detectors, the pool's health). No socket, no thread, no clock.
//!
//! `cargo test --test simulation table -- --ignored --nocapture` prints the table that the documentation
//! quotes. With `FOREBAY_STORY` set, scenarios print every change and its reasons.

#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]
#![expect(clippy::print_stdout, reason = "tables and stories for whoever asks for them")]

mod endpoint;
mod lots;
mod noise;
mod pool;
mod report;
mod scenarios;
