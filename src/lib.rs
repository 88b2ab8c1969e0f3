//! Forebay: an L4/L7 load-balancing reverse proxy that is built so that services survive failure.
//!
//! # The map
//!
//! A module may use those above it, and its own row where a row says so. `tests/layering.rs` holds
//! the source to it.
//!
//! | layer | modules | job |
//! |---|---|---|
//! | words | [`model`] | names, addresses, heads, options, units: values only |
//! | judgement | [`balance`], [`cache`], [`discover`], [`flow`], [`health`], [`limit`], [`route`], [`trace`], [`wire`] | decide, without sockets, clock or dice |
//! | configuration | [`config`] | a file becomes a [`config::Plan`], or every problem at once |
//! | machinery | [`ambient`], [`net`], [`observe`] | clock and draw; sockets and TLS; metrics and logs |
//! | upstream | [`upstream`] | endpoints, pools, connections, leases, the snapshot |
//! | data plane | [`proxy`] | moves requests and bytes |
//! | control plane | [`control`] | plan to snapshot, and what replaces them; health, checks, discovery, admin |
//! | wiring | [`server`], [`worker`], [`cli`], [`demo`] | start, serve, drain, end, in order |
//!
//! # What is not there
//!
//! - `proxy` never imports `control` or `config`, and `control` never imports `proxy`: the planes
//!   meet in one value, the [`upstream::Snapshot`], which a worker loads once per request.
//! - Workers share nothing on the request path but endpoints' gauges and pools' gates: no channel, no
//!   other counter that two threads write, and no lock as long as no request has to wait and no
//!   response is kept for worse times.
//! - A request allocates no metric, formats no text and looks up no label; handles are resolved
//!   when the snapshot is built.
//! - Policies do not know of health, filters do not wait, parsers do not see sockets, and only
//!   [`ambient`] reads the clock.
//! - Bytes from the network never panic.
//!
//! # A request
//!
//! `proxy::http::serve` accepts a connection; `http1` or `http2` reads heads; then one function,
//! `handle`, takes every request through the same named steps: normalise, route, filter, admit,
//! forward, degrade, filter, stream. Admission is the pool's limits; forwarding is one try or several;
//! degradation is what stands in where the pool fails. HTTP/1 is our own codec ([`wire`],
//! [`net::http1`]): heads stay flat in one buffer, bodies pass through one read buffer per worker.
//! HTTP/2 is the `h2` crate.

pub mod ambient;
pub mod balance;
pub mod cache;
pub mod cli;
pub mod config;
pub mod control;
pub mod demo;
pub mod discover;
pub mod flow;
pub mod health;
pub mod limit;
pub mod model;
pub mod net;
pub mod observe;
pub mod proxy;
pub mod route;
pub mod server;
pub mod trace;
pub mod upstream;
pub mod wire;
pub mod worker;
