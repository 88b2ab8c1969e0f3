//! Forebay and Prometheus: a real one scrapes a real proxy, and what it then knows is what clients counted; what
//! `config/examples` says about metrics is true of them. Programs that are not installed are skipped.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "what is not as expected fails the test")]

mod counts;
mod expressions;
mod rules;
mod server;
#[path = "../support/mod.rs"]
mod support;
