//! `tcp` listeners over real sockets: bytes are passed on as they are, ends as ends and resets as
//! resets; and what happens when there is nobody to pass them on to.

mod support;

use std::net::SocketAddr;

use support::{Ended, Link, Origin, Proxy, eventually};

/// One `tcp` listener `db` before one pool `db`, with lines of TOML for each.
fn toml(endpoints: &[SocketAddr], listener: &str, pool: &str) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        "[[listener]]\nname = \"db\"\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\npool = \"db\"\n{listener}\n\
         [pool.db]\nendpoints = [{}]\n{pool}\n",
        endpoints.join(", ")
    )
}

fn start(endpoints: &[SocketAddr], listener: &str, pool: &str) -> Proxy {
    Proxy::start(&toml(endpoints, listener, pool))
}

fn connect(proxy: &Proxy) -> Link {
    Link::to(proxy.address("db"))
}

/// Says who it is, then repeats what it is told until the client ends its direction.
fn repeats(greeting: &'static str) -> Origin {
    Origin::run(move |conn| {
        if !conn.send(greeting) {
            return;
        }
        loop {
            let unread = conn.link.unread().len();
            let said = conn.link.take(unread.max(1));
            if said.is_empty() || !conn.send(&said) {
                return;
            }
        }
    })
}

#[test]
fn bytes_go_both_ways_and_ends_are_passed_on() {
    let origin = repeats("hello ");
    let proxy = start(&[origin.address()], "", "");
    let mut client = connect(&proxy);
    assert_eq!(client.take(6), b"hello ");
    client.send("one");
    assert_eq!(client.take(3), b"one");
    client.send("two");
    client.finish();
    let (rest, ended) = client.rest();
    assert_eq!((rest.as_slice(), ended), (&b"two"[..], Ended::Closed));
    let of = [("listener", "db"), ("pool", "db"), ("result", "done")];
    eventually("the connection is counted", || {
        proxy.metrics().sum("forebay_tcp_connections_total", &of) == 1.0
    });
}
