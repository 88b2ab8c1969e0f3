//! The data plane: moves requests and bytes. Each worker is one thread with a runtime of its own;
//! what it shares with the others is the snapshot and the endpoints' gauges.

mod admit;
mod handshake;
pub mod http;
pub mod listening;
pub mod live;
mod passage;
mod proxy_protocol;
pub mod serve;
mod tcp;
mod tls;
pub mod udp;
mod unconnected;
pub mod worker;

pub use listening::Listening;
pub use live::Live;
pub use serve::{Arrival, serve};
pub use worker::Worker;
