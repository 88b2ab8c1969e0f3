//! One raw connection, of either side: bytes out, and bytes in until something that is waited for
//! has come. Reading ends in an answer, an end, a reset or, after the deadline, a failed test.

use std::fmt::Debug;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::{DEADLINE, Message, head_end};

/// A connection with what was read from it and not used yet.
#[derive(Debug)]
pub(crate) struct Link {
    tcp: TcpStream,
    unread: Vec<u8>,
    /// Every byte that was read.
    pub(crate) seen: Vec<u8>,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By an orderly end of the stream.
    Closed,
    /// By a reset.
    Reset,
}

impl Link {
    /// Connects, as a client.
    #[track_caller]
    pub(crate) fn to(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect_timeout(&address, DEADLINE).expect("somebody listens"))
    }

    /// A connection that is open already.
    pub(crate) fn over(tcp: TcpStream) -> Self {
        tcp.set_read_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
        tcp.set_write_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
        tcp.set_nodelay(true).expect("a socket takes an option");
        Self { tcp, unread: Vec::new(), seen: Vec::new() }
    }

    /// The socket below.
    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Bytes that were read and not used.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.unread
    }

    /// Writes all of it.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.tcp.write_all(bytes.as_ref()).expect("the other side reads");
    }

    /// Writes, to somebody who may be gone.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.tcp.write_all(bytes.as_ref())
    }

    /// Writes as much as goes without the other side reading, at most `limit` bytes, and says how
    /// much that was: what lies between two sockets when nobody takes it.
    pub(crate) fn stuff(&mut self, limit: usize, quiet: Duration) -> usize {
        let piece = vec![b'x'; 64 * 1024];
        self.tcp.set_write_timeout(Some(quiet)).expect("a socket takes a timeout");
        let mut sent = 0;
        while sent < limit {
            match self.tcp.write(piece.get(..piece.len().min(limit - sent)).unwrap_or_default()) {
                Ok(0) | Err(_) => break,
                Ok(n) => sent += n,
            }
        }
        self.tcp.set_write_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
        sent
    }

    /// Ends our direction.
    pub(crate) fn finish(&self) {
        // The other side may have reset it meanwhile.
        let _ = self.tcp.shutdown(Shutdown::Write);
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        let socket = socket2::Socket::from(self.tcp);
        socket.set_linger(Some(Duration::ZERO)).expect("a socket takes an option");
    }

    /// Reads once: `Ok(false)` when the stream ended. Fails the test after the deadline.
    #[track_caller]
    pub(crate) fn fill(&mut self) -> Result<bool, Ended> {
        let mut buffer = [0; 64 * 1024];
        loop {
            match self.tcp.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(n) => {
                    let read = buffer.get(..n).unwrap_or_default();
                    self.unread.extend_from_slice(read);
                    self.seen.extend_from_slice(read);
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => late(&self.seen),
                Err(_) => return Err(Ended::Reset),
            }
        }
    }

    /// Takes `n` bytes; fewer when the stream ends before.
    #[track_caller]
    pub(crate) fn take(&mut self, n: usize) -> Vec<u8> {
        while self.unread.len() < n && self.fill() == Ok(true) {}
        let n = n.min(self.unread.len());
        self.unread.drain(..n).collect()
    }

    /// Takes everything up to the first `end`, which is included; `None` when the stream ends
    /// before.
    #[track_caller]
    pub(crate) fn take_until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        let mut from = 0;
        loop {
            let found = self.unread.get(from..).unwrap_or_default().windows(end.len()).position(|w| w == end);
            if let Some(at) = found {
                return Some(self.unread.drain(..from + at + end.len()).collect());
            }
            from = (self.unread.len() + 1).saturating_sub(end.len());
            if self.fill() != Ok(true) {
                return None;
            }
        }
    }

    /// Takes a message head; `None` when the stream ends before there is one.
    #[track_caller]
    pub(crate) fn head(&mut self) -> Option<Message> {
        let head = self.take_until(b"\r\n\r\n")?;
        Some(Message { head: String::from_utf8_lossy(&head).into_owned(), ..Message::default() })
    }

    /// Takes a whole request; `None` when the stream ends before there is one, or within it.
    #[track_caller]
    pub(crate) fn request(&mut self) -> Option<Message> {
        let mut request = self.head()?;
        self.body_of(&mut request, false).then_some(request)
    }

    /// Takes a final response to `GET`, whose body may last until the stream ends. Fails the test
    /// when there is none, or only a part of one.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Message {
        self.response_to("GET")
    }

    /// As [`Self::response`], to a request of `method`; interim responses are skipped.
    #[track_caller]
    pub(crate) fn response_to(&mut self, method: &str) -> Message {
        loop {
            let Some(mut response) = self.head() else { broken("no response", &self.seen) };
            let status = response.status();
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let bodiless = method == "HEAD" || matches!(status, 101 | 204 | 304);
            if !bodiless && !self.body_of(&mut response, true) {
                broken("a part of a response", &self.seen);
            }
            return response;
        }
    }

    /// Whether the connection carries nothing more, and how it ended. Fails the test when bytes
    /// come, or no end does.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) -> Ended {
        let (rest, ended) = self.rest();
        assert!(rest.is_empty(), "bytes instead of an end: {:?}", String::from_utf8_lossy(&rest));
        ended
    }

    /// Everything up to the end of the connection.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> (Vec<u8>, Ended) {
        let ended = loop {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => break Ended::Closed,
                Err(ended) => break ended,
            }
        };
        (std::mem::take(&mut self.unread), ended)
    }

    /// Reads the body that the head announces; whether all of it came.
    #[track_caller]
    fn body_of(&mut self, message: &mut Message, may_last: bool) -> bool {
        if message.lists("transfer-encoding", "chunked") {
            return self.chunks(message);
        }
        match message.field("content-length").map(|n| n.parse::<usize>().expect("a length is a number")) {
            Some(n) => {
                message.body = self.take(n);
                message.body.len() == n
            }
            None if may_last => {
                let (body, ended) = self.rest();
                message.body = body;
                ended == Ended::Closed
            }
            None => true,
        }
    }

    #[track_caller]
    fn chunks(&mut self, message: &mut Message) -> bool {
        loop {
            let Some(line) = self.take_until(b"\r\n") else { return false };
            let digits = String::from_utf8_lossy(&line);
            let digits = digits.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(digits, 16).expect("a chunk begins with its size");
            if size == 0 {
                break;
            }
            let data = self.take(size + 2);
            if data.len() != size + 2 {
                return false;
            }
            assert!(data.ends_with(b"\r\n"), "a chunk ends in CR LF");
            message.body.extend_from_slice(data.get(..size).unwrap_or_default());
        }
        loop {
            match self.take_until(b"\r\n").as_deref() {
                None => return false,
                Some(b"\r\n") => return true,
                Some(line) => message.trailers.push_str(&String::from_utf8_lossy(line)),
            }
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[track_caller]
#[expect(clippy::panic, reason = "fails the test")]
fn late(seen: &[u8]) -> ! {
    panic!("nothing more came within {DEADLINE:?}, after {}", shown(seen))
}

#[track_caller]
#[expect(clippy::panic, reason = "fails the test")]
fn broken(what: &str, seen: &[u8]) -> ! {
    panic!("{what}: {}", shown(seen))
}

fn shown(seen: &[u8]) -> String {
    let from = seen.len().saturating_sub(1000);
    format!(
        "{} bytes, at last {:?}",
        seen.len(),
        String::from_utf8_lossy(seen.get(from..).unwrap_or_default())
    )
}
