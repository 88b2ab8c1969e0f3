//! The parsers against damaged input, without sockets: the properties that the fuzz targets check,
//! over seeds.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use fastrand::Rng;
use forebay::wire::client_hello::Reader;
use forebay::wire::proxy_protocol::{Header, ToldTls, v2};

use crate::mutation::{REQUESTS, RESPONSES, mutate};
use crate::{properties, seeds};

/// Checks a property for damaged forms of each of `messages`.
#[track_caller]
fn assert_holds(property: fn(&[u8]), messages: &[Vec<u8>], rounds: u64) {
    for message in messages {
        property(message);
    }
    for seed in seeds(rounds) {
        let mut rng = Rng::with_seed(seed);
        let message = rng.choice(messages).expect("there are messages");
        let damaged = mutate(&mut rng, message);
        let outcome = catch_unwind(AssertUnwindSafe(|| property(&damaged)));
        assert!(outcome.is_ok(), "FOREBAY_SEED={seed}: {:?}", String::from_utf8_lossy(&damaged));
    }
}

fn bytes(messages: &[&str]) -> Vec<Vec<u8>> {
    messages.iter().map(|message| message.as_bytes().to_vec()).collect()
}

#[test]
fn request_heads_have_one_meaning() {
    assert_holds(properties::request_head, &bytes(REQUESTS), 30_000);
}

#[test]
fn response_heads_have_one_meaning() {
    assert_holds(properties::response_head, &bytes(RESPONSES), 30_000);
}

#[test]
fn chunked_bodies_have_one_meaning() {
    let bodies = [
        "5\r\nhello\r\n0\r\n\r\n",
        "5;a=b;c=\"d;e\" \r\nhello\r\n00\r\nX-Sum: 1\r\nx-b: \r\n\r\nGET / HTTP/1.1\r\n",
        "a  \r\n0123456789\r\n1\r\nx\r\nF\r\n0123456789abcde\r\n0\r\nContent-Length: 5\r\n\r\n",
    ];
    assert_holds(properties::chunked_body, &bytes(&bodies), 2_000);
}

#[test]
fn client_hellos_have_one_meaning() {
    let names =
        ["db.example.com", "127.0.0.1"].map(|name| rustls_pki_types::ServerName::try_from(name).unwrap());
    let mut hellos = Vec::new();
    for name in names {
        let mut config = rustls::ClientConfig::builder()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"postgresql".to_vec()];
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        hellos.push(hello);
    }
    let fragmented = hellos.iter().map(|hello| hello.get(5..).unwrap().chunks(40)).map(|pieces| {
        pieces
            .flat_map(|piece| [&[22, 3, 1, 0, u8::try_from(piece.len()).unwrap()], piece].concat())
            .collect()
    });
    hellos.extend(fragmented.collect::<Vec<_>>());
    assert!(hellos.iter().all(|hello| Reader::default().read(hello).unwrap().is_some()));
    assert_holds(properties::client_hello, &hellos, 5_000);
}

#[test]
fn proxy_headers_have_one_meaning() {
    let mut headers = bytes(&[
        "PROXY TCP4 192.0.2.7 198.51.100.1 1234 443\r\nGET / HTTP/1.1\r\n",
        "PROXY TCP6 2001:db8::1 ::ffff:192.0.2.7 1 65535\r\n",
        "PROXY UNKNOWN\r\n",
    ]);
    let mut header = Header::between(([192, 0, 2, 7], 1234).into(), ([198, 51, 100, 1], 443).into());
    header.told.alpn = Some(b"h2"[..].into());
    header.told.authority = Some("shop.example".into());
    let tls =
        ToldTls { version: Some("TLSv1.3".into()), subject: Some("Jo".into()), shown: 2, verified: true };
    header.told.tls = Some(tls);
    for checksum in [false, true] {
        let mut written = Vec::new();
        v2::encode(&header, v2::Style { transport: v2::Transport::Stream, checksum }, &mut written);
        written.extend_from_slice(b"GET / HTTP/1.1\r\n");
        headers.push(written);
    }
    assert_holds(properties::proxy_header, &headers, 20_000);
}

#[test]
fn configurations_are_understood_or_faulted() {
    let folders = ["config", "config/examples", "tests/config"].map(|folder| fs::read_dir(folder).unwrap());
    let files = folders.into_iter().flatten().map(|entry| entry.unwrap().path());
    let texts: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .map(|path| fs::read(path).unwrap())
        .collect();
    assert!(texts.len() > 10);
    assert_holds(properties::configuration, &texts, 300);
}
