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

#[test]
fn the_access_log_tells_of_each_connection() {
    let origin = repeats("hello ");
    for (format, expected) in [
        (
            "json",
            r#"^\{"time":"[^"]+","client":"127.0.0.1","protocol":"tcp","listener":"db","pool":"db","endpoint":"127.0.0.1:\d+","result":"done","received_bytes":3,"sent_bytes":9,"received_datagrams":null,"sent_datagrams":null,"duration_seconds":[\d.]+,"connect_seconds":[\d.]+,"tries":1,"timer":null,"closed_by":null,"tls_version":null,"sni":null\}\n$"#,
        ),
        (
            "text",
            r"^time=\S+ client=127.0.0.1 protocol=tcp listener=db pool=db endpoint=127.0.0.1:\d+ result=done received_bytes=3 sent_bytes=9 received_datagrams=- sent_datagrams=- duration_seconds=\S+ connect_seconds=\S+ tries=1 timer=- closed_by=- tls_version=- sni=-\n$",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let log = format!("access_log = {{ format = \"{format}\", path = \"{}\" }}", path.display());
        let proxy = start(&[origin.address()], &log, "");
        let mut client = connect(&proxy);
        client.send("one");
        client.finish();
        assert_eq!(client.rest().0, b"hello one");
        let line = || std::fs::read_to_string(&path).unwrap_or_default();
        eventually("the line is there", || line().ends_with('\n'));
        assert!(regex::Regex::new(expected).unwrap().is_match(&line()), "{}", line());
    }
}

#[test]
fn the_access_log_says_why_there_was_no_connection() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = format!("access_log = {{ format = \"json\", path = \"{}\" }}", path.display());
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = start(&[nobody], &log, "retry = { tries = 0 }");
    connect(&proxy).rest();
    let line = || std::fs::read_to_string(&path).unwrap_or_default();
    eventually("the line is there", || line().ends_with('\n'));
    assert!(
        line().contains(r#""result":"connect_failed""#) && line().contains(r#""closed_by":"upstream""#),
        "{}",
        line()
    );
}

#[test]
fn transparent_pools_are_connected_to_from_the_clients_address() {
    let privileged = rustix::thread::capabilities(None)
        .is_ok_and(|own| own.effective.contains(rustix::thread::CapabilitySet::NET_ADMIN));
    if !privileged {
        eprintln!("left out: it takes CAP_NET_ADMIN");
        return;
    }
    let origin = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = start(&[origin.local_addr().unwrap()], "", "socket = { transparent = true }");
    let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    client.bind(&"127.0.0.77:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    client.connect(&proxy.address("db").into()).unwrap();
    assert_eq!(origin.accept().unwrap().1.ip().to_string(), "127.0.0.77");
}
