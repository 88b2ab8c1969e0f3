//! What the program tells about itself: metrics, access logs and its own log. Takes plain values and
//! knows neither configuration nor sockets, so that both planes can use it.

pub mod access_log;
mod buckets;
pub mod civil;
pub mod connections;
pub mod ended;
pub mod log;
pub mod metrics;
pub mod panics;
mod shard;
pub mod spans;
pub mod tally;
pub mod times;

pub use shard::Shard;
