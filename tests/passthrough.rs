//! `tls` listeners over real sockets: where connections go by what their first message says, that not
//! a byte of it changes, and what becomes of those who do not begin TLS. And TLS that ends at `tcp`.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "what is not as expected fails the test")]

mod support;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use support::*;

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A `tls` listener `front` with these lines of its own, and what comes after it.
fn front(pki: &Pki, lines: &str, rest: &str) -> Proxy {
    Proxy::start_in(pki.path(), &toml(lines, rest))
}

fn toml(lines: &str, rest: &str) -> String {
    format!("[[listener]]\nname = \"front\"\nbind = \"127.0.0.1:0\"\nprotocol = \"tls\"\n{lines}\n{rest}\n")
}

/// An entry of `front`.
fn entry(names: &[&str], lines: &str) -> String {
    format!("[[listener.sni]]\nnames = {names:?}\n{lines}\n")
}

fn pool(name: &str, endpoint: SocketAddr) -> String {
    format!("[pool.{name}]\nendpoints = [\"{endpoint}\"]\n")
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

/// What a client sends first that asks for `name`, over records of at most `size` bytes.
fn hello(name: &str, alpn: &[&str], size: usize) -> Vec<u8> {
    let mut config =
        ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    records(&bytes[5..], size)
}

fn records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |piece: &[u8]| {
        let len = u16::try_from(piece.len()).unwrap().to_be_bytes();
        [&[22, 3, 1], &len[..], piece].concat()
    };
    message.chunks(size).flat_map(record).collect()
}

/// A ClientHello for `name` of 64 KiB, in one message.
fn largest_hello(name: &str) -> Vec<u8> {
    let long = |data: &[u8]| [&u16::try_from(data.len()).unwrap().to_be_bytes(), data].concat();
    let sni = long(&[&[0], &*long(name.as_bytes())].concat());
    let mut extensions = [&[0, 0], &*long(&sni)].concat();
    extensions.extend([&[0, 21], &*long(&vec![0; 40_000])].concat());
    let fixed = [&[3, 3], &[7; 32][..], &[0]].concat();
    let rest = [&[1, 0], &*long(&extensions)].concat();
    let suites = long(&vec![0x13; (64 * 1024 - 4 - fixed.len() - rest.len() - 2) & !1]);
    let body = [fixed, suites, rest].concat();
    let len = u32::try_from(body.len()).unwrap() | 1 << 24;
    [&len.to_be_bytes(), &*body].concat()
}

/// Connects to the listener and shakes hands.
fn connect(proxy: &Proxy, listener: &str, config: ClientConfig, name: &str) -> io::Result<Tls> {
    let tcp = TcpStream::connect_timeout(&proxy.address(listener), DEADLINE)?;
    tcp.set_read_timeout(Some(DEADLINE))?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut tls = StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), tcp);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock)?;
    }
    Ok(tls)
}

/// The whole answer to a `GET`, after which the connection ends.
fn get(tls: &mut Tls) -> String {
    tls.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    tls.read_to_string(&mut answer).unwrap();
    answer
}

fn hellos(proxy: &Proxy, result: &str) -> f64 {
    proxy.metrics().sum("forebay_tls_client_hello_total", &[("listener", "front"), ("result", result)])
}

/// What a program says, standard output first.
fn run(command: &mut Command) -> String {
    let out = command.stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned()
}

