//! What a new configuration does to connections and requests, as clients see it: what changed holds
//! from the next request on, what was removed ends by itself, and nobody else notices.

#![expect(clippy::unwrap_used, reason = "what is not as expected fails the test")]

#[expect(dead_code, reason = "the tests of HTTP/2 use all of it")]
#[path = "../http2/client.rs"]
mod client;
mod connections;
mod listeners;
mod requests;
#[path = "../support/mod.rs"]
mod support;
mod thousand;
