//! The PROXY protocol over real sockets: whose word is taken for who a client is, what endpoints are told,
//! and other programs at either end. A program that is not installed is skipped.

#![expect(clippy::unwrap_used, reason = "what is not as expected fails the test")]

mod support;

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};

use forebay::wire::proxy_protocol::v2::{Style, Transport};
use forebay::wire::proxy_protocol::{Header, Told, ToldTls, parse, v2};
use support::*;
use tempfile::TempDir;

const LINE: &str = "PROXY TCP4 192.0.2.7 198.51.100.1 1234 443\r\n";
const REQUIRED: &str = "proxy_protocol = \"required\"";
const REQUEST: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";

/// Reads the header that a connection begins with.
fn header_of(conn: &mut OriginConn) -> Option<Header> {
    let mut bytes = Vec::new();
    loop {
        bytes.push(*conn.link.take(1).first()?);
        if let Some((header, _)) = parse(&bytes).unwrap() {
            return Some(header);
        }
    }
}

/// Answers requests with what it was told when the connection began.
fn tells_what_it_was_told() -> Origin {
    Origin::run(|conn| {
        let Some(header) = header_of(conn) else { return };
        let ends = header.ends.map(|ends| format!("{} {}", ends.source, ends.destination));
        let told = header.told;
        let text = format!(
            "{} sni={:?} alpn={:?} tls={:?} id={}",
            ends.unwrap_or_else(|| "nobody".into()),
            told.authority,
            told.alpn.as_deref().map(String::from_utf8_lossy),
            told.tls.map(|tls| (tls.version, tls.subject, tls.verified)),
            told.unique_id.as_deref().map_or_else(|| "-".into(), String::from_utf8_lossy),
        );
        while conn.request().is_some() && conn.send(ok(&text)) {}
    })
}

fn binary(tls: bool) -> Vec<u8> {
    let mut header = Header::between(([192, 0, 2, 7], 1234).into(), ([198, 51, 100, 1], 443).into());
    if tls {
        let tls =
            ToldTls { version: Some("TLSv1.3".into()), subject: Some("Jo".into()), shown: 2, verified: true };
        header.told = Told { authority: Some("shop.example".into()), tls: Some(tls), ..Told::default() };
    }
    let mut out = Vec::new();
    v2::encode(&header, Style { transport: Transport::Stream, checksum: true }, &mut out);
    out
}

fn header_count(proxy: &Proxy, result: &str) -> f64 {
    proxy.metrics().sum("forebay_proxy_protocol_total", &[("result", result)])
}

#[test]
fn the_client_is_whom_the_header_names() {
    let origin = answers("hello");
    let proxy = Plain { listener: REQUIRED, ..Plain::default() }.to(&[origin.address()]);
    for header in [LINE.as_bytes().to_vec(), binary(false)] {
        let mut client = proxy.connect();
        client.send([&header[..], REQUEST.as_bytes()].concat());
        assert_eq!(client.response().text(), "hello");
        let request = origin.next_request();
        assert_eq!(request.field("x-forwarded-for"), Some("192.0.2.7"));
        assert_eq!(request.field("x-forwarded-proto"), Some("http"));
        let open = proxy.ask_admin("/v1/connections").text();
        assert!(open.contains("192.0.2.7:1234"), "{open}");
    }
    assert_eq!(header_count(&proxy, "read"), 2.0);
}

#[test]
fn a_header_may_come_in_pieces_and_say_nothing() {
    let origin = answers("hello");
    let proxy = Plain { listener: REQUIRED, ..Plain::default() }.to(&[origin.address()]);
    let mut client = proxy.connect();
    for byte in LINE.as_bytes() {
        client.send([*byte]);
    }
    client.send(REQUEST);
    assert_eq!(client.response().status(), 200);
    assert_eq!(origin.next_request().field("x-forwarded-for"), Some("192.0.2.7"));
    let mut client = proxy.connect();
    client.send(format!("PROXY UNKNOWN\r\n{REQUEST}"));
    assert_eq!(client.response().status(), 200);
    assert_eq!(origin.next_request().field("x-forwarded-for"), Some("127.0.0.1"));
}

