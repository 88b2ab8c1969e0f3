//! TLS on both sides, over real sockets: which certificate is shown, which versions are spoken,
//! what is verified, and what becomes of those who do not speak it.

#![expect(clippy::unwrap_used, reason = "what is not as expected fails the test")]

mod support;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, ServerConnection, StreamOwned};
use rustls_pki_types::ServerName;
use support::*;

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// An `https` listener `edge` that shows these certificates, in front of `origin`.
fn edge(pki: &Pki, files: &[&str], lines: &str, origin: SocketAddr) -> Proxy {
    let certificates: Vec<_> =
        files.iter().map(|file| format!("{{ cert = \"{file}.pem\", key = \"{file}.key\" }}")).collect();
    let text = format!(
        "[[listener]]\nname = \"edge\"\nbind = \"127.0.0.1:0\"\nprotocol = \"https\"\n\
         certificates = [{}]\n{lines}\n[[route]]\npool = \"app\"\n[pool.app]\nendpoints = [\"{origin}\"]\n",
        certificates.join(", ")
    );
    Proxy::start_in(pki.path(), &text)
}

/// Connects and shakes hands.
fn connect(proxy: &Proxy, config: &Arc<ClientConfig>, name: &str) -> io::Result<Tls> {
    let tcp = TcpStream::connect_timeout(&proxy.address("edge"), DEADLINE)?;
    tcp.set_read_timeout(Some(DEADLINE))?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut tls = StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), tcp);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock)?;
    }
    Ok(tls)
}

/// The whole answer to a `GET`, after which the connection ends.
fn get(tls: &mut (impl Read + Write)) -> String {
    tls.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    tls.read_to_string(&mut answer).unwrap();
    answer
}

fn tls_count(proxy: &Proxy, name: &str) -> f64 {
    proxy.metrics().sum(name, &[("listener", "edge")])
}

const HANDSHAKES: &str = "forebay_tls_handshakes_total";
const FAILURES: &str = "forebay_tls_handshake_failures_total";

#[test]
fn the_certificate_is_chosen_by_name() {
    let pki = Pki::new();
    pki.issue("default", &["default.example", "127.0.0.1"]).issue("a", &["a.example", "Deep.a.example"]);
    pki.issue("wild", &["*.b.example"]).issue("exact", &["x.b.example"]);
    let origin = answers("hello");
    let proxy = edge(&pki, &["default", "a", "wild", "exact"], "", origin.address());
    for versions in [&[&TLS12][..], &[&TLS13]] {
        let client = Arc::new(pki.client(&[], versions));
        for (name, file) in [
            ("a.example", "a"),
            ("deep.a.example", "a"),
            ("y.b.example", "wild"),
            ("x.b.example", "exact"),
            ("default.example", "default"),
            ("127.0.0.1", "default"),
        ] {
            let mut tls = connect(&proxy, &client, name).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(tls.conn.peer_certificates().unwrap()[0], pki.certificate(file), "{name}");
            assert!(get(&mut tls).ends_with("\r\n\r\nhello"));
        }
    }
    assert_eq!((tls_count(&proxy, HANDSHAKES), tls_count(&proxy, FAILURES)), (12.0, 0.0));
    let client = Arc::new(pki.client(&[], &[&TLS13]));
    assert!(connect(&proxy, &client, "z.y.b.example").is_err(), "a wildcard stands for one label");
    assert!(connect(&proxy, &client, "unknown.example").is_err(), "the default is not valid for it");
}

