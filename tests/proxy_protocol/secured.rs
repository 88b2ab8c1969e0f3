//! Headers in front of TLS, whether that ends here, is passed on, or begins here.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, ServerConnection, StreamOwned};

use crate::support::*;
use crate::{LINE, REQUEST, REQUIRED, binary, header_count, header_of, shown, tells_what_it_was_told};

/// An `https` listener `web` of this certificate, with these lines of its own, in front of `app`.
fn web(bind: &str, lines: &str, app: SocketAddr) -> String {
    format!(
        "[[listener]]\nname = \"web\"\nbind = {bind}\nprotocol = \"https\"\n{lines}\n\
         certificates = [{{ cert = \"web.pem\", key = \"web.key\" }}]\n\
         [[route]]\npool = \"app\"\n[pool.app]\nendpoints = [\"{app}\"]\n"
    )
}

/// A `tls` listener `front` with these lines of its own.
fn front(lines: &str) -> String {
    format!("[[listener]]\nname = \"front\"\nbind = \"127.0.0.1:0\"\nprotocol = \"tls\"\n{lines}\n")
}

/// Sends a header, and then asks over TLS.
fn ask(to: SocketAddr, header: &[u8], config: ClientConfig) -> std::io::Result<String> {
    let mut tcp = TcpStream::connect_timeout(&to, DEADLINE)?;
    tcp.set_read_timeout(Some(DEADLINE))?;
    tcp.write_all(header)?;
    let name = "web.example".try_into().unwrap();
    let mut tls = StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), tcp);
    tls.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    tls.read_to_string(&mut answer)?;
    Ok(answer)
}

/// What a client sends first that asks for `web.example`.
fn hello(config: ClientConfig) -> Vec<u8> {
    let name = "web.example".try_into().unwrap();
    let mut bytes = Vec::new();
    ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut bytes).unwrap();
    bytes
}

fn refused(proxy: &Proxy, listener: &str) -> f64 {
    proxy.metrics().sum("forebay_connections_refused_total", &[("listener", listener)])
}

#[test]
fn a_header_comes_before_the_handshake() {
    let (pki, origin) = (Pki::new(), answers("hello"));
    pki.issue("web", &["web.example"]);
    let proxy = Proxy::start_in(pki.path(), &web("\"127.0.0.1:0\"", REQUIRED, origin.address()));
    for header in [LINE.as_bytes().to_vec(), binary(false)] {
        let answer = ask(proxy.address("web"), &header, pki.client(&[], &[&TLS13])).unwrap();
        assert!(answer.ends_with("hello"), "{answer}");
        let request = origin.next_request();
        assert_eq!(request.values("x-forwarded-for"), ["192.0.2.7"]);
        assert_eq!(request.values("x-forwarded-proto"), ["https"]);
    }
    assert!(ask(proxy.address("web"), b"", pki.client(&[], &[&TLS13])).is_err());
    eventually("it is counted", || header_count(&proxy, "missing") == 1.0);
}

#[test]
fn what_the_client_agreed_on_is_told_to_endpoints() {
    let (pki, origin) = (Pki::new(), tells_what_it_was_told());
    pki.issue("web", &["web.example"]);
    let pool = "proxy_protocol = \"v2\"\nproxy_protocol_tlvs = [\"sni\", \"alpn\", \"tls\"]\n";
    let proxy = Proxy::start_in(pki.path(), &(web("\"127.0.0.1:0\"", REQUIRED, origin.address()) + pool));
    let config = pki.client(&["http/1.1"], &[&TLS13]);
    let answer = ask(proxy.address("web"), LINE.as_bytes(), config).unwrap();
    let told = "192.0.2.7:1234 198.51.100.1:443 sni=Some(\"web.example\") alpn=Some(\"http/1.1\") \
                tls=Some((Some(\"TLSv1.3\"), None, false)) id=-";
    assert!(answer.ends_with(told), "{answer}");
}

#[test]
fn what_is_passed_on_begins_with_a_header_of_its_own() {
    let origin = Origin::run(|conn| {
        let Some(header) = header_of(conn.link.tcp()) else { return };
        let said = shown(header);
        if conn.send(format!("{said}\n")) {
            while conn.link.fill() == Ok(true) {
                let unread = conn.link.unread().len();
                let said = conn.link.take(unread);
                conn.send(said);
            }
        }
    });
    let pki = Pki::new();
    for (lines, header, client) in
        [(REQUIRED, LINE.as_bytes(), Some("192.0.2.7:1234 198.51.100.1:443")), ("", b"", None)]
    {
        let pool = "proxy_protocol = \"v2\"\nproxy_protocol_tlvs = [\"sni\", \"alpn\", \"tls\", \"crc32c\"]";
        let at = origin.address();
        let text = format!(
            "{}[pool.deep]\nendpoints = [\"{at}\"]\n{pool}\n",
            front(&format!("pool = \"deep\"\n{lines}"))
        );
        let proxy = Proxy::start(&text);
        let hello = hello(pki.client(&["h2", "http/1.1"], &[&TLS13]));
        let mut link = Link::to(proxy.address("front"));
        let own = format!("{} {}", link.tcp().local_addr().unwrap(), proxy.address("front"));
        link.send([header, &hello].concat());
        let told = String::from_utf8(link.take_until(b"\n").unwrap()).unwrap();
        let client = client.unwrap_or(&own);
        let rest = "sni=Some(\"web.example\") alpn=Some(\"h2\") tls=None id=-\n";
        assert_eq!(told, format!("{client} {rest}"));
        assert!(link.take(hello.len()) == hello, "not a byte of it changes");
    }
}