#[test]
fn the_scheme_is_that_of_the_client() {
    let origin = answers("hello");
    let proxy = Plain { listener: REQUIRED, ..Plain::default() }.to(&[origin.address()]);
    let mut client = proxy.connect();
    client.send([&binary(true)[..], REQUEST.as_bytes()].concat());
    assert_eq!(client.response().status(), 200);
    assert_eq!(origin.next_request().field("x-forwarded-proto"), Some("https"));
}

#[test]
fn connections_without_a_header_are_closed_where_one_is_required() {
    let origin = answers("hello");
    let listener = "proxy_protocol = \"required\"\ntimeouts = { proxy_protocol = \"50ms\" }";
    let proxy = Plain { listener, ..Plain::default() }.to(&[origin.address()]);
    for (sent, result) in [
        (REQUEST, "missing"),
        ("PROXY TCP4 192.0.2.7 what ever\r\n", "malformed"),
        ("PROXY TCP4 192.0.2.7", "timeout"),
        ("", "timeout"),
    ] {
        let before = header_count(&proxy, result);
        let mut client = proxy.connect();
        client.send(sent);
        client.expect_end();
        eventually("it is counted", || header_count(&proxy, result) == before + 1.0);
    }
    drop(proxy.connect());
    eventually("it is counted", || header_count(&proxy, "silent") == 1.0);
    assert_eq!(origin.connections(), 0);
}

#[test]
fn strangers_are_not_believed() {
    let origin = answers("hello");
    let trusting = "trusted_proxies = [\"10.0.0.0/8\"]\nproxy_protocol =";
    let optional = format!("{trusting} \"optional\"");
    let proxy = Plain { listener: &optional, ..Plain::default() }.to(&[origin.address()]);
    let mut client = proxy.connect();
    client.send(REQUEST);
    assert_eq!(client.response().status(), 200);
    assert_eq!(origin.next_request().field("x-forwarded-for"), Some("127.0.0.1"));
    let mut spoofing = proxy.connect();
    spoofing.send(format!("{LINE}{REQUEST}"));
    assert_eq!(spoofing.response().status(), 400);

    let required = format!("{trusting} \"required\"");
    let proxy = Plain { listener: &required, ..Plain::default() }.to(&[origin.address()]);
    let mut spoofing = proxy.connect();
    spoofing.send(format!("{LINE}{REQUEST}"));
    spoofing.expect_end();
    assert_eq!(header_count(&proxy, "untrusted"), 1.0);
}

#[test]
fn those_who_are_trusted_may_leave_the_header_out_where_it_is_optional() {
    let origin = answers("hello");
    let listener = "trusted_proxies = [\"127.0.0.0/8\"]\nproxy_protocol = \"optional\"";
    let proxy = Plain { listener, ..Plain::default() }.to(&[origin.address()]);
    for (header, client_ip) in [("", "127.0.0.1"), (LINE, "192.0.2.7")] {
        let mut client = proxy.connect();
        client.send(format!("{header}{REQUEST}"));
        assert_eq!(client.response().status(), 200);
        assert_eq!(origin.next_request().field("x-forwarded-for"), Some(client_ip));
    }
}

#[test]
fn the_door_is_for_the_client_not_for_the_proxy() {
    let origin = answers("hello");
    let listener = format!("{REQUIRED}\ndeny = [\"192.0.2.0/24\"]");
    let proxy = Plain { listener: &listener, ..Plain::default() }.to(&[origin.address()]);
    let mut client = proxy.connect();
    client.send(format!("{LINE}{REQUEST}"));
    let (answer, _) = client.rest();
    assert!(!String::from_utf8_lossy(&answer).contains("200 OK"));
    let mut client = proxy.connect();
    client.send(format!("PROXY TCP4 192.0.3.7 198.51.100.1 1234 443\r\n{REQUEST}"));
    assert_eq!(client.response().status(), 200);
}

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

