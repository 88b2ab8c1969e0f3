//! Endpoints that change: found by DNS, read from files, changed by hand.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what is not as expected fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod dns;
mod nameserver;
