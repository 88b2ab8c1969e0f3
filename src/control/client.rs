//! Asks the admin listener of a running Forebay. Blocking and without a runtime; knows of the listener
//! no more than its address, what it wants to be shown, and that it answers in HTTP/1.1, one request per
//! connection.

pub mod tls;

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
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

/// Whom to ask, and what to show there.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Where the admin listener is. Where that is every address, loopback is asked.
    pub address: Address,
    /// The secret to send along.
    pub token: Option<String>,
    /// TLS, where it is no Unix socket.
    pub tls: Option<Arc<ClientConfig>>,
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

impl From<Address> for Destination {
    /// Without a secret and without TLS.
    fn from(address: Address) -> Self {
        Self { address, token: None, tls: None }
    }
}

/// Asks the admin listener, within `timeout`.
///
/// # Errors
/// When there is no answer in time.
pub fn send(to: &Destination, asked: &Question<'_>, timeout: Duration) -> Result<Answer, AskError> {
    let deadline = ambient::now() + timeout;
    let address = &to.address;
    let socket = connect(address, timeout).map_err(|error| AskError::Connect(address.clone(), error))?;
    let link = encrypted(socket, to).map_err(|error| AskError::Connect(address.clone(), error))?;
    let answer = exchange(link, request(to, asked, "1.1").as_bytes(), deadline);
    let answer = answer.map_err(|error| AskError::Answer(address.clone(), error))?;
    let answer = String::from_utf8_lossy(&answer);
    let Some(status) = status(&answer) else { return Err(AskError::Foreign(address.clone())) };
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
    Ok(Answer { status, body })
}

/// Asks for what goes on, and has `tell` hear every line of it until it says that it is enough, or it ends.
/// Whoever answers has to say something every `quiet`. What is no such page is given as it is.
///
/// # Errors
/// When there is no answer, or nothing more comes.
pub fn follow(
    to: &Destination,
    target: &str,
    quiet: Duration,
    mut tell: impl FnMut(&str) -> bool,
) -> Result<Answer, AskError> {
    let address = &to.address;
    let socket = connect(address, quiet).map_err(|error| AskError::Connect(address.clone(), error))?;
    let mut link = encrypted(socket, to).map_err(|error| AskError::Connect(address.clone(), error))?;
    let broken = |error| AskError::Answer(address.clone(), error);
    link.socket().set_write_timeout(Some(quiet)).map_err(broken)?;
    link.socket().set_read_timeout(Some(quiet)).map_err(broken)?;
    // By HTTP/1.0, in which a body that goes on is not in chunks.
    let question = Question { method: "GET", target, json: "" };
    link.write_all(request(to, &question, "1.0").as_bytes()).map_err(broken)?;
    let mut answer = BufReader::new(link);
    let mut status_of = None;
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut answer).take(MAX_LINE).read_until(b'\n', &mut line).map_err(broken)? == 0 {
            return status_of
                .map(|status| Answer { status, body: String::new() })
                .ok_or_else(foreign(address));
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\r', '\n']);
        match status_of {
            None => status_of = Some(status(text).ok_or_else(foreign(address))?),
            Some(_) if !text.is_empty() => {}
            Some(status) => return rest(answer, status, &mut tell).map_err(broken),
        }
    }
}

fn foreign(address: &Address) -> impl Fn() -> AskError {
    let address = address.clone();
    move || AskError::Foreign(address.clone())
}

/// Reads what follows a head: lines to tell, or the body of a refusal.
fn rest(mut answer: BufReader<Link>, status: u16, tell: &mut impl FnMut(&str) -> bool) -> io::Result<Answer> {
    let mut body = Vec::new();
    if status != 200 {
        answer.take(MAX_LINE).read_to_end(&mut body)?;
        return Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() });
    }
    loop {
        body.clear();
        let read = (&mut answer).take(MAX_LINE).read_until(b'\n', &mut body)?;
        let line = String::from_utf8_lossy(&body);
        let line = line.trim_end_matches(['\r', '\n']);
        if read == 0 || (!line.is_empty() && !tell(line)) {
            return Ok(Answer { status, body: String::new() });
        }
    }
}

fn request(to: &Destination, asked: &Question<'_>, version: &str) -> String {
    let Question { method, target, json } = asked;
    let mut text = format!("{method} {target} HTTP/{version}\r\nHost: localhost\r\nConnection: close\r\n");
    if let Some(token) = &to.token {
        text.push_str(&format!("Authorization: Bearer {token}\r\n"));
    }
    if !json.is_empty() {
        text.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", json.len()));
    }
    text.push_str("\r\n");
    text.push_str(json);
    text
}

/// A connection to the admin listener.
enum Link {
    Plain(Socket),
    Tls(Box<StreamOwned<ClientConnection, Socket>>),
}

fn encrypted(socket: Socket, to: &Destination) -> io::Result<Link> {
    let (Some(tls), Some(address)) = (&to.tls, to.address.inet()) else { return Ok(Link::Plain(socket)) };
    let name = ServerName::from(reachable(address).ip());
    let connection = ClientConnection::new(Arc::clone(tls), name).map_err(io::Error::other)?;
    Ok(Link::Tls(Box::new(StreamOwned::new(connection, socket))))
}

impl Link {
    fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes),
        }
    }
}

impl Read for Link {
    fn read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(chunk),
            Self::Tls(stream) => stream.read(chunk),
        }
    }
}

fn connect(address: &Address, timeout: Duration) -> io::Result<Socket> {
    let (domain, to) = match address {
        Address::Inet(address) => (Domain::for_address(*address), SockAddr::from(reachable(*address))),
        Address::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
        Address::Udp(_) => return Err(io::ErrorKind::Unsupported.into()),
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
fn exchange(mut link: Link, request: &[u8], deadline: Instant) -> io::Result<Vec<u8>> {
    let left = || match deadline.saturating_duration_since(ambient::now()) {
        Duration::ZERO => Err(io::Error::from(io::ErrorKind::TimedOut)),
        left => Ok(Some(left)),
    };
    link.socket().set_write_timeout(left()?)?;
    // A handshake reads, too.
    link.socket().set_read_timeout(left()?)?;
    link.write_all(request)?;
    let mut answer = Vec::new();
    let mut chunk = [0; 16 * 1024];
    while answer.len() < MAX_ANSWER && !is_whole(&answer) {
        let read = left().and_then(|left| {
            link.socket().set_read_timeout(left)?;
            link.read(&mut chunk)
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

/// How much of a line is read, in bytes: more than the longest.
const MAX_LINE: u64 = 1024 * 1024;

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
