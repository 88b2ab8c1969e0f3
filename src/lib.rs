//! Forebay: an L4/L7 load-balancing reverse proxy.

pub mod ambient;
pub mod balance;
pub mod cli;
pub mod config;
pub mod control;
pub mod demo;
pub mod model;
pub mod net;
pub mod observe;
pub mod proxy;
pub mod route;
pub mod server;
pub mod upstream;
pub mod wire;
pub mod worker;
