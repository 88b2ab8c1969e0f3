//! What goes on over a reload: connections, requests, tunnels, and what they run under.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

use crate::support::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";

/// A route to one of these pools.
fn config(listener: &str, pool: &str, pools: &[(&str, SocketAddr)]) -> String {
    let pools: Vec<_> = pools
        .iter()
        .map(|(name, endpoint)| format!("[pool.{name}]\nendpoints = [\"{endpoint}\"]\n"))
        .collect();
    format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n{listener}\n\
         [[route]]\npool = \"{pool}\"\n{}",
        pools.concat()
    )
}

#[test]
fn a_changed_route_holds_from_the_next_request_on() {
    let gate = Arc::new(Gate::default());
    let (one, two) = (answers_slow_requests_through(&gate, "one"), answers("two"));
    let pools = [("one", one.address()), ("two", two.address())];
    let proxy = Proxy::start(&config("", "one", &pools));
    let (mut client, mut slow) = (proxy.connect(), proxy.connect());
    client.send(GET);
    assert_eq!(client.response().text(), "one");
    slow.send("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(slow.head().expect("the answer begins").status(), 200);
    proxy.reload(&config("", "two", &pools[1..])).unwrap();
    client.send(GET);
    let response = client.response();
    assert_eq!((response.text().as_str(), response.field("connection")), ("two", None));
    gate.open();
    assert_eq!(slow.take(10), b"0123456789");
    slow.send(GET);
    assert_eq!(slow.response().text(), "two");
    assert_eq!(one.wait_end(0), Ended::Closed);
}

#[test]
fn limits_and_timeouts_of_a_listener_change_for_connections_that_are_open() {
    let origin = answers("hello");
    let pools = [("app", origin.address())];
    let proxy = Proxy::start(&config("", "app", &pools));
    let mut client = proxy.connect();
    client.send(GET);
    assert_eq!(client.response().status(), 200);
    proxy.reload(&config("max_fields = 1", "app", &pools)).unwrap();
    client.send("GET / HTTP/1.1\r\nHost: test\r\nX-More: 1\r\n\r\n");
    assert_eq!(client.response().status(), 431);
}

#[test]
fn tunnels_and_downloads_go_on_though_everything_they_used_is_gone() {
    let gate = Arc::new(Gate::default());
    let (old, new) = (answers_slow_requests_through(&gate, "old"), answers("new"));
    let tunnels = Origin::run(|conn| {
        conn.head();
        conn.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: raw/1\r\n\r\n");
        while conn.link.fill() == Ok(true) {
            let bytes = conn.link.take(conn.link.unread().len());
            conn.send(bytes);
        }
        conn.until_end();
    });
    let before = format!(
        "{}[[route]]\npath = \"/tunnel\"\npool = \"tunnels\"\n[pool.tunnels]\nendpoints = [\"{}\"]\n",
        config("", "old", &[("old", old.address())]),
        tunnels.address()
    );
    let proxy = Proxy::start(&before);
    let (mut tunnel, mut download) = (proxy.connect(), proxy.connect());
    tunnel.send("GET /tunnel HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: raw/1\r\n\r\n");
    assert_eq!(tunnel.head().expect("it is switched").status(), 101);
    download.send("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(download.head().expect("it begins").status(), 200);
    for round in 0..3 {
        proxy.reload(&config("", "new", &[("new", new.address())])).unwrap();
        assert_eq!(proxy.get("/").text(), "new");
        tunnel.send("to and fro");
        assert_eq!(tunnel.take(10), b"to and fro", "round {round}");
    }
    gate.open();
    assert_eq!(download.take(10), b"0123456789");
    download.send(GET);
    assert_eq!(download.response().text(), "new");
    drop(tunnel);
    assert_eq!(tunnels.wait_end(0), Ended::Closed);
    assert_eq!(old.wait_end(0), Ended::Closed);
}

#[test]
fn connections_to_endpoints_stay_until_the_endpoint_goes() {
    let (one, two) = (answers("one"), answers("two"));
    let toml = |route: &str, pool: &str, endpoint: &Origin| {
        let pools = [("other", two.address()), ("app", endpoint.address())];
        format!("{}{pool}", config(route, "app", &pools))
    };
    let proxy = Proxy::start(&toml("", "", &one));
    let changes = [("", ""), ("max_fields = 50", ""), ("", "policy = \"least_requests\""), ("", "")];
    for (listener, pool) in changes {
        proxy.reload(&toml(listener, pool, &one)).unwrap();
        assert_eq!(proxy.get("/").text(), "one");
        assert_eq!(one.connections(), 1, "with {listener} {pool}");
    }
    proxy.reload(&toml("", "", &two)).unwrap();
    assert_eq!(one.wait_end(0), Ended::Closed);
    assert_eq!(proxy.get("/").text(), "two");
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Tls {
    let tcp = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
    tcp.set_read_timeout(Some(DEADLINE)).unwrap();
    let name = ServerName::try_from("a.example").unwrap();
    let mut tls = StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), tcp);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock).unwrap();
    }
    tls
}

fn asks(tls: &mut Tls) -> String {
    std::io::Write::write_all(tls, GET.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        let mut buffer = [0; 1024];
        let n = std::io::Read::read(tls, &mut buffer).unwrap();
        assert!(n > 0, "the connection ended");
        answer.extend_from_slice(buffer.get(..n).unwrap());
    }
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_new_certificate_is_for_new_handshakes() {
    let pki = Pki::new();
    pki.issue("old", &["a.example"]).issue("new", &["a.example"]);
    let origin = answers("hello");
    let listener = |file: &str| {
        format!("protocol = \"https\"\ncertificates = [{{ cert = \"{file}.pem\", key = \"{file}.key\" }}]")
    };
    let pools = [("app", origin.address())];
    let proxy = Proxy::start_in(pki.path(), &config(&listener("old"), "app", &pools));
    let client = Arc::new(pki.client(&[], &[&TLS13]));
    let shown = |tls: &Tls| tls.conn.peer_certificates().and_then(|chain| chain.first().cloned()).unwrap();
    let mut old = connect(proxy.address("web"), &client);
    assert_eq!(shown(&old), pki.certificate("old"));
    assert!(asks(&mut old).contains("200"));
    proxy.reload_in(pki.path(), &config(&listener("new"), "app", &pools)).unwrap();
    // A session that is resumed shows what it began with.
    let client = Arc::new(pki.client(&[], &[&TLS13]));
    let mut new = connect(proxy.address("web"), &client);
    assert_eq!(shown(&new), pki.certificate("new"));
    for tls in [&mut old, &mut new] {
        assert!(!asks(tls).contains("close"));
    }
    // From TLS to none: those that are open stay what they are.
    proxy.reload(&config("", "app", &pools)).unwrap();
    assert_eq!(proxy.get("/").text(), "hello");
    assert!(!asks(&mut old).contains("close"));
}
