//! Headers that listeners take.

use crate::support::*;
use crate::{LINE, REQUEST, REQUIRED, binary, header_count};

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
