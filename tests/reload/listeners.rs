//! Listeners that come, go and change, and addresses that pass from one to another.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use forebay::control::running::RunError;
use forebay::model::Address;

use crate::client::{self, Client, within};
use crate::support::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
const LAST: &str = "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
const SLOW: &str = "GET /slow HTTP/1.1\r\nHost: test\r\n\r\n";

/// These listeners by name, address and pool, each with a route of its own to one of these endpoints.
fn config(listeners: &[(&str, &str, &str)], pools: &[(&str, SocketAddr)]) -> String {
    let mut toml = String::new();
    for (name, bind, pool) in listeners {
        toml += &format!(
            "[[listener]]\nname = \"{name}\"\nbind = \"{bind}\"\n\
             [[route]]\nname = \"{name}\"\nlistener = [\"{name}\"]\npool = \"{pool}\"\n"
        );
    }
    for (name, endpoint) in pools {
        toml += &format!("[pool.{name}]\nendpoints = [\"{endpoint}\"]\n");
    }
    toml
}

/// An address that nobody has.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Whether nobody listens there any more.
fn refuses(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err()
}

const ANY: &str = "127.0.0.1:0";

#[test]
fn a_removed_listener_drains_while_others_go_on() {
    let gate = Arc::new(Gate::default());
    let (one, two) = (answers_slow_requests_through(&gate, "one"), answers("two"));
    let pools = [("one", one.address()), ("two", two.address())];
    let proxy = Proxy::start(&config(&[("web", ANY, "two"), ("other", ANY, "one")], &pools));
    let (web, other) = (proxy.address("web"), proxy.address("other"));
    let [mut silent, mut idle, mut used, mut slow] = std::array::from_fn(|_| Link::to(other));
    let mut stays = Link::to(web);
    for client in [&mut idle, &mut used] {
        client.send(GET);
        assert_eq!(client.response().text(), "one");
    }
    slow.send(SLOW);
    assert_eq!(slow.head().expect("the answer begins").field("connection"), None);
    assert_eq!(proxy.reload(&config(&[("web", ANY, "two")], &pools[1..])).unwrap(), 2);
    // As its route was, though neither the route nor the pool is there any more.
    used.send(GET);
    let last = used.response();
    assert_eq!((last.text().as_str(), last.lists("connection", "close")), ("one", true), "{last:?}");
    for client in [&mut used, &mut idle, &mut silent] {
        assert_eq!(client.expect_end(), Ended::Closed);
    }
    eventually("the address is given up", || refuses(other));
    gate.open();
    assert_eq!(slow.take(10), b"0123456789");
    assert_eq!(slow.expect_end(), Ended::Closed);
    assert_eq!(proxy.address("web"), web);
    stays.send(GET);
    let goes_on = stays.response();
    assert_eq!((goes_on.text().as_str(), goes_on.field("connection")), ("two", None), "{goes_on:?}");
}

#[tokio::test]
async fn http2_connections_of_a_removed_listener_are_told_to_go_away() {
    let gate = Arc::new(Gate::default());
    let origin = answers_slow_requests_through(&gate, "hello");
    let pools = [("app", origin.address())];
    let proxy = Proxy::start(&config(&[("web", ANY, "app"), ("other", ANY, "app")], &pools));
    let (stays, goes) = (Client::to(proxy.address("web")).await, Client::to(proxy.address("other")).await);
    for client in [&stays, &goes] {
        assert_eq!(client.get("/").await.body, "hello");
    }
    let (slow, _) = goes.start(client::get("/slow"), true).await.unwrap();
    let mut slow = within(slow).await.unwrap().into_body();
    assert_eq!(within(slow.data()).await.unwrap().unwrap(), "01234");
    proxy.reload(&config(&[("web", ANY, "app")], &pools)).unwrap();
    let mut further = 0;
    while goes.ask(client::get("/"), b"").await.is_ok() {
        further += 1;
        assert!(further < 1000, "the connection takes requests for ever");
    }
    gate.open();
    assert_eq!(client::drained(&mut slow).await.unwrap().0, "56789");
    assert_eq!(goes.ended().await, Ok(()));
    assert_eq!(stays.get("/").await.body, "hello");
}

#[test]
fn who_waits_to_be_accepted_by_a_removed_listener_is_served() {
    let origin = answers("hello");
    let pools = [("app", origin.address())];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.sock");
    let unix = format!("unix:{}", path.display());
    for round in 0..5 {
        let all = [("web", ANY, "app"), ("tcp", ANY, "app"), ("unix", unix.as_str(), "app")];
        let proxy = Proxy::start(&config(&all, &pools));
        let tcp = proxy.address("tcp");
        let mut clients: Vec<_> = (0..20).map(|_| Link::to(tcp)).collect();
        let mut local: Vec<_> = (0..20).map(|_| UnixStream::connect(&path).unwrap()).collect();
        clients.iter_mut().for_each(|client| client.send(LAST));
        for client in &mut local {
            std::io::Write::write_all(client, LAST.as_bytes()).unwrap();
        }
        proxy.reload(&config(&all[..1], &pools)).unwrap();
        for client in &mut clients {
            assert_eq!(client.response().status(), 200, "round {round}");
        }
        for client in &mut local {
            let mut answer = String::new();
            std::io::Read::read_to_string(client, &mut answer).unwrap();
            assert!(
                answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"),
                "round {round}: {answer}"
            );
        }
        eventually("the addresses are given up", || refuses(tcp) && !path.exists());
    }
}

