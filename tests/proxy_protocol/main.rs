//! The PROXY protocol over real sockets: whose word is taken for who a client is, what endpoints are told,
//! with TLS on either side, and other programs at either end. A program that is not installed is skipped.

#![expect(clippy::unwrap_used, reason = "what is not as expected fails the test")]

mod endpoints;
mod http2;
mod listeners;
mod programs;
mod secured;
#[path = "../support/mod.rs"]
mod support;

use std::io::Read;
use std::net::TcpStream;

use forebay::wire::proxy_protocol::v2::{Style, Transport};
use forebay::wire::proxy_protocol::{Header, Told, ToldTls, parse, v2};
use support::*;

const LINE: &str = "PROXY TCP4 192.0.2.7 198.51.100.1 1234 443\r\n";
const REQUIRED: &str = "proxy_protocol = \"required\"";
const REQUEST: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";

/// Reads the header that a connection begins with, and nothing of what follows.
fn header_of(mut tcp: &TcpStream) -> Option<Header> {
    let mut bytes = Vec::new();
    loop {
        let mut byte = [0];
        tcp.read_exact(&mut byte).ok()?;
        bytes.push(byte[0]);
        if let Some((header, _)) = parse(&bytes).unwrap() {
            return Some(header);
        }
    }
}

/// What a header says, as text.
fn shown(header: Header) -> String {
    let ends = header.ends.map(|ends| format!("{} {}", ends.source, ends.destination));
    let told = header.told;
    format!(
        "{} sni={:?} alpn={:?} tls={:?} id={}",
        ends.unwrap_or_else(|| "nobody".into()),
        told.authority,
        told.alpn.as_deref().map(String::from_utf8_lossy),
        told.tls.map(|tls| (tls.version, tls.subject, tls.verified)),
        told.unique_id.as_deref().map_or_else(|| "-".into(), String::from_utf8_lossy),
    )
}

/// Answers requests with what it was told when the connection began.
fn tells_what_it_was_told() -> Origin {
    Origin::run(|conn| {
        let Some(header) = header_of(conn.link.tcp()) else { return };
        let text = shown(header);
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
