//! Origins by what they do, well or badly. Each is a script for `Origin::run`.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use super::{Origin, OriginConn};

/// Answers every request with 200 and `body`, on kept connections.
pub(crate) fn answers(body: &str) -> Origin {
    answers_raw(&ok(body))
}

/// Answers every request with these bytes, on kept connections.
pub(crate) fn answers_raw(response: &str) -> Origin {
    let response = response.to_owned();
    Origin::run(move |conn| while conn.request().is_some() && conn.send(&response) {})
}

/// Answers every request with its own body, and with its target in `X-Target`.
pub(crate) fn echoes() -> Origin {
    Origin::run(|conn| {
        while let Some(request) = conn.request() {
            let head = format!(
                "HTTP/1.1 200 OK\r\nX-Target: {}\r\nContent-Length: {}\r\n\r\n",
                request.target(),
                request.body.len()
            );
            let body = if request.method() == "HEAD" { &[][..] } else { &request.body };
            if !conn.send(head) || !conn.send(body) {
                return;
            }
        }
    })
}

/// Answers as [`answers`] does and closes without having said so.
pub(crate) fn closes_after_every_answer(body: &str) -> Origin {
    let response = ok(body);
    Origin::run(move |conn| {
        if conn.request().is_some() {
            conn.send(&response);
        }
    })
}

/// Answers as [`answers`] does and closes a connection on which nothing comes for `idle`.
pub(crate) fn closes_idle_after(idle: Duration, body: &str) -> Origin {
    closes_idle_on(TcpListener::bind("127.0.0.1:0").expect("there is a free port"), idle, body)
}

/// As [`closes_idle_after`], on a socket that listens already.
pub(crate) fn closes_idle_on(listener: TcpListener, idle: Duration, body: &str) -> Origin {
    let response = ok(body);
    Origin::on(listener, move |conn| {
        while conn.request().is_some() && conn.send(&response) {
            if !comes_within(conn, idle) {
                return;
            }
        }
    })
}

/// Takes requests and says nothing.
pub(crate) fn never_answers() -> Origin {
    Origin::run(|conn| while conn.request().is_some() {})
}

/// Sends the head of a response of 10 bytes, then nothing.
pub(crate) fn stalls_after_head() -> Origin {
    Origin::run(|conn| {
        if conn.request().is_some() && conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n") {
            conn.until_end();
        }
    })
}

/// Sends half of a response of 10 bytes, then a reset.
pub(crate) fn resets_midway() -> Origin {
    Origin::run(|conn| {
        if conn.request().is_some() && conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234") {
            conn.reset();
        }
    })
}

/// Sends half of a response of 10 bytes, then closes.
pub(crate) fn truncates_body() -> Origin {
    Origin::run(|conn| {
        if conn.request().is_some() {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234");
        }
    })
}

/// Answers with what is no HTTP.
pub(crate) fn sends_garbage() -> Origin {
    Origin::run(|conn| {
        if conn.request().is_some() {
            conn.send("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n");
        }
    })
}

/// Takes a request and closes.
pub(crate) fn closes_before_answer() -> Origin {
    Origin::run(|conn| {
        conn.request();
    })
}

/// Takes a request and resets the connection.
pub(crate) fn resets_before_answer() -> Origin {
    Origin::run(|conn| {
        if conn.request().is_some() {
            conn.reset();
        }
    })
}

/// An address that refuses connections for as long as this lives.
#[derive(Debug)]
pub(crate) struct Refusing(socket2::Socket);

impl Refusing {
    /// Where nobody listens.
    pub(crate) fn address(&self) -> SocketAddr {
        let address = self.0.local_addr().expect("a bound socket has an address");
        address.as_socket().expect("which is one of IP")
    }
}

/// Refuses connections: the port is taken, but nobody listens on it.
pub(crate) fn refuses() -> Refusing {
    Refusing(bound())
}

/// An address where connecting hangs for as long as this lives.
#[derive(Debug)]
pub(crate) struct Full {
    socket: socket2::Socket,
    waiting: Vec<socket2::Socket>,
}

impl Full {
    /// Where connecting hangs.
    pub(crate) fn address(&self) -> SocketAddr {
        let address = self.socket.local_addr().expect("a bound socket has an address");
        address.as_socket().expect("which is one of IP")
    }
}

/// Never takes a connection: it does not accept, and its backlog is full.
pub(crate) fn never_accepts() -> Full {
    let socket = bound();
    socket.listen(0).expect("a bound socket listens");
    let mut full = Full { socket, waiting: Vec::new() };
    let address = full.address().into();
    for _ in 0..4 {
        let client = tcp_socket();
        // Those past the first one or two hang, which is what they are for.
        let _ = client.connect_timeout(&address, Duration::from_millis(20));
        full.waiting.push(client);
    }
    full
}

/// A whole response with `body`.
pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Whether a byte or an end comes within `idle`.
fn comes_within(conn: &mut OriginConn, idle: Duration) -> bool {
    if !conn.link.unread().is_empty() {
        return true;
    }
    let tcp = conn.link.tcp();
    tcp.set_read_timeout(Some(idle)).expect("a socket takes a timeout");
    let came = tcp.peek(&mut [0]).is_ok_and(|n| n > 0);
    tcp.set_read_timeout(Some(super::DEADLINE)).expect("a socket takes a timeout");
    came
}

fn bound() -> socket2::Socket {
    let socket = tcp_socket();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("there is a free port");
    socket
}

fn tcp_socket() -> socket2::Socket {
    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("there are sockets")
}
