//! WebSocket and other upgrades: after 101 a connection is a tunnel, and carries bytes both ways
//! until both sides have ended; without 101 it stays what it was.

mod support;

use std::sync::mpsc::channel;
use std::thread;

use support::*;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message as Ws};

const UPGRADE: &str =
    "GET /chat HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: raw/1\r\n\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: raw/1\r\n\r\n";

/// Switches protocols, then does what `then` says.
fn switches(then: impl Fn(&mut OriginConn) + Send + Sync + 'static) -> Origin {
    Origin::run(move |conn| {
        if conn.head().is_some() && conn.send(SWITCHING) {
            then(conn);
        }
    })
}

/// A client for whom protocols were switched.
fn switched(proxy: &Proxy) -> Link {
    let mut client = proxy.connect();
    client.send(UPGRADE);
    let head = client.head().expect("an answer comes");
    assert_eq!(head.status(), 101, "{head:?}");
    assert!(head.lists("connection", "upgrade") && head.field("upgrade") == Some("raw/1"), "{head:?}");
    client
}

fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| rng.u8(..)).take(len).collect()
}

/// A WebSocket origin that echoes messages, and closes when it is told to.
fn echoes_websocket() -> Origin {
    Origin::run(|conn| {
        let tcp = conn.link.tcp().try_clone().expect("a socket can be cloned");
        let mut socket = tungstenite::accept(tcp).expect("the handshake is whole");
        while let Ok(message) = socket.read() {
            if message == Ws::text("close, please") {
                socket
                    .close(Some(CloseFrame { code: CloseCode::Away, reason: "as told".into() }))
                    .expect("it is open");
            } else if message.is_text() || message.is_binary() {
                socket.send(message).expect("it is open");
            }
        }
    })
}

#[test]
fn websocket_messages_pass_both_ways() {
    let origin = echoes_websocket();
    let proxy = Proxy::to(origin.address());
    let client = proxy.connect();
    let url = format!("ws://{}/chat?room=1", proxy.address("web"));
    let (mut socket, response) = tungstenite::client(url, client.tcp()).unwrap();
    assert_eq!(response.status(), 101);
    socket.send(Ws::text("hello")).unwrap();
    assert_eq!(socket.read().unwrap(), Ws::text("hello"));
    let large = bytes(1024 * 1024, 1);
    for _ in 0..3 {
        socket.send(Ws::binary(large.clone())).unwrap();
        assert!(socket.read().unwrap() == Ws::binary(large.clone()), "1 MiB comes back as it was");
    }
    socket.send(Ws::Ping("are you there".into())).unwrap();
    assert_eq!(socket.read().unwrap(), Ws::Pong("are you there".into()));
    socket.close(Some(CloseFrame { code: CloseCode::Normal, reason: "done".into() })).unwrap();
    let Ws::Close(Some(frame)) = socket.read().unwrap() else { panic!("no close came back") };
    assert_eq!((frame.code, frame.reason.as_str()), (CloseCode::Normal, "done"));
    assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
}

#[test]
fn a_websocket_origin_may_close_first() {
    let origin = echoes_websocket();
    let proxy = Proxy::to(origin.address());
    let client = proxy.connect();
    let (mut socket, _) = tungstenite::client("ws://h/", client.tcp()).unwrap();
    socket.send(Ws::text("close, please")).unwrap();
    let Ws::Close(Some(frame)) = socket.read().unwrap() else { panic!("no close came") };
    assert_eq!((frame.code, frame.reason.as_str()), (CloseCode::Away, "as told"));
    assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
    drop(socket);
    drop(client);
    eventually("the tunnel is counted", || {
        let metrics = proxy.metrics();
        metrics.sum("forebay_endpoint_requests_in_flight", &[]) == 0.0
            && metrics.sum("forebay_requests_total", &[("class", "1xx")]) == 1.0
    });
}

#[test]
fn what_the_origin_is_asked_is_the_clients_upgrade_and_nothing_else_of_the_hop() {
    let origin = switches(|conn| {
        conn.until_end();
    });
    let proxy = Proxy::to(origin.address());
    let client = switched(&proxy);
    let request = origin.next_request();
    assert_eq!(request.values("upgrade"), ["raw/1"]);
    assert_eq!(request.values("connection"), ["Upgrade"]);
    drop(client);
    origin.wait_end(0);
}