/// `front` takes headers and hands what asks for `web.example` over to `web`, which has these lines.
fn handing(pki: &Pki, lines: &str, rest: &str, app: SocketAddr) -> Proxy {
    pki.issue("web", &["web.example"]);
    let entry = "[[listener.sni]]\nnames = [\"web.example\"]\nlistener = \"web\"";
    let front = front(&format!("{REQUIRED}\n{entry}"));
    Proxy::start_in(pki.path(), &[front, web("[]", lines, app), rest.to_owned()].concat())
}

#[test]
fn who_is_handed_over_stays_the_client() {
    let (pki, origin) = (Pki::new(), answers("hello"));
    let proxy = handing(&pki, "", "", origin.address());
    let answer = ask(proxy.address("front"), LINE.as_bytes(), pki.client(&[], &[&TLS13])).unwrap();
    assert!(answer.ends_with("hello"), "{answer}");
    let request = origin.next_request();
    assert_eq!(request.values("x-forwarded-for"), ["192.0.2.7"]);
    assert_eq!(request.values("x-forwarded-proto"), ["https"]);

    let (pki, origin) = (Pki::new(), tells_what_it_was_told());
    let proxy = handing(&pki, "", "proxy_protocol = \"v1\"\n", origin.address());
    let answer = ask(proxy.address("front"), LINE.as_bytes(), pki.client(&[], &[&TLS13])).unwrap();
    assert!(answer.contains("192.0.2.7:1234 198.51.100.1:443"), "{answer}");
}

#[test]
fn the_door_of_the_other_listener_is_for_the_client_too() {
    for required in ["", REQUIRED] {
        let (pki, origin) = (Pki::new(), answers("hello"));
        let lines = format!("{required}\ndeny = [\"192.0.2.0/24\"]");
        let proxy = handing(&pki, &lines, "", origin.address());
        assert!(ask(proxy.address("front"), LINE.as_bytes(), pki.client(&[], &[&TLS13])).is_err());
        eventually("it is counted", || refused(&proxy, "web") == 1.0);
        assert_eq!(refused(&proxy, "front"), 0.0);
        let other = b"PROXY TCP4 192.0.3.7 198.51.100.1 1234 443\r\n";
        assert!(ask(proxy.address("front"), other, pki.client(&[], &[&TLS13])).is_ok());
    }
}

#[test]
fn tls_to_the_endpoint_begins_behind_the_header() {
    let pki = Pki::new();
    pki.issue("deep", &["deep.example"]);
    let config = pki.server("deep", &[], false);
    let origin = Origin::run(move |conn| {
        let Some(header) = header_of(conn.link.tcp()) else { return };
        let text = shown(header);
        let tcp = conn.link.tcp().try_clone().unwrap();
        let mut tls = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), tcp);
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if tls.read_exact(&mut byte).is_err() {
                return;
            }
            request.push(byte[0]);
        }
        let _ = tls.write_all(ok(&text).as_bytes()).and_then(|()| tls.flush());
        conn.until_end();
    });
    let tls = "[pool.app.tls]\nca = \"ca.pem\"\nserver_name = \"deep.example\"\n";
    for (protocol, route) in [("http", "[[route]]\npool = \"app\"\n"), ("tcp", "pool = \"app\"\n")] {
        for version in ["v1", "v2"] {
            let proxy = Proxy::start_in(
                pki.path(),
                &format!(
                    "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\nprotocol = \"{protocol}\"\n{route}\
                     [pool.app]\nendpoints = [\"{}\"]\nproxy_protocol = \"{version}\"\n{tls}",
                    origin.address()
                ),
            );
            let mut client = proxy.connect();
            client.send(REQUEST);
            let own = client.tcp().local_addr().unwrap();
            let text = client.response().text();
            let expected = format!("{own} {} ", proxy.address("web"));
            assert!(text.starts_with(&expected), "{protocol} {version}: {text}");
        }
    }
}
