//! Sockets: listening, connecting, TLS on top, and HTTP/1.1 messages moving over them. Knows
//! nothing of routes, pools or configuration.

pub mod connect;
pub mod http1;
pub mod inherit;
pub mod listen;
pub mod options;
pub mod pass;
pub mod proxy_protocol;
pub mod relay;
pub mod sockets;
pub mod splice;
pub mod stream;
pub mod timer;
pub mod udp;