#[test]
fn a_new_address_is_open_when_the_reload_is_done() {
    let origin = answers("hello");
    let pools = [("app", origin.address())];
    let fixed = free().to_string();
    let (one, two) = ([("web", ANY, "app")], [("web", ANY, "app"), ("more", fixed.as_str(), "app")]);
    let proxy = Proxy::start(&format!("workers = 2\n{}", config(&one, &pools)));
    let mut stays = proxy.connect();
    // It comes and goes, and can be had again at once, though its connections are still open.
    let mut open = Vec::new();
    for _ in 0..3 {
        proxy.reload(&config(&two, &pools)).unwrap();
        let mut client = Link::to(proxy.address("more"));
        client.send(GET);
        assert_eq!(client.response().status(), 200);
        open.push(client);
        proxy.reload(&config(&one, &pools)).unwrap();
        stays.send(GET);
        assert_eq!(stays.response().field("connection"), None);
    }
}

#[test]
fn an_address_that_cannot_be_had_leaves_everything() {
    let origin = answers("hello");
    let pools = [("app", origin.address())];
    let somebody = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = somebody.local_addr().unwrap().to_string();
    let fixed = free();
    let proxy = Proxy::start(&config(&[("web", ANY, "app"), ("other", ANY, "app")], &pools));
    let addresses = [proxy.address("web"), proxy.address("other")];
    let mut clients = addresses.map(Link::to);
    let bad = [("web", ANY, "app"), ("new", &fixed.to_string(), "app"), ("taken", &taken, "app")];
    let failed = proxy.reload(&config(&bad, &pools));
    assert!(
        matches!(&failed, Err(RunError::Bind { address, .. }) if address.to_string() == taken),
        "{failed:?}"
    );
    drop(somebody);
    assert_eq!(proxy.server().running().plan().1, 1);
    assert!(refuses(fixed));
    for client in &mut clients {
        client.send(GET);
        assert_eq!(client.response().field("connection"), None);
    }
    assert_eq!([proxy.address("web"), proxy.address("other")], addresses);
    assert!(addresses.iter().all(|address| !refuses(*address)));
}

#[test]
fn an_address_passes_to_another_listener() {
    let (one, two) = (answers("one"), answers("two"));
    let pools = [("one", one.address()), ("two", two.address())];
    let (fixed, first) = (free().to_string(), free().to_string());
    let proxy = Proxy::start(&config(&[("a", &fixed, "one"), ("b", &first, "two")], &pools));
    let address = proxy.address("a");
    let mut old = Link::to(address);
    old.send(GET);
    assert_eq!(old.response().text(), "one");
    // Between two that both stay: who is connected stays with the one that accepted.
    proxy.reload(&config(&[("a", &first, "one"), ("b", &fixed, "two")], &pools)).unwrap();
    assert_eq!(proxy.address("b"), address);
    eventually("the other listener answers", || asks(address) == "two");
    old.send(GET);
    let response = old.response();
    assert_eq!((response.text().as_str(), response.field("connection")), ("one", None));
    // To one that is new, from one that goes: those who are connected to that end.
    proxy.reload(&config(&[("a", &first, "one"), ("c", &fixed, "one")], &pools)).unwrap();
    for _ in 0..20 {
        assert!(matches!(asks(address).as_str(), "one" | "two"));
    }
    eventually("the new listener answers", || asks(address) == "one");
    old.send(GET);
    assert_eq!(old.response().field("connection"), None);
    assert_eq!(proxy.address("c"), Address::Inet(address).inet().unwrap());
}

fn asks(address: SocketAddr) -> String {
    let mut client = Link::to(address);
    client.send(GET);
    client.response().text()
}

#[test]
fn two_listeners_on_any_port_keep_their_own() {
    let (one, two) = (answers("one"), answers("two"));
    let pools = [("one", one.address()), ("two", two.address())];
    let proxy = Proxy::start(&config(&[("a", ANY, "one"), ("b", ANY, "two")], &pools));
    let (a, b) = (proxy.address("a"), proxy.address("b"));
    proxy.reload(&config(&[("b", ANY, "two"), ("c", ANY, "one"), ("a", ANY, "one")], &pools)).unwrap();
    assert_eq!((proxy.address("a"), proxy.address("b")), (a, b));
    assert!(proxy.address("c") != a && proxy.address("c") != b);
}