#[test]
fn clients_below_the_least_version_are_refused() {
    let pki = Pki::new();
    pki.issue("a", &["a.example"]);
    let origin = answers("hello");
    let proxy = edge(&pki, &["a"], "min_tls = \"1.3\"", origin.address());
    let old = Arc::new(pki.client(&[], &[&TLS12]));
    assert!(connect(&proxy, &old, "a.example").is_err());
    let new = Arc::new(pki.client(&[], &[&TLS12, &TLS13]));
    let tls = connect(&proxy, &new, "a.example").unwrap();
    assert_eq!(tls.conn.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    // A client is done with a handshake before the proxy is.
    eventually("both counts", || (tls_count(&proxy, HANDSHAKES), tls_count(&proxy, FAILURES)) == (1.0, 1.0));
}

#[test]
fn sessions_are_resumed() {
    let pki = Pki::new();
    pki.issue("a", &["a.example"]);
    let origin = answers("hello");
    let proxy = edge(&pki, &["a"], "", origin.address());
    for versions in [&[&TLS12][..], &[&TLS13]] {
        let client = Arc::new(pki.client(&["http/1.1"], versions));
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
            let mut tls = connect(&proxy, &client, "a.example").unwrap();
            assert_eq!(tls.conn.handshake_kind(), Some(expected), "{versions:?}");
            assert!(get(&mut tls).starts_with("HTTP/1.1 200"));
        }
    }
}

#[test]
fn sessions_are_resumed_on_another_worker() {
    let pki = Pki::new();
    pki.issue("a", &["a.example"]);
    let origin = answers("hello");
    let text = format!(
        "workers = 2\n[[listener]]\nname = \"edge\"\nbind = \"127.0.0.1:0\"\nprotocol = \"https\"\n\
         certificates = [{{ cert = \"a.pem\", key = \"a.key\" }}]\n[[route]]\npool = \"app\"\n\
         [pool.app]\nendpoints = [\"{}\"]\n",
        origin.address()
    );
    let proxy = Proxy::start_in(pki.path(), &text);
    let client = Arc::new(pki.client(&[], &[&TLS13]));
    let kinds: Vec<_> = (0..12)
        .map(|_| {
            let mut tls = connect(&proxy, &client, "a.example").unwrap();
            get(&mut tls);
            tls.conn.handshake_kind().unwrap()
        })
        .collect();
    assert!(kinds[1..].iter().all(|kind| *kind == HandshakeKind::Resumed), "{kinds:?}");
}