#[test]
fn names_and_protocols_choose_the_pool_and_no_byte_changes() {
    let origins = [repeats("exact"), repeats("below"), repeats("proto"), repeats("other")];
    let pools = ["exact", "below", "proto", "other"].map(|name| name.to_owned());
    let pools: String =
        pools.iter().zip(&origins).map(|(name, origin)| pool(name, origin.address())).collect();
    let entries = [
        entry(&["*.example.com"], "pool = \"below\""),
        entry(&["db.example.com", "*.example.com"], "alpn = [\"special\"]\npool = \"proto\""),
        entry(&["db.example.com"], "pool = \"exact\""),
    ];
    let proxy = front(&Pki::new(), &format!("pool = \"other\"\n{}", entries.concat()), &pools);
    for (name, alpn, expected) in [
        ("db.example.com", &[][..], "exact"),
        ("db.example.com", &["h2"], "exact"),
        ("db.example.com", &["h2", "special"], "proto"),
        ("a.example.com", &[], "below"),
        ("a.b.example.com", &["special"], "proto"),
        ("example.com", &[], "other"),
        ("127.0.0.1", &["special"], "other"),
    ] {
        for size in [1 << 14, 1, 7] {
            let hello = hello(name, alpn, size);
            let mut client = Link::to(proxy.address("front"));
            client.send(&hello);
            client.send("and more");
            assert_eq!(client.take(5), expected.as_bytes(), "{name} {alpn:?}");
            assert!(client.take(hello.len()) == hello, "{name}: records of {size}");
            assert_eq!(client.take(8), b"and more");
        }
    }
    assert_eq!(hellos(&proxy, "passed_on"), 21.0);
}

#[test]
fn a_hello_may_come_byte_by_byte_and_be_of_64_kib() {
    let origin = repeats("it is me");
    let proxy = front(&Pki::new(), &entry(&["a.example"], "pool = \"a\""), &pool("a", origin.address()));
    let slow = hello("a.example", &[], 50);
    let mut client = Link::to(proxy.address("front"));
    for byte in &slow {
        client.send([*byte]);
    }
    assert_eq!(client.take(8), b"it is me");
    assert!(client.take(slow.len()) == slow);

    let largest = largest_hello("a.example");
    assert!(largest.len() > 64 * 1024 - 2, "{}", largest.len());
    let largest = records(&largest, 1000);
    let mut client = Link::to(proxy.address("front"));
    client.send(&largest);
    assert_eq!(client.take(8), b"it is me");
    assert!(client.take(largest.len()) == largest);
}

