//! Who may see and who may change what runs: tokens and certificates over TCP, files' permissions over
//! Unix sockets, and commands that find all of it in the configuration.

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use forebay::control::client::tls::believing;
use forebay::control::client::{Destination, Question, send};
use forebay::model::Address;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use support::*;

const READS: &str = "reads-reads-reads-reads";
const WRITES: &str = "writes-writes-writes";

/// A proxy of which the admin listener has these lines.
fn proxy(pki: &Pki, lines: &str) -> Proxy {
    Proxy::start_in(
        pki.path(),
        &format!(
            "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"app\"\n\
             [pool.app]\nendpoints = [\"127.0.0.1:9\"]\n[admin]\n{lines}\n"
        ),
    )
}

fn at(proxy: &Proxy) -> Destination {
    Address::Inet(([127, 0, 0, 1], proxy.admin().port()).into()).into()
}

fn ask(to: &Destination, method: &str, target: &str) -> u16 {
    let question = Question { method, target, json: "" };
    send(to, &question, Duration::from_secs(10)).expect("it answers").status
}

#[test]
fn each_right_has_its_token() {
    let pki = Pki::new();
    let proxy =
        proxy(&pki, &format!("bind = \"0.0.0.0:0\"\nread.token = \"{READS}\"\nwrite.token = \"{WRITES}\""));
    let drain = "/v1/endpoints/app/127.0.0.1:9/drain";
    for (token, read, write) in [
        (None, 401, 401),
        (Some("wrong-wrong-wrong-wrong"), 401, 401),
        (Some(READS), 200, 401),
        (Some(WRITES), 200, 200),
    ] {
        let to = Destination { token: token.map(str::to_owned), ..at(&proxy) };
        assert_eq!(ask(&to, "GET", "/metrics"), read, "{token:?}");
        assert_eq!(ask(&to, "GET", "/v1/status"), read, "{token:?}");
        assert_eq!(ask(&to, "POST", drain), write, "{token:?}");
        // These tell nothing that is worth a secret.
        assert_eq!((ask(&to, "GET", "/livez"), ask(&to, "GET", "/readyz")), (200, 200), "{token:?}");
    }
    let mut client = Link::to(([127, 0, 0, 1], proxy.admin().port()).into());
    client.send("GET /v1/status HTTP/1.1\r\nHost: forebay.example\r\n\r\n");
    let refused = client.response();
    assert_eq!((refused.status(), refused.field("www-authenticate")), (401, Some("Bearer")));
    assert!(refused.text().contains("Authorization: Bearer"), "it says what to do: {}", refused.text());
}

