//! Endpoints that change: found by DNS, read from files, changed by hand.

#[path = "../support/mod.rs"]
mod support;

mod dns;
mod nameserver;