#[test]
fn alpn_decides_the_version_of_http() {
    let pki = Pki::new();
    pki.issue("a", &["a.example"]);
    let origin = answers("hello");
    let proxy = edge(&pki, &["a"], "", origin.address());
    for (offered, agreed) in [
        (&["h2", "http/1.1"][..], Some(&b"h2"[..])),
        (&["http/1.1", "h2"], Some(b"h2")),
        (&["http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let client = Arc::new(pki.client(offered, &[&TLS13]));
        let mut tls = connect(&proxy, &client, "a.example").unwrap();
        assert_eq!(tls.conn.alpn_protocol(), agreed, "{offered:?}");
        if agreed != Some(b"h2") {
            assert!(get(&mut tls).starts_with("HTTP/1.1 200"));
        }
    }
    let other = Arc::new(pki.client(&["spdy/3"], &[&TLS13]));
    assert!(connect(&proxy, &other, "a.example").is_err(), "nothing in common");
}

#[test]
fn garbage_and_half_handshakes_are_ended_and_counted() {
    let pki = Pki::new();
    pki.issue("a", &["a.example"]);
    let origin = answers("hello");
    let timeout = "[listener.timeouts]\ntls_handshake = \"300ms\"";
    let proxy = edge(&pki, &["a"], timeout, origin.address());

    let mut garbage = Link::to(proxy.address("edge"));
    garbage.send(vec![0xff; 600]);
    garbage.rest();
    let mut plain = Link::to(proxy.address("edge"));
    plain.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let (answer, _) = plain.rest();
    assert!(answer.len() < 100 && !answer.starts_with(b"HTTP"), "{answer:?}");
    let gone = Link::to(proxy.address("edge"));
    gone.finish();
    eventually("three failures", || tls_count(&proxy, FAILURES) == 3.0);

    let silent = Link::to(proxy.address("edge"));
    let mut half = Link::to(proxy.address("edge"));
    let mut hello = Vec::new();
    let config = Arc::new(pki.client(&[], &[&TLS13]));
    let mut client = ClientConnection::new(config, "a.example".try_into().unwrap()).unwrap();
    client.write_tls(&mut hello).unwrap();
    half.send(&hello[..hello.len() / 2]);
    for mut link in [silent, half] {
        link.rest();
    }
    eventually("five failures", || tls_count(&proxy, FAILURES) == 5.0);
    assert_eq!(tls_count(&proxy, HANDSHAKES), 0.0);
    let timeouts = [("listener", "edge"), ("timeout", "tls_handshake")];
    assert_eq!(proxy.metrics().sum("forebay_client_timeouts_total", &timeouts), 2.0);
    eventually("no connection", || tls_count(&proxy, "forebay_connections_active") == 0.0);
    assert!(origin.requests().is_empty());
}

#[test]
fn a_cut_tls_stream_is_no_whole_response() {
    // Without the length, only the closing alert tells the end from a cut.
    let origin = Origin::run(|conn| {
        if conn.request().is_some() {
            conn.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello");
        }
    });
    let pki = Pki::new();
    pki.issue("a", &["a.example"]);
    let proxy = edge(&pki, &["a"], "", origin.address());
    let client = Arc::new(pki.client(&[], &[&TLS13]));
    let mut tls = connect(&proxy, &client, "a.example").unwrap();
    tls.write_all(b"GET / HTTP/1.0\r\nHost: test\r\n\r\n").unwrap();
    let mut answer = String::new();
    // Fails with an unexpected end if there is no closing alert.
    tls.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
}

/// A TLS endpoint that answers every request on a connection of its own, and what it saw.
struct TlsOrigin {
    address: SocketAddr,
    seen: mpsc::Receiver<Seen>,
}

#[derive(Debug, Default, PartialEq)]
struct Seen {
    sni: Option<String>,
    alpn: Option<Vec<u8>>,
    shown: bool,
    request: Option<String>,
}

impl TlsOrigin {
    fn start(config: Arc<rustls::ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, seen) = mpsc::channel();
        thread::spawn(move || {
            for tcp in listener.incoming() {
                if tell.send(serve(tcp.unwrap(), &config)).is_err() {
                    return;
                }
            }
        });
        Self { address, seen }
    }

    fn saw(&self) -> Seen {
        self.seen.recv_timeout(DEADLINE).unwrap()
    }
}

fn serve(tcp: TcpStream, config: &Arc<rustls::ServerConfig>) -> Seen {
    tcp.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut tls = StreamOwned::new(ServerConnection::new(Arc::clone(config)).unwrap(), tcp);
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && tls.read_exact(&mut byte).is_ok() {
        head.push(byte[0]);
    }
    let request = (!head.is_empty()).then(|| String::from_utf8(head).unwrap());
    if request.is_some() {
        tls.write_all(ok("secret").as_bytes()).unwrap();
        tls.conn.send_close_notify();
        let _ = tls.flush();
    }
    Seen {
        sni: tls.conn.server_name().map(ToOwned::to_owned),
        alpn: tls.conn.alpn_protocol().map(<[u8]>::to_vec),
        shown: tls.conn.peer_certificates().is_some(),
        request,
    }
}

/// A pool whose endpoints speak TLS.
fn towards(pki: &Pki, origin: &TlsOrigin, lines: &str) -> Proxy {
    Proxy::start_in(
        pki.path(),
        &format!(
            "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"app\"\n\
             [pool.app]\nendpoints = [\"{}\"]\n[pool.app.tls]\n{lines}\n",
            origin.address
        ),
    )
}

#[test]
fn an_endpoint_is_verified_against_the_given_authority() {
    let pki = Pki::new();
    pki.issue("app", &["app.example"]).issue("ip", &["127.0.0.1"]);
    let origin = TlsOrigin::start(pki.server("app", &["http/1.1"], false));
    let proxy = towards(&pki, &origin, "ca = \"ca.pem\"\nserver_name = \"app.example\"");
    let response = proxy.get("/");
    assert_eq!((response.status(), response.text().as_str()), (200, "secret"));
    let seen = origin.saw();
    assert_eq!((seen.sni.as_deref(), seen.alpn.as_deref()), (Some("app.example"), Some(&b"http/1.1"[..])));
    assert!(seen.request.unwrap().starts_with("GET / HTTP/1.1\r\nHost: test\r\n"));

    let by_address = TlsOrigin::start(pki.server("ip", &[], false));
    let proxy = towards(&pki, &by_address, "ca = \"ca.pem\"");
    assert_eq!(proxy.get("/").text(), "secret");
    assert_eq!(by_address.saw().sni, None, "an address is no name");
}

#[test]
fn an_endpoint_with_another_certificate_gets_no_request() {
    let pki = Pki::new();
    pki.issue("app", &["app.example"]);
    let others = Pki::new();
    others.issue("app", &["app.example"]);
    let same_authority = "ca = \"ca.pem\"\nserver_name = \"other.example\"";
    let other_authority = "ca = \"ca.pem\"\nserver_name = \"app.example\"";
    for (config, lines) in [
        (pki.server("app", &[], false), same_authority),
        (others.server("app", &[], false), other_authority),
        (others.server("app", &[], false), "server_name = \"app.example\""),
    ] {
        let origin = TlsOrigin::start(config);
        let proxy = towards(&pki, &origin, lines);
        let response = proxy.get("/");
        assert_eq!(response.status(), 502, "{lines}");
        let why = response.field("proxy-status").unwrap();
        assert!(why.contains("error=tls_certificate_error"), "{why}");
        assert_eq!(origin.saw().request, None, "{lines}");
        let labels = [("pool", "app"), ("kind", "tls")];
        let failures = proxy.metrics().sum("forebay_endpoint_failures_total", &labels);
        assert_eq!(failures, 3.0, "one and two further tries");
    }
}

#[test]
fn verification_can_be_turned_off() {
    let others = Pki::new();
    others.issue("app", &["app.example"]);
    let origin = TlsOrigin::start(others.server("app", &[], false));
    let proxy = towards(&others, &origin, "verify = false\nserver_name = \"whatever.example\"");
    assert_eq!(proxy.get("/").text(), "secret");
    assert_eq!(origin.saw().sni.as_deref(), Some("whatever.example"));
}

#[test]
fn an_endpoint_may_ask_who_we_are() {
    let pki = Pki::new();
    pki.issue("app", &["app.example"]).issue("us", &["forebay.example"]);
    let origin = TlsOrigin::start(pki.server("app", &[], true));
    let known =
        "ca = \"ca.pem\"\nserver_name = \"app.example\"\nclient_cert = \"us.pem\"\nclient_key = \"us.key\"";
    assert_eq!(towards(&pki, &origin, known).get("/").text(), "secret");
    assert!(origin.saw().shown);
    let unknown = "ca = \"ca.pem\"\nserver_name = \"app.example\"";
    let response = towards(&pki, &origin, unknown).get("/");
    assert_eq!(response.status(), 502, "{}", response.head);
    assert_eq!(origin.saw().request, None);
}

#[test]
fn an_endpoint_that_speaks_no_tls_is_a_502() {
    let plain = Origin::run(|conn| {
        conn.link.take(5);
        conn.send("HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let silent = Origin::run(|conn| {
        conn.until_end();
    });
    let pki = Pki::new();
    for (origin, status, error) in [(plain, 502, "tls_protocol_error"), (silent, 504, "connection_timeout")] {
        let pool = format!(
            "[pool.app.tls]\nca = \"{}/ca.pem\"\n[pool.app.timeouts]\ntls_handshake = \"300ms\"",
            pki.path().display()
        );
        let proxy = Plain { pool: &pool, ..Plain::default() }.to(&[origin.address()]);
        let response = proxy.get("/");
        assert_eq!(response.status(), status, "{}", response.head);
        let why = response.field("proxy-status").unwrap();
        assert!(why.contains(error), "{why}");
    }
}

#[test]
fn a_client_that_trusts_nobody_is_a_failed_handshake() {
    let pki = Pki::new();
    pki.issue("a", &["a.example"]);
    let origin = answers("hello");
    let proxy = edge(&pki, &["a"], "", origin.address());
    let stranger = Arc::new(Pki::new().client(&[], &[&TLS12]));
    let error = connect(&proxy, &stranger, "a.example").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    eventually("a failure", || tls_count(&proxy, FAILURES) == 1.0);
}