#[test]
fn the_access_log_tells_of_those_who_are_for_no_pool() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = format!("access_log = {{ format = \"json\", path = \"{}\" }}", path.display());
    let lines = format!("timeouts = {{ client_hello = \"300ms\" }}\n{log}\n");
    let (entry, nobody) = (entry(&["a.example"], "pool = \"a\""), "127.0.0.1:9".parse().unwrap());
    let proxy = front(&Pki::new(), &format!("{lines}{entry}"), &pool("a", nobody));
    let logged = || std::fs::read_to_string(&path).unwrap_or_default();
    let other = hello("b.example", &[], 1 << 14);
    for (place, (sent, leaves, result)) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], false, "malformed"),
        (&other[..20], false, "malformed"),
        (&other[..20], true, "client_reset"),
        (&other, false, "denied"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = Link::to(proxy.address("front"));
        client.send(sent);
        if leaves {
            client.finish();
        }
        client.rest();
        eventually("the line is there", || logged().lines().count() > place);
        let last = logged().lines().last().unwrap().to_owned();
        assert!(
            last.contains(&format!(r#""result":"{result}""#)) && last.contains(r#""pool":null"#),
            "{last}"
        );
    }
    assert!(logged().lines().last().unwrap().ends_with(r#""sni":"b.example"}"#), "{}", logged());
}

#[test]
fn those_who_do_not_begin_tls_are_closed_and_counted() {
    let origin = repeats("never");
    let lines =
        format!("timeouts = {{ client_hello = \"300ms\" }}\n{}", entry(&["a.example"], "pool = \"a\""));
    let proxy = front(&Pki::new(), &lines, &pool("a", origin.address()));
    let whole = hello("a.example", &[], 1 << 14);

    for garbage in [&b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"[..], &[0xff; 600], &[22, 3, 1, 0, 5, 2]] {
        let mut client = Link::to(proxy.address("front"));
        client.send(garbage);
        assert!(client.rest().0.is_empty());
    }
    let endless = records(&[&[1, 0, 255, 0][..], &[3; 80_000]].concat(), 16);
    let mut client = Link::to(proxy.address("front"));
    // It is closed before all of it is sent.
    let _ = client.try_send(&endless);
    assert!(client.rest().0.is_empty());
    eventually("four malformed", || hellos(&proxy, "malformed") == 4.0);

    let (silent, mut half) = (Link::to(proxy.address("front")), Link::to(proxy.address("front")));
    half.send(&whole[..whole.len() - 1]);
    for mut client in [silent, half] {
        assert!(client.rest().0.is_empty());
    }
    eventually("two too late", || hellos(&proxy, "timed_out") == 2.0);

    let mut gone = Link::to(proxy.address("front"));
    gone.send(&whole[..20]);
    gone.finish();
    gone.rest();
    eventually("one left", || hellos(&proxy, "closed") == 1.0);

    for name in ["b.example", "127.0.0.1"] {
        let mut stranger = Link::to(proxy.address("front"));
        stranger.send(hello(name, &[], 1 << 14));
        let (told, _) = stranger.rest();
        assert_eq!(told, [21, 3, 1, 0, 2, 2, 112], "a fatal unrecognized_name for {name}");
    }
    eventually("two strangers", || hellos(&proxy, "unmatched") == 2.0);
    assert_eq!(origin.connections(), 0);
    let active = || proxy.metrics().sum("forebay_connections_active", &[("listener", "front")]);
    eventually("no connection", || active() == 0.0);
}

/// `web` ends TLS and binds nothing, `db` is passed on to `repeats`, all on one port.
fn one_port(pki: &Pki, app: &Origin, db: &Origin) -> Proxy {
    pki.issue("web", &["web.example"]);
    let entries = [entry(&["web.example"], "listener = \"web\""), entry(&["db.example"], "pool = \"db\"")];
    let rest = format!(
        "[[listener]]\nname = \"web\"\nbind = []\nprotocol = \"https\"\n\
         certificates = [{{ cert = \"web.pem\", key = \"web.key\" }}]\n[[route]]\npool = \"app\"\n{}{}",
        pool("app", app.address()),
        pool("db", db.address())
    );
    front(pki, &entries.concat(), &rest)
}

#[test]
fn one_port_passes_tls_on_and_ends_it() {
    let (pki, app, db) = (Pki::new(), answers("hello"), repeats("db"));
    let proxy = one_port(&pki, &app, &db);
    for versions in [&[&TLS12][..], &[&TLS13]] {
        let mut tls = connect(&proxy, "front", pki.client(&["http/1.1"], versions), "web.example").unwrap();
        assert_eq!(tls.conn.peer_certificates().unwrap()[0], pki.certificate("web"));
        assert!(get(&mut tls).ends_with("\r\n\r\nhello"));
        let request = app.next_request();
        assert_eq!(request.values("x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(request.values("x-forwarded-proto"), ["https"]);
    }
    let mut client = Link::to(proxy.address("front"));
    client.send(hello("db.example", &[], 1 << 14));
    assert_eq!(client.take(2), b"db");

    // Fragments go through the handshake of the other listener as they came.
    let mut client = Link::to(proxy.address("front"));
    client.send(hello("web.example", &[], 40));
    assert_eq!(client.take(3)[..2], [22, 3], "a ServerHello");

    let of = |listener| proxy.metrics().sum("forebay_connections_accepted_total", &[("listener", listener)]);
    assert_eq!((of("front"), of("web")), (4.0, 3.0));
    assert_eq!((hellos(&proxy, "handed_over"), hellos(&proxy, "passed_on")), (3.0, 1.0));
    let active =
        |listener: &str| proxy.metrics().sum("forebay_connections_active", &[("listener", listener)]);
    assert_eq!((active("front"), active("web")), (1.0, 1.0), "each is one listener's at a time");
    let page = proxy.ask_admin("/v1/connections").text();
    assert!(page.contains("db.example"), "{page}");
}

#[test]
fn a_listener_that_refuses_the_protocols_says_so() {
    let (pki, app, db) = (Pki::new(), answers("hello"), repeats("db"));
    let proxy = one_port(&pki, &app, &db);
    let fault = connect(&proxy, "front", pki.client(&["spdy/3"], &[&TLS13]), "web.example").unwrap_err();
    assert!(fault.to_string().contains("NoApplicationProtocol"), "{fault}");
    eventually("a failure", || {
        proxy.metrics().sum("forebay_tls_handshake_failures_total", &[("listener", "web")]) == 1.0
    });
}

#[test]
fn curl_speaks_http2_through_one_port_and_to_an_endpoint_of_its_own_tls() {
    let Some(program) = peer("curl") else { return };
    let (pki, app) = (Pki::new(), answers("hello"));
    pki.issue("web", &["web.example"]).issue("deep", &["deep.example"]);
    let https = |name: &str, file: &str, bind: &str| {
        format!(
            "[[listener]]\nname = \"{name}\"\nbind = {bind}\nprotocol = \"https\"\n\
             certificates = [{{ cert = \"{file}.pem\", key = \"{file}.key\" }}]\n"
        )
    };
    let app = format!("[[route]]\npool = \"app\"\n{}", pool("app", app.address()));
    let deep = Proxy::start_in(pki.path(), &(https("deep", "deep", "\"127.0.0.1:0\"") + &app));
    let entries =
        [entry(&["web.example"], "listener = \"web\""), entry(&["deep.example"], "pool = \"deep\"")];
    let rest = [https("web", "web", "[]"), app, pool("deep", deep.address("deep"))].concat();
    let proxy = front(&pki, &entries.concat(), &rest);
    let port = proxy.address("front").port();
    let ca = pki.path().join("ca.pem");
    for name in ["web.example", "deep.example"] {
        for version in ["--http2", "--http1.1"] {
            let mut command = program.command();
            command.args(["-sS", "--max-time", "10", "--noproxy", "*", version, "--cacert"]).arg(&ca);
            command.args(["--resolve", &format!("{name}:{port}:127.0.0.1"), "-w", " %{http_version}"]);
            let out = run(command.arg(format!("https://{name}:{port}/")));
            let expected = if version == "--http2" { "hello 2" } else { "hello 1.1" };
            assert_eq!(out, expected, "{name} {version}");
        }
    }
    let stranger = run(program
        .command()
        .args(["-sS", "--max-time", "10", "--noproxy", "*", "--resolve"])
        .args([&format!("x.example:{port}:127.0.0.1"), &format!("https://x.example:{port}/")]));
    assert!(stranger.contains("name"), "{stranger}");
}

#[test]
fn openssl_reaches_what_it_asks_for() {
    let Some(program) = peer("openssl") else { return };
    let (pki, app, db) = (Pki::new(), answers("hello"), answers("no TLS"));
    let proxy = one_port(&pki, &app, &db);
    let address = proxy.address("front").to_string();
    let ca = pki.path().join("ca.pem").display().to_string();
    for version in ["-tls1_2", "-tls1_3"] {
        let mut command = program.command();
        command.args([
            "s_client",
            "-connect",
            &address,
            "-CAfile",
            &ca,
            "-servername",
            "web.example",
            version,
        ]);
        // Its message goes over many records.
        let out = run(command.args(["-split_send_frag", "64", "-max_send_frag", "512", "-alpn", "h2"]));
        for part in ["Verify return code: 0 (ok)", "ALPN protocol: h2"] {
            assert!(out.contains(part), "{version}: {part} is missing: {out}");
        }
    }
    let mut nameless = program.command();
    let out = run(nameless.args(["s_client", "-connect", &address, "-noservername"]));
    assert!(out.contains("unrecognized name"), "{out}");
}

/// A `tcp` listener `db` that ends TLS.
fn ends_tls(lines: &str, bind: &str) -> String {
    format!(
        "[[listener]]\nname = \"db\"\nbind = {bind}\nprotocol = \"tcp\"\npool = \"db\"\n{lines}\n\
         certificates = [{{ cert = \"db.pem\", key = \"db.key\" }}]\n"
    )
}

#[test]
fn tcp_with_certificates_ends_tls_and_agrees_on_a_protocol() {
    let (pki, origin) = (Pki::new(), repeats("plain "));
    pki.issue("db", &["db.example"]);
    let lines =
        "alpn = [\"postgresql\", \"other\"]\nmin_tls = \"1.3\"\ntimeouts = { tls_handshake = \"300ms\" }";
    let text = ends_tls(lines, "\"127.0.0.1:0\"") + &pool("db", origin.address());
    let proxy = Proxy::start_in(pki.path(), &text);
    for (offered, agreed) in
        [(&["postgresql"][..], Some(&b"postgresql"[..])), (&["other"], Some(b"other")), (&[], None)]
    {
        let mut tls = connect(&proxy, "db", pki.client(offered, &[&TLS13]), "db.example").unwrap();
        assert_eq!(tls.conn.alpn_protocol(), agreed);
        tls.write_all(b"select").unwrap();
        tls.conn.send_close_notify();
        let mut answer = String::new();
        tls.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "plain select");
    }
    assert!(
        connect(&proxy, "db", pki.client(&["h2"], &[&TLS13]), "db.example").is_err(),
        "nothing in common"
    );
    assert!(connect(&proxy, "db", pki.client(&[], &[&TLS12]), "db.example").is_err(), "too old");
    let mut silent = Link::to(proxy.address("db"));
    silent.rest();
    let failures = || proxy.metrics().sum("forebay_tls_handshake_failures_total", &[("listener", "db")]);
    eventually("three failures", || failures() == 3.0);
    assert_eq!(origin.connections(), 3, "nothing is dialled before the handshake is over");
}

#[test]
fn tls_of_a_database_may_end_behind_the_same_port() {
    let (pki, origin) = (Pki::new(), repeats("plain "));
    pki.issue("db", &["db.example"]);
    // Whatever it asks for: the listener is the default.
    let rest = ends_tls("", "[]") + &pool("db", origin.address());
    let proxy = front(&pki, "listener = \"db\"", &rest);
    let mut tls = connect(&proxy, "front", pki.client(&[], &[&TLS13]), "db.example").unwrap();
    tls.write_all(b"select").unwrap();
    let mut answer = [0; 12];
    tls.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"plain select");
}

#[test]
fn tls_is_begun_towards_endpoints_of_tcp() {
    let (pki, app) = (Pki::new(), answers("hello"));
    pki.issue("deep", &["deep.example"]);
    let text = format!(
        "[[listener]]\nname = \"deep\"\nbind = \"127.0.0.1:0\"\nprotocol = \"https\"\n\
         certificates = [{{ cert = \"deep.pem\", key = \"deep.key\" }}]\n[[route]]\npool = \"app\"\n{}",
        pool("app", app.address())
    );
    let deep = Proxy::start_in(pki.path(), &text);
    let text = format!(
        "[[listener]]\nname = \"plain\"\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\npool = \"deep\"\n{}\
         tls = {{ ca = \"ca.pem\", server_name = \"deep.example\" }}\n",
        pool("deep", deep.address("deep"))
    );
    let proxy = Proxy::start_in(pki.path(), &text);
    let mut client = Link::to(proxy.address("plain"));
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.response().text(), "hello");
}

#[test]
fn a_reload_leads_new_connections_elsewhere_and_keeps_the_old() {
    let (pki, first, second) = (Pki::new(), repeats("1"), repeats("2"));
    let pools = pool("first", first.address()) + &pool("second", second.address());
    let proxy = front(&pki, &entry(&["a.example"], "pool = \"first\""), &pools);
    let ask = || {
        let mut client = Link::to(proxy.address("front"));
        client.send(hello("a.example", &[], 1 << 14));
        (client.take(1), client)
    };
    let (greeting, mut old) = ask();
    assert_eq!(greeting, b"1");
    proxy.reload_in(pki.path(), &toml(&entry(&["a.example"], "pool = \"second\""), &pools)).unwrap();
    eventually("it leads to the second", || ask().0 == b"2");
    let sent = hello("a.example", &[], 1 << 14).len();
    assert_eq!(old.take(sent).len(), sent);
    old.send("still here");
    assert_eq!(old.take(10), b"still here");
}
