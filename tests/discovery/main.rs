//! Endpoints that change: found by DNS, read from files, changed by hand.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what is not as expected fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod by_hand;
mod dns;
mod dnsmasq;
mod lists;
mod nameserver;
mod reloads;

use nameserver::NameServer;
use support::*;

/// One pool `app` with these lines, behind the listener `web`. No detector takes an endpoint out.
fn config(pool: &str) -> String {
    format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"app\"\n\
         [pool.app]\noutlier = \"off\"\npolicy = \"round_robin\"\n{pool}\n"
    )
}

/// `app.test` at this server, asked for again as soon as that may be.
fn asks(server: &NameServer, lines: &str) -> String {
    let (address, times) = (server.address(), "min_ttl = \"100ms\"\ntimeout = \"500ms\"");
    format!("[pool.app.dns]\nname = \"app.test\"\nservers = \"{address}\"\n{times}\n{lines}")
}

/// The addresses of the pool's endpoints at present, in order.
fn endpoints(proxy: &Proxy) -> Vec<String> {
    proxy.server().endpoints().into_iter().map(|reading| reading.endpoint).collect()
}

#[track_caller]
fn expect_endpoints(proxy: &Proxy, expected: &[&str]) {
    let what = format!("the endpoints are {expected:?}");
    eventually(&what, || endpoints(proxy) == expected);
}