#[test]
fn a_unix_socket_is_protected_by_its_file() {
    let pki = Pki::new();
    let proxy = proxy(
        &pki,
        &format!("bind = [\"127.0.0.1:0\", \"unix:admin.sock\"]\nmode = \"0600\"\nread.token = \"{READS}\""),
    );
    let path = pki.path().join("admin.sock");
    let mode = fs::metadata(&path).expect("the socket is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let unix: Destination = Address::Unix(path.as_path().into()).into();
    assert_eq!(ask(&unix, "GET", "/v1/status"), 200);
    assert_eq!(ask(&unix, "POST", "/v1/endpoints/app/127.0.0.1:9/drain"), 200);
    assert_eq!(ask(&at(&proxy), "GET", "/v1/status"), 401);
    // Nobody may write over TCP, as long as nobody said who may.
    let reader = Destination { token: Some(READS.to_owned()), ..at(&proxy) };
    assert_eq!(ask(&reader, "POST", "/v1/endpoints/app/127.0.0.1:9/drain"), 403);
    // A web page that got at the socket all the same gives no orders.
    let mut stream = UnixStream::connect(&path).expect("it listens");
    let order =
        "POST /v1/endpoints/app/127.0.0.1:9/drain HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n\r\n";
    stream.write_all(order.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[test]
fn pages_of_others_see_nothing_on_loopback() {
    let pki = Pki::new();
    let proxy = proxy(&pki, "bind = \"127.0.0.1:0\"");
    for (host, target, status) in [
        ("attacker.example", "/v1/status", 403),
        ("attacker.example", "/metrics", 403),
        ("attacker.example", "/livez", 200),
        ("localhost:9900", "/v1/status", 200),
        ("127.0.0.1", "/metrics", 200),
    ] {
        let mut client = Link::to(proxy.admin());
        client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(client.response().status(), status, "{host} {target}");
    }
}

/// TLS that shows `FILE.pem`, and believes in the authority.
fn certified(pki: &Pki, file: &str) -> Arc<rustls::ClientConfig> {
    let key = PrivateKeyDer::from_pem_file(pki.path().join(format!("{file}.key"))).expect("it was issued");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .expect("the versions fit")
        .with_root_certificates(pki.roots())
        .with_client_auth_cert(vec![pki.certificate(file)], key);
    Arc::new(config.expect("the key belongs to the certificate"))
}

#[test]
fn certificates_say_who_may() {
    let (pki, other) = (Pki::new(), Pki::new());
    pki.issue("server", &["localhost", "127.0.0.1"]).issue("monitor", &["monitor.example"]);
    pki.issue("deploy", &["deploy.example"]).issue("nobody", &["nobody.example"]);
    other.issue("foreign", &["monitor.example"]);
    let proxy = proxy(
        &pki,
        "bind = \"127.0.0.1:0\"\ncertificates = [{ cert = \"server.pem\", key = \"server.key\" }]\n\
         read = { client_ca = \"ca.pem\", client_names = [\"monitor.example\"] }\n\
         write = { client_ca = \"ca.pem\", client_names = [\"Deploy.example\"] }",
    );
    for (file, read, write) in [("monitor", 200, 403), ("deploy", 200, 200), ("nobody", 403, 403)] {
        let to = Destination { tls: Some(certified(&pki, file)), ..at(&proxy) };
        assert_eq!(ask(&to, "GET", "/v1/status"), read, "{file}");
        assert_eq!(ask(&to, "POST", "/v1/endpoints/app/127.0.0.1:9/drain"), write, "{file}");
    }
    let nameless = Destination { tls: Some(believing(vec![pki.certificate("ca")])), ..at(&proxy) };
    assert_eq!((ask(&nameless, "GET", "/v1/status"), ask(&nameless, "GET", "/readyz")), (403, 200));
    // Who knows the certificate itself needs no authority, and who knows neither does not ask.
    let pinned = Destination { tls: Some(believing(vec![pki.certificate("server")])), ..at(&proxy) };
    assert_eq!(ask(&pinned, "GET", "/readyz"), 200);
    let question = Question { method: "GET", target: "/readyz", json: "" };
    for (what, tls) in [
        ("an authority of another's", Some(believing(vec![other.certificate("ca")]))),
        ("a certificate of another's", Some(certified(&other, "foreign"))),
        ("no TLS", None),
    ] {
        let to = Destination { tls, ..at(&proxy) };
        assert!(send(&to, &question, Duration::from_secs(10)).is_err(), "{what}");
    }
}

#[test]
fn commands_find_the_token_and_the_certificate_in_the_configuration() {
    let pki = Pki::new();
    pki.issue("server", &["admin.example"]);
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("which has an address").port()
    };
    let text = format!(
        "workers = 1\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"app\"\n\
         [pool.app]\nendpoints = [\"127.0.0.1:9\"]\n\
         [admin]\nbind = \"127.0.0.1:{port}\"\ncertificates = [{{ cert = \"server.pem\", key = \"server.key\" }}]\n\
         read.token = \"{READS}\"\nwrite.token_file = \"write.token\"\n"
    );
    fs::write(pki.path().join("write.token"), format!("{WRITES}\n")).expect("the folder takes a file");
    let file = pki.path().join("forebay.toml");
    fs::write(&file, &text).expect("the folder takes a file");
    let _proxy = Proxy::start_in(pki.path(), &text);
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_forebay"));
        let output = command.args(args).env_remove("FOREBAY_ADMIN_TOKEN").output().expect("it runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    let config = file.to_str().expect("UTF-8");
    for args in [
        &["healthcheck", "-c", config][..],
        &["endpoints", "-c", config],
        &["status", "-c", config],
        &["pools", "-c", config],
        &["endpoint", "drain", "app/127.0.0.1:9", "-c", config],
    ] {
        let (code, text) = run(args);
        assert_eq!(code, Some(0), "{args:?}: {text}");
    }
    for slip in ["wrokers = 2\n", "[[route\n"] {
        fs::write(&file, text.clone() + slip).expect("the folder takes a file");
        let (code, told) = run(&["status", "-c", config]);
        assert_eq!(code, Some(0), "what is wrong elsewhere hides neither: {told}");
    }
    let admin = format!("127.0.0.1:{port}");
    let (ca, token) = (pki.path().join("server.pem"), pki.path().join("write.token"));
    let (ca, token) = (ca.to_str().expect("UTF-8"), token.to_str().expect("UTF-8"));
    let by_hand = ["endpoints", "--admin", &admin, "--ca", ca];
    let (code, text) = run(&by_hand);
    assert!(code == Some(1) && text.contains("--token-file"), "{text}");
    assert!(!text.contains(READS) && !text.contains(WRITES), "{text}");
    let (code, text) = run(&[&by_hand[..], &["--token-file", token]].concat());
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn secrets_are_not_shown_and_change_without_a_restart() {
    let pki = Pki::new();
    let text = |token: &str| {
        format!(
            "workers = 1\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"app\"\n\
             [pool.app]\nendpoints = [\"127.0.0.1:9\"]\n[admin]\nbind = \"127.0.0.1:0\"\nread.token = \"{token}\"\n"
        )
    };
    let proxy = Proxy::start_in(pki.path(), &text(READS));
    let reader = Destination { token: Some(READS.to_owned()), ..at(&proxy) };
    let question = Question { method: "GET", target: "/v1/config", json: "" };
    let shown = send(&reader, &question, Duration::from_secs(10)).expect("it answers");
    assert!(shown.status == 200 && shown.body.contains("\"token\":\"***\""), "{}", shown.body);
    assert!(!shown.body.contains(READS), "{}", shown.body);
    let other = "another-token-of-some-length";
    let plan = forebay::config::from_str("f.toml", &text(other), &|_| None, pki.path()).expect("it is valid");
    proxy.server().running().replace(plan).expect("it can run");
    assert_eq!(ask(&reader, "GET", "/v1/status"), 401);
    let reader = Destination { token: Some(other.to_owned()), ..at(&proxy) };
    assert_eq!(ask(&reader, "GET", "/v1/status"), 200);
}
