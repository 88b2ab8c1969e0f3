//! Headers that endpoints are sent.

use std::net::{SocketAddr, TcpStream};

use crate::http2::{self, Http2};
use crate::support::*;
use crate::{LINE, REQUEST, REQUIRED, binary, tells_what_it_was_told};

#[test]
fn endpoints_are_told_of_each_client() {
    let origin = tells_what_it_was_told();
    for version in ["v1", "v2"] {
        let pool = format!("proxy_protocol = \"{version}\"");
        let proxy = Plain { pool: &pool, ..Plain::default() }.to(&[origin.address()]);
        let before = origin.connections();
        let listener = proxy.address("web");
        let mut clients = [proxy.connect(), proxy.connect()];
        // Each keeps to a connection of its own.
        for _ in 0..3 {
            for client in &mut clients {
                let own: SocketAddr = client.tcp().local_addr().unwrap();
                client.send(REQUEST);
                let text = client.response().text();
                assert!(text.starts_with(&format!("{own} {listener} ")), "{version}: {text}");
            }
        }
        assert_eq!(origin.connections() - before, 2);
        drop(clients);
        for number in before..before + 2 {
            origin.wait_end(number);
        }
    }
}

#[test]
fn http2_connections_are_of_one_client_too() {
    let origin = http2::tells_what_it_was_told();
    for version in ["v1", "v2"] {
        let pool = format!("protocol = \"http2\"\nproxy_protocol = \"{version}\"");
        let proxy = Plain { pool: &pool, ..Plain::default() }.to(&[origin.address()]);
        let (before, listener) = (origin.connections(), proxy.address("web"));
        let mut one = proxy.connect();
        let tcp = TcpStream::connect(listener).unwrap();
        let other: SocketAddr = tcp.local_addr().unwrap();
        let mut two = Http2::over(tcp);
        for _ in 0..3 {
            let own: SocketAddr = one.tcp().local_addr().unwrap();
            one.send(REQUEST);
            let text = one.response().text();
            assert!(text.starts_with(&format!("{own} {listener} ")), "{version}: {text}");
            let text = two.get();
            assert!(text.starts_with(&format!("{other} {listener} ")), "{version}: {text}");
        }
        assert_eq!(origin.connections() - before, 2);
    }
}

#[test]
fn connections_that_were_open_before_are_told_of_in_full() {
    let (silent, origin) = (answers("hello"), tells_what_it_was_told());
    let text = |lines: &str, at: SocketAddr| {
        format!(
            "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
             [[route]]\npool = \"app\"\n[pool.app]\nendpoints = [\"{at}\"]\n{lines}\n"
        )
    };
    let proxy = Proxy::start(&text("", silent.address()));
    let listener = proxy.address("web");
    let (mut one, tcp) = (proxy.connect(), TcpStream::connect(listener).unwrap());
    let owns: [SocketAddr; 2] = [one.tcp().local_addr().unwrap(), tcp.local_addr().unwrap()];
    let mut two = Http2::over(tcp);
    one.send(REQUEST);
    assert_eq!([one.response().text(), two.get()], ["hello", "hello"]);
    proxy.reload(&text("proxy_protocol = \"v1\"", origin.address())).unwrap();
    one.send(REQUEST);
    let told = [one.response().text(), two.get()];
    for (told, own) in told.iter().zip(owns) {
        assert!(told.starts_with(&format!("{own} {listener} ")), "{told}");
    }
}

#[test]
fn ipv4_addresses_are_told_as_such_however_they_came() {
    let origin = tells_what_it_was_told();
    for version in ["v1", "v2"] {
        let pool = format!("proxy_protocol = \"{version}\"");
        let proxy = Plain { listener: REQUIRED, pool: &pool, ..Plain::default() }.to(&[origin.address()]);
        for (from, to) in [("::ffff:192.0.2.7", "::ffff:198.51.100.1"), ("2001:db8::7", "2001:db8::1")] {
            let mut client = proxy.connect();
            client.send(format!("PROXY TCP6 {from} {to} 1234 443\r\n{REQUEST}"));
            let [from, to] = [(from, 1234), (to, 443)].map(|(ip, port)| {
                SocketAddr::new(ip.parse::<std::net::IpAddr>().unwrap().to_canonical(), port)
            });
            let text = client.response().text();
            assert!(text.starts_with(&format!("{from} {to} ")), "{version}: {text}");
            let page = proxy.ask_admin("/v1/connections").text();
            assert!(page.contains(&from.to_string()), "{page}");
        }
    }
}

#[test]
fn ipv6_clients_are_told_of_as_such() {
    let origin = tells_what_it_was_told();
    let proxy = Proxy::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = \"[::]:0\"\n[[route]]\npool = \"app\"\n\
         [pool.app]\nendpoints = [\"{}\"]\nproxy_protocol = \"v2\"\n",
        origin.address()
    ));
    let to = SocketAddr::new(std::net::Ipv6Addr::LOCALHOST.into(), proxy.address("web").port());
    let mut client = Link::to(to);
    let own: SocketAddr = client.tcp().local_addr().unwrap();
    client.send(REQUEST);
    let text = client.response().text();
    assert!(
        text.starts_with(&format!("{own} {to} ")),
        "not where it is bound, but where it was reached: {text}"
    );
}

#[test]
fn what_came_in_is_told_on() {
    let origin = tells_what_it_was_told();
    let values = "[\"sni\", \"alpn\", \"unique_id\", \"tls\", \"crc32c\"]";
    let pool = format!("proxy_protocol = \"v2\"\nproxy_protocol_tlvs = {values}");
    let proxy = Plain { listener: REQUIRED, pool: &pool, ..Plain::default() }.to(&[origin.address()]);
    let mut client = proxy.connect();
    client.send(binary(true));
    client.send("GET / HTTP/1.1\r\nHost: test\r\nX-Request-Id: abc\r\n\r\n");
    assert_eq!(
        client.response().text(),
        "192.0.2.7:1234 198.51.100.1:443 sni=Some(\"shop.example\") alpn=None \
         tls=Some((Some(\"TLSv1.3\"), Some(\"Jo\"), true)) id=abc"
    );
}

#[test]
fn tcp_listeners_pass_it_on() {
    let origin = tells_what_it_was_told();
    let address = origin.address();
    let proxy = Proxy::start(&format!(
        "[[listener]]\nname = \"db\"\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\npool = \"db\"\n{REQUIRED}\n\
         [pool.db]\nendpoints = [\"{address}\"]\nproxy_protocol = \"v1\"\n"
    ));
    let mut client = Link::to(proxy.address("db"));
    client.send(format!("{LINE}{REQUEST}"));
    assert!(client.response().text().starts_with("192.0.2.7:1234 198.51.100.1:443 "));
    let mut client = Link::to(proxy.address("db"));
    client.send(REQUEST);
    client.expect_end();
}

#[test]
fn checks_are_nobodys() {
    let origin = tells_what_it_was_told();
    for version in ["v1", "v2"] {
        let pool = format!(
            "proxy_protocol = \"{version}\"\n\
             health = {{ kind = \"http\", interval = \"20ms\", body = \"nobody\" }}"
        );
        let proxy = Plain { pool: &pool, ..Plain::default() }.to(&[origin.address()]);
        eventually("a check passes", || {
            proxy.metrics().sum("forebay_endpoint_checks_total", &[("result", "pass")]) > 0.0
        });
    }
}