#[test]
fn an_origin_that_refuses_answers_as_ever() {
    let origin = Origin::run(|conn| {
        while let Some(request) = conn.request() {
            conn.send(match request.target() {
                "/chat" => "HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade\r\nUpgrade: other/2\r\nContent-Length: 2\r\n\r\nno",
                "/plain" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nplain\r\n0\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext",
            });
        }
    });
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    for (target, status, body) in [("/chat", 426, "no"), ("/plain", 200, "plain")] {
        client.send(UPGRADE.replace("/chat", target));
        client.send("GET /next HTTP/1.1\r\nHost: h\r\n\r\n");
        let response = client.response();
        assert_eq!((response.status(), response.text().as_str()), (status, body));
        assert_eq!(client.response().text(), "next");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn bytes_right_behind_the_heads_are_part_of_the_tunnel() {
    let origin = Origin::run(|conn| {
        conn.head();
        conn.send(format!("{SWITCHING}first from the origin\n"));
        let line = conn.link.take_until(b"\n").unwrap_or_default();
        conn.send(line);
        conn.until_end();
    });
    let proxy = Proxy::to(origin.address());
    for early in ["first from the client\n".to_owned(), format!("{}\n", "x".repeat(200_000))] {
        let mut client = proxy.connect();
        client.send(format!("{UPGRADE}{early}"));
        assert_eq!(client.head().unwrap().status(), 101);
        assert_eq!(client.take_until(b"\n").unwrap(), b"first from the origin\n");
        assert!(client.take_until(b"\n").unwrap() == early.as_bytes());
    }
}

#[test]
fn an_interim_response_before_101_passes_too() {
    let origin = Origin::run(|conn| {
        conn.head();
        conn.send(format!("HTTP/1.1 103 Early Hints\r\nX-A: b\r\n\r\n{SWITCHING}bytes"));
        conn.until_end();
    });
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    client.send(UPGRADE);
    assert_eq!(client.head().unwrap().status(), 103);
    assert_eq!(client.head().unwrap().status(), 101);
    assert_eq!(client.take(5), b"bytes");
}

#[test]
fn either_side_may_end_its_direction_first() {
    let (tell, told) = channel();
    let origin = switches(move |conn| {
        if conn.number == 0 {
            // The client ends its direction, and still gets what comes after that.
            let (asked, ended) = conn.link.rest();
            tell.send((asked, ended)).expect("the test waits");
            conn.send("an answer to all of it");
        } else {
            conn.send("all that there is");
            conn.link.finish();
            tell.send(conn.link.rest()).expect("the test waits");
        }
    });
    let proxy = Proxy::to(origin.address());
    let mut client = switched(&proxy);
    client.send("a question");
    client.finish();
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), (b"a question".to_vec(), Ended::Closed));
    assert_eq!(client.rest(), (b"an answer to all of it".to_vec(), Ended::Closed));
    let mut client = switched(&proxy);
    assert_eq!(client.rest(), (b"all that there is".to_vec(), Ended::Closed));
    client.send("and still some bytes");
    client.finish();
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), (b"and still some bytes".to_vec(), Ended::Closed));
}

#[test]
fn both_directions_carry_much_at_once() {
    const LEN: usize = 8 * 1024 * 1024;
    let (tell, told) = channel();
    let origin = switches(move |conn| {
        let mut writer = Link::over(conn.link.tcp().try_clone().expect("a socket can be cloned"));
        let writing = thread::spawn(move || writer.send(bytes(LEN, 2)));
        tell.send(conn.link.take(LEN)).expect("the test waits");
        writing.join().expect("it can write");
    });
    let proxy = Proxy::to(origin.address());
    let mut client = switched(&proxy);
    let mut writer = Link::over(client.tcp().try_clone().unwrap());
    let writing = thread::spawn(move || writer.send(bytes(LEN, 3)));
    assert!(client.take(LEN) == bytes(LEN, 2), "what the origin sent");
    writing.join().unwrap();
    assert!(told.recv_timeout(DEADLINE).unwrap() == bytes(LEN, 3), "what the client sent");
}

#[test]
fn a_side_that_does_not_read_holds_the_other_back() {
    const OFFERED: usize = 160 * 1024 * 1024;
    let (tell, told) = channel();
    let origin = switches(move |conn| {
        tell.send(conn.link.stuff(OFFERED, std::time::Duration::from_millis(300))).expect("the test waits");
    });
    let proxy = Proxy::to(origin.address());
    let _client = switched(&proxy);
    let sent = told.recv_timeout(DEADLINE).unwrap();
    assert!(sent < OFFERED / 4, "{sent} bytes were read ahead");
}

#[test]
fn a_reset_on_one_side_ends_the_other() {
    let origin = switches(|conn| {
        if conn.number == 0 {
            conn.reset();
        } else {
            conn.until_end();
        }
    });
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    client.send(UPGRADE);
    client.rest();
    switched(&proxy).reset();
    origin.wait_end(1);
    eventually("both are over", || proxy.metrics().sum("forebay_endpoint_requests_in_flight", &[]) == 0.0);
}

#[test]
fn an_upgrade_with_a_body_is_not_asked_for() {
    let origin = echoes();
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: raw/1\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(client.response().text(), "body");
    let request = origin.next_request();
    assert_eq!((request.field("upgrade"), request.field("connection")), (None, None));
}

/// A tunnel of HTTP/2 would carry requests past routes and filters.
#[test]
fn no_tunnel_to_http_2_is_asked_for() {
    let origin = answers("hello");
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n");
    client.send("HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n");
    assert_eq!(client.response().text(), "hello");
    let request = origin.next_request();
    assert_eq!((request.field("upgrade"), request.field("http2-settings")), (None, None));
}

#[test]
fn http_1_0_cannot_upgrade() {
    let origin = answers("hello");
    let proxy = Proxy::to(origin.address());
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.0\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: raw/1\r\n\r\n");
    assert_eq!(client.response().text(), "hello");
    assert_eq!(origin.next_request().field("upgrade"), None);
}

#[test]
fn a_quiet_tunnel_ends_and_a_busy_one_does_not() {
    let origin = switches(|conn| {
        while let Some(line) = conn.link.take_until(b"\n") {
            conn.send(line);
        }
        conn.until_end();
    });
    let pool = "[pool.app.timeouts]\ntunnel = \"250ms\"\nidle = \"50ms\"";
    let proxy = Plain { pool, listener: "[listener.timeouts]\nidle = \"50ms\"", ..Plain::default() }
        .to(&[origin.address()]);
    let mut client = switched(&proxy);
    for _ in 0..6 {
        client.send("ping\n");
        assert_eq!(client.take(5), b"ping\n");
        thread::sleep(std::time::Duration::from_millis(80));
    }
    client.rest();
    origin.wait_end(0);
}
