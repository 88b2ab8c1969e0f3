//! Endpoints, the pools they form, and connections to them. Shared by all workers: what a pool is,
//! and its endpoints' gauges and counters. Each worker's own: policies, connections, leases.

pub mod connection;
pub mod endpoint;
pub mod fallbacks;
pub mod guard;
pub mod http1_pool;
pub mod http2_pool;
pub mod lease;
pub mod local;
pub mod observed;
pub mod owner;
pub mod places;
pub mod pool;
pub mod pressure;
pub mod service;
pub mod sessions;
pub mod snapshot;
pub mod valve;

pub use endpoint::Endpoint;
pub use fallbacks::Fallbacks;
pub use guard::{Guard, OwnedPermit, OwnedTrial, Permit};
pub use lease::Lease;
pub use local::{Choosing, Local, LocalEndpoint, LocalPool, NoPick};
pub use observed::Observed;
pub use pool::Pool;
pub use pressure::Pressure;
pub use service::Service;
pub use sessions::Sessions;
pub use snapshot::{Listener, Route, Snapshot};
pub use valve::Valve;
