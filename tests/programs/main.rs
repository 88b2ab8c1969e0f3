//! Programs that know nothing of proxies, through `tcp` listeners: PostgreSQL and Redis with their own
//! clients and benchmarks, servers that die under them, and thousands of connections at once. A
//! program that is not installed is skipped.

#![expect(clippy::unwrap_used, reason = "what is not as expected fails the test")]

mod crowd;
mod postgresql;
mod redis;
mod server;
#[path = "../support/mod.rs"]
mod support;
