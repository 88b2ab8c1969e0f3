//! Asks the admin listener of a running Forebay. Blocking and without a runtime; knows of the listener
//! no more than its address and that it answers in HTTP/1.1, one request per connection.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;

use crate::ambient;
use crate::model::Address;

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body, or as much of it as came.
    pub body: String,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum AskError {
    /// Nobody listens, or not in time.
    #[error("no connection to {0}")]
    Connect(Address, #[source] io::Error),
    /// The connection failed, or the answer did not come in time.
    #[error("no answer from {0}")]
    Answer(Address, #[source] io::Error),
    /// What answered is not the admin listener.
    #[error("{0} does not answer in HTTP")]
    Foreign(Address),
}

/// Asks the admin listener at `address` for `target` by `method`, within `timeout`. Where it listens
/// on every address, loopback is asked.
///
/// # Errors
/// When there is no answer in time.
pub fn ask(address: &Address, method: &str, target: &str, timeout: Duration) -> Result<Answer, AskError> {
    send(address, &Question { method, target, json: "" }, timeout)
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Such as `GET`.
    pub method: &'a str,
    /// The path and the query.
    pub target: &'a str,
    /// The body; none when empty.
    pub json: &'a str,
}

/// As [`ask`], with a body.
///
/// # Errors
/// When there is no answer in time.
pub fn send(address: &Address, asked: &Question<'_>, timeout: Duration) -> Result<Answer, AskError> {
    let Question { method, target, json } = asked;
    let deadline = ambient::now() + timeout;
    let failed = |error| AskError::Connect(address.clone(), error);
    let socket = connect(address, timeout).map_err(failed)?;
    let fields = if json.is_empty() {
        String::new()
    } else {
        format!("Content-Type: application/json\r\nContent-Length: {}\r\n", json.len())
    };
    let request =
        format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n{json}");
    let answer = exchange(socket, request.as_bytes(), deadline);
    let answer = answer.map_err(|error| AskError::Answer(address.clone(), error))?;
    let answer = String::from_utf8_lossy(&answer);
    let Some(status) = status(&answer) else { return Err(AskError::Foreign(address.clone())) };
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
    Ok(Answer { status, body })
}

fn connect(address: &Address, timeout: Duration) -> io::Result<Socket> {
    let (domain, to) = match address {
        Address::Inet(address) => (Domain::for_address(*address), SockAddr::from(reachable(*address))),
        Address::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
    };
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.connect_timeout(&to, timeout)?;
    Ok(socket)
}

/// Where to find what is bound to `address`.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    address
}

/// Sends the request and reads until the answer is whole, the connection ends or time is up.
fn exchange(mut socket: Socket, request: &[u8], deadline: Instant) -> io::Result<Vec<u8>> {
    let left = || match deadline.saturating_duration_since(ambient::now()) {
        Duration::ZERO => Err(io::Error::from(io::ErrorKind::TimedOut)),
        left => Ok(Some(left)),
    };
    socket.set_write_timeout(left()?)?;
    socket.write_all(request)?;
    let mut answer = Vec::new();
    let mut chunk = [0; 16 * 1024];
    while answer.len() < MAX_ANSWER && !is_whole(&answer) {
        let read = left().and_then(|left| {
            socket.set_read_timeout(left)?;
            socket.read(&mut chunk)
        });
        match read {
            Ok(0) => break,
            Ok(n) => answer.extend_from_slice(chunk.get(..n).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // What has come may be all that is needed, however the connection ends.
            Err(_) if !answer.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

/// Whether the answer has all of the body that it announced.
fn is_whole(answer: &[u8]) -> bool {
    let head_end = memchr::memmem::find(answer, b"\r\n\r\n");
    let Some((head, body)) = head_end.and_then(|end| answer.split_at_checked(end + 4)) else { return false };
    let head = String::from_utf8_lossy(head);
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = lengths.next().and_then(|(_, length)| length.trim().parse().ok());
    length.is_some_and(|length: usize| body.len() >= length)
}

/// The status code of an answer (RFC 9112 §4).
fn status(answer: &str) -> Option<u16> {
    let (version, rest) = answer.lines().next()?.split_once(' ')?;
    version.strip_prefix("HTTP/1.")?;
    rest.get(..3)?.parse().ok()
}

/// How much of an answer is read, in bytes: more than the longest page.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_with_the_last_byte_that_it_announced() {
        for (answer, whole) in [
            ("", false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", false),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n1", false),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n12", true),
            ("HTTP/1.1 200 OK\r\n\r\nto the end", false),
        ] {
            assert_eq!(is_whole(answer.as_bytes()), whole, "{answer}");
        }
    }

    #[test]
    fn what_listens_everywhere_is_asked_on_loopback() {
        for (bound, asked) in
            [("0.0.0.0:9900", "127.0.0.1:9900"), ("[::]:9900", "[::1]:9900"), ("10.0.0.1:1", "10.0.0.1:1")]
        {
            assert_eq!(reachable(bound.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
