//! HTTP/2 through the proxy, over real sockets: towards clients, towards endpoints, and between
//! every pair of versions.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "what is not as expected fails the test")]

mod adversity;
mod client;
mod clients;
mod frames;
mod load;
mod origin;
mod resending;
#[path = "../support/mod.rs"]
mod support;
mod upstreams;