/// A program of others that runs as long as this lives.
struct Running {
    child: Child,
    _folder: TempDir,
}

impl Running {
    /// Runs `program` with `config` as its configuration, until it listens on `at`.
    fn start(program: &Peer, args: &[&str], config: &str, at: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config");
        fs::write(&file, config.replace("FOLDER", &folder.path().display().to_string())).unwrap();
        let mut command = program.command();
        command.args(args).arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let running = Self { child: command.spawn().unwrap(), _folder: folder };
        eventually("its start", || TcpStream::connect(at).is_ok());
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// What curl gets from there, as a client whose address is 127.0.0.5.
fn curl(program: &Peer, args: &[&str], url: &str) -> String {
    let mut command = program.command();
    command.args(["-sS", "--max-time", "10", "--noproxy", "*", "--interface", "127.0.0.5"]);
    let output = command.args(args).arg(url).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn curl_sends_a_header() {
    let Some(program) = peer("curl") else { return };
    let origin = answers("hello");
    let proxy = Plain { listener: REQUIRED, ..Plain::default() }.to(&[origin.address()]);
    let url = format!("http://{}/", proxy.address("web"));
    assert_eq!(curl(&program, &["--haproxy-protocol"], &url), "hello");
    assert_eq!(origin.next_request().field("x-forwarded-for"), Some("127.0.0.5"));
}

#[test]
fn haproxy_at_both_ends() {
    let (Some(program), Some(haproxy)) = (peer("curl"), peer("haproxy")) else { return };
    for (sends, pool) in [("send-proxy", "v1"), ("send-proxy-v2", "v2")] {
        let (front, back) = (free_port(), free_port());
        let pool = format!("proxy_protocol = \"{pool}\"");
        let proxy = Plain { listener: REQUIRED, pool: &pool, ..Plain::default() }.to(&[back]);
        let forebay = proxy.address("web");
        let config = format!(
            "defaults\n timeout connect 5s\n timeout client 9s\n timeout server 9s\n\
             listen front\n mode tcp\n bind {front}\n server forebay {forebay} {sends}\n\
             frontend back\n mode http\n bind {back} accept-proxy\n\
             \x20http-request return status 200 content-type text/plain lf-string \"%[src] %[dst_port]\"\n"
        );
        let _haproxy = Running::start(&haproxy, &["-db", "-f"], &config, front);
        let text = curl(&program, &[], &format!("http://{front}/"));
        assert_eq!(text, format!("127.0.0.5 {}", front.port()), "{sends}");
    }
}

#[test]
fn nginx_learns_the_client() {
    let (Some(program), Some(nginx)) = (peer("curl"), peer("nginx")) else { return };
    for version in ["v1", "v2"] {
        let back = free_port();
        let pool = format!("proxy_protocol = \"{version}\"");
        let proxy = Plain { pool: &pool, ..Plain::default() }.to(&[back]);
        let config = format!(
            "daemon off; master_process off; pid FOLDER/pid; error_log FOLDER/error.log;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; client_body_temp_path FOLDER/a; proxy_temp_path FOLDER/b;\n\
             fastcgi_temp_path FOLDER/c; uwsgi_temp_path FOLDER/d; scgi_temp_path FOLDER/e;\n\
             server {{ listen {back} proxy_protocol; return 200 \"$proxy_protocol_addr\"; }} }}\n"
        );
        let _nginx = Running::start(&nginx, &["-e", "stderr", "-c"], &config, back);
        let url = format!("http://{}/", proxy.address("web"));
        assert_eq!(curl(&program, &[], &url), "127.0.0.5", "{version}");
    }
}
